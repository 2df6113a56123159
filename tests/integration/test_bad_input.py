"""Bad input and a broken rig: one sentence each, the right exit code, and nothing half-started."""

import os
import resource
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.integration.suite import carrying, served, sseproof

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with served() as url:
        yield url


def refused(
    *arguments: str,
    cwd: Path,
    code: int = 64,
    words: Sequence[str] = (),
    command: Sequence[str] = (sys.executable, "-m", "sseproof"),
    looked: bool = False,
) -> None:
    """The command line is refused in one sentence that holds these words; no folder and no process is left of it.

    A claim's error shows the claim and points at the place, on two lines more. `looked`: the target was looked at, and
    what was seen stands on a line of its own.
    """
    mark = f"refused-{uuid.uuid4()}"
    before = set(cwd.rglob("*"))
    done = subprocess.run(
        [*command, *arguments],
        cwd=cwd,
        env={**os.environ, "SSEPROOF_SECRET_MARK": mark},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) - looked == (3 if set(lines[-1].strip()) == {"^"} else 1), done.stderr
    for word in words:
        assert word in done.stderr
    assert carrying(mark) == [], "no process may be left"
    made = [path for path in cwd.rglob("*") if path not in before and not path.is_dir()]
    assert made == [], "nothing may be half-started"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rnu"], ["run"]),
        (["run", "--targt", "x"], ["--targt", "--target"]),
        (["run", "--users", "many", "--target", "URL"], ["--users", "many"]),
        (["run"], ["--target"]),
        (["run", "missing.toml"], ["missing.toml", "does not exist"]),
        (["run", "--target", "URL", "--set", "load.usres=3"], ["usres", "users"]),
        (["run", "--target", "URL", "--claim", "sucess >= 98%"], ["success", "^"]),
        (["run", "--target", "URL", "--claim", "success >= 98"], ["98%"]),
        (["run", "--target", "URL", "--claim", "ttft p95 <= 1"], ["1", "^"]),
        (["run", "--target", "URL", "--duration", "5 parsecs"], ["parsecs", "duration"]),
        (["run", "--target", "URL", "--header", "no-colon-here"], ["--header"]),
        (["run", "--target", "URL", "--body", "@missing.json"], ["missing.json"]),
        (["run", "--target", "URL", "--streams", "5", "--duration", "5s"], ["exclude"]),
        (
            ["run", "--target", "URL", *["--streams", "9", "--users", "1", "--workers", "2"]],
            ["--workers 1", "--users 2"],
        ),
        (
            ["run", "--target", "URL", *["--streams", "9", "--users", "1", "--workers", "2", "--dry-run"]],
            ["--workers 1"],
        ),
        (["run", "--target", "http://no-such-host.invalid/x"], ["no-such-host.invalid", "does not resolve"]),
        (["run", "--target", "http://192.0.2.1/x"], ["--allow-target 192.0.2.1"]),
        (["run", "--target", "http://127.0.0.1:9/x"], ["refused"]),
        (["judge", "nowhere"], ["nowhere", "not a run directory"]),
        (["judge", "nowhere", "--export", "xls"], ["--export", "xls", "hgrm"]),
        (["serve", "--misbehave", "los"], ["los", "loss"]),
        (["serve", "--host", ""], ["--host is empty"]),
        (["serve", "--answers", "upstream", "--llm-total", "0s"], ["--llm-total is 0"]),
        (["serve", "--heartbeat", "soon"], ["soon", "duration"]),
        (["serve", "--heartbeat", "0s"], ["--heartbeat is 0"]),
        (["serve", "--llm-window", "soon"], ["soon", "duration"]),
        (["serve", "--answers", "upstream", "--misbehave", "loss"], ["--misbehave", "--answers script"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_usage(tmp_path, server, arguments, words):
    arguments = [server if argument == "URL" else argument for argument in arguments]
    refused(*arguments, cwd=tmp_path, words=words)


def test_a_number_of_subscriptions(tmp_path, server):
    arguments = ["run", "--target", f"{server}?script=endless", "--streams", "3"]
    refused(*arguments, cwd=tmp_path, words=["subscription", "duration"])


def answering(payload: bytes) -> tuple[socket.socket, str]:
    """A listener that gives every connection the same bytes, then closes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(payload)

    threading.Thread(target=serve, daemon=True).start()
    return listener, f"http://127.0.0.1:{listener.getsockname()[1]}/stream"


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nhello",
            ["text/html", "text/event-stream"],
        ),
        (b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 7\r\n\r\nno such", ["404"]),
        (b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n", ["500"]),
        (b"SSH-2.0-OpenSSH_9.2\r\n", ["HTTP"]),
        (b"", []),
    ],
    ids=["html", "404", "500", "ssh", "nothing"],
)
def test_a_target_that_gives_no_event_stream(tmp_path, payload, words):
    listener, url = answering(payload)
    with listener:
        refused("run", "--target", url, cwd=tmp_path, words=words)


def test_a_certificate_nobody_vouches_for(tmp_path):
    import ssl

    import trustme

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
                with context.wrap_socket(connection, server_side=True):
                    pass
            except ssl.SSLError:
                continue
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    with listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        refused("run", "--target", url, cwd=tmp_path, words=["certificate"])


def test_a_port_that_is_taken(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused("serve", "--port", str(port), cwd=tmp_path, code=70, words=[str(port)])


def test_a_folder_that_cannot_be_written(tmp_path, server):
    (tmp_path / "blocked").write_text("a file where a folder should be")
    arguments = ["run", "--target", f"{server}?events=4&interval_ms=5", "--out", "blocked"]
    refused(*arguments, cwd=tmp_path, code=70, words=["blocked", "--out"], looked=True)


def test_too_few_descriptors(tmp_path, server):
    code = (
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (250, 250)); "
        "sys.argv = ['sseproof', *sys.argv[1:]]; runpy.run_module('sseproof', run_name='__main__')"
    )
    arguments = ["run", "--target", server, "--users", "100"]
    words = ["file descriptors", "--workers"]
    refused(*arguments, cwd=tmp_path, code=70, words=words, command=[sys.executable, "-c", code])
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 250


def test_more_streams_than_outgoing_ports(tmp_path, server):
    arguments = ["run", "--target", server, "--users", "70000", "--workers", "256"]
    refused(*arguments, cwd=tmp_path, code=70, words=["70000 streams at once", "ip_local_port_range"])


def test_a_disk_that_fills_up_in_the_middle(tmp_path, server):
    """A file size limit stands for a full disk: the write fails the same way, in the workers, in mid-run."""
    code = (
        "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); "
        "sys.argv = ['sseproof', *sys.argv[1:]]; runpy.run_module('sseproof', run_name='__main__')"
    )
    address = f"{server}?events=4&interval_ms=5"
    done = subprocess.run(
        [sys.executable, "-c", code, "run", "--target", address, "--users", "20", "--duration", "30s"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 70, done.stdout + done.stderr
    assert "can't be written" in done.stderr
    assert "Traceback" not in done.stderr
    (directory,) = [path for path in tmp_path.glob("runs/*/*") if not path.is_symlink()]
    judged = sseproof("judge", str(directory), cwd=tmp_path)
    assert judged.returncode in {0, 2}, judged.stderr


@pytest.mark.parametrize(("name", "code"), [("plan.json", 64), ("streams.jsonl", 2)])
def test_a_run_directory_of_a_newer_version(tmp_path, server, name, code):
    """Without a plan there is nothing to judge; without rows the rest is judged, and no claim passes."""
    arguments = ["--streams", "2", "--claim", "success >= 1%"]
    sseproof("run", "--target", f"{server}?events=4&interval_ms=5", *arguments, cwd=tmp_path)
    (directory,) = [path for path in tmp_path.glob("runs/*/*") if not path.is_symlink()]
    path = directory / name
    content = path.read_bytes()
    newer = content.replace(b'"version": 1', b'"version": 99', 1).replace(b'"version":1', b'"version":99', 1)
    assert newer != content
    path.write_bytes(newer)
    done = sseproof("judge", str(directory), cwd=tmp_path)
    assert done.returncode == code
    assert "newer sseproof" in " ".join((done.stdout + done.stderr).split())


def test_a_damaged_plan(tmp_path, server):
    sseproof("run", "--target", f"{server}?events=4&interval_ms=5", "--streams", "2", cwd=tmp_path)
    (directory,) = [path for path in tmp_path.glob("runs/*/*") if not path.is_symlink()]
    (directory / "plan.json").write_bytes(b'{"schema": "sseproof/plan", "ver')
    done = sseproof("judge", str(directory), cwd=tmp_path)
    assert done.returncode == 64
    assert "damaged" in done.stderr


@pytest.mark.parametrize("command", [[], ["run"], ["judge"], ["serve"], ["setup"], ["demo"], ["calibrate"]])
def test_every_help_has_an_example(tmp_path, command):
    done = sseproof(*command, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "Example" in done.stdout
    assert "sseproof" in done.stdout

"""The checkout itself: lock, names of machines, links, supported versions, what is built, and what the documents say.

What a document shows is run or read by the code it speaks of: scenarios are converted strictly, claims are parsed,
command lines are matched against the commands, make targets against the Makefile.
"""

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT: Final = Path(__file__).resolve().parents[1]
DOCUMENTS: Final = (
    "README.md",
    "docs/browsers.md",
    "docs/check.md",
    "docs/claims.md",
    "docs/faults.md",
    "docs/flask.md",
    "docs/machines.md",
    "docs/monitoring.md",
    "docs/runs.md",
    "docs/scenario.md",
    "docs/server.md",
    "docs/verdicts.md",
)
COMMANDS: Final = ROOT / "sseproof" / "cli.py"
PLATFORMS: Final = (
    ("linux", "Linux", "x86_64"),
    ("linux", "Linux", "aarch64"),
    ("darwin", "Darwin", "arm64"),
)


def project_file() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def supported_versions() -> list[str]:
    """3.11, 3.12, …: the minor versions that requires-python lets in."""
    wanted = SpecifierSet(project_file()["project"]["requires-python"])
    return [f"3.{minor}" for minor in range(50) if f"3.{minor}.0" in wanted]


def git(*arguments: str) -> str:
    # The owner of a checkout is not always the one who tests it (a mounted volume); nothing here runs its hooks.
    command = ["git", "-c", "safe.directory=*", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def tracked() -> list[Path]:
    """Every file of the repository, those not yet committed included."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: there is no list of its files")
    names = git("ls-files", "-co", "--exclude-standard", "-z").split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_symlink() | (ROOT / name).exists()]


# --- the lock ---


def locked() -> dict[str, list[tuple[Requirement, int]]]:
    """Every entry of the lock by its canonical name, with the number of its hashes."""
    text = (ROOT / "requirements.lock").read_text("utf-8").replace("\\\n", " ")
    entries = defaultdict(list)
    for line in text.splitlines():
        if not line.strip():
            continue
        head, *hashes = line.split("--hash=")
        requirement = Requirement(head)
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}\s*", one) for one in hashes), line[:80]
        entries[canonicalize_name(requirement.name)].append((requirement, len(hashes)))
    return entries


def group_members(name: str) -> Iterator[str]:
    for member in project_file()["dependency-groups"][name]:
        if isinstance(member, dict):
            yield from group_members(member["include-group"])
        else:
            yield member


def direct_requirements() -> list[Requirement]:
    project = project_file()
    lines = [*project["project"]["dependencies"], *group_members("dev"), *project["build-system"]["requires"]]
    return [Requirement(line) for line in lines]


def test_every_group_is_locked() -> None:
    groups = project_file()["dependency-groups"]
    assert set(group_members("dev")) == {line for name in groups for line in group_members(name)}


def test_the_lock_is_pinned_and_hashed() -> None:
    entries = locked()
    assert len(entries) > len(direct_requirements())
    for requirement, hashes in (entry for versions in entries.values() for entry in versions):
        assert requirement.url is None, requirement
        assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), requirement
        assert hashes, requirement


@pytest.mark.parametrize("wanted", direct_requirements(), ids=str)
def test_the_lock_holds_what_pyproject_asks_for(wanted: Requirement) -> None:
    """On every supported interpreter and platform that it is asked for exactly one locked version applies, and a fitting one."""
    entries = [requirement for requirement, _ in locked()[canonicalize_name(wanted.name)]]
    for python in supported_versions():
        for platform, system, machine in PLATFORMS:
            here = {
                "python_version": python,
                "python_full_version": f"{python}.0",
                "sys_platform": platform,
                "platform_system": system,
                "platform_machine": machine,
                "platform_python_implementation": "CPython",
                "implementation_name": "cpython",
            }
            found = [one for one in entries if one.marker is None or one.marker.evaluate(here)]
            if wanted.marker is not None and not wanted.marker.evaluate(here):
                assert not found, f"{wanted} is locked where it is not asked for: {found}"
                continue
            assert len(found) == 1, (
                f"{wanted} on Python {python}, {system} {machine}: {found}; run `make lock`"
            )
            (pin,) = found[0].specifier
            assert pin.version in wanted.specifier, f"{wanted} is locked at {pin.version}; run `make lock`"


# --- what may not stand in a file ---

REGISTRY_HOSTS: Final = (
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("golang", "org/dl"),
    ("proxy.golang", "org"),
    ("sum.golang", "org"),
    ("registry.npmjs", "org"),
    ("ghcr", "io"),
    ("docker", "io"),
    ("quay", "io"),
)
"""In two halves, or this file would name them."""
MACHINE_PATH: Final = re.compile(rb"(?<![\w./-])/(?:root|work|home/[a-z]\w*|Users/\w+)(?![\w-])")


def named_hosts(content: bytes) -> list[str]:
    return [
        host for host in (".".join(halves) for halves in REGISTRY_HOSTS) if host.encode() in content.lower()
    ]


def machine_paths(content: bytes) -> list[str]:
    return [found.decode() for found in MACHINE_PATH.findall(content)]


def test_no_file_names_a_registry_or_a_machine() -> None:
    found = {}
    for path in tracked():
        content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
        if names := named_hosts(content) + machine_paths(content):
            found[str(path.relative_to(ROOT))] = names
    assert not found


@pytest.mark.parametrize("halves", REGISTRY_HOSTS, ids="-".join)
def test_a_registry_is_seen(halves: tuple[str, str]) -> None:
    assert named_hosts(f"--index-url https://{'.'.join(halves).upper()}/simple".encode())


@pytest.mark.parametrize("parts", [("root",), ("work", "main"), ("home", "ann"), ("Users", "Ann", "code")])
@pytest.mark.parametrize("before", ["", "path = '", "file:", "=", " "])
def test_a_path_of_a_machine_is_seen(parts: tuple[str, ...], before: str) -> None:
    assert machine_paths(f"{before}/{'/'.join(parts)}/x".encode())


@pytest.mark.parametrize(
    "text", ["/api/root/x", "http://host/work/1", "./root", "/home", "/rooted", "a/home/b"]
)
def test_other_paths_are_not_accused(text: str) -> None:
    assert not machine_paths(text.encode())


def broken_links(paths: list[Path], root: Path) -> Iterator[str]:
    for path in paths:
        if path.is_symlink():
            target = path.readlink()
            if target.is_absolute() or not path.exists() or not path.resolve().is_relative_to(root.resolve()):
                yield f"{path.name} -> {target}"


UNMERGED: Final = re.compile(rb"^(?:<{7} |={7}$|>{7} )", re.MULTILINE)


def test_no_file_holds_both_sides_of_a_merge() -> None:
    """Documents have no parser that would notice."""
    assert UNMERGED.search(b"a\n" + b"<" * 7 + b" HEAD\nb\n")
    files = [path for path in tracked() if not path.is_symlink()]
    assert [str(path.relative_to(ROOT)) for path in files if UNMERGED.search(path.read_bytes())] == []


def test_links_are_relative_and_stay_inside() -> None:
    links = [path for path in tracked() if path.is_symlink()]
    assert {path.name for path in links if path.parent.name == "sseproof"} == {
        "chaos",
        "loadtests",
        "reference_server",
        "reports",
    }
    assert not list(broken_links(links, ROOT))


def test_a_wrong_link_is_seen(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "here").touch()
    (tmp_path / "beside").touch()
    wrong = {"absolute": root / "here", "outside": Path("../beside"), "dangling": Path("nothing")}
    for name, target in {**wrong, "right": Path("here")}.items():
        (root / name).symlink_to(target)
    assert {line.split()[0] for line in broken_links(list(root.iterdir()), root)} == set(wrong)


# --- versions and the changelog ---


def test_supported_versions_agree() -> None:
    project = project_file()
    versions = supported_versions()
    oldest, newest = versions[0], versions[-1]
    classifiers = [line.rpartition(":: ")[2] for line in project["project"]["classifiers"] if ":: 3." in line]
    assert classifiers == versions
    assert project["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    assert project["tool"]["mypy"]["python_version"] == oldest
    assert f"Python {oldest} to {newest}" in (ROOT / "README.md").read_text("utf-8")
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert f"PYTHONS := {' '.join(versions)}\n" in makefile
    chooser = (ROOT / ".ci" / "python").read_text("utf-8")
    assert f"oldest={oldest}\nnewest={newest}\n" in chooser
    assert f'candidates="{" ".join(f"python{version}" for version in versions)} python3"' in chooser


def test_the_changelog_has_an_unreleased_section() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    section = re.search(r"^## Unreleased\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section
    assert re.search(r"^- \S", section[1], re.MULTILINE), "it says nothing"


# --- make and .ci ---


def make(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # A make above us hands down its flags and its job server; this one stands alone.
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MAKE", "MFLAGS")) and name not in {"PYTHON", "ARGS"}
    }
    return subprocess.run(
        ["make", *arguments],
        cwd=ROOT,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.integration
def test_make_alone_lists_every_target() -> None:
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert phony
    shown = make()
    assert shown.returncode == 0
    assert {line.split()[1] for line in shown.stdout.splitlines()} == set(phony[1].split())
    assert {"help", "demo", "test", "check", "bench", "lock", "clean"} <= set(phony[1].split())
    assert shown.stdout == make("help").stdout


def lying_python(folder: Path, version: str, lacking: str = "") -> Path:
    """A real interpreter that says it has another version, or that a module is missing."""
    path = folder / "lying-python"
    major, minor, micro = version.split(".")
    prelude = (
        f"import sys; sys.version_info = ({major}, {minor}, {micro}, 'final', 0); "
        f"sys.modules.update(dict.fromkeys({lacking.split()!r})); exec(sys.argv[2])"
    )
    path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c "{prelude}" "$@"\n', "utf-8")
    path.chmod(0o755)
    return path


@pytest.mark.integration
@pytest.mark.parametrize(
    ("version", "lacking", "sentence"),
    [
        ("3.10.14", "", "is Python 3.10.14, and sseproof needs Python 3.11 to 3.14."),
        ("3.9.2", "", "is Python 3.9.2, and sseproof needs"),
        ("3.15.0", "", "is Python 3.15.0, and sseproof needs"),
        ("2.7.18", "", "is Python 2.7.18, and sseproof needs"),
        ("3.12.1", "ensurepip", "(Python 3.12.1) has no ensurepip (Debian keeps it in python3-venv)."),
        ("3.13.0", "ssl", "(Python 3.13.0) has no ssl"),
    ],
)
def test_an_interpreter_that_will_not_do_is_refused(
    version: str, lacking: str, sentence: str, tmp_path: Path
) -> None:
    refused = make("test", f"PYTHON={lying_python(tmp_path, version, lacking)}")
    assert refused.returncode != 0
    assert sentence in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "pytest" not in refused.stdout, "the tests were started all the same"


@pytest.mark.integration
@pytest.mark.parametrize("version", ["3.11.0", "3.14.2"])
def test_an_interpreter_that_will_do_is_taken(version: str, tmp_path: Path) -> None:
    python = lying_python(tmp_path, version)
    chosen = subprocess.run([ROOT / ".ci" / "python", python], capture_output=True, text=True, check=True)
    assert (chosen.stdout, chosen.stderr) == (f"{python}\n", "")


@pytest.mark.integration
def test_no_interpreter_at_all_is_one_sentence(tmp_path: Path) -> None:
    shell = shutil.which("sh")
    assert shell
    refused = subprocess.run(
        [shell, ROOT / ".ci" / "python"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 3
    assert refused.stderr.startswith("No Python 3.11 to 3.14 with venv is on PATH")
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.integration
@pytest.mark.parametrize("script", sorted((ROOT / ".ci").iterdir()), ids=lambda path: path.name)
def test_ci_scripts_start(script: Path) -> None:
    assert os.access(script, os.X_OK), "git must know it as executable"
    shell = script.read_text("utf-8").splitlines()[0].removeprefix("#!").split()[-1].rpartition("/")[2]
    assert shell in {"sh", "bash"}
    subprocess.run([shell, "-n", script], check=True)


def test_ci_ends_with_the_tests() -> None:
    """Whoever reads the log reads pytest's summary last."""
    lines = (ROOT / ".ci" / "run").read_text("utf-8").rstrip().splitlines()
    assert lines[-1] == "exec make --no-print-directory test"
    assert "set -euo pipefail" in lines
    before = "\n".join(lines[:-1])
    assert "make --no-print-directory demo" in before, "a stranger's first command"
    assert "make --no-print-directory check" in before


@pytest.mark.integration
def test_both_halves_of_the_tests_are_run() -> None:
    """Each test is in one half, and a choice that is empty in one of them is no failure."""
    steps = make("--dry-run", "test", "ARGS=-k parser").stdout
    assert re.findall(r'-m "?((?:not )?alone)"?.* -k parser \|\|', steps) == ["alone", "not alone"]


# --- what is built ---


def build(kind: str, source: Path, folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, text=True)
    (built,) = folder.glob("*.tar.gz" if kind == "sdist" else "*.whl")
    return built


@pytest.fixture(scope="module", params=["from the checkout", "from the sdist"])
def wheel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built both ways: an index builds it from the sdist, and what the sdist forgot would be missing."""
    folder = tmp_path_factory.mktemp("built")
    if request.param == "from the checkout":
        return build("wheel", ROOT, folder)
    shutil.unpack_archive(build("sdist", ROOT, folder), folder / "unpacked", filter="data")
    (source,) = (folder / "unpacked").iterdir()
    return build("wheel", source, folder)


@pytest.mark.integration
def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        links = [info.filename for info in archive.infolist() if info.external_attr >> 28 == 0o12]
    assert not links, "folders must arrive as real files"
    shipped = set()
    for path in tracked():
        relative = path.relative_to(ROOT)
        if path.is_symlink() or relative.parts[0] not in {
            "sseproof",
            "loadtests",
            "chaos",
            "reference_server",
            "reports",
        }:
            continue
        inside = relative if relative.parts[0] == "sseproof" else Path("sseproof") / relative
        shipped.add(inside.as_posix())
    assert names == shipped


@pytest.mark.integration
def test_the_wheel_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    script = (
        "import sseproof, sseproof.loadtests.settings, sseproof.rundir.rows, sseproof.reports;"
        "print(sseproof.__file__, sseproof.loadtests.settings.__file__)"
    )
    child = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(Path(name).is_relative_to(tmp_path) for name in child.stdout.split()), child.stdout


# --- the documents ---


def blocks(language: str) -> list[Any]:
    """Fenced blocks of a language in all documents, each with where it stands."""
    found = []
    for name in DOCUMENTS:
        text = (ROOT / name).read_text("utf-8")
        for fence in re.finditer(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            line = text[: fence.start()].count("\n") + 1
            found.append(pytest.param(fence[1], id=f"{name}:{line}"))
    return found


def command_lines() -> list[Any]:
    """Every `sseproof …` in a console block, continuation lines joined."""
    found = []
    for block in blocks("console"):
        text = block.values[0].replace("\\\n", " ")
        found.extend(
            pytest.param(line.removeprefix("$ sseproof"), id=line[2:60])
            for line in text.splitlines()
            if line.startswith("$ sseproof")
        )
    return found


def scenario_module() -> Any:
    return importlib.import_module("sseproof.scenario")


@pytest.mark.parametrize("text", blocks("toml"))
def test_scenarios_in_the_documents_are_taken(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in set(re.findall(r"env:([A-Z_]+)", text)):
        monkeypatch.setenv(name, "a value for the test")
    path = tmp_path / "scenario.toml"
    path.write_text(text, "utf-8")
    (tmp_path / "ca.pem").touch()
    (tmp_path / "questions.jsonl").write_text('{"question": "Why?", "lang": "en"}\n')
    monkeypatch.chdir(tmp_path)
    if "[target]" not in text and "[server]" not in text:
        standalone = importlib.import_module("sseproof.standalone")
        asked = standalone.Asked(plan=path, upstream="127.0.0.1:8000", listen=9000)
        assert standalone.planned(asked)[0].faults, "a plan of faults alone"
        return
    resolved = scenario_module().load_scenario(path, environ={}, sets=[], flags={})
    assert resolved.scenario.target.url


def table_of(kind: Any) -> type[msgspec.Struct] | None:
    """The struct of a key that is a table, or a list of tables; None for a key that holds a value."""
    for option in (kind, *get_args(kind)):
        if isinstance(option, type) and issubclass(option, msgspec.Struct):
            return option
    return None


def documented_keys(level: str) -> dict[str, dict[str, str]]:
    """Table → key → default, under each heading of that level in docs/scenario.md; "" for the top level's."""
    text = (ROOT / "docs" / "scenario.md").read_text("utf-8")
    found = {}
    for heading, body in re.findall(rf"^{level} (.+?)\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL):
        name = heading.strip("`[]") if heading.startswith("`") else ""
        found[name] = dict(re.findall(r"^\| `([a-z_]+)` \| (.+?) \|", body, re.MULTILINE))
    return found


def test_every_scenario_key_is_documented() -> None:
    """An error about an unknown key sends people to docs/scenario.md."""
    tables = {"": scenario_module().Scenario}
    for field in msgspec.structs.fields(tables[""]):
        inner = table_of(field.type)
        if inner is not None:
            tables[field.name] = inner
    tables["client.timeouts"] = next(
        field.type for field in msgspec.structs.fields(tables["client"]) if field.name == "timeouts"
    )
    tables["load.stages"] = table_of(
        next(field.type for field in msgspec.structs.fields(tables["load"]) if field.name == "stages")
    )
    documented = documented_keys("###")
    assert documented.keys() == tables.keys() | {"fault"}
    for name, kind in tables.items():
        keys = {
            field.encode_name for field in msgspec.structs.fields(kind) if table_of(field.type) is None
        } - {"fault"}
        assert documented[name].keys() == keys, f"[{name}]"


def test_every_fault_is_documented() -> None:
    """Kinds, keys, and which of the keys are needed, as the scenario is read."""
    faults = importlib.import_module("sseproof.chaos.faults")
    assert documented_keys("###")["fault"].keys() == {"kind", "share", "name", "phase"}
    documented = documented_keys("####")
    assert documented.keys() == set(faults.FAULT_KINDS)
    effects = (ROOT / "docs" / "faults.md").read_text("utf-8")
    for kind, keys in documented.items():
        assert keys.keys() == set(faults.keys_of(kind)), kind
        missing = set()
        try:
            faults.parse_fault({"kind": kind})
        except faults.FaultError as refused:
            missing = set(re.findall(r"[a-z_]+", str(refused).partition(" needs ")[2])) - {"and"}
        assert {key for key, default in keys.items() if default == "needed"} == missing, kind
        assert re.search(rf"^\| `{kind}`", effects, re.MULTILINE), f"docs/faults.md has no row for {kind}"


def test_defaults_of_faults_are_documented() -> None:
    faults = importlib.import_module("sseproof.chaos.faults")
    least = {
        "cut": {"after_bytes": 1},
        "slice": {"size_bytes": 1},
        "stall": {"after": "1s", "duration": "1s"},
        "refused": {"after": "1s", "duration": "1s"},
        "black-hole": {"after": "1s", "duration": "1s"},
        "server-restart": {"after": "1s", "duration": "1s"},
        "cut-events": {"after_events": 1},
        "cut-time": {"after": "1s"},
        "stall-events": {"after_events": 1, "duration": "1s"},
        "accept-then-close": {},
        "split-characters": {},
    }
    for kind, table in least.items():
        shown = {
            key: default.strip("`").strip('"')
            for key, default in documented_keys("####")[kind].items()
            if default not in {"needed", "none"}
        }
        given = {key: int(value) if value.isdigit() else value for key, value in shown.items()}
        assert shown, kind
        # What is documented as the default and given says the same as leaving it out.
        one = faults.parse_fault({"kind": kind, **table})
        assert faults.parse_fault({"kind": kind, **table, **given}) == one, kind


def test_the_demo_in_the_documents_is_the_demo() -> None:
    demo = (ROOT / "sseproof" / "demo.toml").read_text("utf-8")
    assert f"```toml\n{demo}```\n" in (ROOT / "docs" / "scenario.md").read_text("utf-8")


def claims_in_documents() -> list[str]:
    """Whatever stands between backticks or in --claim "…" and starts like a claim."""
    metrics = importlib.import_module("sseproof.reports.metrics").METRICS
    found = set()
    for name in DOCUMENTS:
        text = (ROOT / name).read_text("utf-8")
        for candidate in re.findall(r"`([^`\n]+)`|--claim \"([^\"]+)\"", text):
            words = (candidate[0] or candidate[1]).split()
            if words[0] in metrics and len(words) > 1:
                found.add(" ".join(words))
    return sorted(found)


@pytest.mark.parametrize("text", claims_in_documents())
def test_claims_in_the_documents_are_taken(text: str) -> None:
    claim = importlib.import_module("sseproof.reports.claims").parse_claim(text)
    assert claim.text


def test_every_metric_is_documented() -> None:
    metrics = importlib.import_module("sseproof.reports.metrics").METRICS
    text = (ROOT / "docs" / "verdicts.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (stream|break|gap|event|attempt) \|", text, re.MULTILINE)
    assert dict(rows) == {metric.name: metric.unit for metric in metrics.values()}
    assert len(claims_in_documents()) >= len(rows)


def test_outcomes_are_documented() -> None:
    rows = importlib.import_module("sseproof.rundir.rows")
    text = (ROOT / "docs" / "verdicts.md").read_text("utf-8")
    named = set(re.findall(r"^\| `([a-z-]+)` \| (?:yes|no) \|", text, re.MULTILINE))
    assert named == set(rows.OUTCOMES)
    good = set(re.findall(r"^\| `([a-z-]+)` \| yes", text, re.MULTILINE))
    assert good == rows.SUCCESSES


def test_codes_of_unknown_are_documented() -> None:
    codes = get_args(importlib.import_module("sseproof.reports.verdicts").Code)
    text = (ROOT / "docs" / "verdicts.md").read_text("utf-8")
    section = text.partition("## Why a verdict is unknown\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE)) == set(codes)


def test_exit_codes_are_documented() -> None:
    errors = importlib.import_module("sseproof.rundir.errors")
    codes = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    for name in ("README.md", "docs/verdicts.md"):
        text = (ROOT / name).read_text("utf-8")
        shown = {
            int(code)
            for row in re.findall(r"^\| ([\d, ]+) \|", text, re.MULTILINE)
            for code in row.split(",")
        }
        assert shown == codes, name


@pytest.mark.skipif(not COMMANDS.exists(), reason="sseproof/cli.py does not exist yet")
@pytest.mark.parametrize("line", command_lines())
def test_commands_in_the_documents_exist(line: str) -> None:
    """Each command line of the documents is parsed by the command it names; nothing is run."""
    import click

    from sseproof import cli

    command: click.Command = cli.cli
    words = shlex.split(line)
    context = click.Context(command)
    while isinstance(command, click.Group) and not (
        command.invoke_without_command and (not words or words[0].startswith("-"))
    ):
        name, *words = words
        found = command.get_command(context, name)
        assert found, f"there is no command {name!r}"
        command, context = found, click.Context(found, parent=context)
    known = {option for parameter in command.params for option in parameter.opts + parameter.secondary_opts}
    known |= set(command.get_help_option_names(context))
    used = {word.partition("=")[0] for word in words if word.startswith("-")}
    assert used <= known, f"{command.name} has no {sorted(used - known)}"


def test_make_targets_in_the_documents_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for name in (*DOCUMENTS, "CHANGELOG.md"):
        for target in re.findall(r"(?:^\$ |`)make ([a-z-]+)", (ROOT / name).read_text("utf-8"), re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{name}: make {target}"


def test_each_part_of_the_claimed_system_names_tests_that_exist() -> None:
    rows = [
        line for line in (ROOT / "docs/claims.md").read_text("utf-8").splitlines() if line.startswith("| ")
    ][1:]
    assert len(rows) >= 20
    for row in rows:
        part, _, shown = (cell.strip() for cell in row.strip("|").split(" | "))
        named = re.findall(r"`(tests/[a-z0-9_/]+\.py)(?:::(test_[a-z0-9_]+))?`", shown)
        assert named, part
        for file, test in named:
            text = (ROOT / file).read_text("utf-8")
            assert f"def {test}(" in text if test else "def test_" in text, f"{part}: {file}::{test}"


def test_links_in_the_documents_lead_somewhere() -> None:
    for name in DOCUMENTS:
        path = ROOT / name
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", path.read_text("utf-8")):
            assert (path.parent / target).exists(), f"{name}: {target}"


def test_the_lock_is_of_this_python() -> None:
    """The environment the tests run in is the locked one, or their result says nothing about it."""
    from importlib import metadata

    here = Version(sys.version.split()[0])
    assert f"{here.major}.{here.minor}" in supported_versions()
    for name, entries in locked().items():
        pins = [one for one, _ in entries if one.marker is None or one.marker.evaluate()]
        for pin in pins:
            (specifier,) = pin.specifier
            assert metadata.version(name) == specifier.version, name


def test_the_report_in_the_documents_is_whole_small_and_tells_nothing_of_a_machine():
    content = (ROOT / "docs" / "report.html").read_bytes()
    assert content.startswith(b"<!DOCTYPE html>")
    assert content.endswith(b"</html>\n")
    assert len(content) <= 400_000
    assert not re.search(rb"/(?:tmp|home|root|work|var|usr|opt)/", content)
    for name in ("report.png", "report-faults.png"):
        assert (ROOT / "docs" / name).stat().st_size <= 150_000
        assert f"docs/{name}" in (ROOT / "README.md").read_text("utf-8")

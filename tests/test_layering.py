"""Who may import whom: design.md's table of packages, held over the whole tree.

Imports are read from the syntax tree, so that lazy ones inside functions and those behind TYPE_CHECKING are seen too, and
a module that can't run here (another platform, a missing part) is checked all the same. `importlib.import_module` and
`__import__` with a literal name count as imports.
"""

import ast
import functools
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGE: Final = "sseproof"
PARTS: Final = ("loadtests", "chaos", "reference_server", "reports")
"""The folders at the top that are linked into the package."""
LEAF: Final = "rundir"
BROWSERS: Final = "browsers"
"""A generator like loadtests, whose load real browsers make: it reads what they tell with the pure modules of that one."""
INSIDE: Final = (LEAF, BROWSERS)
"""Parts that lie in sseproof/ itself."""
FRONT: Final = "front door"
"""The modules that lie in sseproof/ itself."""

PURE: Final = frozenset(
    {
        f"{PACKAGE}.{name}"
        for name in (
            "loadtests.arrivals",
            "loadtests.certificate",
            "loadtests.content",
            "loadtests.dialects",
            "loadtests.framing",
            "loadtests.naive",
            "loadtests.offset",
            "loadtests.places",
            "loadtests.reconnect",
            "loadtests.settings",
            "loadtests.sse",
            "loadtests.tally",
            "browsers.posts",
            "browsers.record",
            "chaos.catalogue",
            "chaos.faults",
            "chaos.phases",
            "chaos.plan",
            "chaos.toxics",
            "reference_server.ask",
            "reference_server.completions",
            "reference_server.encoder",
            "reference_server.feed",
            "reference_server.limits",
            "reference_server.live",
            "reference_server.misbehave",
            "reference_server.origins",
            "reference_server.script",
            "reference_server.settings",
            "reference_server.streams",
            "reference_server.wire",
            "reports.annotations",
            "reports.browsers",
            "reports.cases",
            "reports.charts",
            "reports.advice",
            "reports.checks",
            "reports.claims",
            "reports.clocks",
            "reports.compare",
            "reports.differences",
            "reports.endpoint",
            "reports.evidence",
            "reports.episodes",
            "reports.facts",
            "reports.findings",
            "reports.figures",
            "reports.lean",
            "reports.looks",
            "reports.metrics",
            "reports.openmetrics",
            "reports.percentiles",
            "reports.phases",
            "reports.statistics",
            "reports.steadiness",
            "reports.tables",
            "reports.topics",
            "reports.verdicts",
            "reports.words",
        )
    }
)
"""Modules without socket, clock, files or threads (design.md "Pure modules"); a name that comes later is held from its first day."""
PURE_LEAF: Final = frozenset(
    {
        f"{PACKAGE}.{LEAF}.{name}"
        for name in ("capture", "errors", "groups", "phases", "rows", "seeds", "series", "text", "units")
    }
)
PURE_THIRD_PARTY: Final = {
    "backports": frozenset({f"{PACKAGE}.loadtests.content"}),
    "brotli": frozenset({f"{PACKAGE}.loadtests.content"}),
    "jinja2": frozenset({f"{PACKAGE}.reports.charts"}),
    "msgspec": PURE,
}
"""What pure modules may take from others, and which of them may."""
_WITHOUT_EFFECTS: Final = (
    "__future__ abc array base64 binascii bisect codecs collections compression contextlib copy csv dataclasses decimal difflib enum "
    "fractions functools hashlib heapq html ipaddress itertools json keyword math numbers operator random re reprlib secrets shlex "
    "statistics string struct textwrap types typing unicodedata urllib.parse xml.sax.saxutils zlib"
)
PURE_STANDARD: Final = frozenset(_WITHOUT_EFFECTS.split())
"""Standard library without effects; a closed list, because what can reach a clock or a socket can't be told by its name."""

THIRD_PARTY: Final[dict[str, frozenset[str]]] = {
    LEAF: frozenset({"msgspec"}),
    BROWSERS: frozenset({"msgspec"}),
    "loadtests": frozenset({"backports", "brotli", "gevent", "greenlet", "httptools", "locust", "msgspec"}),
    "chaos": frozenset({"msgspec", "toxiproxy"}),
    "reference_server": frozenset({"aiohttp", "msgspec", "prometheus_client"}),
    "reports": frozenset({"jinja2", "msgspec", "rich"}),
    FRONT: frozenset({"click", "msgspec", "rich"}),
}
DISTRIBUTIONS: Final = {
    "backports": "backports.zstd",
    "gevent": "locust",  # locust brings both; its version decides theirs
    "greenlet": "locust",
    "toxiproxy": "toxiproxy-python",
}
"""The requirement behind an import name, where the names differ."""
NEWER_STANDARD: Final = frozenset({"compression"})
"""Of a standard library newer than the oldest interpreter's."""
ONLY_IN: Final = {"asyncio": "reference_server"}
"""Standard modules that belong to one part: gevent and asyncio never share a process."""
LIGHT: Final = frozenset({"click", "msgspec"})
"""What the front door may import before it knows the command."""
HEAVY: Final = frozenset().union(*THIRD_PARTY.values(), {"requests"}) - LIGHT
"""What `sseproof --help` must not wait for (requests comes with locust)."""


class Import(NamedTuple):
    """One imported module, dotted and absolute."""

    module: str
    line: int
    lazy: bool
    """Inside a function: it costs nothing until that function runs."""
    typing: bool
    """Only for the type checker: it never runs."""
    names: tuple[str, ...] = ()
    """What `from module import` took."""
    parent: bool = False
    """Written relative to a parent package."""


class Module(NamedTuple):
    """A file with the name it is imported by; tests and the bench have none."""

    name: str | None
    path: Path
    imports: list[Import]

    @property
    def area(self) -> str | None:
        """The part it belongs to, `FRONT` for sseproof/ itself, None outside the package."""
        if self.name is None:
            return None
        second = self.name.split(".")[1] if "." in self.name else ""
        return second if second in {*PARTS, *INSIDE} else FRONT


class _Reader(ast.NodeVisitor):
    def __init__(self, package: str) -> None:
        self.imports: list[Import] = []
        self._package = package
        self._lazy = 0
        self._typing = 0

    def _add(self, module: str, line: int, names: tuple[str, ...] = (), *, parent: bool = False) -> None:
        self.imports.append(Import(module, line, self._lazy > 0, self._typing > 0, names, parent))

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        self._lazy += 1
        self.generic_visit(node)
        self._lazy -= 1

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815  # the name that ast.NodeVisitor calls
    visit_Lambda = visit_FunctionDef  # noqa: N815  # the same

    def visit_If(self, node: ast.If) -> None:
        typing = ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
        self._typing += typing
        for child in node.body:
            self.visit(child)
        self._typing -= typing
        for child in node.orelse:
            self.visit(child)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name, node.lineno)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = self._absolute(node)
        names = tuple(alias.name for alias in node.names)
        # `from package import module` imports the module: each name is looked at as one where it can be one.
        inner = [name for name in names if _is_module(f"{base}.{name}")]
        for name in inner:
            self._add(f"{base}.{name}", node.lineno, parent=node.level > 1)
        if len(inner) < len(names):
            self._add(base, node.lineno, names, parent=node.level > 1)

    def visit_Call(self, node: ast.Call) -> None:
        if ast.unparse(node.func) in {"importlib.import_module", "import_module", "__import__"} and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                self._add(name.value, node.lineno)
        self.generic_visit(node)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self._package.split(".")
        base = parts[: len(parts) - node.level + 1]
        return ".".join([*base, node.module] if node.module else base)


def _is_module(dotted: str) -> bool:
    """Whether a dotted name is one of our modules or packages, planned pure ones included."""
    parts = dotted.split(".")
    if parts[0] != PACKAGE:
        return dotted == "urllib.parse"
    place = ROOT.joinpath(*parts)
    return dotted in PURE or place.is_dir() or place.with_suffix(".py").is_file()


def read_module(name: str | None, source: str, path: Path) -> Module:
    package = "" if name is None else name if path.name == "__init__.py" else name.rpartition(".")[0]
    reader = _Reader(package)
    reader.visit(ast.parse(source, str(path)))
    return Module(name, path, reader.imports)


@functools.cache
def our_modules() -> tuple[Module, ...]:
    """Every module that ships, by the one name it is imported by."""
    return tuple(_our_modules())


def _our_modules() -> Iterator[Module]:
    for top in (*(f"{PACKAGE}/{name}" for name in INSIDE), *PARTS):
        for path in sorted((ROOT / top).rglob("*.py")):
            dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            name = dotted if dotted.startswith(PACKAGE) else f"{PACKAGE}.{dotted}"
            yield read_module(name.removesuffix(".__init__"), path.read_text("utf-8"), path)
    for path in sorted((ROOT / PACKAGE).glob("*.py")):
        name = f"{PACKAGE}.{path.stem}".removesuffix(".__init__")
        yield read_module(name, path.read_text("utf-8"), path)


@functools.cache
def other_modules() -> tuple[Module, ...]:
    """Tests and bench: free to import everything of ours, but by its one name."""
    return tuple(_other_modules())


def _other_modules() -> Iterator[Module]:
    for top in ("tests", "bench"):
        for path in sorted((ROOT / top).rglob("*.py")):
            yield read_module(None, path.read_text("utf-8"), path)


def _area_of(dotted: str) -> str | None:
    """The part an imported module belongs to; None for what is not ours."""
    parts = dotted.split(".")
    if parts[0] != PACKAGE:
        return None
    return parts[1] if len(parts) > 1 and parts[1] in {*PARTS, *INSIDE} else FRONT


def _within(dotted: str, allowed: frozenset[str]) -> bool:
    return any(dotted == name or dotted.startswith(f"{name}.") for name in allowed)


def _is_standard(dotted: str) -> bool:
    return dotted.split(".", maxsplit=1)[0] in sys.stdlib_module_names | NEWER_STANDARD


# --- the rules: each takes a module and gives a sentence for every import that breaks it ---


def parts_meet_only_in_the_run_directory(module: Module) -> Iterator[str]:
    """rundir knows nothing of ours; the parts know rundir and themselves; reports and browsers also pure modules of others."""
    if module.area in {None, FRONT}:
        return
    for imported in module.imports:
        target = _area_of(imported.module)
        if target is None or target in {module.area, LEAF if module.area != LEAF else module.area}:
            continue
        if module.area in {"reports", BROWSERS} and _within(imported.module, PURE):
            continue
        if module.name == f"{PACKAGE}.loadtests.locustfile" and imported.module == PACKAGE:
            continue  # written as a user's own locustfile would be: from the public names
        yield f"line {imported.line}: {module.area} may not know {imported.module}"


def pure_modules_have_no_effects(module: Module) -> Iterator[str]:
    """Pure modules import pure modules, a closed part of the standard library and msgspec."""
    if module.name is None or not _within(module.name, PURE):
        return
    for imported in module.imports:
        if imported.typing:
            continue
        if _within(imported.module, PURE | PURE_LEAF) or _within(imported.module, PURE_STANDARD):
            continue
        top = imported.module.split(".")[0]
        if top in PURE_THIRD_PARTY and _within(module.name, PURE_THIRD_PARTY[top]):
            continue
        yield f"line {imported.line}: a pure module may not import {imported.module}"


def third_parties_have_one_home(module: Module) -> Iterator[str]:
    """Each part has its own few third parties, so that gevent and asyncio never meet in a process."""
    if module.area is None:
        return
    for imported in module.imports:
        top = imported.module.split(".")[0]
        if top == PACKAGE:
            continue
        if top in ONLY_IN and ONLY_IN[top] != module.area:
            yield f"line {imported.line}: {top} belongs to {ONLY_IN[top]} alone"
        elif not _is_standard(top) and top not in THIRD_PARTY[module.area]:
            yield f"line {imported.line}: {module.area} may not import {top}"


def locust_comes_first(module: Module) -> Iterator[str]:
    """Locust patches the standard library when it is imported; what came before it would hold the unpatched one."""
    running = [imported for imported in module.imports if not imported.typing]
    tops = [imported.module.split(".")[0] for imported in running if imported.module != "__future__"]
    if module.area is not None and "locust" in tops and tops[0] != "locust":
        line = next(imported.line for imported in running if imported.module.startswith("locust"))
        yield f"line {line}: locust must be the first import of the file"


def front_door_is_light(module: Module) -> Iterator[str]:
    """What sseproof/*.py imports when it is imported stays small: --help and bad usage answer at once."""
    if module.area != FRONT:
        return
    for imported in module.imports:
        if not (imported.lazy or imported.typing) and (heavy := weight_of(imported.module)):
            yield f"line {imported.line}: {imported.module} ({heavy}) must be imported inside the function that needs it"


@functools.cache
def eager_imports() -> dict[str, frozenset[str]]:
    """What each of our modules imports when it is imported itself; its own packages come first."""
    eager = {}
    for module in our_modules():
        assert module.name is not None
        names = {imported.module for imported in module.imports if not (imported.lazy or imported.typing)}
        eager[module.name] = frozenset(names)
    return eager


def weight_of(dotted: str) -> str | None:
    """The heavy third party that importing a module brings along, directly or through modules of ours."""
    seen: set[str] = set()
    waiting = [dotted]
    while waiting:
        name = waiting.pop()
        top = name.split(".", maxsplit=1)[0]
        if top in HEAVY:
            return top
        parts = name.split(".")
        chain = {".".join(parts[:length]) for length in range(1, len(parts) + 1)}
        for ours in chain & eager_imports().keys() - seen:
            seen.add(ours)
            waiting.extend(eager_imports()[ours])
    return None


def one_import_name(module: Module) -> Iterator[str]:
    """A user's own loadtests/ or reports/ folder must never be mistaken for ours."""
    for imported in module.imports:
        if imported.module.split(".")[0] in {*PARTS, *INSIDE}:
            yield f"line {imported.line}: import it as {PACKAGE}.{imported.module}"
        if imported.parent:
            yield f"line {imported.line}: name {imported.module} in full, not by a parent"


Rule = Callable[[Module], Iterator[str]]
RULES: Final[tuple[Rule, ...]] = (
    parts_meet_only_in_the_run_directory,
    pure_modules_have_no_effects,
    third_parties_have_one_home,
    locust_comes_first,
    front_door_is_light,
    one_import_name,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_tree_keeps(rule: Rule) -> None:
    broken = [
        f"{module.path.relative_to(ROOT)} {sentence}"
        for module in (*our_modules(), *other_modules())
        for sentence in rule(module)
    ]
    assert not broken, "\n".join(broken)


def test_every_part_is_read() -> None:
    """An empty walk would keep every rule."""
    areas = {module.area for module in our_modules()}
    assert areas == {*PARTS, *INSIDE, FRONT}
    names = [module.name for module in our_modules()]
    assert f"{PACKAGE}.rundir.rows" in names
    assert f"{PACKAGE}.loadtests.settings" in names
    assert len(names) == len(set(names)), "a module was read under two names"
    assert any(module.path == Path(__file__).resolve() for module in other_modules())


def test_third_parties_are_declared() -> None:
    """What ships imports only what the package requires: a test's or the bench's package would be missing for users."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    required = {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}
    used = {
        imported.module.split(".")[0]
        for module in our_modules()
        for imported in module.imports
        if not _is_standard(imported.module) and imported.module.split(".")[0] != PACKAGE
    }
    missing = {name for name in used if canonicalize_name(DISTRIBUTIONS.get(name, name)) not in required}
    assert not missing
    idle = required - {canonicalize_name(DISTRIBUTIONS.get(name, name)) for name in used}
    assert not idle, f"required and never imported: {sorted(idle)}"


# --- each rule against planted code: it must see what it is for, and nothing else ---


def planted(name: str | None, source: str) -> Module:
    place = "__init__" if name == PACKAGE else (name or "tests.planted").rpartition(".")[2]
    path = Path(f"{place}.py")
    return read_module(name, source, path)


BROKEN: Final = [
    (parts_meet_only_in_the_run_directory, "sseproof.rundir.x", "import sseproof.loadtests.sse"),
    (parts_meet_only_in_the_run_directory, "sseproof.rundir.x", "from sseproof import scenario"),
    (parts_meet_only_in_the_run_directory, "sseproof.loadtests.x", "from sseproof.reports import claims"),
    (parts_meet_only_in_the_run_directory, "sseproof.loadtests.x", "from sseproof import reports"),
    (parts_meet_only_in_the_run_directory, "sseproof.loadtests.x", "import sseproof.reference_server.script"),
    (parts_meet_only_in_the_run_directory, "sseproof.browsers.x", "import sseproof.loadtests.transport"),
    (parts_meet_only_in_the_run_directory, "sseproof.loadtests.x", "import sseproof.browsers.posts"),
    (parts_meet_only_in_the_run_directory, "sseproof.loadtests.x", "from sseproof import SSEUser"),
    (parts_meet_only_in_the_run_directory, "sseproof.chaos.x", "def f():\n    import sseproof.loadtests.sse"),
    (parts_meet_only_in_the_run_directory, "sseproof.chaos.x", "import sseproof.experiment"),
    (parts_meet_only_in_the_run_directory, "sseproof.chaos.x", "from ..loadtests import sse"),
    (
        parts_meet_only_in_the_run_directory,
        "sseproof.reference_server.x",
        "__import__('sseproof.loadtests.sse')",
    ),
    (parts_meet_only_in_the_run_directory, "sseproof.reports.x", "import sseproof.loadtests.transport"),
    (parts_meet_only_in_the_run_directory, "sseproof.reports.x", "from sseproof.reference_server import app"),
    (
        parts_meet_only_in_the_run_directory,
        "sseproof.reports.x",
        "import importlib\nimportlib.import_module('sseproof.chaos.injector')",
    ),
    (pure_modules_have_no_effects, "sseproof.loadtests.sse", "import socket"),
    (pure_modules_have_no_effects, "sseproof.loadtests.sse", "def f():\n    import time"),
    (pure_modules_have_no_effects, "sseproof.loadtests.sse", "from datetime import datetime"),
    (pure_modules_have_no_effects, "sseproof.loadtests.sse", "from urllib import request"),
    (pure_modules_have_no_effects, "sseproof.loadtests.reconnect", "import logging"),
    (pure_modules_have_no_effects, "sseproof.reports.claims", "from sseproof.rundir.files import Reading"),
    (pure_modules_have_no_effects, "sseproof.reports.claims", "from sseproof.rundir import clock"),
    (pure_modules_have_no_effects, "sseproof.reports.checks", "import jinja2"),
    (pure_modules_have_no_effects, "sseproof.reports.checks", "from .history import load"),
    (pure_modules_have_no_effects, "sseproof.chaos.plan", "import threading"),
    (pure_modules_have_no_effects, "sseproof.reference_server.encoder", "import os"),
    (third_parties_have_one_home, "sseproof.loadtests.x", "import asyncio"),
    (third_parties_have_one_home, "sseproof.loadtests.x", "async def f():\n    from aiohttp import web"),
    (third_parties_have_one_home, "sseproof.reference_server.x", "import gevent.event"),
    (third_parties_have_one_home, "sseproof.reference_server.x", "from locust import User"),
    (third_parties_have_one_home, "sseproof.reports.x", "import scipy.stats"),
    (third_parties_have_one_home, "sseproof.cli", "def f():\n    import gevent"),
    (third_parties_have_one_home, "sseproof.cli", "def f():\n    import asyncio"),
    (third_parties_have_one_home, "sseproof.rundir.x", "import rich"),
    (locust_comes_first, "sseproof.loadtests.users", "import json\nimport locust"),
    (locust_comes_first, "sseproof.loadtests.users", "import gevent\nfrom locust import User"),
    (
        locust_comes_first,
        "sseproof.loadtests.users",
        "import time\ndef f():\n    from locust.env import Environment",
    ),
    (front_door_is_light, "sseproof.cli", "import rich.table"),
    (front_door_is_light, "sseproof.cli", "import sseproof.loadtests.transport"),
    (front_door_is_light, "sseproof.cli", "from sseproof.reference_server import app"),
    (front_door_is_light, "sseproof", "from .loadtests.users import SSEUser"),
    (front_door_is_light, "sseproof.cli", "try:\n    import jinja2\nexcept ImportError:\n    pass"),
    (front_door_is_light, "sseproof.cli", "class A:\n    import locust"),
    (one_import_name, None, "import loadtests.sse"),
    (one_import_name, None, "from reports.claims import parse_claim"),
    (one_import_name, "sseproof.reports.x", "import rundir"),
    (one_import_name, None, "import importlib\nimportlib.import_module('chaos')"),
    (one_import_name, "sseproof.reports.x", "from ..rundir import rows"),
]

KEPT: Final = [
    ("sseproof.rundir.x", "from . import rows\nfrom sseproof.rundir.units import Duration"),
    (
        "sseproof.loadtests.x",
        "from .sse import Parser\nfrom sseproof.rundir import rows\nimport gevent, socket",
    ),
    ("sseproof.loadtests.locustfile", "from locust import task\nfrom sseproof import SSEUser"),
    ("sseproof.loadtests.users", "from __future__ import annotations\nimport locust\nimport time"),
    ("sseproof.reports.x", "from sseproof.loadtests import sse\nimport sseproof.reference_server.script"),
    ("sseproof.reports.charts", "import jinja2\nimport math"),
    ("sseproof.reports.claims", "from urllib.parse import quote\nfrom . import statistics\nimport msgspec"),
    (
        "sseproof.reports.checks",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .history import History",
    ),
    ("sseproof.reference_server.app", "import asyncio\nfrom aiohttp import web\nfrom .script import Script"),
    ("sseproof.cli", "import click\nfrom sseproof.rundir.errors import UsageError\nfrom . import scenario"),
    ("sseproof.cli", "def f():\n    from rich.table import Table\n    import sseproof.reports.judge"),
    (None, "import sseproof.loadtests.sse\nimport asyncio, scipy"),
]


@pytest.mark.parametrize(("rule", "name", "source"), BROKEN)
def test_a_rule_sees_what_it_is_for(rule: Rule, name: str | None, source: str) -> None:
    assert list(rule(planted(name, source)))


@pytest.mark.parametrize(("name", "source"), KEPT)
def test_no_rule_refuses_what_is_allowed(name: str | None, source: str) -> None:
    assert [sentence for rule in RULES for sentence in rule(planted(name, source))] == []


def test_every_rule_is_planted() -> None:
    assert {rule for rule, _, _ in BROKEN} == set(RULES)


@pytest.mark.integration
@pytest.mark.parametrize("name", [*PARTS, LEAF])
def test_ruff_bans_the_bare_name(name: str, tmp_path: Path) -> None:
    planted_file = tmp_path / "planted.py"
    ruff = [shutil.which("ruff", path=str(Path(sys.executable).parent)) or "ruff", "check", "--no-cache"]
    command = [
        *ruff,
        "--select=TID251",
        "--output-format=concise",
        "--config",
        str(ROOT / "pyproject.toml"),
        str(planted_file),
    ]
    for source in (f"import {name}\n", f"from {name} import x\n", f"from {name}.x import y\n"):
        planted_file.write_text(source, "utf-8")
        refused = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "TID251" in refused.stdout, source + refused.stdout + refused.stderr
        assert f"{PACKAGE}.{name}" in refused.stdout
    planted_file.write_text(f"import {PACKAGE}.{name}\n", "utf-8")
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


# --- the same, seen from a running interpreter ---


def imported_by(*arguments: str) -> set[str]:
    """The top names of all modules a child imports, by -X importtime."""
    child = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    rows = [line for line in child.stderr.splitlines() if line.startswith("import time:")]
    return {row.rpartition("|")[2].strip().split(".")[0] for row in rows}


@pytest.mark.integration
def test_importtime_is_read_right() -> None:
    seen = imported_by("-c", "import sseproof.rundir.rows")
    assert {"sseproof", "msgspec"} <= seen
    assert "locust" not in seen


@pytest.mark.integration
@pytest.mark.skipif(not (ROOT / PACKAGE / "cli.py").exists(), reason="sseproof/cli.py does not exist yet")
@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        *(
            [command, "--help"]
            for command in ("run", "worker", "judge", "check", "serve", "setup", "demo", "browsers")
        ),
        ["--version"],
    ],
    ids=" ".join,
)
def test_help_is_light(command: list[str]) -> None:
    seen = imported_by("-m", PACKAGE, *command)
    assert "click" in seen
    assert not seen & HEAVY


@pytest.mark.integration
def test_pure_modules_stay_pure_when_they_run() -> None:
    """What a pure module imports by ways the syntax tree does not show would be seen here."""
    present = sorted(module.name for module in our_modules() if module.name and _within(module.name, PURE))
    assert f"{PACKAGE}.loadtests.settings" in present
    seen = imported_by("-c", "\n".join(f"import {name}" for name in present))
    assert not seen & {"asyncio", "logging", "selectors", "socket", "ssl", "subprocess", *HEAVY}

"""The runs kept below a folder: what each is, how it ended and what it said; and how one is kept elsewhere, or removed.

Rules:
- A run is a real folder `<folder>/<scenario>/<run>` with a plan.json or a run.json in it. Links are never followed: `latest`
  is one, and what a link leads to may belong to somebody else.
- A run that crashed, is damaged or was written by a newer sseproof is one of the list, with a word and a sentence.
- Only what is surely a run that is over is ever removed: both documents are ours and can be read, and nobody writes to it.
- A folder goes in one step (it is renamed away, then emptied), and comes in one (it is copied aside, then renamed).
"""

import contextlib
import datetime as dt
import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

from sseproof.rundir.errors import RigError, UsageError
from sseproof.rundir.files import PLAN_NAME, RUN_NAME, VERDICT_NAME, header_of, read_document
from sseproof.rundir.layout import LATEST, alive, point_latest
from sseproof.rundir.rows import SCHEMA_VERSION, Plan, RunInfo
from sseproof.rundir.text import printable

State = Literal[
    "finished", "interrupted", "terminated", "failed", "running", "crashed", "damaged", "newer version"
]
"""How a run ended; *crashed* is one without an end on record that nobody writes to any more."""

WRITTEN_LATELY_S: Final = 30.0
"""A run without an end is left alone so long after its last row, whatever its process number says: it may be that of
another machine or container. Rows of the generator come every second."""
_PRUNED: Final = ".pruned-"
_COPIED: Final = ".keeping-"


class Reading(Struct, kw_only=True):
    """What one run said to one claim, in the variant that sets its exit code."""

    claim: str
    variant: str | None = None
    verdict: str
    k: int = 0
    n: int = 0
    share: float | None = None
    """k of n; None where nothing was counted."""
    value_ns: int | None = None
    """The observed quantile of a claim about times; None is never, where `timed`."""
    timed: bool = False


class KeptRun(Struct, kw_only=True):
    """One run of a folder."""

    directory: str
    scenario: str
    state: State
    sentence: str = ""
    """What is wrong with it; empty when nothing is."""
    run: str = ""
    seed: int | None = None
    started_ns: int | None = None
    ended_ns: int | None = None
    labels: dict[str, str] = {}
    aborted: bool = False
    """It gave up: what was planned for afterwards did not happen."""
    streams: int | None = None
    """Of the judged variant; None where there is no verdict."""
    good: int | None = None
    readings: list[Reading] = []

    @property
    def counts(self) -> dict[str, int]:
        """How many claims pass, fail and are unknown."""
        answers = [reading.verdict for reading in self.readings]
        return {answer: answers.count(answer) for answer in ("pass", "fail", "unknown")}


class _Quantile(Struct):
    value_ns: int | None


class _Answer(Struct):
    """The part of a verdict that a list of runs needs; other fields may come and go."""

    claim: str
    verdict: str
    variant: str | None = None
    counts: bool = True
    k: int = 0
    n: int = 0
    quantile: _Quantile | None = None


class _Summary(Struct):
    streams: int = 0
    good: int = 0


class _Variant(Struct):
    name: str | None
    judged: bool
    summary: _Summary


class _Verdict(Struct):
    schema: str
    version: int
    verdicts: list[_Answer] = []
    variants: list[_Variant] = []


# --- reading ------------------------------------------------------------------------------------------------------------


def run_directories(root: Path) -> list[Path]:
    """Every folder two levels below `root` that is a run or was meant to be one; links are none."""
    return [path for scenario in _folders(root) for path in runs_in(scenario)]


def runs_in(folder: Path) -> list[Path]:
    """Every folder in `folder` that is a run or was meant to be one; links are none."""
    return [path for path in _folders(folder) if (path / PLAN_NAME).is_file() or (path / RUN_NAME).is_file()]


def _folders(root: Path) -> list[Path]:
    with contextlib.suppress(OSError), os.scandir(root) as entries:
        return sorted(
            Path(entry.path)
            for entry in entries
            if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
        )
    return []


def kept_runs(root: Path) -> list[KeptRun]:
    """Every run below a folder, the newest first. Raises UsageError when there is no such folder."""
    if not root.is_dir():
        raise UsageError(
            f"There is no folder {root}: name the folder of runs with --out, or make a run first."
        )
    return newest_first(read_kept(directory) for directory in run_directories(root))


def newest_first(runs: Iterable[KeptRun]) -> list[KeptRun]:
    """By the moment they began; what does not say so stands where its folder's name puts it."""
    return sorted(runs, key=lambda run: (_began_ns(run), run.directory), reverse=True)


def _began_ns(run: KeptRun) -> int:
    if run.started_ns is not None:
        return run.started_ns
    stamp = Path(run.directory).name.partition("Z")[0]
    try:
        at = dt.datetime.strptime(stamp, "%Y%m%dT%H%M%S").replace(tzinfo=dt.UTC)
    except ValueError:
        return 0
    return round(at.timestamp()) * 1_000_000_000


def read_kept(directory: Path) -> KeptRun:
    """One run, as far as it can be read; never raises for what is in it."""
    kept = KeptRun(directory=str(directory), scenario=directory.parent.name, state="damaged")
    try:
        plan = read_document(directory / PLAN_NAME, Plan, "plan")
        kept.run, kept.seed, kept.scenario = plan.run, plan.seed, plan.scenario
        info = read_document(directory / RUN_NAME, RunInfo, "run")
    except UsageError as error:
        newer = any(_is_newer(directory / name) for name in (PLAN_NAME, RUN_NAME))
        kept.state, kept.sentence = "newer version" if newer else "damaged", str(error)
        return kept
    kept.started_ns, kept.ended_ns, kept.labels = info.started_ns, info.ended_ns, info.labels
    kept.state = _state(directory, info)
    kept.aborted = info.aborted is not None
    if kept.aborted:
        kept.sentence = "It gave up: a condition of its scenario was met (abort)."
    if kept.state == "failed":
        kept.sentence = f"The suite itself failed: {printable(info.problem)}"
    elif kept.state == "crashed":
        kept.sentence = "No end is on record: sseproof judge says what its rows show."
    if kept.state != "running":
        _add_verdict(kept, directory / VERDICT_NAME)
    return kept


def _state(directory: Path, info: RunInfo) -> State:
    if info.how != "running" and info.ended_ns is not None:
        return info.how
    lives = info.pid is not None and alive(info.pid)
    return "running" if lives or _written_lately(directory) else "crashed"


def _written_lately(directory: Path) -> bool:
    latest = 0.0
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            latest = max(latest, entry.stat(follow_symlinks=False).st_mtime)
    return time.time() - latest < WRITTEN_LATELY_S


def _is_newer(path: Path) -> bool:
    try:
        head = header_of(path.read_bytes())
    except OSError:
        return False
    return head is not None and head.version > SCHEMA_VERSION


def _add_verdict(kept: KeptRun, path: Path) -> None:
    try:
        verdict = msgspec.json.decode(path.read_bytes(), type=_Verdict)
    except FileNotFoundError:
        kept.sentence = kept.sentence or "It was not judged: sseproof judge does it."
        return
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        kept.sentence = (
            f"{VERDICT_NAME} can't be read ({printable(str(error), 100)}): sseproof judge makes it again."
        )
        return
    if verdict.version > 1:
        kept.sentence = f"{VERDICT_NAME} was written by a newer sseproof: update to read it."
        return
    kept.readings = [
        Reading(
            claim=each.claim,
            variant=each.variant,
            verdict=each.verdict,
            k=each.k,
            n=each.n,
            share=each.k / each.n if each.n else None,
            value_ns=None if each.quantile is None else each.quantile.value_ns,
            timed=each.quantile is not None,
        )
        for each in verdict.verdicts
        if each.counts
    ]
    judged = [variant for variant in verdict.variants if variant.judged] or verdict.variants
    if judged:
        kept.streams, kept.good = judged[-1].summary.streams, judged[-1].summary.good


# --- choosing -----------------------------------------------------------------------------------------------------------


def chosen(
    runs: Sequence[KeptRun], scenario: str | None, labels: dict[str, str], root: Path
) -> list[KeptRun]:
    """Those of one scenario with all these labels.

    Raises UsageError for a scenario of which there is no run, naming those that there are.
    """
    names = sorted({run.scenario for run in runs})
    if scenario is not None and scenario not in names:
        there = f"there are runs of {', '.join(map(printable, names))}" if names else "it holds no run"
        raise UsageError(f"There is no run of the scenario {scenario!r} in {root}: {there}.")
    return [
        run
        for run in runs
        if scenario in {None, run.scenario}
        and all(run.labels.get(name) == value for name, value in labels.items())
    ]


# --- keeping ------------------------------------------------------------------------------------------------------------


def keep(directory: Path, baseline: Path) -> Path:
    """Copies a run that is over into a folder of baselines, and gives its place there.

    Raises UsageError when it is no run, still goes on, or its name fits no folder; RigError when it can't be copied.
    """
    directory = directory.resolve()
    kept = read_kept(directory)
    if kept.state in {"damaged", "newer version"}:
        raise UsageError(kept.sentence)
    if kept.state == "running":
        raise UsageError(f"The run in {directory} still goes on: keep it when it is over.")
    if not kept.scenario or kept.scenario.startswith(".") or {"/", "\\", "\0"} & set(kept.scenario):
        raise UsageError(f"{directory / PLAN_NAME}: {printable(kept.scenario)!r} is no name for a folder.")
    place = baseline / kept.scenario / directory.name
    if place.exists():
        if read_kept(place).run == kept.run:
            return place
        raise UsageError(
            f"{place} is another run of that name: keep this one in another folder (--baseline DIR)."
        )
    aside = place.parent / f"{_COPIED}{os.getpid()}-{directory.name}"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copytree(directory, aside, ignore=_no_plain_file)
            aside.rename(place)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        reason = error.strerror or "not every file could be copied"
        raise RigError(
            f"The run can't be kept in {place.parent}: {reason}; choose another folder with --baseline."
        ) from error
    return place


def _no_plain_file(folder: str, names: list[str]) -> list[str]:
    """What is neither a file nor a folder: links lead elsewhere, and a pipe is no record."""

    def plain(name: str) -> bool:
        mode = Path(folder, name).lstat().st_mode
        return stat.S_ISREG(mode) or stat.S_ISDIR(mode)

    return [name for name in names if not plain(name)]


# --- removing -----------------------------------------------------------------------------------------------------------


class Pruned(Struct, kw_only=True):
    """What was removed, or would be, and what was left alone."""

    removed: list[str] = []
    kept: int = 0
    left_alone: list[str] = []
    """A sentence each: runs that go on, and what may be no run of ours."""


def prune(runs: Sequence[KeptRun], keep_n: int, *, dry_run: bool) -> Pruned:
    """Removes all but the newest `keep_n` runs of each scenario's folder.

    A run that goes on, one that can't be read, and the one that `latest` names stay whatever their age.
    Raises RigError when a folder can't be removed.
    """
    done = Pruned()
    folders: dict[Path, list[KeptRun]] = {}
    for run in newest_first(runs):
        folders.setdefault(Path(run.directory).parent, []).append(run)
    for folder, mine in folders.items():
        over = [run for run in mine if _surely_over(run, done)]
        latest = _named_latest(folder)
        removable = [run for run in over[keep_n:] if Path(run.directory).name != latest]
        done.kept += len(over) - len(removable)
        done.removed += [run.directory for run in removable]
        if not dry_run:
            _remove(folder, removable)
            _repair_latest(folder, [run for run in mine if run not in removable])
    return done


def _surely_over(run: KeptRun, done: Pruned) -> bool:
    if run.state == "running":
        done.left_alone.append(f"{run.directory} still goes on.")
    elif run.state in {"damaged", "newer version"}:
        done.left_alone.append(f"{run.directory} may be no run, or one that goes on: {run.sentence}")
    else:
        return True
    return False


def _named_latest(folder: Path) -> str | None:
    link = folder / LATEST
    return Path(link.readlink()).name if link.is_symlink() else None


def _remove(folder: Path, runs: Sequence[KeptRun]) -> None:
    try:
        for run in runs:
            directory = Path(run.directory)
            aside = folder / f"{_PRUNED}{directory.name}"
            directory.rename(aside)
        for left in _pruned(folder):  # those that a prune before was killed at, too
            shutil.rmtree(left)
    except OSError as error:
        raise RigError(f"{error.filename or folder} can't be removed: {error.strerror}.") from error


def _pruned(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.glob(f"{_PRUNED}*")):
        if path.is_dir() and not path.is_symlink():
            yield path


def _repair_latest(folder: Path, left: Sequence[KeptRun]) -> None:
    """A link that leads nowhere is pointed at the newest run that is left."""
    link = folder / LATEST
    if left and link.is_symlink() and not link.exists():
        with contextlib.suppress(OSError):
            point_latest(folder, Path(left[0].directory))

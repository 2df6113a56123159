"""The files for machines that a command was asked for: all of them views of one run, written when it has been judged.

Rules:
- Where they go is looked at before anything else happens: a name that can't be written is the user's mistake, said before
  the first connection.
- A file is replaced whole. Only the step summary of GitHub Actions (the file that GITHUB_STEP_SUMMARY names) collects what
  several commands have to say: what we say is appended, as far as the limit of the whole leaves room.
- Nothing is written for a CI server unasked: a run looks at no variable of one but that name.
"""

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from sseproof.rundir.errors import RigError, UsageError
from sseproof.rundir.files import why_not_written, write_bytes
from sseproof.rundir.text import printable

if TYPE_CHECKING:
    from sseproof.reports.export import Export
    from sseproof.reports.facts import Facts, History
    from sseproof.reports.judge import RunVerdict

STEP_SUMMARY: Final = "GITHUB_STEP_SUMMARY"


class Outputs(Struct, frozen=True, kw_only=True):
    """What was asked for."""

    junit: Path | None = None
    markdown: Path | None = None
    openmetrics: Path | None = None
    annotations: bool = False
    exports: "tuple[Export, ...]" = ()

    @property
    def files(self) -> dict[str, Path]:
        """The option of each named file, and its path."""
        named = {"--junit": self.junit, "--markdown": self.markdown, "--openmetrics": self.openmetrics}
        return {option: path for option, path in named.items() if path is not None}

    @property
    def from_rows(self) -> bool:
        """Whether something is made from the rows, and not from the verdict alone."""
        return self.openmetrics is not None or "csv" in self.exports


def check_outputs(outputs: Outputs) -> None:
    """Raises UsageError for a file that can't be written, or that two outputs would share."""
    taken: dict[Path, str] = {}
    for option, path in outputs.files.items():
        if str(path) in {"", ".", "-"}:
            raise UsageError(
                f"{option} wants the name of a file, not {str(path)!r}"
                + (f": {STEP_SUMMARY} is only set inside GitHub Actions." if option == "--markdown" else ".")
            )
        try:
            there = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            there = None
        except OSError as error:
            raise UsageError(f"{option} {printable(str(path))} can't be written: {error.strerror}.") from None
        if there is not None and not stat.S_ISREG(there.st_mode):
            raise UsageError(f"{option} {path}: there is something else than a file; name another one.")
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise UsageError(f"{option} {path}: nothing can be written in {folder}; name a file elsewhere.")
        other = taken.setdefault(path.absolute(), option)
        if other != option:
            raise UsageError(f"{option} and {other} name the same file, {path}: give each its own.")


def write_outputs(
    outputs: Outputs,
    directory: Path,
    verdict: "RunVerdict",
    *,
    environ: Mapping[str, str],
    say: Callable[[str], None],
    read: "tuple[History, Sequence[Facts]] | None" = None,
) -> None:
    """Writes all of them; `read` is the run's history where it was read already.

    Raises RigError when one can't be written, UsageError for an export of what the run did not record.
    """
    if outputs.junit is not None:
        from sseproof.reports.junit import junit_xml

        write_output("--junit", outputs.junit, junit_xml(verdict))
    if outputs.markdown is not None:
        _write_markdown(outputs.markdown, verdict, environ)
    if outputs.from_rows:
        _write_from_rows(outputs, directory, verdict, say, read or _read(directory))
    _write_series(outputs, directory, say)
    if outputs.annotations:
        from sseproof.reports.annotations import annotations

        for line in annotations(verdict):
            say(line)


def _read(directory: Path) -> "tuple[History, Sequence[Facts]]":
    from sseproof.reports.facts import all_facts
    from sseproof.reports.history import read_history

    history = read_history(directory)
    return history, all_facts(history)


def _write_markdown(path: Path, verdict: "RunVerdict", environ: Mapping[str, str]) -> None:
    from sseproof.reports.markdown import MOST_BYTES, markdown_text

    summary = environ.get(STEP_SUMMARY, "")
    before = b""
    if summary and path.absolute() == Path(summary).absolute():
        try:
            before = path.read_bytes() if path.exists() else b""
        except OSError as error:
            raise RigError(f"--markdown {path} can't be read: {error.strerror}.") from error
        if before and not before.endswith(b"\n\n"):
            before += b"\n" if before.endswith(b"\n") else b"\n\n"
    write_output("--markdown", path, before + markdown_text(verdict, max(MOST_BYTES - len(before), 0)))


def _write_from_rows(
    outputs: Outputs,
    directory: Path,
    verdict: "RunVerdict",
    say: Callable[[str], None],
    read: "tuple[History, Sequence[Facts]]",
) -> None:
    history, facts = read
    if outputs.openmetrics is not None:
        from sseproof.reports.openmetrics import openmetrics_text

        write_output("--openmetrics", outputs.openmetrics, openmetrics_text(history, facts, verdict))
    if "csv" in outputs.exports:
        from sseproof.reports.export import export_csv

        _tell(export_csv(directory, history, facts, verdict), say)


def _write_series(outputs: Outputs, directory: Path, say: Callable[[str], None]) -> None:
    from sseproof.reports.export import export_hgrm, export_hlog

    if "hgrm" in outputs.exports:
        _tell(export_hgrm(directory), say)
    if "hlog" in outputs.exports:
        _tell(export_hlog(directory), say)


def _tell(written: tuple[Sequence[Path], str], say: Callable[[str], None]) -> None:
    paths, problem = written
    for path in paths:
        say(f"Wrote {path}.")
    if problem:
        say(problem)


def write_output(option: str, path: Path, content: bytes) -> None:
    """Writes what this option asked for. Raises RigError, naming it, when that can't be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
    except OSError as error:
        raise RigError(f"{option} {path} can't be written: {error.strerror}.") from error
    except RigError as error:
        raise RigError(f"{option} {path} can't be written: {why_not_written(error)}.") from error

"""How a run directory comes to be: whole, with plan and headers, or not at all.

`runs/<scenario>/<UTC time>-<seed>/` is made under a hidden name and renamed when plan.json, run.json and the header of
every row file are in it, so that a directory a person can see can always be judged, whenever its run was killed.
"""

import contextlib
import datetime as dt
import os
import shutil
from pathlib import Path
from typing import Final

from sseproof.rundir.errors import RigError
from sseproof.rundir.files import PLAN_NAME, ROW_FILES, RUN_NAME, create_with_header, write_document
from sseproof.rundir.rows import Plan, RunInfo

LATEST: Final = "latest"
PLAN_VARIABLE: Final = "SSEPROOF_PLAN"
"""Environment variable by which local processes find plan.json."""
WORKER_VARIABLE: Final = "SSEPROOF_WORKER"
"""Environment variable with a local worker's number."""
OUT_VARIABLE: Final = "SSEPROOF_OUT"
"""Environment variable with the folder for the rows of a bare Locust run, or of a worker elsewhere."""


def new_run_id(seed: int, at_ns: int) -> str:
    """Time to the microsecond and seed: unique on one machine, sortable, fit for a header and a file name."""
    at = dt.datetime.fromtimestamp(at_ns / 1e9, tz=dt.UTC)
    return f"{at:%Y%m%dT%H%M%S}.{at_ns // 1000 % 1_000_000:06d}Z-{seed}"


def create_run_directory(root: Path, plan: Plan, info: RunInfo) -> Path:
    """Makes the directory of a run and points `latest` at it.

    Raises RigError when the folder can't be written.
    """
    parent = root / plan.scenario
    stamp, _, seed = plan.run.partition(".")
    name = f"{stamp}Z-{seed.rpartition('-')[2]}"
    hidden = parent / f".new-{os.getpid()}-{plan.run}"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _sweep(parent)
        hidden.mkdir()
        try:
            for file in ROW_FILES:
                create_with_header(hidden / file.name, file.schema, plan.run)
            write_document(hidden / RUN_NAME, info)
            write_document(hidden / PLAN_NAME, plan)
            directory = _renamed(hidden, parent, name)
        except BaseException:
            shutil.rmtree(hidden, ignore_errors=True)
            raise
        point_latest(parent, directory)
    except OSError as error:
        raise RigError(
            f"The run directory can't be made in {parent}: {error.strerror}; choose another folder with --out."
        ) from error
    return directory


def _sweep(parent: Path) -> None:
    """Removes what a run that was killed while its directory was being made has left."""
    for left in parent.glob(".new-*"):
        pid = left.name.split("-")[1]
        if pid.isdigit() and not alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


def alive(pid: int) -> bool:
    """Whether a process of this number exists, whoever's it is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _renamed(hidden: Path, parent: Path, name: str) -> Path:
    """Gives the directory its name; a second run in the same second with the same seed gets a number behind it."""
    for attempt in range(1, 1_000):
        directory = parent / (name if attempt == 1 else f"{name}-{attempt}")
        if directory.exists():
            continue
        with contextlib.suppress(
            OSError
        ):  # another process may take the name between the look and the rename
            hidden.rename(directory)
            return directory
    raise RigError(f"{parent} already holds a thousand runs named {name}.")


def point_latest(parent: Path, directory: Path) -> None:
    """Points the link `latest` of a scenario's folder at one of its runs, in one step. Raises OSError when it can't."""
    link = parent / f".latest-{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        link.unlink()
    link.symlink_to(directory.name, target_is_directory=True)
    link.replace(parent / LATEST)

"""`sseproof worker`: turns this process into a Locust worker of a run on another machine.

Nothing of the run is known here: the plan comes from the master, which has to prove that it knows the token.
"""

import os
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from sseproof.children import python_module
from sseproof.loadtests import LOCUSTFILE
from sseproof.loadtests.joining import TOKEN_VARIABLE
from sseproof.rundir.errors import RigError, UsageError
from sseproof.rundir.layout import OUT_VARIABLE, PLAN_VARIABLE, WORKER_VARIABLE
from sseproof.rundir.parent import PARENT_VARIABLE


def become_worker(
    master: str, *, locustfile: str | None, out: str | None, environ: Mapping[str, str]
) -> NoReturn:
    """Replaces this process by Locust's.

    Raises UsageError without a token, an address or the file, RigError when Locust can't be started.
    """
    host, _, port = master.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65_535:
        raise UsageError(
            f"--master {master!r} is not HOST:PORT; write it as the run said it, such as 10.0.0.1:5557."
        )
    if not environ.get(TOKEN_VARIABLE):
        raise UsageError(
            f"{TOKEN_VARIABLE} is not set: export what `sseproof run` said when it began to wait for its workers."
        )
    if locustfile is not None and not Path(locustfile).is_file():
        raise UsageError(f"--locustfile {locustfile!r} is not a file.")
    users = LOCUSTFILE if locustfile is None else Path(locustfile).resolve()
    kept = {
        name: value
        for name, value in environ.items()
        if not name.startswith("LOCUST_") and name not in {PLAN_VARIABLE, WORKER_VARIABLE, PARENT_VARIABLE}
    }
    if out is not None:
        kept[OUT_VARIABLE] = str(Path(out).resolve())
    # What the plan needs is not known yet: as many descriptors as this machine gives.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    options = ["-f", str(users), "--headless", "--worker", "--master-host", host, "--master-port", port]
    command = python_module("locust", *options, "--loglevel", "WARNING", "--exit-code-on-error", "0")
    print(
        f"Looks for the run at {host}:{port}, for five minutes at most; makes its load as soon as it is there.",
        file=sys.stderr,
        flush=True,
    )
    try:
        os.execve(command[0], command, kept)  # noqa: S606  # our own interpreter, a list, no shell
    except OSError as error:
        raise RigError(f"Locust can't be started: {error.strerror}.") from error

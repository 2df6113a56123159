"""The two errors a person may meet, each one sentence that names the thing and the way out.

design.md "Commands": 64 is bad usage or input, 70 is the suite itself. Neither ever blames the target:
what a target does wrong is an outcome in a row, not an exception.
"""

import errno
from typing import Final

EXIT_PASS: Final = 0
EXIT_FAIL: Final = 1
EXIT_UNKNOWN: Final = 2
EXIT_USAGE: Final = 64
EXIT_RIG: Final = 70
EXIT_INTERRUPTED: Final = 130
EXIT_TERMINATED: Final = 143


class SuiteError(Exception):
    """Base of what the command line turns into one sentence and an exit code."""

    exit_code: int = EXIT_RIG


class UsageError(SuiteError):
    """The user's input can't be taken; the sentence names file, key and way out (exit code 64)."""

    exit_code = EXIT_USAGE


class RigError(SuiteError):
    """The suite or its machine failed: port, folder, descriptors, disk (exit code 70)."""

    exit_code = EXIT_RIG


def unbound(error: OSError, sentence: str) -> SuiteError:
    """Why an address can't be listened on: RigError where somebody else has the port, UsageError where nobody could."""
    return (RigError if error.errno == errno.EADDRINUSE else UsageError)(sentence)

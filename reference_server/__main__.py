"""`python -m sseproof.reference_server '{"port": 0}'`: the server as a child of tests and of the experiment.

The one argument is ServerSettings as JSON (settings.settings_to_json). A problem of the suite is one line on standard
error behind the mark that `sseproof.children` looks for, and the exit code of errors.py.
"""

import sys

from sseproof.reference_server.app import run_server
from sseproof.reference_server.settings import settings_from_json
from sseproof.rundir.errors import EXIT_USAGE, SuiteError
from sseproof.rundir.parent import RIG_ERROR_MARK


def main(arguments: list[str]) -> int:
    """The exit code."""
    try:
        settings = settings_from_json(arguments[0] if arguments else "{}")
    except ValueError as error:
        print(
            f"{RIG_ERROR_MARK}The settings of the reference server can't be read: {error}.", file=sys.stderr
        )
        return EXIT_USAGE
    try:
        run_server(settings)
    except SuiteError as error:
        print(f"{RIG_ERROR_MARK}{error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

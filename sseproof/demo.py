"""The demo is a scenario like any other (`demo.toml`); this module only fits it to the machine it runs on.

Without nginx the variants meet the service directly, and the record says what was therefore not measured.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from sseproof.chaos.hops import HOW_TO_GET_NGINX, find_nginx
from sseproof.rundir.errors import UsageError
from sseproof.scenario import Resolved, load_scenario

SCENARIO: Final = Path(__file__).resolve().parent / "demo.toml"
EXPECTED_RATE: Final = 0.999
"""Share of good units that `--dry-run` assumes of the careful stack: one failure in a thousand. Nothing in the faults is
meant to defeat it, so what remains is the machine's own hiccups; eight demos without a failed stream (3,360 streams) show
as much at 95 %."""


class Demo(Struct):
    """The demo, fitted to this machine."""

    resolved: Resolved
    notes: list[str]
    """What can't be measured here, and what would make it possible."""


def load_demo(*, environ: Mapping[str, str], sets: list[str], flags: dict[str, Any], misbehave: str) -> Demo:
    """The demo's scenario; `misbehave` plants defects in the judged variant's service.

    Raises UsageError for values that can't be taken.
    """
    resolved = load_scenario(SCENARIO, environ=environ, sets=sets, flags=flags)
    notes = []
    if find_nginx() is None:
        for variant in resolved.scenario.variant:
            variant.hop = None
        notes.append(f"Through nginx, with its defaults and with sse.conf: not measured: {HOW_TO_GET_NGINX}")
    if misbehave:
        from sseproof.reference_server.misbehave import parse_modes

        try:
            parse_modes(misbehave)
        except ValueError as error:
            raise UsageError(f"--misbehave {misbehave}: {error}") from None
        for variant in resolved.scenario.variant:
            if variant.judged and variant.server is not None:
                variant.server.misbehave = misbehave
    return Demo(resolved=resolved, notes=notes)

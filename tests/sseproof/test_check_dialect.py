"""`check --dialect`: what is refused before the first connection."""

import pytest

from sseproof.check_commands import _dialect
from sseproof.rundir.errors import UsageError


@pytest.mark.parametrize("name", [None, "auto", "openai", "mcp", "plain"])
def test_known_dialects_are_taken(name: str | None) -> None:
    assert _dialect(name, None) == name


def test_an_unknown_one_is_told_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"--dialect: .*did you mean gemini\?"):
        _dialect("gemin", None)


def test_a_terminal_marker_describes_plain_events() -> None:
    with pytest.raises(UsageError, match="terminal describes a plain stream"):
        _dialect("openai", "event:done")
    assert _dialect("plain", "event:done") == "plain"
    assert _dialect(None, "event:done") is None

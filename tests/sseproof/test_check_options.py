"""What the options of `check` are taken for, and what is refused before the first connection."""

import pytest

from sseproof.check_commands import _dialect, _seconds
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


@pytest.mark.parametrize(("text", "seconds"), [("70", 70.0), ("70s", 70.0), ("2m", 120.0), ("500ms", 0.5)])
def test_a_bare_number_of_time_counts_seconds(text: str, seconds: float) -> None:
    assert _seconds("--idle", text) == seconds


@pytest.mark.parametrize("text", ["0", "-3", "1.5", "9999", "", "x"])
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--idle"):
        _seconds("--idle", text)

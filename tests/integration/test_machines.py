"""What happens to a test that needs two machines where they can't be made; with an `ip` that says what the real one does."""

from pathlib import Path

import pytest

from tests.integration.machines import two_machines

REFUSED = 'Failed to create a new network namespace "x": Operation not permitted'


def with_ip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str | None) -> None:
    """Only this `ip` is on PATH, or none."""
    if says is not None:
        (tmp_path / "ip").write_text(f"#!/bin/sh\necho '{says}' >&2\nexit 1\n")
        (tmp_path / "ip").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.parametrize(
    ("says", "ci", "outcome"),
    [
        (REFUSED, True, pytest.skip.Exception),
        (REFUSED, False, pytest.skip.Exception),
        ("mkdir /run/netns failed: Permission denied", True, pytest.skip.Exception),
        (None, True, pytest.fail.Exception),
        (None, False, pytest.skip.Exception),
        ('Cannot create namespace file "/run/netns/x": File exists', False, pytest.fail.Exception),
    ],
)
def test_only_a_missing_right_or_program_skips_and_the_program_not_in_ci(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    says: str | None,
    ci: bool,
    outcome: type[BaseException],
) -> None:
    with_ip(tmp_path, monkeypatch, says)
    if ci:
        monkeypatch.setenv("CI", "1")
    else:
        monkeypatch.delenv("CI", raising=False)
    with pytest.raises(outcome, match=says or "ip not found"), two_machines():
        raise AssertionError("no machine can be there")

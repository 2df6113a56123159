"""Files of recorded starts."""

from pathlib import Path

import pytest

from sseproof.replay import read_replay
from sseproof.rundir.errors import UsageError


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "starts.csv"
    path.write_text(text, "utf-8")
    return path


def test_starts_are_taken_from_the_first_column_in_any_order(tmp_path: Path) -> None:
    path = written(tmp_path, "start_s,name\n100.5,b\n\n# a note\n100.0,a\n101.25,c\n")
    assert read_replay(path) == [0, 500_000_000, 1_250_000_000]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("1\n2\nx\n", "line 3: 'x' is no start time"),
        ("start\nname\n", "line 2: 'name' is no start time"),
        ("1\nnan\n", "line 2: 'nan' is no start time"),
        ("1\ninf\n", "line 2: 'inf' is no start time"),
        ("1e300\n0\n", "line 1: this start lies more than 7 days after the earliest, which is in line 2"),
        ("0\n5\n\n1e12\n", "line 4: this start lies more than 7 days"),
        ("-1e308\n1e308\n", "line 2: this start lies more than 7 days"),
        ("604801\n0\n", "line 1: this start lies more than 7 days"),
        ("start\n", "holds no start time"),
        ("", "holds no start time"),
    ],
)
def test_what_is_no_start_is_named_by_its_line(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_replay(written(tmp_path, text))
    assert sentence in str(refused.value)
    assert "starts.csv" in str(refused.value)


def test_seven_days_are_the_most_wherever_they_begin(tmp_path: Path) -> None:
    path = written(tmp_path, "1700000000\n1700604800\n")
    assert read_replay(path) == [0, 7 * 24 * 3_600 * 10**9]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be read"):
        read_replay(tmp_path / "none.csv")

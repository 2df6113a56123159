"""Files for other tools, from a recorded run."""

from pathlib import Path

import pytest

from sseproof.cli import invoke
from sseproof.reports.export import export_hgrm, read_series
from sseproof.reports.percentiles import hgrm
from sseproof.rundir.errors import RigError, UsageError
from sseproof.rundir.files import PLAN_NAME, SERIES_NAME, write_document
from sseproof.rundir.rows import Plan
from sseproof.rundir.series import Interval, encoded
from sseproof.rundir.series_file import SeriesFile

BEGIN_NS = 1_767_225_600_000_000_000
PLAN = Plan(run="r", scenario="s", seed=1, created_ns=BEGIN_NS)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Two seconds of two series, one of them with values out of range."""
    write_document(tmp_path / PLAN_NAME, PLAN)
    file = SeriesFile(tmp_path, PLAN.run, BEGIN_NS)
    for second, values in enumerate([{5: 2, 300: 1}, {5: 1, 401_408: 4}]):
        start = BEGIN_NS + second * 10**9
        file.append([Interval("gap@after", start, start + 10**9, encoded(values), second)])
        file.append([Interval("read-lag@after", start, start + 10**9, encoded({7: 1}))])
    file.close()
    return tmp_path


def test_intervals_add_up_to_the_run(directory: Path) -> None:
    paths, problem = export_hgrm(directory)
    assert problem == ""
    assert [path.name for path in paths] == ["gap@after.hgrm", "read-lag@after.hgrm"]
    assert paths[0].read_bytes() == hgrm({5: 3, 300: 1, 401_408: 4}, 1)
    assert paths[1].read_bytes() == hgrm({7: 2})
    assert export_hgrm(directory) == (paths, "")


def test_what_is_damaged_is_said(directory: Path) -> None:
    with (directory / SERIES_NAME).open("ab") as log:
        log.write(b"Tag=gap@after,17672\n")
    paths, problem = export_hgrm(directory)
    assert problem == f"{SERIES_NAME} is damaged in 1 place; every whole line was read."
    assert paths[0].read_bytes() == hgrm({5: 3, 300: 1, 401_408: 4}, 1)


def test_a_run_without_series_has_none_to_export(directory: Path) -> None:
    (directory / SERIES_NAME).unlink()
    with pytest.raises(UsageError, match="recorded without series"):
        read_series(directory)
    assert not (directory / "export").exists()


def test_a_folder_that_cannot_be_made_is_the_rigs_fault(directory: Path) -> None:
    (directory / "export").write_text("in the way")
    with pytest.raises(RigError, match="export can't be made"):
        export_hgrm(directory)


def test_judge_exports_on_request(capsys: pytest.CaptureFixture[str], directory: Path) -> None:
    assert invoke(["judge", str(directory)]) == 0
    assert not (directory / "export").exists()
    assert invoke(["judge", str(directory), "--export", "hgrm", "--json"]) == 0
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        f"Wrote {directory / 'export' / name}." for name in ("gap@after.hgrm", "read-lag@after.hgrm")
    ]
    (directory / SERIES_NAME).unlink()
    assert invoke(["judge", str(directory)]) == 0, "an older run has none"
    assert invoke(["judge", str(directory), "--export", "hgrm"]) == 64
    assert (
        capsys.readouterr().err == f"{directory} has no {SERIES_NAME}: the run was recorded without series.\n"
    )

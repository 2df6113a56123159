import msgspec
import pytest

from sseproof.reference_server import witness as module
from sseproof.reference_server.witness import Connection, Witness
from sseproof.rundir.errors import RigError
from sseproof.rundir.files import WITNESS, Reading
from sseproof.rundir.rows import Instant, WitnessRow


def connection(run="r", number=1):
    return Connection(
        WitnessRow(run=run, truth_id=f"{run}/-/{number}", connection=1, profile="robust", accepted=Instant(1))
    )


def rows(witness, run=None):
    return [msgspec.json.decode(line, type=WitnessRow) for line in witness.lines(run)]


def test_numbers_become_ranges_in_the_order_written():
    made = connection()
    for number in [1, 2, 3, 5, 6, 4, 5, 5]:
        made.wrote(number, 2)
    assert made.row.written == [(1, 3), (5, 6), (4, 5), (5, 5)]
    assert made.row.written_text_chars == 16


def test_instants_of_writes():
    made = connection()
    now = module.now_ns()
    made.handed(10, now, token=False)
    made.handed(5, now + 1, token=True)
    made.handed(5, now + 2, token=True)
    made.extra_bytes(7)
    row = made.row
    assert (row.first_write.ns, row.first_token_write.ns, row.last_write.ns) == (now, now + 1, now + 2)
    assert row.written_bytes == 27
    assert row.last_write.before_ns == 0
    assert row.last_write.after_ns > 0


def test_a_clock_that_steps_back_gives_no_negative_bracket():
    made = connection()
    made.handed(1, module.now_ns() + 10**12, token=False)
    assert made.row.last_write.after_ns == 0


def test_a_mode_is_named_once():
    made = connection()
    for mode in ("loss", "cut", "loss"):
        made.misbehaved(mode)
    assert made.row.misbehaved == ["loss", "cut"]


def test_open_connections_are_witnessed_too():
    witness = Witness()
    first, second = connection(number=1), connection(number=2)
    witness.opened(first)
    witness.opened(second)
    witness.closed(second, "done")
    first.wrote(1, 0)
    assert [(row.truth_id, row.end) for row in rows(witness)] == [("r/-/2", "done"), ("r/-/1", "")]
    assert rows(witness)[0].ended is not None
    assert rows(witness)[1].ended is None
    assert rows(witness)[1].written == [(1, 1)]


def test_a_connection_that_ends_while_rows_are_read_is_there_once():
    witness = Witness()
    first, second = connection(number=1), connection(number=2)
    witness.opened(first)
    witness.opened(second)
    witness.closed(first, "done")
    lines = witness.lines()
    shown = [next(lines)]
    witness.closed(second, "done")
    shown += lines
    assert [msgspec.json.decode(line, type=WitnessRow).truth_id for line in shown] == ["r/-/1", "r/-/2"]


def test_the_first_end_stays_and_is_written_once():
    witness = Witness()
    made = connection()
    witness.opened(made)
    witness.closed(made, "done")
    witness.closed(made, "client-gone")
    assert [row.end for row in rows(witness)] == ["done"]


def test_rows_of_one_run():
    witness = Witness()
    for run in ("a", "b", "a"):
        made = connection(run)
        witness.opened(made)
        witness.closed(made, "done")
    witness.opened(connection("b"))
    assert len(rows(witness, "a")) == 2
    assert len(rows(witness, "b")) == 2
    assert rows(witness, "c") == []
    assert len(rows(witness)) == 4


def test_the_oldest_rows_go_first_and_are_counted_for_their_run():
    witness = Witness(limit=3)
    for number in range(5):
        made = connection("a" if number < 2 else "b", number)
        witness.opened(made)
        witness.closed(made, "done")
    assert [row.truth_id for row in rows(witness)] == ["b/-/2", "b/-/3", "b/-/4"]
    assert (witness.dropped("a"), witness.dropped("b"), witness.dropped()) == (2, 0, 2)


def test_long_rows_take_the_place_of_several():
    witness = Witness(limit_bytes=8_500)
    for number in range(6):
        made = connection("a", number)
        made.row.user_agent = "x" * (8_000 if number == 3 else 10)
        witness.opened(made)
        witness.closed(made, "done")
    assert [row.truth_id for row in rows(witness)] == ["a/-/3", "a/-/4", "a/-/5"]
    assert witness.dropped("a") == 3
    made = connection("b")
    made.row.user_agent = "x" * 8_350
    witness.opened(made)
    witness.closed(made, "done")
    assert [row.truth_id for row in rows(witness)] == ["b/-/1"], "no more are kept than fit"


def test_the_count_of_dropped_rows_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "RUNS_COUNTED", 2)
    witness = Witness(limit=0)
    for run in "abc":
        made = connection(run)
        witness.opened(made)
        witness.closed(made, "done")
    assert [witness.dropped(run) for run in "abc"] == [0, 1, 1]


def test_rows_go_into_the_run_directory(tmp_path):
    witness = Witness(tmp_path)
    made = connection()
    made.wrote(1, 3)
    witness.opened(made)
    assert list(Reading(tmp_path, WITNESS)) == []
    witness.closed(made, "done")
    witness.close()
    assert list(Reading(tmp_path, WITNESS)) == [made.row] == rows(witness)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(RigError, match="can't be written"):
        Witness(tmp_path / "missing")


def test_a_full_disk_is_said(tmp_path):
    (tmp_path / "witness.jsonl").symlink_to("/dev/full")
    witness = Witness(tmp_path)
    made = connection()
    witness.opened(made)
    with pytest.raises(RigError, match="disk is full"):
        witness.closed(made, "done")
    assert [row.end for row in rows(witness)] == ["done"]

"""Progress counts only whole rows of a growing directory, and what it says of the time left can be believed."""

import re

from sseproof.progress import Counts, Progress, RowCounter


def write(path, data: bytes) -> None:
    with path.open("ab") as stream:
        stream.write(data)


def test_rows_are_counted_as_they_come(tmp_path):
    starts, streams = tmp_path / "starts.jsonl", tmp_path / "streams.jsonl"
    counter = RowCounter(tmp_path)
    assert counter.update() == Counts()
    write(starts, b'{"schema":"x"}\n{"stream":0}\n{"stream":1}\n{"str')
    write(streams, b'{"schema":"x"}\n')
    assert counter.update() == Counts(started=2)
    write(starts, b'eam":2}\n')
    write(streams, b'{"stream":0,"outcome":"complete"}\n{"stream":1,"outcome":"cut"}\n')
    counts = counter.update()
    assert (counts.started, counts.ended, counts.good, counts.bad, counts.open) == (3, 2, 1, 1, 1)


def test_a_start_that_was_not_made_is_dropped_and_not_open(tmp_path, capsys):
    counter = RowCounter(tmp_path)
    made, dropped = b'{"stream":0,"name":"\\"dropped\\":true"}', b'{"stream":1,"dropped":true}'
    write(tmp_path / "starts.jsonl", b"\n".join([b'{"schema":"x"}', made, dropped, dropped, b"damaged", b""]))
    counts = counter.update()
    assert (counts.started, counts.dropped, counts.open) == (2, 2, 2)
    now = 0.0
    with Progress(expected_s=30, streams=None, quiet=False, clock=lambda: now) as progress:
        now = 11.0
        progress.show(counts)
    assert "0 streams ended, 2 open, 2 dropped, " in capsys.readouterr().err


def test_a_damaged_row_counts_as_ended_and_not_as_good(tmp_path):
    counter = RowCounter(tmp_path)
    write(tmp_path / "streams.jsonl", b'{"schema":"x"}\n{"stream":0,"outc\n')
    counts = counter.update()
    assert (counts.ended, counts.good) == (1, 0)


def test_quiet_says_nothing(capsys):
    with Progress(expected_s=1, streams=None, quiet=True) as progress:
        progress.show(Counts(started=1))
    assert capsys.readouterr() == ("", "")


class Simulated:
    """A run of equal streams in slots of `length_s`, seen by a progress whose clock is ours."""

    def __init__(self, *, expected_s=None, streams=None, start_up_s=9.0):
        self.now = 100.0
        self.progress = Progress(expected_s=expected_s, streams=streams, quiet=True, clock=lambda: self.now)
        self.begin = self.now + start_up_s

    def at(self, seconds: float, counts: Counts) -> tuple[float, str]:
        """What is shown so long after the first stream started."""
        self.now = self.begin + seconds
        self.progress.show(counts)
        return self.progress._share(counts), self.progress._left(counts)


def seconds_left(text: str) -> int | None:
    found = re.search(r"(\d+) s left", text)
    return int(found[1]) if found else None


def test_the_time_left_of_a_number_of_streams():
    """100 streams, 10 at once, 2 s each, after 9 s of start-up: 20 s, whatever Locust took before."""
    run = Simulated(streams=100)
    run.now += 5
    assert run.progress._left(Counts()) == "starting"
    told = []
    for tenth in range(200):
        at_s = tenth / 10
        ended = 10 * int(at_s / 2)
        share, text = run.at(at_s, Counts(started=min(ended + 10, 100), ended=ended, good=ended))
        assert share == ended / 100
        left = seconds_left(text)
        if ended <= 5:
            assert text == "time left not known yet"
            continue
        assert left is not None
        assert left >= 1
        # Ends come in bursts of ten: between two of them the estimate grows with the time since the last one.
        burst_s = 2 * (ended // 10)
        assert 0 <= left - (20 - at_s) <= 1 + 20 * (at_s - burst_s) / burst_s + 1e-9
        told.append((at_s % 2, left))
    after_bursts = [left for since, left in told if since == 0]
    assert after_bursts == sorted(after_bursts, reverse=True)
    assert run.at(20, Counts(started=100, ended=100, good=100)) == (1.0, "all streams ended")


def test_the_time_left_of_a_run_by_duration():
    run = Simulated(expected_s=12.5)
    told = []
    for tenth in range(125):
        share, text = run.at(tenth / 10, Counts(started=5, ended=tenth))
        assert 0 <= share <= 0.99
        told.append(seconds_left(text))
    assert told[0] == 13
    assert told[-1] == 1
    assert told == sorted(told, reverse=True)
    assert run.at(13, Counts(started=200, ended=195)) == (0.99, "waiting for the last answers")


def test_without_a_plan_no_time_is_promised():
    assert Simulated().at(3, Counts(started=1)) == (0.0, "time left not known")

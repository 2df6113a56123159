"""A shard's rows on their way into the run directory: each once, whatever is resent, lost, torn or forged."""

import pytest

from sseproof.loadtests import shards
from sseproof.loadtests.shards import SHIPPED, BadRowsError, Inbox, Outbox
from sseproof.rundir.files import GENERATOR, OPEN, STARTS, STREAMS, Appender, Reading, create_with_header
from sseproof.rundir.rows import GeneratorRow, Instant, OpenRow, StartRow, StreamRecord

RUN = "r1"
NOW = 1_700_000_000_000_000_000


class Shard:
    """A worker's folder and what it appends."""

    def __init__(self, directory, worker=1):
        self.directory = directory
        self.worker = worker
        directory.mkdir()
        for file in SHIPPED:
            create_with_header(directory / file.name, file.schema, RUN)
        self.starts = Appender(directory, STARTS, RUN)
        self.streams = Appender(directory, STREAMS, RUN)
        self.outbox = Outbox(directory)

    def start(self, number, name=""):
        row = StartRow(stream=number, worker=self.worker, name=name, dispatched=Instant(NOW))
        self.starts.append(row)
        return row

    def end(self, number, detail=""):
        row = StreamRecord(
            stream=number,
            worker=self.worker,
            dispatched=Instant(NOW),
            ended=Instant(NOW + 5, 1, 2),
            outcome="complete",
            end="terminal",
            detail=detail,
        )
        self.streams.append(row)
        return row


@pytest.fixture
def shard(tmp_path):
    return Shard(tmp_path / "shard")


@pytest.fixture
def run(tmp_path):
    directory = tmp_path / "run"
    directory.mkdir()
    return directory


def rows(directory, file):
    return list(Reading(directory, file))


def test_what_went_through_is_what_was_written(shard, run):
    inbox = Inbox(run, RUN)
    wanted = []
    for number in range(1, 4):
        starts = [shard.start(number * 10 + each) for each in range(3)]
        ends = [shard.end(number * 10 + each, detail='a "quoted" \u2028 word') for each in range(2)]
        assert inbox.take(1, None, number, shard.outbox.batch()) == number
        shard.outbox.taken()
        wanted.append((starts, ends))
    assert rows(run, STARTS) == [row for starts, _ in wanted for row in starts]
    assert rows(run, STREAMS) == [row for _, ends in wanted for row in ends]
    assert shard.outbox.batch() == {}
    assert shard.outbox.behind_bytes == 0
    for file in (STARTS, STREAMS):
        assert (run / file.name).read_bytes() == (shard.directory / file.name).read_bytes()


def test_a_batch_that_comes_again_is_acknowledged_and_not_doubled(shard, run):
    inbox = Inbox(run, RUN)
    shard.start(1)
    batch = shard.outbox.batch()
    assert inbox.take(1, None, 1, batch) == 1
    shard.start(2)
    assert shard.outbox.batch() == batch, "not acknowledged: the same rows again, under the same number"
    assert inbox.take(1, None, 1, shard.outbox.batch()) == 1
    shard.outbox.taken()
    assert inbox.take(1, None, 2, shard.outbox.batch()) == 2
    assert inbox.take(1, None, 1, batch) == 2, "a late one"
    assert inbox.take(1, None, 7, batch) == 2, "one before its time"
    assert [row.stream for row in rows(run, STARTS)] == [1, 2]
    assert shard.outbox.behind_bytes > 0, "the second was taken there and not acknowledged here"


def test_a_row_that_is_being_written_waits_for_its_end(shard, run):
    shard.start(1)
    whole = (shard.directory / STARTS.name).read_bytes()
    torn = b'{"stream":2,"worker":1,"disp'
    (shard.directory / STARTS.name).write_bytes(whole + torn)
    batch = shard.outbox.batch()
    assert batch[STARTS.name] == whole.splitlines(keepends=True)[1]
    shard.outbox.taken()
    assert shard.outbox.batch() == {}
    assert shard.outbox.behind_bytes == len(torn)


def test_batches_are_bounded_and_lose_no_row(shard, run, monkeypatch):
    monkeypatch.setattr(shards, "BATCH_BYTES", 500)
    inbox = Inbox(run, RUN)
    for number in range(50):
        shard.start(number)
    shard.end(1, detail="x" * 5_000)  # alone longer than a batch
    shard.end(2)
    sent = 0
    while batch := shard.outbox.batch():
        assert len(batch.get(STARTS.name, b"")) <= 500
        sent += 1
        assert inbox.take(1, None, sent, batch) == sent
        shard.outbox.taken()
    assert sent > 5
    assert [row.stream for row in rows(run, STARTS)] == list(range(50))
    assert [row.stream for row in rows(run, STREAMS)] == [1, 2]


def test_workers_have_numbers_of_their_own(tmp_path, run):
    inbox = Inbox(run, RUN)
    for worker in (1, 2):
        shard = Shard(tmp_path / f"of{worker}", worker)
        shard.start(worker)
        assert inbox.take(worker, None, 1, shard.outbox.batch()) == 1
    assert [row.worker for row in rows(run, STARTS)] == [1, 2]
    inbox.forget(2)
    shard = Shard(tmp_path / "again", 2)
    shard.start(3)
    assert inbox.take(2, None, 1, shard.outbox.batch()) == 1


@pytest.mark.parametrize(
    "batch",
    [
        {STARTS.name: b'{"stream":1,"worker":2}\n'},
        {STARTS.name: b'{"stream":1,"worker":1,"variant":"other"}\n'},
        {STARTS.name: b'{"stream":1,"worker":1}\n{"stream":"one","worker":1}\n'},
        {STARTS.name: b'{"stream":1,"worker":1}\n', STREAMS.name: b"\xff\n"},
        {STARTS.name: b'{"stream":1,"worker":1}\n', "faults.jsonl": b"{}\n"},
        {STARTS.name: b'{"stream":1,"worker":1}\n', "../plan.json": b"{}\n"},
    ],
    ids=["other worker", "other variant", "not a row", "no text", "other file", "path"],
)
def test_a_forged_batch_is_refused_whole(run, batch):
    inbox = Inbox(run, RUN)
    with pytest.raises(BadRowsError):
        inbox.take(1, None, 1, batch)
    assert list(run.iterdir()) == []
    assert inbox.take(1, None, 1, {STARTS.name: b'{"stream":1,"worker":1}\n'}) == 1


def test_every_file_that_a_worker_writes_is_sent(shard, run):
    Appender(shard.directory, GENERATOR, RUN).append(GeneratorRow(at_ns=NOW, worker=1, master_offset_ns=-3))
    Appender(shard.directory, OPEN, RUN).append(OpenRow(at_ns=NOW, worker=1, streams=[4]))
    batch = shard.outbox.batch()
    assert next(iter(batch)) == GENERATOR.name, "what tells the clock comes before what it is for"
    Inbox(run, RUN).take(1, None, 1, batch)
    assert rows(run, GENERATOR)[0].master_offset_ns == -3
    assert rows(run, OPEN)[0].streams == [4]

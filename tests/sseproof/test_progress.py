"""Progress counts only whole rows of a growing directory."""

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


def test_a_damaged_row_counts_as_ended_and_not_as_good(tmp_path):
    counter = RowCounter(tmp_path)
    write(tmp_path / "streams.jsonl", b'{"schema":"x"}\n{"stream":0,"outc\n')
    counts = counter.update()
    assert (counts.ended, counts.good) == (1, 0)


def test_quiet_says_nothing(capsys):
    with Progress(expected_s=1, streams=None, quiet=True) as progress:
        progress.show(Counts(started=1))
    assert capsys.readouterr() == ("", "")

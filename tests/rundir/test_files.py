"""Appending and reading: what a crash, a full disk, several writers and other versions leave behind."""

import errno
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest

from sseproof.rundir import files
from sseproof.rundir.errors import EXIT_RIG, EXIT_USAGE, RigError, UsageError
from sseproof.rundir.files import (
    FAULTS,
    MARKS,
    PLAN_NAME,
    ROW_FILES,
    RUN_NAME,
    STREAMS,
    Appender,
    Reading,
    create_with_header,
    lines_of,
    read_document,
    write_bytes,
    write_document,
)
from sseproof.rundir.rows import FaultRow, Instant, MarkRow, Plan, RunInfo, StreamRecord, VariantPlan

TEXTS = ("نجاح 100٪", '{"stream":7,"at_ns":8}\n{"run":"x"}', "👩‍💻\u2028\x00\\", "")


def record(number: int, detail: str = "") -> StreamRecord:
    """A row with nested rows and a text that looks like rows."""
    at = Instant(number, 1, 2)
    return StreamRecord(
        stream=number,
        dispatched=at,
        ended=at,
        outcome="complete",
        end="terminal",
        ids=[(1, 4), (6, number + 6)],
        defects={"invalid-utf8": 1},
        detail=detail or TEXTS[number % len(TEXTS)],
    )


def mark(number: int, text: str = "mark") -> MarkRow:
    return MarkRow(at_ns=number, text=text)


def written(directory, file, rows, run="run-1"):
    appender = Appender(directory, file, run)
    for row in rows:
        appender.append(row)
    appender.close()
    return directory / file.name


def read(directory, file):
    reading = Reading(directory, file)
    return list(reading), reading


# One file, one writer


def test_rows_come_back_as_they_were_and_in_order(tmp_path):
    rows = [record(number) for number in range(9)]
    written(tmp_path, STREAMS, rows)
    found, reading = read(tmp_path, STREAMS)
    assert found == rows
    assert (reading.torn, reading.missing, reading.problem) == (0, False, "")


def test_the_first_row_names_schema_version_and_run(tmp_path):
    path = written(tmp_path, STREAMS, [record(1)], run="20260101T000000Z-7")
    assert json.loads(path.read_bytes().splitlines()[0]) == {
        "schema": "sseproof/streams",
        "version": files.SCHEMA_VERSION,
        "run": "20260101T000000Z-7",
    }


def test_a_row_is_one_line_whatever_its_text(tmp_path):
    path = written(tmp_path, STREAMS, [record(number) for number in range(4)])
    assert path.read_bytes().count(b"\n") == 5
    assert path.read_bytes().endswith(b"\n")


def test_a_row_is_one_write_and_on_disk_when_append_returns(tmp_path, monkeypatch):
    appender = Appender(tmp_path, STREAMS, "run-1")
    writes = []
    write = os.write
    monkeypatch.setattr(files.os, "write", lambda fd, line: writes.append(line) or write(fd, line))
    for number in range(3):
        appender.append(record(number, "x" * 50_000))
        assert read(tmp_path, STREAMS)[0][-1].stream == number
    assert len(writes) == 3
    appender.sync()
    appender.close()


def test_a_second_appender_goes_on_behind_the_first(tmp_path):
    written(tmp_path, MARKS, [mark(1)])
    path = written(tmp_path, MARKS, [mark(2)])
    assert read(tmp_path, MARKS)[0] == [mark(1), mark(2)]
    assert path.read_bytes().count(b'"schema"') == 1


@pytest.mark.parametrize("end", [b"", b"\n", b'{"at_ns":', b"{}\n\n" + b"x" * 70_000])
def test_lines_are_counted_alike_by_who_ends_a_run_and_who_reads_it(tmp_path, end):
    path = written(tmp_path, MARKS, [mark(1), mark(2)])
    path.write_bytes(path.read_bytes() + end)
    _, reading = read(tmp_path, MARKS)
    assert reading.lines == lines_of(tmp_path)["marks"] == len(path.read_bytes().splitlines()) >= 3
    written(tmp_path, STREAMS, [])
    (tmp_path / FAULTS.name).write_bytes(b"")
    assert {**lines_of(tmp_path), "marks": 0} == {"marks": 0, "streams": 1, "faults": 0}


def test_rows_appended_while_it_is_read_are_seen(tmp_path):
    appender = Appender(tmp_path, MARKS, "run-1")
    appender.append(mark(1))
    rows = iter(Reading(tmp_path, MARKS))
    assert next(rows) == mark(1)
    appender.append(mark(2))
    assert list(rows) == [mark(2)]
    appender.close()


def test_closing_twice_is_fine_and_appending_afterwards_is_an_error(tmp_path):
    appender = Appender(tmp_path, MARKS, "run-1")
    appender.close()
    appender.close()
    with pytest.raises(RigError):
        appender.append(mark(1))


def test_no_temporary_file_stays(tmp_path):
    written(tmp_path, MARKS, [mark(1)])
    write_bytes(tmp_path / "report.html", b"x")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["marks.jsonl", "report.html"]


# Damage


def _rows_of(file):
    sample = {
        "starts": {"stream": 1, "name": TEXTS[1]},
        "streams": msgspec.to_builtins(record(1)),
        "breaks": {"stream": 1, "number": 1, "attempt": 1, "seen": [5, 0, 1], "end": "rst"},
        "faults": {"at_ns": 1, "fault": "cut-1", "step": "applied", "echo": {"toxics": [{"at": TEXTS[1]}]}},
        "witness": {"run": "r", "truth_id": "t", "connection": 1, "profile": "robust", "accepted": [1, 0, 0]},
        "generator": {"at_ns": 1, "worker": 0, "rig_error": TEXTS[0]},
        "open": {"at_ns": 1, "worker": 0, "streams": [1, 2, 3]},
        "marks": {"at_ns": 1, "text": TEXTS[2]},
    }[file.schema]
    first = file.type.__struct_fields__[0]
    rows = []
    for number in (1, 22, 333):
        value = number if isinstance(sample[first], int) else f"run-{number}"
        rows.append(msgspec.json.decode(msgspec.json.encode(sample | {first: value}), type=file.type))
    return rows


@pytest.mark.parametrize("file", ROW_FILES, ids=lambda file: file.schema)
def test_a_file_cut_at_every_byte_gives_exactly_its_whole_rows(tmp_path, file):
    rows = _rows_of(file)
    path = written(tmp_path, file, rows)
    content = path.read_bytes()
    ends = [at for at, byte in enumerate(content) if byte == 0x0A]  # of the header, then of each row
    for cut in range(len(content) + 1):
        path.write_bytes(content[:cut])
        found, reading = read(tmp_path, file)
        assert found == rows[: sum(end <= cut for end in ends[1:])], cut
        in_a_row = cut > 0 and content[cut - 1] != 0x0A and cut not in ends
        assert reading.torn == in_a_row, cut
        assert reading.empty == (cut == 0)
        assert bool(reading.problem) == (in_a_row or reading.empty)


@pytest.mark.parametrize("file", ROW_FILES, ids=lambda file: file.schema)
def test_a_file_cut_at_every_byte_and_written_on_loses_no_whole_row(tmp_path, file):
    """Another process's row stands on the same line as the torn one."""
    *rows, last = _rows_of(file)
    path = written(tmp_path, file, [*rows, last])
    content = path.read_bytes()
    ends = [at for at, byte in enumerate(content) if byte == 0x0A]
    tail = content[ends[-2] + 1 :]
    for cut in range(ends[-2] + 2):
        path.write_bytes(content[:cut] + tail)
        found, reading = read(tmp_path, file)
        whole = rows[: sum(end <= cut for end in ends[1:])]
        assert found == [*whole, last], cut
        at_a_border = cut == 0 or content[cut - 1] == 0x0A
        assert reading.torn == (not at_a_border), cut


def test_several_torn_rows_on_one_line_are_counted_each(tmp_path):
    path = written(tmp_path, STREAMS, [record(1)])
    line = msgspec.json.encode(record(2))
    with path.open("ab") as stream:
        stream.write(line[:30] + line[:90] + line + line[:-1] + b"\n" + line + b"\n")
    found, reading = read(tmp_path, STREAMS)
    assert [row.stream for row in found] == [1, 2, 2]
    assert reading.torn == 3
    assert reading.problem == "streams.jsonl is damaged in 3 places; every whole row was read."


@pytest.mark.parametrize(
    "damage",
    [
        b"\x00" * 4096 + b"\n",
        b"\xff\xfe\n",
        b"[]\n",
        b"null\n",
        b'{"at_ns":"soon","text":"x"}\n',
        b'{"at_ns":1}\n',
    ],
    ids=["zeros", "no text", "a list", "null", "wrong type", "field missing"],
)
def test_a_damaged_line_is_counted_and_the_rest_read(tmp_path, damage):
    path = written(tmp_path, MARKS, [mark(1)])
    with path.open("ab") as stream:
        stream.write(damage + msgspec.json.encode(mark(2)) + b"\n")
    found, reading = read(tmp_path, MARKS)
    assert found == [mark(1), mark(2)]
    assert reading.torn == 1
    assert reading.problem == "marks.jsonl is damaged in 1 place; every whole row was read."


def test_empty_lines_are_no_damage(tmp_path):
    path = written(tmp_path, MARKS, [mark(1)])
    with path.open("ab") as stream:
        stream.write(b"\n  \n" + msgspec.json.encode(mark(2)) + b"\n\n")
    found, reading = read(tmp_path, MARKS)
    assert (found, reading.torn) == ([mark(1), mark(2)], 0)


def test_a_line_without_end_is_read_in_bounded_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LARGEST_ROW_BYTES", 1024)
    path = written(tmp_path, MARKS, [mark(1)])
    with path.open("ab") as stream:
        stream.write(b"x" * 5000 + b"\n" + msgspec.json.encode(mark(2)) + b"\n")
    found, reading = read(tmp_path, MARKS)
    assert found == [mark(1), mark(2)]
    assert reading.torn == 5


def test_an_empty_and_a_missing_file_have_no_rows(tmp_path):
    (tmp_path / MARKS.name).touch()
    found, reading = read(tmp_path, MARKS)
    assert (found, reading.torn, reading.problem) == ([], 0, "marks.jsonl is empty: what it held is lost.")
    found, reading = read(tmp_path, STREAMS)
    assert (found, reading.missing, reading.problem) == ([], True, "streams.jsonl is missing.")


def test_what_a_newer_minor_release_added_is_skipped(tmp_path):
    path = written(tmp_path, MARKS, [mark(1)])
    with path.open("ab") as stream:
        stream.write(b'{"at_ns":2,"text":"t","colour":"blue"}\n')
    assert read(tmp_path, MARKS)[0] == [mark(1), mark(2, "t")]


# Other versions and foreign files


def _header(schema, version):
    return msgspec.json.encode({"schema": schema, "version": version, "run": "r"}) + b"\n"


def test_an_older_version_is_upgraded_step_by_step(tmp_path, monkeypatch):
    (tmp_path / FAULTS.name).write_bytes(
        _header("sseproof/faults", 1)
        + b'{"moment":5,"fault":"cut-1","step":"applied","echo":{"toxics":[1.50]}}\n{"moment":6,"fa'
    )
    monkeypatch.setattr(files, "SCHEMA_VERSION", 3)
    monkeypatch.setitem(files.UPGRADES, ("faults", 1), lambda row: {"at": row.pop("moment"), **row})
    monkeypatch.setitem(files.UPGRADES, ("faults", 2), lambda row: {"at_ns": row.pop("at") * 10, **row})
    monkeypatch.setitem(files.UPGRADES, ("marks", 1), lambda row: {})
    (row,), reading = read(tmp_path, FAULTS)
    assert (row.at_ns, row.fault, row.step) == (50, "cut-1", "applied")
    assert msgspec.json.decode(row.echo) == {"toxics": [1.5]}
    assert reading.torn == 1


def test_a_version_without_changes_in_a_file_needs_no_upgrade(tmp_path, monkeypatch):
    rows = [record(number) for number in range(4)]
    written(tmp_path, STREAMS, rows)
    monkeypatch.setattr(files, "SCHEMA_VERSION", 2)
    assert read(tmp_path, STREAMS)[0] == rows


def plan() -> Plan:
    raw = msgspec.Raw(b'{"url":"http://127.0.0.1:1/","n":1.0}')
    return Plan(
        run="r",
        scenario="s",
        seed=7,
        created_ns=5,
        variants=[VariantPlan(target=raw, load=raw, client=raw)],
        faults=msgspec.Raw(b'[{"kind":"cut"}]'),
    )


def test_an_older_document_is_upgraded(tmp_path, monkeypatch):
    write_document(tmp_path / PLAN_NAME, plan())
    monkeypatch.setattr(files, "SCHEMA_VERSION", 2)
    monkeypatch.setitem(files.UPGRADES, ("plan", 1), lambda row: row | {"scenario": "renamed"})
    found = read_document(tmp_path / PLAN_NAME, Plan, "plan")
    assert (found.scenario, found.version, found.seed) == ("renamed", 2, 7)
    assert msgspec.json.decode(found.variants[0].target) == {"url": "http://127.0.0.1:1/", "n": 1.0}
    assert msgspec.json.decode(found.faults) == [{"kind": "cut"}]


def test_a_newer_file_is_refused_in_a_sentence(tmp_path):
    (tmp_path / MARKS.name).write_bytes(_header("sseproof/marks", files.SCHEMA_VERSION + 1))
    with pytest.raises(
        UsageError, match=r"newer sseproof \(schema 2, this one reads up to 1\): update"
    ) as caught:
        read(tmp_path, MARKS)
    assert caught.value.exit_code == EXIT_USAGE
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("schema", ["sseproof/streams", "marks", "vegeta/results", ""])
def test_a_foreign_file_is_refused_in_a_sentence(tmp_path, schema):
    (tmp_path / MARKS.name).write_bytes(_header(schema, 1))
    with pytest.raises(UsageError, match="it is not part of a run"):
        read(tmp_path, MARKS)


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path):
    (tmp_path / MARKS.name).mkdir()
    with pytest.raises(UsageError, match="can't be read"):
        read(tmp_path, MARKS)


# Documents


def test_documents_come_back(tmp_path):
    info = RunInfo(run="r", started_ns=5, labels={"l": "é"})
    for name, kind, schema, document in [(PLAN_NAME, Plan, "plan", plan()), (RUN_NAME, RunInfo, "run", info)]:
        write_document(tmp_path / name, document)
        found = read_document(tmp_path / name, kind, schema)
        assert msgspec.json.decode(msgspec.json.encode(found)) == msgspec.json.decode(
            msgspec.json.encode(document)
        )
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o644


def test_a_document_is_replaced_whole_or_stays(tmp_path, monkeypatch):
    path = tmp_path / RUN_NAME
    write_document(path, RunInfo(run="old", started_ns=5))

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(RigError, match=r"The disk is full: .*run\.json"):
        write_document(path, RunInfo(run="new", started_ns=5))
    assert read_document(path, RunInfo, "run").run == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == [RUN_NAME]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, r"is not a run directory: it has no run\.json"),
        (b"", "is damaged"),
        (b'{"schema":"sseproof/run","ver', "is damaged"),
        (b'{"schema":"sseproof/run","version":1}', "is damaged"),
        (b'{"schema":"sseproof/run","version":1,"run":"r","started_ns":"\xff"}', "is damaged"),
        (b'{"schema":"sseproof/run","version":2}', "newer sseproof"),
        (b'{"schema":"sseproof/plan","version":1}', "it is not part of a run"),
    ],
)
def test_documents_that_cant_be_read_say_why(tmp_path, content, sentence):
    path = tmp_path / RUN_NAME
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=sentence) as caught:
        read_document(path, RunInfo, "run")
    assert "\n" not in str(caught.value)


def test_a_document_cut_at_every_byte_is_refused_and_never_misread(tmp_path):
    path = tmp_path / PLAN_NAME
    write_document(path, plan())
    content = path.read_bytes()
    for cut in range(len(content.rstrip())):
        path.write_bytes(content[:cut])
        with pytest.raises(UsageError, match="is damaged"):
            read_document(path, Plan, "plan")


def test_a_folder_in_the_place_of_a_document_is_refused(tmp_path):
    (tmp_path / RUN_NAME).mkdir()
    with pytest.raises(UsageError, match="can't be read"):
        read_document(tmp_path / RUN_NAME, RunInfo, "run")


# Disk and folder


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_said_in_a_sentence(tmp_path):
    (tmp_path / MARKS.name).symlink_to("/dev/full")
    appender = Appender(tmp_path, MARKS, "run-1")
    with pytest.raises(
        RigError, match=r"The disk is full: .*marks\.jsonl can't be written; what was recorded"
    ) as caught:
        appender.append(mark(1))
    assert caught.value.exit_code == EXIT_RIG
    with pytest.raises(RigError, match=r"marks\.jsonl can't be written"):
        appender.sync()  # a device can't be synchronised, nor can a disk that fills only now
    appender.close()


def _child(code, *args, **options):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


FILLING = """
import resource, sys
from pathlib import Path
from sseproof.rundir.errors import RigError
from sseproof.rundir.files import MARKS, Appender
from sseproof.rundir.rows import MarkRow

resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))  # writes are cut there, then refused
appender, kept = Appender(Path(sys.argv[1]), MARKS, "run-1"), 0
try:
    while True:
        appender.append(MarkRow(at_ns=kept, text="x" * 700))
        kept += 1
except RigError as error:
    print(kept, error)
"""


@pytest.mark.integration
def test_what_was_written_before_the_disk_filled_is_readable_and_can_be_written_on(tmp_path):
    with _child(FILLING, tmp_path) as child:
        count, sentence = child.communicate()[0].strip().split(" ", 1)
    assert child.returncode == 0
    assert "can't be written" in sentence
    found, reading = read(tmp_path, MARKS)
    assert [row.at_ns for row in found] == list(range(int(count)))
    assert int(count) == 13
    assert reading.torn == 1  # the row that was cut at the limit
    written(tmp_path, MARKS, [mark(99)])
    found, reading = read(tmp_path, MARKS)
    assert found[-1] == mark(99)
    assert (len(found), reading.torn) == (14, 1)


def test_a_missing_folder_is_said_in_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    for directory in (tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(
            RigError, match=r"can't be written: .*; choose another folder with --out\."
        ) as caught:
            Appender(directory, MARKS, "run-1")
        assert "\n" not in str(caught.value)
        with pytest.raises(RigError, match=r"can't be written: .*; choose another folder with --out\."):
            write_document(directory / RUN_NAME, RunInfo(run="r", started_ns=5))


UNPRIVILEGED = """
import os, sys
from pathlib import Path
from sseproof.rundir.errors import RigError
from sseproof.rundir.files import MARKS, Appender

if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    Appender(Path(sys.argv[1]), MARKS, "run-1")
except RigError as error:
    print(error)
"""


@pytest.mark.integration
@pytest.mark.parametrize("existing", [False, True], ids=["no file yet", "a file of somebody else"])
def test_an_unwritable_folder_is_said_in_a_sentence(existing):
    with tempfile.TemporaryDirectory() as name:  # somebody else can't reach pytest's own
        directory = Path(name)
        if existing:
            written(directory, MARKS, []).chmod(0o444)
        directory.chmod(0o555)
        with _child(UNPRIVILEGED, directory) as child:
            answer = child.communicate()[0]
        directory.chmod(0o755)
    assert child.returncode == 0
    assert (
        answer
        == f"{directory / MARKS.name} can't be written: Permission denied; choose another folder with --out.\n"
    )


# Several processes

APPENDING = """
import sys
from pathlib import Path
from sseproof.rundir.files import STREAMS, Appender
from sseproof.rundir.rows import Instant, StreamRecord

directory, worker, rows, size = Path(sys.argv[1]), *map(int, sys.argv[2:])
print("ready", flush=True)
sys.stdin.readline()
appender, at = Appender(directory, STREAMS, "run-1"), Instant(1)
for number in range(rows):
    appender.append(StreamRecord(
        stream=number, worker=worker, dispatched=at, ended=at, outcome="complete", end="terminal",
        detail=f"{worker}:{number}:" + "x" * (number * 7919 % size),
    ))
    print(number, flush=True)
"""


@pytest.mark.integration
@pytest.mark.parametrize("seed", range(4))
def test_processes_that_append_at_once_keep_every_row_though_one_is_killed(tmp_path, seed):
    draw = random.Random(f"kill {seed}")
    workers, rows, size = 4, 120, 60_000
    endless = 10**9
    children = [
        _child(APPENDING, tmp_path, worker, rows if worker else endless, size) for worker in range(workers)
    ]
    try:
        for child in children:
            assert child.stdout.readline() == "ready\n"
        for child in children:
            child.stdin.write("\n")
            child.stdin.flush()
        victim = children[0]
        acknowledged = draw.randrange(1, rows)
        for number in range(acknowledged):
            assert victim.stdout.readline() == f"{number}\n"
        victim.kill()
        for child in children[1:]:
            assert child.communicate()[0].splitlines()[-1] == str(rows - 1)
            assert child.returncode == 0
    finally:
        for child in children:
            child.kill()
            child.communicate()
    found, reading = read(tmp_path, STREAMS)
    numbers = {worker: [row.stream for row in found if row.worker == worker] for worker in range(workers)}
    assert all(numbers[worker] == list(range(rows)) for worker in range(1, workers))
    assert numbers[0] == list(range(len(numbers[0])))
    assert len(numbers[0]) >= acknowledged
    assert all(
        row.detail == f"{row.worker}:{row.stream}:" + "x" * (row.stream * 7919 % size) for row in found
    )
    assert reading.torn <= 1  # the row that was being written


RACING = """
import sys
from pathlib import Path
from sseproof.rundir.files import MARKS, Appender
from sseproof.rundir.rows import MarkRow

print("ready", flush=True)
for line in sys.stdin:
    appender = Appender(Path(line.strip()), MARKS, "run-1")
    appender.append(MarkRow(at_ns=int(sys.argv[1]), text="first"))
    appender.close()
    print("done", flush=True)
"""


@pytest.mark.integration
def test_processes_that_race_for_a_new_file_write_one_header_and_lose_no_row(tmp_path):
    children = [_child(RACING, number) for number in range(3)]
    try:
        for child in children:
            assert child.stdout.readline() == "ready\n"
        for race in range(150):
            directory = tmp_path / str(race)
            directory.mkdir()
            for child in children:
                child.stdin.write(f"{directory}\n")
                child.stdin.flush()
            for child in children:
                assert child.stdout.readline() == "done\n"
            lines = (directory / MARKS.name).read_bytes().splitlines()
            assert [b'"schema"' in line for line in lines] == [True, False, False, False]
            found, reading = read(directory, MARKS)
            assert sorted(row.at_ns for row in found) == [0, 1, 2]
            assert reading.torn == 0
            assert len(list(directory.iterdir())) == 1
    finally:
        for child in children:
            child.kill()
            child.communicate()


def test_a_header_comes_whole_or_not_at_all(tmp_path, monkeypatch):
    seen = []
    link = os.link

    def linking(source, target):
        seen.append((target.exists(), Path(source).read_bytes()))
        link(source, target)

    monkeypatch.setattr(files.os, "link", linking)
    create_with_header(tmp_path / MARKS.name, "marks", "run-1")
    ((existed, content),) = seen
    assert not existed
    assert content == (tmp_path / MARKS.name).read_bytes()
    create_with_header(tmp_path / MARKS.name, "marks", "another run")
    assert content == (tmp_path / MARKS.name).read_bytes()


def test_fault_rows_keep_what_the_server_echoed(tmp_path):
    echo = b'{"name":"p","toxics":[{"type":"latency","attributes":{"latency":100}}]}'
    written(tmp_path, FAULTS, [FaultRow(at_ns=1, fault="f", step="applied", echo=msgspec.Raw(echo))])
    (row,), _ = read(tmp_path, FAULTS)
    assert bytes(row.echo) == echo

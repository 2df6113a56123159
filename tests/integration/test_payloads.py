"""Streams that ask different questions: what goes over the wire is what the seed says, from any worker."""

import json
import socket
import threading

import msgspec
import pytest

from sseproof.loadtests.payloads import Payloads
from sseproof.reports.judge import RunVerdict
from sseproof.rundir.files import STARTS, STREAMS
from tests.integration.suite import claims, directory_of, plan_of, rows, served, sseproof

pytestmark = pytest.mark.integration

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\nid: 1\ndata: x\n\n"


def test_each_stream_takes_its_row(tmp_path):
    questions = [{"q": f'number {n} "quoted" سؤال {{env:HOME}}', "who": f"user-{n}"} for n in range(7)]
    (tmp_path / "questions.jsonl").write_text(
        "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in questions), "utf-8"
    )
    seen = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                request = b""
                while not request.endswith(b"}"):
                    request += connection.recv(65536)
                seen.append(request)
                connection.sendall(ANSWER)

    threading.Thread(target=serve, daemon=True).start()
    with listener:
        done = sseproof(
            *["run", "--target", f"http://127.0.0.1:{listener.getsockname()[1]}/s?who={{payload:who}}"],
            *[
                "--method",
                "POST",
                "--body",
                '{"question": "{payload:q}"}',
                "--header",
                "X-Who: {payload:who}",
            ],
            *["--streams", "20", "--users", "4", "--workers", "2", "--seed", "5"],
            *["--set", "load.payloads=questions.jsonl"],
            cwd=tmp_path,
        )
    directory = directory_of(tmp_path)
    records = {row.stream: row.payload for row in rows(directory, STREAMS)}
    expected = Payloads(questions, 5)
    assert records == {stream: expected.index_of(stream) for stream in range(20)}, done.stdout + done.stderr
    heads = [request.partition(b"\r\n\r\n")[0].decode() for request in seen]
    asked = [json.loads(request.partition(b"\r\n\r\n")[2])["question"] for request in seen]
    wanted = [
        questions[0],
        *(questions[index] for index in records.values()),
    ]  # the look before the run takes the first
    assert sorted(asked) == sorted(each["q"] for each in wanted)
    for head, question in zip(heads, asked, strict=True):
        (who,) = (each["who"] for each in questions if each["q"] == question)
        assert f"POST /s?who={who} " in head
        assert f"X-Who: {who}\r\n" in head + "\r\n"
    assert len(plan_of(directory)["variants"][0]["payloads_sha256"]) == 64


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (['target.body={"q": "{payload:q}"}'], "load.payloads names no file"),
        (["load.payloads=some.jsonl"], "load.payloads is used nowhere"),
        (["load.payloads=none.jsonl", 'target.body={"q": "{payload:q}"}'], "none.jsonl can't be read"),
        (
            ["load.payloads=some.jsonl", 'target.body={"q": "{payload:z}"}'],
            "some.jsonl, line 1: there is no field 'z'",
        ),
        (["load.payloads=some.jsonl", 'target.body={"q": "{payload:q}"}'], "some.jsonl, line 2 is not JSON"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_before_anything_is_sent(tmp_path, sets, words):
    (tmp_path / "some.jsonl").write_text('{"q": 1}\n{"q": \n' if "line 2" in words else '{"q": 1}\n')
    options = [part for text in sets for part in ("--set", text)]
    done = sseproof("run", "--target", "http://127.0.0.1:9/", *options, cwd=tmp_path)
    assert done.returncode == 64, done.stdout + done.stderr
    assert words in " ".join(done.stderr.split())
    assert not (tmp_path / "runs").exists()


BROKEN = """
import importlib.machinery, os, sys

class Broken:
    '''A fault of our own, in workers alone: one value can't be written into a URL. No input is known that does so.'''
    def find_spec(self, name, path, target=None):
        if name != "sseproof.loadtests.payloads":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        run = spec.loader.exec_module
        def exec_module(module):
            run(module)
            sound = module.in_url
            module.in_url = lambda value: "\\ud83d".encode() if value == "odd" else sound(value)
        spec.loader.exec_module = exec_module
        return spec

if "SSEPROOF_WORKER" in os.environ:
    sys.meta_path.insert(0, Broken())
"""


@pytest.mark.parametrize(
    "load",
    [["--streams", "30", "--users", "2"], ["--rate", "20", "--set", "load.streams=30"]],
    ids=["closed", "open"],
)
def test_a_stream_that_can_not_be_made_is_dropped_by_name_and_the_load_goes_on(tmp_path, load):
    """The second of fifteen rows, so two of thirty streams."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(BROKEN)
    (tmp_path / "rows.csv").write_text("\n".join(["q", "fine", "odd", *["fine"] * 13]) + "\n")
    with served() as url:
        done = sseproof(
            *["run", "--target", f"{url}?events=2&interval_ms=5&question={{payload:q}}", *load],
            *["--set", "load.payloads=rows.csv", *claims("success >= 50%")],
            cwd=tmp_path,
            environ={"PYTHONPATH": str(tmp_path / "site")},
        )
    directory = directory_of(tmp_path)
    starts = rows(directory, STARTS)
    assert sorted(row.stream for row in starts) == list(range(30)), done.stdout + done.stderr
    assert sum(row.dropped for row in starts) == 2
    verdict = msgspec.json.decode((directory / "verdict.json").read_bytes(), type=RunVerdict)
    (success,) = verdict.verdicts
    assert (success.n, success.k, success.dropped) == (28, 28, 2)
    assert done.returncode == 0, "28 of 30 is enough whatever the two had come to"
    named = [text for text in verdict.problems if "could not be made: UnicodeEncodeError" in text]
    assert named, verdict.problems

"""The reference server in front of an OpenAI-compatible server that nobody here wrote (llmock), alone and in a run."""

import contextlib
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sseproof.reference_server.settings import ServerSettings, settings_to_json
from sseproof.rundir.files import STREAMS
from sseproof.rundir.units import parse_duration
from tests.integration.suite import (
    READY,
    claims,
    directory_of,
    rows,
    sseproof,
    verdict_of,
    verdicts_of,
    witnesses,
)

pytestmark = pytest.mark.integration

KEY = "sk-planted-upstream-key"
TEXT = "Ein Wort, dann مرحبا بالعالم und 你好 世界, \U0001f468\u200d\U0001f469\u200d\U0001f467 café. " * 6
LLMOCK = """
import sys
from llmock.testing import LLMockServer
with LLMockServer() as server:
    print(server.base_url("openai"), flush=True)
    sys.stdin.read()
"""


@dataclass
class Model:
    """A running llmock."""

    url: str

    def behave(self, *behaviours: dict) -> None:
        """What it does from now on, and nothing else; what it has on record goes."""
        self._call("POST", "reset")
        self._call("POST", "scenario", {"behaviors": list(behaviours)})

    def requests(self) -> int:
        """Answers that it was asked for since."""
        return self._call("GET", "requests")["count"]

    def _call(self, method: str, what: str, body: object = None) -> dict:
        url = f"{self.url.removesuffix('/v1')}/_llmock/{what}"
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(url, data, method=method), timeout=20) as reply:
            return json.load(reply)


@contextlib.contextmanager
def child(arguments: list[str], errors: Path | None = None, **environ: str) -> Iterator[str]:
    """A process that says one line when it is ready, and ends with its standard input or by SIGTERM."""
    with contextlib.ExitStack() as opened:
        stderr = None if errors is None else opened.enter_context(errors.open("wb"))
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={"PATH": "", **environ},
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.terminate()
        process.wait(20)
        process.stdout.close()


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    with child(["-c", LLMOCK], LLMOCK_STREAM_CHUNK_DELAY_MS="10") as url:
        yield Model(url)


@contextlib.contextmanager
def served(model: Model, **settings) -> Iterator[str]:
    made = ServerSettings(port=0, answers="upstream", **settings)
    environ = {"LLM_BASE_URL": model.url, "LLM_MODEL": "gpt-4o-mini", "LLM_API_KEY": KEY}
    with child(["-m", "sseproof.reference_server", settings_to_json(made)], **environ) as line:
        found = READY.search(line)
        assert found, line
        yield found[1]


@pytest.fixture(scope="module")
def chat(model):
    with served(model, llm_silence=parse_duration("3s")) as url:
        yield url


def events(url: str, **headers: str) -> list[tuple[str, dict]]:
    request = urllib.request.Request(f"{url}?question=hi", headers=headers)
    with urllib.request.urlopen(request, timeout=20) as reply:
        blocks = reply.read().decode().split("\n\n")[:-1]
    fields = [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]
    return [(each["event"], json.loads(each["data"])) for each in fields]


def test_a_reply_of_another_server_comes_through_exactly(chat, model):
    model.behave({"type": "reply", "text": TEXT})
    found = events(chat)
    assert "".join(data["text"] for kind, data in found if kind == "delta") == TEXT
    assert found[-1][1]["finish_reason"] == "stop"
    assert model.requests() == 1


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        ({"type": "fail", "status": 429, "retry_after": 2}, "upstream-busy"),
        ({"type": "fail", "status": 500}, "upstream-error"),
        ({"type": "stream_fault", "kind": "disconnect", "after_chunks": 3}, "upstream-cut"),
        ({"type": "stream_fault", "kind": "truncate", "after_chunks": 3}, "upstream-cut"),
        ({"type": "stream_fault", "kind": "malformed", "after_chunks": 3}, "upstream-malformed"),
        (
            {"type": "stream_fault", "kind": "stall", "after_chunks": 3, "stall_seconds": 30},
            "upstream-timeout",
        ),
    ],
    ids=lambda each: each if isinstance(each, str) else None,
)
def test_each_way_that_server_fails_has_its_code(chat, model, behaviour, code):
    model.behave(behaviour)
    kind, data = events(chat)[-1]
    assert (kind, data["code"]) == ("error", code)


@pytest.mark.parametrize(
    ("environ", "said", "last"),
    [
        (
            {"LLM_MODEL": "gpt-4o-mini", "LLM_API_KEY": KEY},
            "Answers come from gpt-4o-mini at 127.0.0.1:",
            "done",
        ),
        ({"LLM_BASE_URL": "", "ALLOW_MOCK_LLM": "1"}, "Answers are scripted, as ALLOW_MOCK_LLM=1", "done"),
        ({"LLM_BASE_URL": ""}, "No language model is configured: set LLM_BASE_URL", "error"),
    ],
)
def test_the_backend_says_who_answers_and_asks_for_a_login(model, tmp_path, environ, said, last):
    model.behave({"type": "reply", "text": "Hello"})
    errors = tmp_path / "errors"
    command = ["-m", "sseproof", "serve", "--backend", "--drain", "0s", "--port", "0"]
    told = {"LLM_BASE_URL": model.url, "SSEPROOF_TOKENS": "ann:long-secret", **environ}
    with child(command, errors, **told) as line:
        found = READY.search(line)
        assert found, line
        with pytest.raises(urllib.error.HTTPError, match="401") as caught:
            events(found[1])
        caught.value.close()
        kinds = [kind for kind, _ in events(found[1], Authorization="Bearer long-secret")]
    assert (kinds[0], kinds[-1]) == ("hello", last)
    assert said in errors.read_text("utf-8")
    assert KEY not in errors.read_text("utf-8")


def test_tokens_that_nobody_is_asked_for_are_named_and_not_shown(tmp_path):
    errors = tmp_path / "errors"
    command = ["-m", "sseproof", "serve", "--port", "0"]
    with child(command, errors, SSEPROOF_TOKENS="ann:long-secret") as line:
        assert READY.search(line), line
    assert errors.read_text("utf-8").startswith("SSEPROOF_TOKENS is set, and nobody is asked for a token")
    assert "long-secret" not in errors.read_text("utf-8")


def test_a_rate_is_not_allowed_many_times_over_at_once():
    with child(["-m", "sseproof", "serve", "--rate-limit", "2", "--port", "0"]) as line:
        found = READY.search(line)
        assert found, line
        quick = f"{found[1]}?events=1&first_token_ms=0&interval_ms=0"
        for _ in range(2):
            urllib.request.urlopen(quick, timeout=20).close()
        with pytest.raises(urllib.error.HTTPError, match="429") as caught:
            urllib.request.urlopen(quick, timeout=20)
        with caught.value as refused:
            assert b"2 a minute are allowed, 2 of them at once" in refused.read()


FAULTS = """
[target]
url = "{url}?question=hi"
[load]
users = 8
streams = 40
[[fault]]
kind = "cut"
share = "50%"
after_bytes = [900, 2500]
"""


def test_cut_answers_of_a_real_upstream_resume_and_are_judged_by_what_was_written(model, tmp_path):
    model.behave({"type": "reply", "text": TEXT, "times": None})
    with served(model) as url:
        (tmp_path / "live.toml").write_text(FAULTS.format(url=url))
        done = sseproof(
            "run",
            "live.toml",
            "--quiet",
            *claims("success >= 90%", "lost = 0 over 30", "doubled = 0 over 30", "utf8 = 100% over 30"),
            *claims("recovery = 100% over 5 after cut"),
            cwd=tmp_path,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    directory = directory_of(tmp_path)
    assert set(verdicts_of(directory).values()) == {"pass"}
    records = rows(directory, STREAMS)
    broken = sum(len(record.attempts) > 1 for record in records)
    assert broken >= 5
    seen = witnesses(directory)
    assert {row.script for row in seen} == {None}
    whole = [row for row in seen if row.live is not None]
    assert len(whole) == len(records) == 40
    assert {row.live.text_sha256 for row in whole} == {record.text_sha256 for record in records}
    assert Counter(row.truth_id for row in whole).most_common(1)[0][1] == 1
    # Coming back asked the upstream for nothing; the one more is the look before the run.
    assert model.requests() == len(records) + 1
    for path in directory.iterdir():
        assert KEY.encode() not in path.read_bytes(), path


def test_answers_that_an_upstream_breaks_off_fail_and_their_loss_is_not_made_up(model, tmp_path):
    model.behave(
        {"type": "reply", "text": TEXT, "times": None},
        {"type": "stream_fault", "kind": "truncate", "after_chunks": 20, "times": None},
    )
    with served(model, profile="legacy") as url:
        done = sseproof(
            "run", "--target", f"{url}?question=hi", "--users", "8", "--set", "load.streams=24", "--quiet",
            *claims("success >= 98%", "lost = 0"), cwd=tmp_path,
        )  # fmt: skip  # one word a line helps nobody
    assert done.returncode == 1, done.stdout + done.stderr
    directory = directory_of(tmp_path)
    found = {verdict.metric: verdict for verdict in verdict_of(directory).verdicts}
    assert found["success"].verdict == "fail"
    assert (found["lost"].verdict, found["lost"].code) == ("unknown", "no-truth")
    assert {record.outcome for record in rows(directory, STREAMS)} == {"error-inband"}
    assert {row.live.said for row in witnesses(directory)} == {"upstream-cut"}

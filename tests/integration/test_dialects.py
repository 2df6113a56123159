"""Load runs against services that speak like model services: recognised or named, and judged by their own words."""

import itertools
import tomllib
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from sseproof.rundir.files import STREAMS
from tests.integration.suite import directory_of, plan_of, rows, sseproof
from tests.loadtests.rawserver import CHUNKED_HEAD, LAST_CHUNK, Connection, chunk, serving

pytestmark = pytest.mark.integration

TABLE: Final = Path(__file__).parents[1] / "data" / "dialects" / "streams.toml"
BODIES: Final = {
    each["name"]: each["body"].encode() for each in tomllib.loads(TABLE.read_text("utf-8"))["stream"]
}
ENDS: Final = {
    "openai": [
        ("complete", "chat: text, usage behind the last choice"),
        ("error-inband", "chat: an error in the stream"),
        ("declined", "chat: a content filter"),
        ("truncated", "chat: two choices, one of them never ends"),
    ],
    "anthropic": [
        ("complete", "messages: thinking, text, a ping between"),
        ("error-inband", "messages: overloaded in the middle"),
        ("declined", "messages: refused"),
        ("complete-limited", "messages: a tool's input, in empty and other pieces, up to a limit"),
    ],
    "gemini": [
        ("complete", "gemini: a thought, text, a reason with the last piece"),
        ("error-inband", "gemini: an error in the stream"),
        ("declined", "gemini: ended for safety"),
        ("declined", "gemini: the prompt was blocked"),
    ],
}
STREAMS_EACH: Final = 12

SCENARIO: Final = """
claims = ["success >= 10%", "ttft p90 <= 10s"]
[load]
users = 2
streams = {streams}
[client]
on_cut = "give-up"
[target]
method = "POST"
body = "{{}}"
[[variant]]
name = "openai"
target.url = "{base}/openai"
[[variant]]
name = "anthropic"
target.url = "{base}/anthropic"
[[variant]]
name = "gemini"
target.url = "{base}/gemini"
target.dialect = "gemini"
"""


def test_every_outcome_is_told_by_the_dialect_s_own_words(tmp_path: Path) -> None:
    turns = {name: itertools.count() for name in ENDS}

    def script(connection: Connection) -> None:
        name = connection.request_line.split()[1].strip("/")
        turn = next(turns[name])
        # The look before the run comes first and gets a whole answer, then every end in turn.
        _, body = ENDS[name][0 if turn == 0 else (turn - 1) % len(ENDS[name])]
        events = BODIES[body].split(b"\n\n")[:-1]
        connection.send(CHUNKED_HEAD + b"".join(chunk(each + b"\n\n") for each in events) + LAST_CHUNK)
        connection.until_gone()

    scenario = tmp_path / "models.toml"
    with serving(script) as server:
        base = server.url.rpartition("/")[0]
        scenario.write_text(SCENARIO.format(base=base, streams=STREAMS_EACH), "utf-8")
        done = sseproof("run", str(scenario), cwd=tmp_path)
    assert done.returncode in {0, 1, 2}, done.stdout + done.stderr
    assert "Recognised from its events: OpenAI chat completions" in done.stderr
    assert "Recognised from its events: Anthropic messages" in done.stderr
    assert "Read as gemini, as the scenario says." in done.stderr
    directory = directory_of(tmp_path)
    dialects = {each["name"]: each["target"]["dialect"] for each in plan_of(directory)["variants"]}
    assert dialects == {name: name for name in ENDS}
    found = {name: Counter[str]() for name in ENDS}
    for record in rows(directory, STREAMS):
        found[record.variant][record.outcome] += 1
        heard = record.outcome in {"complete", "complete-limited", "error-inband", "truncated"}
        assert (record.first_token is not None) >= heard
    share = STREAMS_EACH // 4
    expected = {name: Counter[str]() for name in ENDS}
    for name, ends in ENDS.items():
        for outcome, _ in ends:
            expected[name][outcome] += share
    assert found == expected


def test_the_flag_names_a_dialect_and_a_wrong_one_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    def script(connection: Connection) -> None:
        raise AssertionError(f"nothing is to be sent: {connection.head!r}")

    with serving(script) as server:
        wrong = sseproof("run", "--target", server.url, "--dialect", "antropic", cwd=tmp_path)
        both = sseproof(
            "run",
            "--target",
            server.url,
            "--dialect",
            "gemini",
            "--set",
            "target.terminal=event:done",
            cwd=tmp_path,
        )
    assert wrong.returncode == both.returncode == 64
    assert "did you mean anthropic?" in wrong.stderr
    assert "terminal describes a plain stream" in both.stderr

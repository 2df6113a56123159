"""D01 to D08 over captures made by hand: what is said of each way to end, of errors, and of what our look cut off."""

import pytest

from sseproof.reports.endpoint.model import CheckReport, Finding
from tests.reports.captures import event, events, judged, probed
from tests.zoo.models import anthropic, chat, gemini, mcp, responses

USAGE = b'data: {"id":"chat-1","choices":[],"usage":{"total_tokens":3}}\n\n'
FILTERED = b'data: {"id":"chat-1","choices":[{"index":0,"delta":{},"finish_reason":"content_filter"}]}\n\n'
LIMITED = b'data: {"id":"chat-1","choices":[{"index":0,"delta":{},"finish_reason":"length"}]}\n\n'
DONE = b"data: [DONE]\n\n"
NAMED_DONE = b"event: done\ndata: {}\n\n"


def examined(pieces: list[bytes], *, end: str = "complete", **asked: object) -> CheckReport:
    return judged(probed(pieces, end=end), **{"terminal": None, **asked})


def finding(report: CheckReport, check: str) -> Finding:
    return next(each for each in report.findings if each.id == check)


@pytest.mark.parametrize(
    ("pieces", "dialect"),
    [
        (chat(), "openai"),
        (responses(), "openai-responses"),
        (anthropic(), "anthropic"),
        (gemini(), "gemini"),
        (mcp(), "mcp"),
        ([*events(), NAMED_DONE], "plain"),
    ],
)
def test_a_whole_stream_of_each_dialect(pieces: list[bytes], dialect: str) -> None:
    report = examined(pieces)
    found = {each.id: each.verdict for each in report.findings if each.id[0] == "D"}
    assert set(found.values()) <= {"pass", "n/a"}
    assert found["D01"] == found["D02"] == found["D03"] == "pass"
    assert (report.dialect, report.exit_code) == (dialect, 0)


@pytest.mark.parametrize(
    ("pieces", "end", "asked", "verdict", "words"),
    [
        (chat()[:-1], "complete", {}, "warn", "[DONE] is missing"),
        ([*chat()[:5], DONE], "complete", {}, "warn", "had no finish_reason"),
        (chat()[:5], "complete", {}, "fail", "without its marker (a finish_reason for every choice"),
        (chat()[:5], "enough", {}, "n/a", "was not seen"),
        (chat()[:5], "fin", {}, "n/a", "was not seen"),
        ([*chat()[:5], b'data: {"error":{"code":"x"}}\n\n'], "complete", {}, "n/a", "an error ended"),
        ([*chat()[:5], LIMITED, DONE], "complete", {}, "pass", "length limit"),
        (gemini()[:-1], "complete", {}, "fail", "a finishReason"),
        ([b"event: endpoint\ndata: /m\n\n", *mcp()[1:4]], "complete", {}, "n/a", "nothing ends"),
        (events(), "complete", {}, "unknown", "no terminal marker is known"),
        (events(), "enough", {}, "n/a", "was not seen"),
        (events(), "complete", {"terminal": "none"}, "n/a", "you said"),
        (events(), "complete", {"terminal": "event:bye"}, "fail", "(event:bye)"),
        ([*events(), b"event: bye\ndata: 1\n\n"], "complete", {"terminal": "event:bye"}, "pass", "(event:bye)"),
        ([*events(), NAMED_DONE], "complete", {}, "pass", "(event:done)"),
        (events(), "complete", {"dialect": "anthropic"}, "fail", "message_stop"),
    ],
)  # fmt: skip
def test_how_it_ends(
    pieces: list[bytes], end: str, asked: dict[str, object], verdict: str, words: str
) -> None:
    report = examined(pieces, end=end, **asked)
    found = finding(report, "D02")
    assert (found.verdict, words.lower() in found.sentence.lower()) == (verdict, True), found
    assert bool(found.fix) == (verdict in {"warn", "fail", "unknown"})
    if verdict == "unknown":
        assert report.exit_code == 2


def test_an_error_has_its_code_and_its_place() -> None:
    error = b'data: {"error":{"message":"no","type":"server_error","code":"over\\u001bloaded"}}\n\n'
    pieces = [*chat()[:4], error]
    found = finding(examined(pieces), "D03")
    assert found.verdict == "fail"
    assert "over\\x1bloaded" in found.sentence
    assert "3 tokens" in found.sentence
    (shown,) = found.evidence
    assert shown.offset is not None
    assert sum(map(len, pieces[:-1])) < shown.offset < sum(map(len, pieces))


def test_a_filtered_answer_is_no_error() -> None:
    found = finding(examined([*chat()[:4], FILTERED, DONE]), "D03")
    assert (found.verdict, "content filter" in found.sentence) == ("warn", True)


def test_the_named_dialect_is_read_and_a_doubt_is_said() -> None:
    report = examined(anthropic(), dialect="openai")
    assert report.dialect == "openai"
    found = finding(report, "D01")
    assert (found.verdict, "Anthropic messages" in found.sentence) == ("warn", True)
    assert finding(examined([event(1), NAMED_DONE], dialect="gemini"), "D01").verdict == "pass"
    assert finding(examined(chat(), dialect="auto"), "D01").verdict == "pass"
    assert finding(examined(chat(), dialect="plain"), "D04").verdict == "n/a"


def test_who_names_the_terminal_marker_describes_plain_events() -> None:
    report = examined(chat(), terminal="data:[DONE]")
    assert (report.dialect, finding(report, "D02").verdict, finding(report, "D04").verdict) == (
        "plain",
        "pass",
        "n/a",
    )


def test_usage_frames_are_told() -> None:
    found = finding(examined([*chat()[:-1], USAGE, DONE]), "D07")
    assert (found.verdict, "choices[0]" in found.sentence) == ("pass", True)
    assert "No usage frame" in finding(examined(chat()), "D07").sentence


@pytest.mark.parametrize(
    ("piece", "verdict"),
    [
        (b": ping\n\n", "pass"),
        (b"event: ping\ndata: {}\n\n", "pass"),
        (b"data: {}\n\n", "warn"),
        (b"", "n/a"),
    ],
)
def test_the_kind_of_heartbeat(piece: bytes, verdict: str) -> None:
    assert finding(examined([*chat()[:4], piece, *chat()[4:]]), "D08").verdict == verdict


def test_the_first_token_is_the_dialect_s() -> None:
    """The role comes 10 ms after the request, the first word 30 ms later."""
    assert "first token 40 ms" in finding(examined(chat()), "T03").sentence


@pytest.mark.parametrize("pieces", [chat(), gemini(), anthropic(), [*events(), NAMED_DONE]])
def test_an_answer_that_says_its_end_does_not_flap(pieces: list[bytes]) -> None:
    assert finding(examined(pieces), "R04").verdict == "n/a"


def test_a_short_stream_without_an_end_flaps() -> None:
    assert finding(examined(events()), "R04").verdict == "warn"


def test_what_came_back_before_we_looked_at_the_clock_came_after_the_request() -> None:
    early = judged(probed(chat(), head_ms=-0.4, first_ms=-0.2), terminal=None)
    assert "first byte 0.2 ms" in finding(early, "T03").sentence
    assert "-" not in finding(early, "T01").sentence


def test_mcp_primes_with_empty_data() -> None:
    assert finding(examined(mcp()), "W09").verdict == "pass"
    assert finding(examined([b"data:\n\n", *events(), NAMED_DONE]), "W09").verdict == "warn"


def test_without_a_stream_there_is_no_dialect() -> None:
    report = judged(
        probed([b"<html>"], start=b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n", framed=False)
    )
    assert report.dialect is None
    assert {each.verdict for each in report.findings if each.id[0] == "D"} == {"n/a"}

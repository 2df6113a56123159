"""What services get wrong out of habit: each is found under one id, and its sentence and fix speak of that very mistake.

Beside them stand streams of real services that look like a mistake and are none.
"""

import gzip
import json
from typing import Final

import pytest

from sseproof.reports.endpoint.model import Finding
from tests.reports.captures import event, events, head, judged, probed, verdicts
from tests.zoo.models import anthropic, chat

JSON: Final = [f'data: {{"n":{number},"text":"wörd {number}"}}\n\n'.encode() for number in range(24)]


def amid(piece: bytes) -> list[bytes]:
    """This one in the middle of a usual stream."""
    return [*JSON[:5], piece, *JSON[5:]]


def again(text: str) -> list[bytes]:
    """A stream of one kind of event, numbered at the #."""
    return [text.replace("#", str(number)).encode() for number in range(24)]


def framed_twice() -> list[bytes]:
    return [b"%x\r\n%b\r\n" % (len(each), each) for each in JSON]


MISTAKES: Final[dict[str, tuple[list[bytes], str, str, str, str]]] = {
    "no empty lines": ([each[:-1] for each in JSON], "W05", "fail", "24 data lines, and no empty line behind any", "two line ends"),
    "empty lines of spaces": ([each[:-1] + b" \n" for each in JSON], "W05", "fail", "24 lines of spaces where", "without spaces"),
    "framed twice": (framed_twice(), "W12", "fail", "24 lines without a field: the sizes of chunks", "HTTP server makes chunks"),
    "an answer in the answer": ([b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", *JSON], "W12", "fail", "head of an answer", "whole answer into the stream"),
    "an error page": ([*JSON[:9], b"<html><h1>502 Bad Gateway</h1></html>\n"], "W12", "fail", "HTML, of a payload", "keep error pages and warnings out"),
    "a payload over lines": (amid(b"data: first\nsecond line\n\n"), "W12", "fail", "rest of a payload", "`data: `"),
    "a comment without an end": (amid(b": keepalive " + JSON[7]), "W06", "warn", "1 comment with a data field behind", "line end"),
    "replacement characters": (amid('data: {"text":"gr\ufffd\ufffdn"}\n\n'.encode()), "W01", "warn", "2 replacement characters", "Decode whole characters"),
    "escaped ones": (amid(b'data: {"text":"gr\\ufffdn"}\n\n'), "W01", "warn", "1 replacement character", "Decode whole characters"),
    "encoded twice": ([each.decode("latin-1").encode() for each in JSON], "W01", "warn", "such as 'Ã¶' for 'ö'", "Encode once"),
    "[object Object]": (again("data: [object Object]\n\n"), "W11", "fail", "24 of 24 events hold no whole JSON", "JSON.stringify"),
    "a Python dict": (again("data: {'n': #, 'ok': True}\n\n"), "W11", "fail", "24 of 24 events hold no whole JSON", "json.dumps"),
    "HTML in JSON": (again("data: {&quot;n&quot;:#}\n\n"), "W11", "fail", "24 of 24 events hold no whole JSON", "Do not escape HTML"),
    "NaN": (amid(b'data: {"n":NaN}\n\n'), "W11", "fail", "1 of 25 events holds no whole JSON", "write null"),
    "bytes as Python prints them": ([repr(each).encode() for each in JSON], "H02", "fail", "bytes as Python prints them", "str()"),
    "a JSON string": ([json.dumps(each.decode()).encode() for each in JSON], "H02", "fail", "as a JSON string", "no JSON around it"),
    "UTF-16": ([each.decode().encode("utf-16-le") for each in again("data: #\n\n")], "H02", "fail", "UTF-16", "UTF-8"),
    "compressed, unsaid": ([gzip.compress(b"".join(JSON))], "H02", "fail", "compressed, and no Content-Encoding", "do not compress"),
    "a short retry": ([b"retry: 1\n" + JSON[0], *JSON[1:]], "W13", "warn", "A retry of 1 ms", "Send retry: 1000"),
    "[DONE] before the reason": ([*chat()[:5], b"data: [DONE]\n\n"], "D02", "warn", "The stream ended by data: [DONE]", "Say why"),
}  # fmt: skip


def finding(pieces: list[bytes], check: str, **options: object) -> Finding:
    report = judged(probed(pieces, **options), terminal=None)
    return next(each for each in report.findings if each.id == check)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_called_by_its_name(name: str) -> None:
    pieces, check, verdict, sentence, fix = MISTAKES[name]
    told = finding(pieces, check)
    assert (told.verdict, told.id) == (verdict, check)
    assert sentence in told.sentence
    assert fix in told.fix
    others = {each for each, answer in verdicts(judged(probed(pieces))).items() if answer == "fail"} - {check}
    assert others <= {"W01", "W11"} if check == "H02" else others <= {"W11"}, others


def test_a_stream_without_empty_lines_is_broken_also_while_it_goes_on() -> None:
    """Nothing is delivered, for ever: 0 events in 30 s are no quiet stream."""
    report = judged(probed([each[:-1] for each in JSON], end="enough"))
    assert (verdicts(report)["W05"], verdicts(report)["W17"]) == ("fail", "n/a")
    assert report.diagnosis.startswith("24 data lines, and no empty line behind any of them")
    # One event of many lines that is still on its way, whatever pieces it comes in.
    large = b"".join(b"data: line %d of a page\n" % number for number in range(400))
    trickling = [large[at : at + 50] for at in range(0, 5_000, 50)]
    assert verdicts(judged(probed(trickling, end="enough")))["W05"] == "n/a"


@pytest.mark.parametrize(
    ("start", "check", "sentence"),
    [
        (head(content_length="99"), "H08", "Content-Length 99 beside Transfer-Encoding"),
        (head(content_type="text/event-stream, text/html"), "H02", "sent more than once"),
        (head("206 Partial Content"), "H01", "HTTP 206 Partial Content, with an event stream"),
        (head(content_encoding="gzip"), "H07", "and nobody can read it: the compressed body is damaged"),
    ],
)
def test_a_mistake_of_the_head_is_called_by_its_name(start: bytes, check: str, sentence: str) -> None:
    told = finding(JSON, check, start=start)
    assert told.verdict == "fail"
    assert sentence in told.sentence


def test_a_body_that_nobody_can_read_is_said_once() -> None:
    report = judged(probed(JSON, start=head(content_encoding="gzip")), terminal=None)
    assert {each.id for each in report.findings if each.verdict in {"fail", "unknown"}} == {"H07"}
    assert report.exit_code == 1


def test_the_same_type_twice_is_borne_by_some() -> None:
    for value in (
        "text/event-stream, text/event-stream",
        "text/event-stream;charset=utf-8, Text/Event-Stream",
    ):
        assert finding(JSON, "H02", start=head(content_type=value)).verdict == "warn"
    assert finding(JSON, "H02", start=head(content_type='text/event-stream; x="a,b"')).verdict == "pass"


def test_what_real_services_do_is_no_mistake() -> None:
    feature_flags = [b'event: put\ndata: {"flags":{}}\n\n']
    for number in range(12):  # LaunchDarkly: a heartbeat is one line, and no empty one
        feature_flags += [b":\n", f'event: patch\ndata: {{"v":{number}}}\n\n'.encode()]
    routed = [b": OPENROUTER PROCESSING\n\n"] * 3 + chat()
    reasoned = [b": keep-alive\n\n", *chat()]  # DeepSeek
    named = [
        f": ping - 2026-01-01 00:00:{at:02}\r\n\r\n".encode() + event(at) for at in range(24)
    ]  # sse-starlette
    spoken = [
        'data: {"text":"Ã¶ is what ö becomes: Ã, Ä, Âme — déjà vu"}\n\n'.encode() * 2 for _ in range(12)
    ]
    for stream in (feature_flags, routed, reasoned, named, spoken, anthropic()):
        found = judged(probed(stream), terminal=None)
        assert not {each.id for each in found.findings if each.verdict in {"fail", "warn"}} & {
            "W01", "W05", "W06", "W11", "W12", "W17", "B01", "B02", "D03", "D04",
        }, found.diagnosis  # fmt: skip
    # A comment inside of an event is inside of it.
    inside = [part for each in events(24) for part in (each[:-1] + b": more\n", b"\n")]
    assert finding(inside, "W17").verdict == "warn"
    alone = [part for each in events(24) for part in (b": first\n", each)]
    assert finding(alone, "W17").verdict == "pass"

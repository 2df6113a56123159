"""Each check against an answer that has its one defect, and against a healthy one that has none."""

import gzip
import itertools
import math
import random
import re
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import brotli
import pytest
from msgspec.structs import replace

from sseproof.reports.endpoint.beat import beat_of
from sseproof.reports.endpoint.judge import CHECKS, judge_capture
from sseproof.reports.endpoint.lines import read_lines
from sseproof.reports.endpoint.model import ESSENTIAL, CheckReport, Finding
from sseproof.reports.endpoint_text import check_text
from sseproof.rundir.capture import Certificate, Secured
from sseproof.rundir.errors import UsageError
from tests.reports.captures import capture, chunk, event, events, head, judged, probed, verdicts

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable

BOM = b"\xef\xbb\xbf"


def plain(*lines: str) -> list[bytes]:
    """A healthy stream, then these lines as one more piece."""
    return [*events(), "".join(f"{line}\n" for line in lines).encode()]


def test_a_healthy_stream_has_nothing_to_complain_of() -> None:
    report = judged(probed([*events(), b"data: [DONE]\n\n"]), terminal=None)
    assert {each.verdict for each in report.findings} == {"pass", "n/a"}
    assert (report.exit_code, report.verdict) == (0, "pass")
    assert report.diagnosis == "A healthy event stream: 41 events seen, nothing to complain of."
    assert report.events == 41


def test_a_few_checks_speak_for_themselves_alone() -> None:
    """What was not looked at is not called healthy, nor what stayed open called settled."""
    healthy = [*events(), b"data: [DONE]\n\n"]
    assert (
        judged(probed(healthy), only=["H01"]).diagnosis == "Nothing to complain of in what 1 check settled."
    )
    few = judged(probed(events(8)), only=["W01", "B04"])
    assert verdicts(few) == {"W01": "pass", "B04": "unknown"}
    assert few.diagnosis == "Nothing to complain of in what 1 check settled; 1 check stayed open."
    assert judged(probed(events(8)), only=["B04"]).diagnosis.startswith("Nothing was settled: B04 (")
    whole = judged(probed(events(8)), skip=["B02", "R04"])
    assert whole.diagnosis.startswith("A healthy event stream: 8 events seen, nothing to complain of; ")


WIRE = {
    "ill-formed UTF-8": ("W01", "fail", [*events(), b"data: \xff\n\n"]),
    "a cut character": ("W01", "fail", [*events(), b"data: \xe2\x82\n\n"]),
    "a BOM at the start": ("W02", "warn", [BOM, *events()]),
    "a BOM later": ("W02", "fail", [*events(), BOM + event(41)]),
    "two BOMs": ("W02", "fail", [BOM + BOM, *events()]),
    "mixed line ends": ("W03", "warn", [*events(), b"data: x\r\n\r\n"]),
    "CR alone": ("W03", "warn", [each.replace(b"\n", b"\r") for each in events()]),
    "U+2028": ("W04", "warn", [*events(), "data: a\u2028b\n\n".encode()]),
    "NEL": ("W04", "warn", [*events(), "data: a\x85b\n\n".encode()]),
    "no last blank line": ("W05", "fail", [*events(), b"data: lost\n"]),
    "no last line end": ("W05", "fail", [*events(), b"data: lost"]),
    "a name in capitals": ("W06", "fail", plain("Data: x", "")),
    "a space before the colon": ("W06", "fail", plain("data : x", "")),
    "an unknown field": ("W06", "warn", plain("data: x", "meta: y", "")),
    "a lost space": (
        "W07",
        "fail",
        [b"data:Hello\n\n", *[b"data:%b\n\n" % word for word in (b" my", b" dear", b"est", b" friend") * 10]],
    ),
    "a name without data": ("W08", "warn", plain("event: tick", "")),
    "empty data": ("W09", "warn", plain("data:", "")),
    "a big event": ("W10", "warn", [*events(), b'data: "%b"\n\n' % (b"x" * 70_000)]),
    "broken JSON": ("W11", "fail", plain('data: {"text": "cut', "")),
    "a raw line break": ("W12", "fail", plain('data: {"text": "one', 'two"}', "")),
    "a retry of 0": ("W13", "warn", plain("retry: 0", "")),
    "a retry of an hour": ("W13", "warn", plain("retry: 3600000", "")),
    "a retry in words": ("W13", "fail", plain("retry: 1s", "")),
    "a NUL in an id": ("W14", "fail", plain("id: a\0b", "data: {}", "")),
    "a long id": ("W14", "warn", [f"id: {'9' * 200}\ndata: {{}}\n\n".encode(), *events()]),
    "an id twice": ("W15", "warn", [*events(), event(40)]),
    "ids that go back": ("W15", "warn", [*events(), event(50), event(45)]),
    "a number left out": ("W15", "warn", [*events()[:20], *events()[21:]]),
    "an event named open": ("W16", "warn", plain("event: open", "data: {}", "")),
    "events after the end": ("W18", "warn", [*events(), b"data: [DONE]\n\n", event(41)]),
}


@pytest.mark.parametrize("name", WIRE)
def test_a_defect_of_the_wire_is_found_and_nothing_else_fails(name: str) -> None:
    wanted, verdict, pieces = WIRE[name]
    report = judged(probed(pieces), terminal=None if wanted == "W18" else "none")
    found = verdicts(report)
    assert found[wanted] == verdict
    finding = next(each for each in report.findings if each.id == wanted)
    assert finding.fix
    accused = {each for each, answer in found.items() if answer == "fail"}
    # A line break in JSON breaks the JSON, too; an event named error is one.
    assert accused <= {wanted, {"W12": "W11", "W16": "D03"}.get(wanted, wanted)}
    if verdict == "fail":
        assert finding.evidence
        assert report.diagnosis.startswith((finding.sentence, "1 of 41", "41"))
        assert report.exit_code == 1


def test_ids_that_seldom_go_up_by_one_accuse_nobody() -> None:
    """They are numbered over more than one stream: only a rare gap in what is otherwise without one is worth a look."""
    every_third = [event(number) for number in range(1, 120, 3)]
    some = [event(number) for number in range(1, 80) if number % 5]
    for pieces in (every_third, some, [*events()[:9], *events()[10:18]]):
        assert verdicts(judged(probed(pieces)))["W15"] == "pass"


def test_the_bytes_and_their_offset_are_shown() -> None:
    body = b"".join(events())
    report = judged(probed([*events(), b"data: ab\xffcd\n\n"]))
    (evidence,) = next(each for each in report.findings if each.id == "W01").evidence
    assert evidence.offset == len(body) + 8
    assert "data: ab\\xffcd" in (evidence.excerpt or "")


HEALTHY = {
    "CR LF": [each.replace(b"\n", b"\r\n") for each in events()],
    "comments": [piece for each in events() for piece in (b": ping\n\n", each)],
    "comments alone": [b": ping\n"] * 40 + events(20),
    "grouped tokens": [b"".join(events()[at : at + 2]) for at in range(0, 40, 2)]
    + [event(number) for number in range(41, 80)],
    "no spaces": [each.replace(b": ", b":") for each in events()],
    "text that is no JSON": [b"data: word %d\n\n" % number for number in range(40)],
    "data over several lines": [b"data: a\ndata: b\n\n"] * 40,
    "a joiner in the text": [*events(), 'data: {"text": "\u200d\ufeff"}\n\n'.encode()],
}


@pytest.mark.parametrize("name", HEALTHY)
def test_what_is_only_unusual_is_not_accused(name: str) -> None:
    report = judged(probed(HEALTHY[name]))
    assert not [each for each in report.findings if each.verdict == "fail"]
    assert report.exit_code == 0


HEAD = {
    "404": ("H01", "fail", head("404 Not Found")),
    "204": ("H01", "warn", head("204 No Content", transfer_encoding=None)),
    "JSON": ("H02", "fail", head(content_type="application/json")),
    "no type": ("H02", "fail", head(content_type=None)),
    "latin-1": ("H03", "warn", head(content_type="text/event-stream; charset=iso-8859-1")),
    "a public cache": ("H04", "fail", head(cache_control="public, max-age=60, no-transform")),
    "an age": ("H04", "fail", head(age="17")),
    "a hit": ("H04", "fail", head(x_cache="HIT from edge")),
    "no caching header": ("H04", "warn", head(cache_control=None)),
    "transformable": ("H05", "warn", head(cache_control="no-cache")),
    "nginx without the header": ("H06", "warn", head(server="nginx/1.26", x_accel_buffering=None)),
    "gzip unasked": ("H07", "fail", head(content_encoding="gzip")),
    "CORS with credentials": (
        "H14",
        "fail",
        head(access_control_allow_origin="*", access_control_allow_credentials="true"),
    ),
    "406": ("H12", "fail", head("406 Not Acceptable")),
}


@pytest.mark.parametrize("name", HEAD)
def test_a_defect_of_the_head_is_found(name: str) -> None:
    wanted, verdict, start = HEAD[name]
    pieces = events()
    if name == "gzip unasked":
        squeeze = zlib.compressobj(wbits=31)
        pieces = [squeeze.compress(each) + squeeze.flush(zlib.Z_SYNC_FLUSH) for each in pieces]
        pieces.append(squeeze.flush())
    report = judged(probed([] if name == "204" else pieces, start=start, framed=name != "204"))
    found = verdicts(report)
    assert found[wanted] == verdict
    assert {each for each, answer in found.items() if answer == "fail"} <= {wanted, "H01"}


def test_content_length_and_close_are_framings_with_a_price() -> None:
    body = b"".join(events())
    start = head(transfer_encoding=None, content_length=str(len(body)))
    assert verdicts(judged(probed(events(), start=start, framed=False)))["H08"] == "fail"
    start = head(transfer_encoding=None)
    assert verdicts(judged(probed(events(), start=start, framed=False, end="eof")))["H09"] == "warn"
    start = start.replace(b"HTTP/1.1", b"HTTP/1.0")
    assert verdicts(judged(probed(events(), start=start, framed=False, end="eof")))["H09"] == "warn"


def test_a_cache_is_seen_when_it_is_asked_again() -> None:
    """The first to ask fills it: only later answers come out of it."""
    kept = probed(events(), start=head(x_cache_status="HIT", server="nginx"), probe="any-accept")
    report = judged(probed(events(), start=head(x_cache_status="MISS", server="nginx")), kept)
    finding = next(each for each in report.findings if each.id == "H04")
    assert finding.verdict == "fail"
    assert "proxy_cache off" in finding.fix
    missed = probed(events(), start=head(x_cache_status="MISS"), probe="any-accept")
    assert verdicts(judged(probed(events(), start=head(x_cache_status="MISS")), missed))["H04"] == "pass"


def test_a_cache_that_an_endless_stream_goes_through_is_not_called_none() -> None:
    """It would be kept once it ends; until then only the cache's own header says that it was asked."""
    start = head(x_cache_status="MISS", server="nginx")
    endless = finding(judged(probed(events(), start=start, end="enough")), "H04")
    assert endless.verdict == "unknown"
    assert endless.sentence.startswith("X-Cache-Status: MISS: a cache is asked for this stream.")
    assert "proxy_cache off" in endless.fix
    for name, value, server, verdict in (
        ("x_cache_status", "BYPASS", "nginx", "pass"),
        ("cf_cache_status", "DYNAMIC", "cloudflare", "pass"),
        ("cf_cache_status", "MISS", "cloudflare", "unknown"),
        (
            "x_cache",
            "Miss from cloudfront",
            "CloudFront",
            "pass",
        ),  # it says so also where nothing may be kept
        ("x_cache", "MISS", "Varnish", "pass"),
        ("x_cache", "EXPIRED", "openresty", "unknown"),
        ("cache_status", "edge; fwd=uri-miss", "x", "pass"),
        ("cache_status", "edge; fwd=uri-miss; stored", "x", "fail"),
        ("cache_status", "edge; fwd=uri-miss; stored=?0", "x", "pass"),
    ):
        report = judged(probed(events(), start=head(server=server, **{name: value}), end="enough"))
        assert verdicts(report)["H04"] == verdict, (name, value)


def test_an_answer_of_the_same_date_comes_out_of_a_cache() -> None:
    start = head(date="Sat, 28 Nov 2026 00:00:00 GMT")
    later = probed(events(), start=start, probe="any-accept")
    assert verdicts(judged(probed(events(), start=start), later))["H04"] == "pass"  # within a second
    later = replace(later, sent_ns=later.began_ns + 12_000_000_000)
    later = replace(later, reads=[replace(each, at_ns=each.at_ns + 12_000_000_000) for each in later.reads])
    told = finding(judged(probed(events(), start=start), later), "H04")
    assert (told.verdict, "came again 12 s later" in told.sentence) == ("fail", True)
    moved = replace(later, received=later.received.replace(b"00:00:00", b"00:00:12"))
    assert verdicts(judged(probed(events(), start=start), moved))["H04"] == "pass"


LOOK_ALIKES = {
    "NDJSON": ("application/x-ndjson", [b'{"a": 1}\n'] * 3, "NDJSON"),
    "NDJSON by another name": ("application/json", [b'{"a": 1}\n'] * 3, "NDJSON"),
    "AWS": ("application/vnd.amazon.eventstream", [b"\0\0\0\x10"], "AWS"),
    "a JSON array": ("application/json", [b'[{"a": 1},\n', b'{"a": 2}]'], "alt=sse"),
    "one document": ("application/json", [b'{"a": 1}'], "not a stream"),
    "a page": ("text/html", [b"<!doctype html><title>Sign in</title>"], "page"),
    "SSE by another name": ("text/plain", events(), "looks like SSE"),
}


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_a_look_alike_is_named(name: str) -> None:
    essence, pieces, word = LOOK_ALIKES[name]
    report = judged(probed(pieces, start=head(content_type=essence)))
    finding = next(each for each in report.findings if each.id == "H02")
    assert finding.verdict == "fail"
    assert word in f"{finding.sentence} {finding.fix}"


def test_the_certificate_says_who_reads_along() -> None:
    def answer(issuer: str, *, private_ca: bool = False) -> tuple[str, bool]:
        tls = Secured(version="TLSv1.3", certificate=Certificate(issuer=issuer), private_ca=private_ca)
        report = judge_capture(capture(probed(events(), tls=tls), url="https://chat.example/stream"))
        finding = next(each for each in report.findings if each.id == "H18")
        return finding.verdict, "TLS inspection reads" in finding.sentence

    assert answer("R3, Let's Encrypt") == ("pass", False)
    assert answer("Zscaler Intermediate, Zscaler Inc.") == ("warn", True)
    assert answer("Corp CA, Example Corp") == ("warn", False)
    assert answer("Corp CA, Example Corp", private_ca=True) == ("pass", False)


def test_http2_is_recognised_by_its_handshake() -> None:
    def answer(alpn: str) -> str:
        tls = Secured(alpn=alpn, offered=["h2", "http/1.1"])
        asked = probed([], start=b"", framed=False, probe="alpn", tls=tls, end="handshake")
        return verdicts(judge_capture(capture(probed(events()), asked, url="https://chat.example/stream")))[
            "H10"
        ]

    assert answer("h2") == "pass"
    assert answer("http/1.1") == "warn"
    assert verdicts(judged(probed(events())))["H10"] == "n/a"


def test_redirects_are_counted_and_named() -> None:
    def hop(number: int, url: str, **options: object) -> object:
        start = head("302 Found", location="/next", transfer_encoding=None)
        return probed([], start=start, framed=False, redirected=True, number=number, url=url, **options)

    once = judged(hop(1, "http://127.0.0.1/a"), probed(events(), number=2))
    assert verdicts(once)["H11"] == "pass"
    twice = judged(hop(1, "http://127.0.0.1/a"), hop(2, "http://127.0.0.1/b"), probed(events(), number=3))
    assert verdicts(twice)["H11"] == "warn"
    down = judged(hop(1, "https://127.0.0.1/a"), probed(events(), number=2))
    assert verdicts(down)["H11"] == "fail"
    leak = judged(hop(1, "http://other.example/a"), probed(events(), number=2), credentials=True)
    assert verdicts(leak)["H11"] == "fail"
    start = head("302 Found", location="/loop", transfer_encoding=None)
    loop = judged(probed([], start=start, framed=False, detail="more than 4 redirects"))
    assert verdicts(loop)["H11"] == verdicts(loop)["H01"] == "fail"


def test_a_secret_in_the_query_is_named_without_its_value() -> None:
    report = judged(probed(events()), sensitive_query=["api_key"])
    finding = next(each for each in report.findings if each.id == "H15")
    assert finding.verdict == "warn"
    assert "api_key" in finding.sentence


# Time.


def test_late_headers_and_withheld_ones() -> None:
    assert verdicts(judged(probed(events(), head_ms=2_000, first_ms=2_500)))["T01"] == "warn"
    assert verdicts(judged(probed(events(), head_ms=6_000, first_ms=6_500)))["T01"] == "fail"
    assert verdicts(judged(probed(events(), head_ms=2_000, first_ms=2_500)))["T02"] == "pass"
    assert verdicts(judged(probed(events(), head_ms=2_000, first_ms=2_001)))["T02"] == "fail"
    assert verdicts(judged(probed(events(), head_ms=5, first_ms=6)))["T02"] == "pass"


@pytest.mark.parametrize(
    ("end", "verdict"), [("fin", "fail"), ("rst", "fail"), ("enough", "pass"), ("complete", "pass")]
)
def test_the_kind_of_close(end: str, verdict: str) -> None:
    assert verdicts(judged(probed(events(), end=end)))["T08"] == verdict


def test_a_close_at_a_known_limit_names_whose_it_is() -> None:
    report = judged(probed(events(), gap_ms=1_500, end="fin"))  # 40 times 1.5 s
    finding = next(each for each in report.findings if each.id == "T08")
    assert "60 s" in finding.sentence
    assert "nginx" in finding.sentence


@pytest.mark.parametrize(
    ("silent_ms", "server", "fix"),
    [
        (5_000, "nginx", "raise proxy_read_timeout"),
        (5_000, "gunicorn", "asynchronous worker class"),
        (100, "nginx", "killed process"),
    ],
)
def test_a_break_behind_a_silence_is_a_time_out_of_whoever_names_himself(
    silent_ms: int, server: str, fix: str
) -> None:
    gaps = [30.0] * 39 + [float(silent_ms)]
    report = judged(probed(events(), start=head(server=server), gap_ms=gaps, end="fin"))
    finding = next(each for each in report.findings if each.id == "T08")
    assert fix in finding.fix
    assert ("silence" in finding.sentence) == (silent_ms == 5_000)


def test_a_stall_stands_out() -> None:
    gaps = [30.0] * 20 + [1_500.0] + [30.0] * 19
    assert verdicts(judged(probed(events(), gap_ms=gaps)))["T09"] == "warn"
    assert verdicts(judged(probed(events())))["T09"] == "pass"
    assert verdicts(judged(probed(events(8))))["T09"] == "n/a"


def test_a_stall_that_does_not_end_stands_out_too() -> None:
    gaps = [30.0] * 39 + [20_000.0]
    report = judged(probed(events(), gap_ms=gaps, end="enough"))
    assert verdicts(report)["T09"] == "warn"
    assert "then nothing for 20 s, until the look was over" in report.diagnosis
    # A whole answer that is closed late has stalled nobody; and a slow feed is as slow as it is.
    assert verdicts(judged(probed(events(), gap_ms=gaps)))["T09"] == "pass"
    slow = judged(probed(events(12), gap_ms=[2_000.0] * 11 + [9_000.0], end="enough"))
    assert verdicts(slow)["T09"] == "pass"


def test_our_own_lateness_is_owned_up_to() -> None:
    found = verdicts(judged(probed(events(), lag_ns=20_000_000)))
    assert found["T10"] == "warn"
    assert found["B02"] == "unknown"  # every burst is void


def test_our_own_lateness_is_never_the_diagnosis() -> None:
    report = judged(probed(events(), lag_ns=5_500_000, end="enough"), skip=["B"])
    assert verdicts(report)["T10"] == "warn"
    assert report.diagnosis.startswith("A healthy event stream")
    report = judged(probed([*events(), b"data:\n\n"], lag_ns=5_500_000, end="enough"), skip=["B"])
    assert "the first: we read" not in report.diagnosis
    assert "with 2 warnings" in report.diagnosis  # T05 and W09


# Buffering.


def cut(body: bytes, size: int) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


@pytest.mark.parametrize("size", [1_024, 4_096, 16_384])
def test_a_buffer_of_a_fixed_size_is_found_and_named(size: int) -> None:
    body = b"".join(events(40 * size // 40))
    report = judged(probed(cut(body, size)[:30], end="enough"))
    finding = next(each for each in report.findings if each.id == "B02")
    assert finding.verdict == "fail"
    assert f"{size:,} bytes" in finding.sentence
    assert report.diagnosis.startswith(
        f"Events arrive {size:,} bytes at a time: something on the way buffers."
    )


def test_a_buffer_that_fills_slowly_is_accused_on_ten_clear_bursts_and_nobody_else_on_fewer_than_twenty() -> (
    None
):
    def found(bursts: list[bytes]) -> str:
        return verdicts(judged(probed(bursts, gap_ms=1_000, end="enough")))["B02"]

    body = b"".join(events(10_000))
    assert found(cut(body, 16_384)[:11]) == "fail"  # the last one is not judged
    assert found(cut(body, 16_384)[:10]) == "unknown"
    grouped = [b"".join(events(8)) for _ in range(11)]
    assert found(grouped) == "unknown"
    halves = [part for each in grouped[:6] for part in (each[:-20], each[-20:])]
    assert found(halves[:11]) == "unknown"  # half of ten end inside an event: no clear bound


def test_a_buffer_is_not_called_a_wait_for_the_next_event() -> None:
    """It releases what it has with the event that fills it, so that its arrivals follow the next event's sending."""
    rng = random.Random(9)
    sent_ms, stamped, released = 0.0, b"", []
    for number in range(400):
        sent_ms += rng.uniform(60, 140)
        stamped += f'data: {{"sent_at": {1_800_000_000 + sent_ms / 1000:.3f}, "n": {number}}}\n\n'.encode()
        if len(stamped) // 256 > len(released):
            released.append(sent_ms)
    gaps = [after - before for before, after in itertools.pairwise(released)]
    bursts = cut(stamped, 256)[: len(gaps)]
    report = judged(probed(bursts, first_ms=released[0] + 510, gap_ms=gaps, end="enough"))
    assert (verdicts(report)["B02"], verdicts(report)["B05"]) == ("fail", "n/a")
    few = judged(probed(bursts[:9], first_ms=released[0] + 510, gap_ms=gaps[:9], end="enough"))
    assert (verdicts(few)["B02"], verdicts(few)["B03"], verdicts(few)["B05"]) == ("unknown", "unknown", "n/a")


def test_the_fix_is_that_of_the_proxy_that_named_itself() -> None:
    body = b"".join(events(4_000))
    report = judged(probed(cut(body, 4_096)[:30], start=head(server="nginx/1.26"), end="enough"))
    assert report.diagnosis.startswith("Events arrive 4,096 bytes at a time: a proxy buffers.")
    assert "Server header says nginx: set proxy_buffering off" in report.diagnosis
    held = judged(probed([body[:9_000]], start=head(server="nginx/1.26"), head_ms=2_000, first_ms=2_001))
    for check in ("T02", "B01"):
        assert "proxy_buffering off" in next(each.fix for each in held.findings if each.id == check)


def test_everything_at_once_is_found_and_a_quick_answer_is_not_accused() -> None:
    whole = b"".join(events())
    assert verdicts(judged(probed([whole], first_ms=2_000)))["B01"] == "fail"
    quick = judged(probed([whole], first_ms=40))
    assert verdicts(quick)["B01"] == "unknown"
    assert quick.exit_code == 2
    assert "B01" in quick.diagnosis
    thinking = judged(probed(events(), first_ms=10_000, head_ms=5, gap_ms=20))
    assert verdicts(thinking)["B01"] == "pass"


def test_a_quick_sender_behind_a_long_wait_is_not_accused() -> None:
    """Events 3 ms apart are one burst, and no buffer that was let go; 0.2 ms apart they may be one."""
    quick = judged(probed(events(60), first_ms=6_000, gap_ms=3))
    assert verdicts(quick)["B01"] == "unknown"
    assert not [each for each in quick.findings if each.verdict == "fail"]
    assert verdicts(judged(probed(events(60), first_ms=6_000, gap_ms=0.2)))["B01"] == "fail"


def test_everything_at_once_is_found_though_we_read_it_late() -> None:
    """40 events of one moment can't have been eight bursts; had we looked 200 ms late, they could."""
    whole = b"".join(events())
    assert verdicts(judged(probed([whole], first_ms=2_000, lag_ns=15_000_000)))["B01"] == "fail"
    one_by_one = judged(probed(events(), gap_ms=100, lag_ns=20_000_000))
    finding = next(each for each in one_by_one.findings if each.id == "B01")
    assert finding.verdict == "unknown"
    assert finding.sentence.startswith("40 events in ")
    late = judged(probed([whole], first_ms=2_000, lag_ns=200_000_000))
    assert verdicts(late)["B01"] == "unknown"


def test_a_timer_is_suspected_without_a_clock_and_proved_with_one() -> None:
    groups = [b"".join(events(400)[at : at + 4]) for at in range(0, 160, 4)]
    assert verdicts(judged(probed(groups, gap_ms=500)))["B04"] == "warn"
    late_once = [500.0] * 20 + [3_130.0] + [500.0] * 19
    assert verdicts(judged(probed(groups, gap_ms=late_once)))["B04"] == "warn"
    rng = random.Random(7)
    for uneven in (
        [rng.choice([20.0, 90.0, 400.0]) for _ in groups],
        [rng.uniform(140, 260) for _ in groups],  # a sender that groups varies by more than a timer
    ):
        assert verdicts(judged(probed(groups, gap_ms=uneven)))["B04"] == "pass"

    def stamped(sent_ms: float) -> bytes:
        return f'data: {{"sent_at": {1_800_000_000 + sent_ms / 1000:.3f}}}\n\n'.encode()

    held = [b"".join(stamped(500 * group + 125 * each) for each in range(4)) for group in range(40)]
    report = judged(probed(held, gap_ms=500, first_ms=510))
    assert verdicts(report)["B03"] == "fail"
    prompt = [stamped(125 * each) for each in range(80)]
    assert verdicts(judged(probed(prompt, gap_ms=125)))["B03"] == "pass"
    behind = judged(probed(prompt, gap_ms=[125.0] * 79 + [0], first_ms=125 + 10))
    assert verdicts(behind)["B05"] == "pass"  # evenly late is no lateness: the clocks may differ
    uneven_sends = [0.0]
    for number in range(79):
        uneven_sends.append(uneven_sends[-1] + (100.0 if number % 2 else 120.0))
    waits = [uneven_sends[number + 1] - uneven_sends[number] for number in range(79)]
    late = [stamped(each) for each in uneven_sends]
    # All of them wait, so that the least lateness tells nothing: their arrivals follow the next event's sending.
    report = judged(probed(late[:-1], first_ms=510 + waits[0], gap_ms=[*waits[1:], 0.0]))
    assert verdicts(report)["B05"] == "fail"
    prompt_ones = judged(probed(late[:-1], first_ms=510, gap_ms=waits))
    assert verdicts(prompt_ones)["B05"] == "pass"
    # In groups, too: each group waits for the next one.
    spread = [rng.choice([80.0, 200.0, 330.0]) for _ in range(40)]
    grouped = [b"".join(stamped(sum(spread[:at])) for _ in range(2)) for at in range(40)]
    assert (
        verdicts(judged(probed(grouped, first_ms=510 + spread[0], gap_ms=[*spread[1:], 0.0])))["B05"]
        == "fail"
    )
    assert verdicts(judged(probed(grouped, first_ms=510, gap_ms=spread)))["B05"] == "pass"
    # The last event waits for nobody, so the least lateness is about 0.
    report = judged(probed(late, first_ms=10 + waits[0], gap_ms=[*waits[1:], 0.0, 0.0]))
    assert verdicts(report)["B05"] == "fail"
    # Late, each by itself, and by less than the distance of two events: a busy sender, nobody who waits.
    delays = [10.0, 40.0, 45.0, 50.0] * 20
    arrivals = [each + delay for each, delay in zip(uneven_sends, delays, strict=True)]
    gaps = [after - before for before, after in itertools.pairwise(arrivals)]
    assert verdicts(judged(probed(late, first_ms=arrivals[0], gap_ms=[*gaps, 0.0])))["B05"] == "pass"


def on_ticks(made_ms: list[float], every_ms: float, rng: random.Random) -> list[float]:
    """When a timer lets go what was made at these moments, each tick late by up to 3 % of its distance."""
    ticks = {math.ceil(each / every_ms) for each in made_ms}
    late = {tick: rng.uniform(0, 0.03 * every_ms) for tick in ticks}
    return [math.ceil(each / every_ms) * every_ms + late[math.ceil(each / every_ms)] for each in made_ms]


def uneven(least_ms: float, most_ms: float, count: int, rng: random.Random) -> list[float]:
    """Moments at uneven distances."""
    return list(itertools.accumulate(rng.uniform(least_ms, most_ms) for _ in range(count)))


def arriving(
    moments_ms: list[float], stamps_ms: list[float] | None = None, *, size: int = 5, decimals: int = 3
) -> CheckReport:
    """Groups of events at these moments, saying when they were sent where that is told, in seconds."""
    groups = []
    for number, sent_ms in enumerate(stamps_ms or moments_ms):
        stamps = [f"{1_800_000_000 + (sent_ms + each) / 1000:.{decimals}f}" for each in range(size)]
        clocks = [f'"ts": {each}, ' if stamps_ms else "" for each in stamps]
        groups.append("".join(f'data: {{{each}"n": {number}}}\n\n' for each in clocks).encode())
    gaps = [after - before for before, after in itertools.pairwise(moments_ms)]
    return judged(probed(groups, first_ms=moments_ms[0], gap_ms=[*gaps, 0.0]))


def finding(report: CheckReport, check: str) -> Finding:
    return next(each for each in report.findings if each.id == check)


@pytest.mark.parametrize("every_ms", [60.0, 100.0, 250.0, 500.0])
def test_a_timer_that_ticks_faster_than_groups_come_is_told_by_the_beat(every_ms: float) -> None:
    """Neither events a burst nor an even spacing shows it: 100 ms, and five events every 200 ms or so."""
    rng = random.Random(every_ms)
    made = uneven(1.4 * every_ms, 2.6 * every_ms, 60, rng)
    arrived = on_ticks(made, every_ms, rng)
    bare = finding(arriving(arrived), "B04")
    assert bare.verdict == "unknown"  # a sender with a timer of its own looks the same
    assert re.search(r"beat: (5[5-9] of 59) distances are multiples of", bare.sentence), bare.sentence
    assert "ts" in bare.fix
    report = arriving(arrived, made)
    assert verdicts(report)["B04"] == "n/a"
    told = finding(report, "B03")
    assert told.verdict == "warn"
    assert told.sentence.startswith("A flush timer, on the way or in the service: ")
    assert "by ts the events were not sent at such distances" in told.sentence
    # The sender's own ticks, and a clock too coarse to tell whose they are.
    assert verdicts(arriving(arrived, [each - 4 for each in arrived]))["B03"] == "pass"
    tenths = [each - 4 for each in on_ticks(uneven(350, 650, 60, rng), 250, rng)]
    assert verdicts(arriving([each + 4 for each in tenths], tenths, size=1, decimals=1))["B03"] == "pass"
    if every_ms == 500:
        assert verdicts(arriving(arrived, made, size=1))["B03"] == "warn"
        assert verdicts(arriving(arrived, made, size=1, decimals=0))["B03"] == "pass"
    # The way that holds nothing back.
    assert (
        verdicts(arriving(made))["B04"]
        == verdicts(arriving([each + 4 for each in made], made))["B03"]
        == "pass"
    )


def test_a_timer_whose_bursts_hold_two_events_is_not_passed_over() -> None:
    """A clock would decide it; without one an even spacing of 2.5 events a burst is as likely the sender's."""
    rng = random.Random(3)
    made = uneven(28, 52, 200, rng)
    arrived = on_ticks(made, 100.0, rng)
    pieces: dict[float, bytes] = {}
    for number, at_ms in enumerate(arrived):
        pieces[at_ms] = pieces.get(at_ms, b"") + event(number)
    moments = list(pieces)
    gaps = [after - before for before, after in itertools.pairwise(moments)]
    found = finding(judged(probed(list(pieces.values()), first_ms=moments[0], gap_ms=[*gaps, 0.0])), "B04")
    assert found.verdict == "unknown"
    assert found.sentence.startswith(
        "A flush timer, or a sender with an even pace: 2.47 events a burst, spacing varies by "
    )
    # One by one at an even pace nobody groups anything.
    assert verdicts(judged(probed(events(60), gap_ms=100)))["B04"] == "pass"


def test_what_falls_anywhere_keeps_to_no_beat() -> None:
    rng = random.Random(11)
    paces: list[Callable[[], float]] = [
        lambda: rng.uniform(140, 260),
        lambda: rng.uniform(700, 1300),
        lambda: rng.expovariate(1 / 300),
        lambda: rng.lognormvariate(5, 0.3),
        lambda: rng.choice([100, 150]) + rng.gauss(0, 10),
        lambda: rng.uniform(80, 120) if rng.random() < 0.7 else rng.uniform(180, 220),
        lambda: 200 + rng.gauss(0, 3) + (rng.uniform(150, 400) if rng.random() < 0.05 else 0),  # a lossy link
    ]
    for pace in paces:
        for _ in range(12):
            moments = list(itertools.accumulate(max(6.0, pace()) for _ in range(30)))
            beat = beat_of([round(each * 1e6) for each in moments])
            assert beat is None or beat.even, moments


def squeezed(pieces: list[bytes], *, flush: bool) -> list[bytes]:
    squeeze = zlib.compressobj(wbits=31)
    mode = zlib.Z_SYNC_FLUSH if flush else zlib.Z_NO_FLUSH
    parts = [
        squeeze.compress(each) + squeeze.flush(mode) if flush else squeeze.compress(each) for each in pieces
    ]
    return [each for each in [*parts, squeeze.flush()] if each]


def test_compression_that_holds_events_back_is_told_from_one_that_does_not() -> None:
    start = head(content_encoding="gzip")
    timely = probed(squeezed(events(), flush=True), start=start, probe="gzip")
    found = verdicts(judged(probed(events()), timely))
    assert (found["H07"], found["B06"]) == ("warn", "pass")
    late = probed(squeezed(events(), flush=False), start=start, probe="gzip", first_ms=1_200)
    found = verdicts(judged(probed(events()), late))
    assert (found["H07"], found["B06"]) == ("fail", "fail")
    bare = probed(events(), start=head(cache_control="no-cache"))
    assert verdicts(judged(bare, late))["H05"] == "fail"
    withheld = probed([], start=b"", probe="gzip", framed=False, first_ms=1_200, end="late")
    assert verdicts(judged(probed(events()), withheld))["B06"] == "fail"  # not even a head
    refused = probed([], start=b"", probe="gzip", framed=False, first_ms=1_200, end="rst")
    assert verdicts(judged(probed(events()), refused))["B06"] == "unknown"
    unread = head(content_encoding="gzip, br")
    held = probed([b"\x1b\x00"], start=unread, probe="gzip", first_ms=1_200)
    assert verdicts(judged(probed(events()), held))["B06"] == "fail"
    report = judged(probed(events()), probed(events(), start=unread, probe="gzip"))
    said = {each.id: (each.verdict, each.sentence) for each in report.findings}
    assert [said[each][0] for each in ("H07", "B06")] == ["warn", "pass"]
    assert all(
        "gzip, br" in said[each][1] and "can't be read here" in said[each][1] for each in ("H07", "B06")
    )


def test_zstd_is_read_as_any_other_coding() -> None:
    packer = zstd.ZstdCompressor()
    parts = [packer.compress(each, packer.FLUSH_BLOCK) for each in events()]
    start = head(content_encoding="zstd")
    timely = probed([*parts, packer.flush()], start=start, probe="gzip")
    report = judged(probed(events()), timely)
    assert (verdicts(report)["H07"], verdicts(report)["B06"]) == ("warn", "pass")
    assert (
        finding(report, "H07").sentence == "Compressed with zstd when that is offered; it came in time here."
    )
    late = [each for each in (*map(packer.compress, events()), packer.flush()) if each]
    found = verdicts(judged(probed(events()), probed(late, start=start, probe="gzip", first_ms=1_200)))
    assert (found["H07"], found["B06"]) == ("fail", "fail")
    behind = probed([*parts, packer.flush(), b"behind"], start=start, probe="gzip")
    assert verdicts(judged(probed(events()), behind))["H07"] == "fail"  # browsers break off with an error


def test_events_compressed_each_by_itself_are_lost_in_browsers() -> None:
    """Chromium and Firefox read the first gzip member, and end there without an error."""
    start = head(content_encoding="gzip")
    members = [gzip.compress(each) for each in events()]
    told = finding(judged(probed(events()), probed(members, start=start, probe="gzip")), "H07")
    assert told.verdict == "fail"
    first, other = len(events()[0]), sum(map(len, events()[1:]))
    assert told.sentence == (
        "Compressed with gzip when that is offered, in 40 gzip members: browsers read the first "
        f"({first} bytes of the stream), and never the other {other:,}."
    )
    empty = [*squeezed(events(), flush=True), gzip.compress(b"")]
    found = verdicts(judged(probed(events()), probed(empty, start=start, probe="gzip")))
    assert found["H07"] == "warn"  # nothing is lost


def test_brotli_is_read_as_any_other_coding() -> None:
    coder = brotli.Compressor()
    parts = [coder.process(each) + coder.flush() for each in events()]
    start = head(content_encoding="br")
    report = judged(probed([*parts, coder.finish()], start=start))
    assert (report.events, verdicts(report)["H07"], verdicts(report)["W01"]) == (40, "fail", "pass")
    found = verdicts(judged(probed(events()), probed(parts, start=start, probe="gzip")))
    assert (found["H07"], found["B06"]) == ("warn", "pass")
    coder = brotli.Compressor()
    late = [each for each in (*map(coder.process, events()), coder.finish()) if each]
    late_probe = probed(late, start=start, probe="gzip", first_ms=1_200)
    found = verdicts(judged(probed(events()), late_probe))
    assert (found["H07"], found["B06"]) == ("fail", "fail")


def test_more_than_we_decode_is_no_coding_that_we_can_not_read() -> None:
    squeeze = zlib.compressobj(wbits=31)
    parts = [
        squeeze.compress(each + b": " + b"x" * 200_000 + b"\n\n") + squeeze.flush(zlib.Z_SYNC_FLUSH)
        for each in events()
    ]
    report = judged(probed(events()), probed(parts, start=head(content_encoding="gzip"), probe="gzip"))
    said = {each.id: each for each in report.findings}
    assert (said["H07"].verdict, said["B06"].verdict) == ("warn", "pass")
    assert "can't be read here" not in said["H07"].sentence + said["B06"].sentence


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate"])
def test_a_compressed_answer_that_nobody_can_read_fails(coding: str) -> None:
    """It comes in time, and a browser shows nothing of it."""
    bad = probed([b"\xff" * 30] * 40, start=head(content_encoding=coding), probe="gzip")
    report = judged(probed(events()), bad)
    said = {each.id: each for each in report.findings}
    assert (said["H07"].verdict, said["B06"].verdict, report.exit_code) == ("fail", "unknown", 1)
    assert f"Compressed with {coding} when that is offered, and nobody can read it" in said["H07"].sentence
    ours = probed([b"\xff" * 30] * 40, start=head(content_encoding=coding), probe="gzip", echoed=[300])
    assert verdicts(judged(probed(events()), ours))["H07"] == "warn", "a secret that we overwrote"


def test_a_first_burst_that_had_to_fill_is_found() -> None:
    first = b"".join(events(20))
    rest = [event(number) for number in range(21, 50)]
    assert verdicts(judged(probed([first, *rest], first_ms=900)))["B07"] == "warn"
    assert verdicts(judged(probed([first, *rest], first_ms=20)))["B07"] == "pass"  # a replay, at once


def test_writes_that_end_inside_events_are_counted() -> None:
    pieces = [part for each in events() for part in (each[:20], each[20:])]
    found = verdicts(judged(probed(pieces)))
    assert found["W17"] == "warn"
    assert found["B02"] == "pass"  # one event in two writes is no buffer


def test_few_bursts_prove_nothing() -> None:
    report = judged(probed(events(10)))
    assert verdicts(report)["B02"] == "unknown"
    assert report.exit_code == 2


# Leaks.


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (b'Traceback (most recent call last):\n  File "/srv/app/main.py", line 3', "fail"),
        (b"Error\n    at Object.<anonymous> (/srv/index.js:3:7)", "fail"),
        (b"connect postgres://admin:hunter22@db/prod", "fail"),
        (b"no such file: /var/lib/app/prompts.txt", "warn"),
        (b'{"error": "not found"}', "pass"),
    ],
)
def test_error_texts_are_searched_for_what_is_nobodys_business(text: bytes, verdict: str) -> None:
    report = judged(probed([text], start=head("500 Internal Server Error", content_type="text/plain")))
    assert verdicts(report)["S01"] == verdict
    assert "hunter22" not in check_text(report).replace("hunter22@db/prod", "") or verdict == "fail"


def test_a_secret_that_came_back_is_named_by_its_place() -> None:
    report = judged(probed(events(), echoed=[123]))
    finding = next(each for each in report.findings if each.id == "S01")
    assert (finding.verdict, finding.evidence[0].offset) == ("fail", 123)


# The report.


def test_the_text_fits_80_columns_and_begins_with_the_diagnosis() -> None:
    hostile = [*events(), b"data: \x1b[2J\xe2\x80\xae\xff" + b"x" * 300 + b"\n\n"]
    report = judged(probed(hostile, start=head(server="nginx\x1b[31m")))
    text = check_text(report, capture="checks/a.json")
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "\x1b" not in text
    assert "\u202e" not in text
    first = text.splitlines()[0]
    assert report.diagnosis.startswith(first)
    rows = [line.split()[1] for line in text.splitlines() if line.startswith(("✕", "?", "!", "✓"))]
    assert rows == sorted(rows, key=["fail", "unknown", "warn", "pass"].index)


def test_only_and_skip_choose_checks() -> None:
    made = capture(probed([*events(), b"data: \xff\n\n"]))
    assert {each.id for each in judge_capture(made, only=["W01", "H"]).findings} == {
        check.id for check in CHECKS if check.id == "W01" or check.id[0] == "H"
    }
    skipped = judge_capture(made, skip=["W"])
    assert not [each for each in skipped.findings if each.id[0] == "W"]
    assert skipped.exit_code == 0
    with pytest.raises(UsageError, match="X99"):
        judge_capture(made, only=["X99"])


def test_ids_are_unique_and_every_answer_has_a_sentence() -> None:
    ids = [check.id for check in CHECKS]
    assert len(ids) == len(set(ids))
    for report in (judged(probed(events())), judged(probed([], start=b"", framed=False, end="refused"))):
        assert all(each.sentence.endswith((".", ")")) or each.verdict == "n/a" for each in report.findings)
        assert len(report.findings) == len(CHECKS)


def test_the_document_names_every_check() -> None:
    document = (Path(__file__).parents[2] / "docs" / "check.md").read_text("utf-8")
    for check in CHECKS:
        star = r" \*" if check.id in ESSENTIAL else ""
        assert re.search(rf"[|·] {check.id} {re.escape(check.name)}{re.escape(star)} [|·]", document), (
            check.id
        )


def test_no_answer_is_a_sentence_and_accuses_h01_alone() -> None:
    for end in (
        "dns",
        "refused",
        "connect-timeout",
        "tls",
        "proxy",
        "send",
        "late",
        "fin",
        "rst",
        "protocol",
    ):
        report = judged(probed([], start=b"", framed=False, end=end))
        assert [each.id for each in report.findings if each.verdict == "fail"] == ["H01"]
        assert report.exit_code == 1


def test_a_server_of_http2_alone_is_told_from_one_without_tls() -> None:
    answer = probed([], start=b"", framed=False, end="tls", detail="tlsv1 alert no application protocol")
    assert "speaks HTTP/2 alone" in judged(answer).diagnosis


def test_a_compressed_bomb_stays_bounded() -> None:
    bomb = gzip.compress(b"data: x\n\n" * 700_000)
    report = judged(probed([bomb], start=head(content_encoding="gzip")))
    assert report.body_bytes <= 4 << 20
    assert verdicts(report)["H07"] == "fail"


def test_lines_have_the_offsets_of_their_bytes() -> None:
    body = BOM + b": c\r\ndata: x\rid:7\n\nretry"
    lines = read_lines(body)
    assert lines.bom
    assert lines.open_line
    assert lines.endings == {b"\r\n": 1, b"\r": 1, b"\n": 2}
    first, second = lines.blocks
    assert [(field.name, body[field.value_at : field.end]) for field in first.fields] == [
        (b"data", b"x"),
        (b"id", b"7"),
    ]
    assert (first.comments, first.closed, second.closed) == (1, True, False)
    assert body[second.at :] == b"retry"
    assert math.isclose(first.end, body.index(b"retry"))
    assert chunk(b"x") == b"1\r\nx\r\n"

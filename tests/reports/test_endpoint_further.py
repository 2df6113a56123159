"""The checks that need more than one answer, or a long look: resume, capacity, idle, ways, dialects."""

from typing import Any

import pytest

from sseproof.reports.endpoint.model import Finding
from sseproof.rundir.capture import Probed
from tests.reports.captures import events, head, judged, probed, verdicts

NO_BODY = {"start": head("204 No Content", transfer_encoding=None), "framed": False}


def numbers(first: int, last: int, stem: str = "") -> list[bytes]:
    return [f'id: {stem}{number}\ndata: {{"n": {number}}}\n\n'.encode() for number in range(first, last + 1)]


def again(pieces: list[bytes], last: str, number: int = 1, probe: str = "resume", **options: Any) -> Probed:
    options.setdefault("end", "enough")
    return probed(pieces, probe=probe, number=number, last_event_id=last, **options)


MAIN = numbers(1, 40)

RESUMED = {
    "goes on": (again(numbers(21, 25), "20"), "pass"),
    "says it is over": (again([], "20", **NO_BODY), "pass"),
    "repeats the event": (again(numbers(20, 25), "20"), "warn"),
    "repeats a few": (again(numbers(18, 25), "20"), "warn"),
    "begins anew": (again(numbers(1, 4), "20"), "fail"),
    "leaves events out": (again(numbers(30, 33), "20"), "fail"),
    "begins at now": (again(numbers(90, 93), "20"), "fail"),
    "begins another stream": (again(numbers(1, 4, "x-"), "20"), "fail"),
    "loses its ids": (again([b"data: {}\n\n"] * 4, "20"), "fail"),
    "is refused": (again([], "20", start=head("400 Bad Request")), "fail"),
    "is silent": (again([], "20"), "unknown"),
}


@pytest.mark.parametrize("name", RESUMED)
def test_resuming(name: str) -> None:
    answer, verdict = RESUMED[name]
    assert verdicts(judged(probed(MAIN), answer))["R01"] == verdict


def test_how_an_id_is_ignored_is_said() -> None:
    def said(answer: Probed) -> str:
        return next(each.sentence for each in judged(probed(MAIN), answer).findings if each.id == "R01")

    assert said(RESUMED["begins anew"][0]) == "The id is ignored: the stream begins anew."
    assert said(RESUMED["repeats a few"][0]) == "3 events up to the id 20 come again: duplicates."
    assert said(RESUMED["leaves events out"][0]) == "9 events behind the id are left out."
    assert said(RESUMED["begins at now"][0]) == "The id is ignored: the stream begins at now, with a gap."


def test_resuming_behind_the_newest_event_of_a_feed() -> None:
    main = probed(numbers(7, 7), end="enough")
    assert verdicts(judged(main, again(numbers(8, 9), "7")))["R01"] == "pass"
    assert verdicts(judged(main, again(numbers(12, 13), "7")))["R01"] == "fail"


UNKNOWN_IDS = {
    "from the oldest": (again(numbers(1, 4), "no", probe="bogus-id"), "pass"),
    "a reset event": (
        again([b"event: reset\ndata: {}\n\n", *numbers(90, 92)], "no", probe="bogus-id"),
        "pass",
    ),
    "by its header": (
        again(numbers(90, 92), "no", probe="bogus-id", start=head(last_event_id="89")),
        "pass",
    ),
    "refused": (again([], "no", probe="bogus-id", start=head("404 Not Found")), "pass"),
    "in silence": (again(numbers(90, 92), "no", probe="bogus-id"), "warn"),
    "an error of its own": (again([], "no", probe="bogus-id", start=head("500 Oops")), "fail"),
}


@pytest.mark.parametrize("name", UNKNOWN_IDS)
def test_an_unknown_id(name: str) -> None:
    answer, verdict = UNKNOWN_IDS[name]
    assert verdicts(judged(probed(MAIN), answer))["R02"] == verdict


def test_the_end_of_a_resource() -> None:
    def found(answer: Probed) -> str:
        return verdicts(judged(probed(MAIN), again(numbers(21, 22), "20"), answer))["R03"]

    assert found(again([], "40", 2, **NO_BODY)) == "pass"
    assert found(again([], "40", 2, end="complete")) == "fail"
    assert found(again(numbers(1, 3), "40", 2)) == "warn"
    assert found(again([], "40", 2)) == "pass"  # it waits
    assert found(again([], "40", 2, start=head("410 Gone"))) == "pass"


def test_flapping_counts_the_retry_of_the_stream() -> None:
    assert verdicts(judged(probed(MAIN)))["R04"] == "warn"
    patient = [b"retry: 60000\n\n", *MAIN]
    assert verdicts(judged(probed(patient)))["R04"] == "pass"
    assert verdicts(judged(probed([*MAIN, b"data: [DONE]\n\n"]), terminal=None))["R04"] == "n/a"


def test_cuts_are_added_up() -> None:
    def cuts(*spans: tuple[int, int], stem: str = "") -> str:
        answers = []
        last = None
        for number, (first, end) in enumerate(spans, start=1):
            pieces = numbers(first, end, stem)
            answers.append(probed(pieces, probe="cut", number=number, last_event_id=last, end="enough"))
            last = f"{stem}{end}"
        return verdicts(judged(probed(numbers(1, 40, stem)), *answers))["R05"]

    assert cuts((1, 4), (5, 8), (9, 12)) == "pass"
    assert cuts((1, 4), (4, 8), (9, 12)) == "warn"
    assert cuts((1, 4), (6, 8), (9, 12)) == "fail"
    assert cuts((101, 104), (105, 108)) == "pass"  # a feed that went on meanwhile


def test_parallel_streams() -> None:
    good = [probed(events(3), probe="parallel", number=number) for number in range(1, 8)]
    full = [*good, probed(events(3), probe="parallel", number=8)]
    assert verdicts(judged(probed(MAIN), *full))["K01"] == "pass"
    assert verdicts(judged(probed(MAIN), *full))["K06"] == "pass"
    silent = probed([], probe="parallel", number=8, end="enough")
    assert verdicts(judged(probed(MAIN), *good, silent))["K01"] == "fail"
    refused = probed([], probe="parallel", number=8, start=head("503 Busy"))
    report = judged(probed(MAIN), *good, refused)
    assert "HTTP 503" in next(each for each in report.findings if each.id == "K01").sentence


def test_a_slow_reader() -> None:
    def found(pieces: list[bytes], end: str = "enough") -> str:
        return verdicts(judged(probed(MAIN), probed(pieces, probe="slow-reader", end=end)))["K03"]

    assert found(numbers(1, 30)) == "pass"
    assert found([*numbers(1, 10), *numbers(20, 30)]) == "fail"
    assert found(numbers(1, 10), end="rst") == "warn"
    assert found([b"data: {}\n\n"] * 9) == "unknown"


def idle(gaps_s: list[float], piece: bytes = b": ping\n\n", end: str = "enough") -> dict[str, str]:
    watched = probed([piece] * len(gaps_s), probe="idle", gap_ms=[gap * 1_000 for gap in gaps_s], end=end)
    return verdicts(judged(probed(MAIN), watched))


def test_heartbeats_and_idle_survival() -> None:
    assert idle([15] * 5)["T04"] == "pass"
    assert idle([25] * 3)["T04"] == "warn"
    assert idle([70])["T04"] == "fail"
    assert idle([8])["T04"] == "unknown"
    assert idle([5] * 6, piece=b"data: x\n\n")["T04"] == "n/a"  # events come faster
    assert idle([15] * 5)["T06"] == "pass"
    report = judged(probed(MAIN), probed([b": hi\n\n"], probe="idle", gap_ms=[60_000], end="fin"))
    survival = next(each for each in report.findings if each.id == "T06")
    assert survival.verdict == "fail"
    assert "nginx" in survival.sentence
    assert idle([15] * 5)["T05"] == "pass"
    assert idle([15] * 5, piece=b"data: ping\n\n")["T05"] == "warn"


def test_a_hard_limit_is_told_from_an_idle_one() -> None:
    assert idle([1] * 30, end="fin")["T07"] == "warn"
    assert idle([1] * 27, end="fin")["T07"] == "pass"
    assert idle([30], end="fin")["T07"] == "pass"  # silent before it: T06


def cut_by_size(size: int = 1_024) -> list[bytes]:
    body = b"".join(events(1_200))
    return [body[at : at + size] for at in range(0, 30 * size, size)]


def test_the_way_that_holds_back_is_named() -> None:
    def ways(direct: list[bytes], proxy: list[bytes]) -> list[Probed]:
        return [
            probed(pieces, probe="path", vantage=name, number=number, end="enough")
            for number in (1, 2)
            for name, pieces in (("direct", direct), ("http://proxy:3128", proxy))
        ]

    smooth, held = events(), cut_by_size()
    report = judged(probed(smooth), *ways(smooth, held))
    finding = next(each for each in report.findings if each.id == "B08")
    assert finding.verdict == "fail"
    assert "by way of http://proxy:3128, and not by direct" in finding.sentence
    assert report.diagnosis.startswith(finding.sentence)
    assert verdicts(judged(probed(smooth), *ways(smooth, smooth)))["B08"] == "pass"
    assert verdicts(judged(probed(held), *ways(held, held)))["B08"] == "pass"
    mixed = [*ways(smooth, held)[:3], ways(smooth, smooth)[3]]
    assert verdicts(judged(probed(smooth), *mixed))["B08"] == "unknown"


def test_the_method_that_is_held_back_is_named() -> None:
    """Some tunnels buffer GET and let POST through, or the other way round."""

    def compared(get: list[bytes], post: list[bytes], **post_fields: Any) -> Finding:
        by_post = {"probe": "method", "method": "POST", **post_fields}
        report = judged(probed(get, end="enough"), probed(post, end="enough", **by_post))
        return next(each for each in report.findings if each.id == "B08")

    smooth, held = events(), cut_by_size()
    found = compared(held, smooth)
    assert found.verdict == "fail"
    assert found.sentence.startswith(
        "Events come cut by size by GET and one by one by POST: something on the way"
    )
    assert "offer POST only" in found.fix
    found = compared(smooth, held)
    assert found.verdict == "fail"
    assert "is asked by POST alone" in found.sentence
    assert [compared(each, each).verdict for each in (smooth, held)] == ["pass", "pass"]
    assert compared(smooth, events(1)).verdict == "unknown"
    found = compared(smooth, [], start=b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n", framed=False)
    assert (found.verdict, found.sentence) == ("unknown", "No event stream came by POST: HTTP 405.")


def test_of_ways_and_methods_the_worse_is_told() -> None:
    other = probed(cut_by_size(), probe="method", method="POST", end="enough")
    report = judged(probed(events()), probed(events(), probe="origin"), other)
    finding = next(each for each in report.findings if each.id == "B08")
    assert (finding.verdict, "POST alone" in finding.sentence) == ("fail", True)


def test_a_way_that_leads_nowhere_is_named() -> None:
    """A longer look, which an unclear way asks for, would not help."""
    refused = {"start": b"", "framed": False, "end": "refused", "detail": "proxy:3128: Connection refused"}
    ways = [
        probed(events(), probe="path", vantage="direct"),
        probed([], probe="path", vantage="http://proxy:3128", **refused),
    ]
    finding = next(each for each in judged(probed(events()), *ways).findings if each.id == "B08")
    assert finding.verdict == "unknown"
    assert "by way of http://proxy:3128: proxy:3128: Connection refused" in finding.sentence
    assert "address" in finding.fix


def test_the_edge_is_told_from_the_origin() -> None:
    edge = probed(cut_by_size(), start=head(server="cloudflare"), end="enough")
    report = judged(edge, probed(events(), probe="origin", vantage="origin"))
    finding = next(each for each in report.findings if each.id == "B08")
    assert finding.verdict == "fail"
    assert "Cloudflare" in finding.sentence + finding.fix
    assert verdicts(judged(probed(events()), probed(events(), probe="origin")))["B08"] == "pass"

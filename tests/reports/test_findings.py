"""Why claims fail, in a sentence: the count always, the cause only where the rows show it."""

import json
from typing import Any

import pytest

from sseproof.loadtests.settings import Client
from sseproof.reports.markdown import markdown_text
from sseproof.reports.render import render_report
from sseproof.reports.summary import summary_text
from sseproof.rundir.units import to_raw
from tests.reports.conftest import T0, RunBuilder, S, at

MS = 1_000_000


def client(run: RunBuilder, **settings: Any) -> None:
    for variant in run.plan.variants:
        variant.client = to_raw(Client(**settings))


def broken(
    run: RunBuilder, count: int, back_ms: float | None, *, waited_ms: float = 0.0, **fields: Any
) -> None:
    """Streams that broke at 500 ms and had something new so much later."""
    for _ in range(count):
        row = run.stream(breaks=1, group=fields.pop("group", None))
        run.break_(
            row.stream,
            seen_ms=500.0,
            back_ms=None if back_ms is None else 500.0 + back_ms,
            waits_ns=[round(waited_ms * MS)],
            attempts=1,
            group=row.group,
            **fields,
        )


def test_the_sentence_of_the_question_everybody_asks(run: RunBuilder) -> None:
    client(run, profile="browser")
    run.claims("success >= 90%", "reconnect p95 < 1s")
    broken(run, 259, 120.0, waited_ms=100.0)
    broken(run, 41, 3_020.0, waited_ms=3_000.0)
    verdict = run.judge()
    assert verdict.decision == "Do not release: 1 of 2 claims fails."
    assert verdict.findings == [
        "1 of 2 claims holds.",
        (
            "Reconnection fails: 41 of 300 breaks took longer than 1 s, most of them about 3.02 s: the server sends no "
            "retry hint, so that a browser waits its own 3 s."
        ),
    ]
    directory = run.write()
    assert verdict.findings[1] in " ".join(summary_text(verdict, directory).split())
    assert "the server sends no retry" in render_report(directory).decode().replace("<wbr>", "")


@pytest.mark.parametrize(
    ("fields", "profile", "why"),
    [
        ({"server_retry_ms": 3_000}, "browser", ": the server's retry hint asks for 3 s."),
        ({}, "resilient", ": that is the client's own wait before it connects again (client.backoff)."),
        (
            {"sent": at(3_450)},
            "browser",
            ": the server sends no retry hint, so that a browser waits its own 3 s.",
        ),
    ],
)
def test_the_wait_is_charged_to_who_asked_for_it(
    run: RunBuilder, fields: dict[str, Any], profile: str, why: str
) -> None:
    client(run, profile=profile)
    run.claims("reconnect p95 < 1s")
    broken(run, 60, 3_020.0, waited_ms=3_000.0, **fields)
    assert run.judge().findings[1].endswith(f"most of them about 3.02 s{why}")


def test_a_slow_service_is_told_from_a_long_wait(run: RunBuilder) -> None:
    run.claims("reconnect p95 < 1s")
    broken(run, 60, 3_020.0, waited_ms=100.0, sent=at(620))
    assert (
        run.judge()
        .findings[1]
        .endswith(": the service took that long from the request to the first new event.")
    )


def test_without_evidence_there_is_no_cause(run: RunBuilder) -> None:
    client(run, profile="browser")
    run.claims("reconnect p95 < 1s")
    for back_ms in range(1_500, 7_500, 100):  # spread, and waits explain none of it
        broken(run, 1, float(back_ms), waited_ms=10.0)
    assert run.judge().findings[1] == "Reconnection fails: 60 of 60 breaks took longer than 1 s."


def test_two_are_no_ground_for_a_cause(run: RunBuilder) -> None:
    run.claims("utf8 = 100%", "lost = 0")
    run.streams(80)
    run.stream(lost=3, outcome="damaged")
    run.stream(lost=1, outcome="damaged")
    assert run.judge().findings == [
        "1 of 2 claims holds.",
        "Completeness fails: 4 events lost in 2 of 82 streams.",
    ]


def test_one_reason_is_said_once(run: RunBuilder) -> None:
    client(run, profile="legacy")
    run.claims("recovery = 100%", "reconnect p95 < 1s")
    for _ in range(60):
        row = run.failed(breaks=1)
        run.break_(row.stream, back_ms=None, gave_up="legacy")
    assert run.judge().findings == [
        "None of 2 claims holds.",
        (
            "Recovery fails: 60 of 60 breaks did not end in a recovered stream, all cut: the client never reconnects "
            "(profile legacy)."
        ),
        "Reconnection fails: 60 of 60 breaks never got a new event again, for the same reason.",
    ]


def test_attempts_that_failed_in_a_row_are_counted_with_the_first(run: RunBuilder) -> None:
    """A stream that never had an event gives up after as many attempts as `retries` says, the first included."""
    client(run, retries=5)
    run.claims("recovery = 100%")
    for _ in range(60):
        row = run.failed("unreachable", "refused", breaks=1)
        run.break_(row.stream, back_ms=None, gave_up="retries", attempts=4)
    assert run.judge().findings[1].endswith("all unreachable: 5 attempts in a row failed.")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        (
            {"headers": at(100), "last_event": at(1_510)},
            "their answers were held back and then came at once: something on the way buffers them",
        ),
        ({"headers": at(1_495)}, "the wait lies before the head of the response"),
        ({"headers": at(20)}, "the head of the response came at once, its first event late"),
        (
            {"intended": at(0), "dispatched": at(1_400), "sent": at(1_401)},
            "we started them late: the generator could not keep up with the plan",
        ),
        ({"headers": at(700)}, ""),
    ],
)
def test_a_late_first_token_names_where_the_time_went(
    run: RunBuilder, fields: dict[str, Any], why: str
) -> None:
    run.claims("ttft p95 <= 1s")
    late = {"first_event": at(1_500), "first_token": at(1_500), "last_event": at(4_000), "ended": at(4_001)}
    for _ in range(60):
        run.stream(**{**late, **fields})
    first = "60 of 60 streams took longer than 1 s, most of them about 1.5 s"
    assert run.judge().findings[1] == f"Time to first token fails: {first}{f': {why}' if why else ''}."


def fault(run: RunBuilder, group: str) -> None:
    told = {"kind": "stall", "group": group, "fault": f"{group}-f"}
    run.fault("applied", at_ns=T0, call_sent_ns=T0, call_answered_ns=T0 + MS, **told)
    run.fault("healed", at_ns=T0 + 9 * S, call_sent_ns=T0 + 9 * S, call_answered_ns=T0 + 9 * S, **told)


def test_a_fault_is_named_when_it_tells_the_bad_from_the_good(run: RunBuilder) -> None:
    run.claims("success >= 98%")
    fault(run, "stall")
    run.streams(60)
    for _ in range(20):
        run.failed("stalled", "idle-timeout", group="stall")
    assert run.judge().findings[1] == (
        "Success fails: 20 of 80 streams did not end well, all stalled: all of them had the fault stall on their path."
    )


def test_a_fault_that_was_healed_before_explains_nothing(run: RunBuilder) -> None:
    run.claims("success >= 98%")
    fault(run, "stall")  # healed after 9 s
    run.streams(60)
    for _ in range(20):
        run.failed("cut", "fin", group="stall", dispatched=at(9_500), ended=at(11_000))
    assert run.judge().findings[1] == "Success fails: 20 of 80 streams did not end well, all cut."


def test_a_fault_that_all_met_explains_nothing(run: RunBuilder) -> None:
    run.claims("success >= 98%")
    fault(run, "stall")
    run.streams(60, group="stall")
    for _ in range(20):
        run.failed("stalled", "idle-timeout", group="stall")
    assert run.judge().findings[1] == "Success fails: 20 of 80 streams did not end well, all stalled."


def test_faults_that_only_others_met_are_ruled_out(run: RunBuilder) -> None:
    run.claims("success >= 98%")
    fault(run, "stall")
    run.streams(60, group="stall")
    for _ in range(20):
        run.failed("cut", "fin", group="clean")
    assert run.judge().findings[1].endswith("all cut: none of them had a fault on its path.")


def test_the_services_own_reason_is_quoted_and_can_move_nothing(run: RunBuilder) -> None:
    run.claims("success >= 98%")
    for number in range(60):
        detail = json.dumps({"message": f"no \u202eroom\x1b[2J left <b> for f00d{number}"})
        run.failed("error-inband", "inband-error", detail=detail)
    sentence = run.judge().findings[1]
    assert "the reason on record is “no " in sentence
    assert "\u202e" not in sentence
    assert "\x1b" not in sentence
    page = render_report(run.write()).decode()
    header = page.partition("<header")[2].partition("<dl>")[0]
    assert header.count("<b>") == header.count(" fails: </b>") == 1, "the page's own, and none from elsewhere"
    assert "left &lt;b&gt;" in header.replace("<wbr>", "")


def test_a_status_is_the_reason_of_those_that_got_it(run: RunBuilder) -> None:
    run.claims("success >= 98%")
    run.streams(10)
    for _ in range(30):
        run.failed("error-http", "status", status=503)
    assert (
        run.judge()
        .findings[1]
        .endswith("30 of 40 streams did not end well, all error-http: the service answered 503.")
    )


def test_repetition_only_after_breaks_is_the_reconnections(run: RunBuilder) -> None:
    run.claims("doubled = 0")
    run.streams(60)
    for _ in range(20):
        run.stream(breaks=1, doubled=4, outcome="damaged")
    assert run.judge().findings[1] == (
        "Once-only delivery fails: 80 events got twice in 20 of 80 streams: only in streams that broke: after a "
        "reconnection the service sends again what the client already had."
    )


def test_what_holds_needs_no_finding_and_what_is_unknown_is_named(run: RunBuilder) -> None:
    run.claims("success >= 98%", "utf8 = 100%")
    run.streams(20)
    verdict = run.judge()
    assert verdict.findings == [
        "None of 2 claims holds.",
        "Not decided: “success >= 98%” (too-few) and “utf8 = 100%” (too-few).",
    ]
    run.streams(300)
    assert run.judge().findings == []


def test_the_page_counts_streams_even_where_all_is_well(run: RunBuilder) -> None:
    run.claims("success >= 98%")
    run.streams(299)
    broken(run, 1, 120.0)
    page = render_report(run.write()).decode()
    assert '<p class="finding">300 of 300 streams ended well; of 1 that broke, 1 did.</p>' in page


def test_the_summary_of_a_ci_step_says_them_too_and_nothing_in_them_is_markup(run: RunBuilder) -> None:
    run.claims("success >= 98%")
    for _ in range(60):
        run.failed("error-inband", "inband-error", detail="| no *room* <b> @here ::error::")
    text = markdown_text(run.judge()).decode()
    paragraphs = text.split("\n\n")
    assert paragraphs[1] == "The one claim does not hold."
    assert paragraphs[2].startswith("Success fails: 60 of 60 streams did not end well, all error-inband: ")
    assert r"\| no \*room\* &lt;b&gt; `@here` :\:error::" in paragraphs[2]

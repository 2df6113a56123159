"""Subscribers as witnesses: losses that only the others can tell, and healthy topics of every shape that nobody accuses."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sseproof.reports.facts import all_facts
from sseproof.reports.history import read_history
from sseproof.reports.topics import WITNESSED_SHARE, merged, numbered_by_the_service, topic_truths
from sseproof.rundir.rows import Instant, StreamRecord


def record(
    stream: int,
    *ids: tuple[int, int],
    topic: str | None = "news",
    variant: str | None = None,
    capped: bool = False,
) -> StreamRecord:
    return StreamRecord(
        stream=stream,
        dispatched=Instant(0),
        ended=Instant(1),
        outcome="held",
        end="stopped",
        ids=list(ids),
        topic=topic,
        variant=variant,
        ids_capped=capped,
    )


def lost_of(*records: StreamRecord) -> dict[int, int | None]:
    return {stream: truth.lost for (_, stream), truth in topic_truths(records).items()}


def test_what_another_received_in_between_is_lost():
    assert lost_of(record(0, (1, 100)), record(1, (1, 40), (43, 100)), record(2, (1, 100))) == {
        0: 0,
        1: 2,
        2: 0,
    }


def test_two_who_lost_different_events_witness_each_other():
    assert lost_of(record(0, (1, 9), (11, 100)), record(1, (1, 49), (52, 100))) == {0: 1, 1: 2}


def test_holes_that_all_share_are_no_loss():
    """A service may number many topics with one counter."""
    assert lost_of(record(0, (3, 3), (7, 8), (20, 20)), record(1, (3, 3), (7, 8), (20, 20))) == {0: 0, 1: 0}


def test_who_comes_later_or_leaves_earlier_lost_nothing():
    assert lost_of(record(0, (1, 1000)), record(1, (40, 1000)), record(2, (1, 950))) == {0: 0, 1: 0, 2: 0}


def test_one_alone_has_no_witness():
    assert lost_of(record(0, (1, 100))) == {0: None}
    assert lost_of(record(0, (1, 100)), record(1, (101, 200))) == {0: None, 1: None}


@pytest.mark.parametrize(("until", "lost"), [(89, None), (90, 0)])
def test_most_of_a_stream_must_have_been_witnessed(until, lost):
    """Of 100 numbers the other's span has so many."""
    assert WITNESSED_SHARE == 0.9
    assert lost_of(record(0, (1, 100)), record(1, (1, until))) == {0: lost, 1: 0}


def test_a_loss_that_was_seen_counts_even_where_little_was_witnessed():
    assert lost_of(record(0, (1, 9), (11, 100)), record(1, (10, 12))) == {0: 1, 1: 0}


def test_topics_and_variants_are_apart():
    gap = record(0, (1, 9), (11, 100))
    assert lost_of(gap, record(1, (1, 100), topic="sport"))[0] is None
    assert lost_of(gap, record(1, (1, 100), variant="after"))[0] is None
    assert lost_of(record(0, (1, 100), topic=None)) == {}


def test_a_stream_whose_ranges_are_not_whole_is_not_judged_and_still_witnesses():
    assert lost_of(record(0, (1, 9), (11, 100)), record(1, (1, 100), capped=True)) == {0: 1, 1: None}


SUBSCRIBERS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 60), st.sets(st.integers(0, 60), max_size=8)),
    min_size=1,
    max_size=6,
)


def ranges_of(numbers: set[int]) -> list[tuple[int, int]]:
    return merged((number, number) for number in numbers)


@settings(max_examples=400)
@given(SUBSCRIBERS, st.sets(st.integers(0, 60), min_size=30))
def test_it_is_what_the_definition_says(subscribers, published):
    """Against the definition, number by number; holes of the topic included."""
    received = {}
    for stream, (first, last, missed) in enumerate(subscribers):
        numbers = {number for number in published if min(first, last) <= number <= max(first, last)} - missed
        if numbers:
            received[stream] = numbers
    truths = topic_truths([record(stream, *ranges_of(numbers)) for stream, numbers in received.items()])
    for stream, numbers in received.items():
        others = [other for each, other in received.items() if each != stream]
        inside = {
            number for number in set().union(*received.values()) if min(numbers) <= number <= max(numbers)
        }
        witnessed = {n for n in inside if any(min(other) <= n <= max(other) for other in others)}
        truth = truths[None, stream]
        assert (truth.seen, truth.witnessed) == (len(inside), len(witnessed))
        lost = len(inside - numbers)
        assert truth.lost == (lost or (0 if len(witnessed) >= 0.9 * len(inside) else None))


@settings(max_examples=200)
@given(SUBSCRIBERS, st.sets(st.integers(0, 60), min_size=30))
def test_nobody_is_accused_where_nothing_was_lost(subscribers, published):
    received = [
        {number for number in published if min(first, last) <= number <= max(first, last)}
        for first, last, _ in subscribers
    ]
    records = [record(stream, *ranges_of(numbers)) for stream, numbers in enumerate(received) if numbers]
    assert {truth.lost for truth in topic_truths(records).values()} <= {0, None}


# --- in verdicts ---


def subscribed(run: Callable, *ids: tuple[int, int], topic: str | None = "news", **fields: object) -> None:
    run.stream(
        kind="subscription",
        outcome="held",
        end="stopped",
        ids=list(ids),
        topic=topic,
        **{"lost": None, **fields},
    )


def test_a_healthy_topic_passes_and_the_words_say_who_told(run):
    for _ in range(60):
        subscribed(run, (1, 10), (21, 1000))
    result = run.one("lost = 0")
    assert (result.verdict, result.n, result.untold) == ("pass", 60, 0)
    assert result.truths == {"subscribers": 60}
    assert "Other subscribers of the topic tell the loss (at least 100 %" in result.sentence


def test_a_loss_that_others_saw_fails_with_the_right_stream(run):
    for _ in range(60):
        subscribed(run, (1, 1000))
    subscribed(run, (1, 499), (503, 1000))
    run.claims("lost = 0", "success = 100%")
    lost, success = run.judge().verdicts
    assert (lost.verdict, lost.amount, lost.examples, lost.k) == ("fail", 3, [60], 60)
    assert (success.verdict, success.examples, success.reasons) == ("fail", [60], {"damaged": 1})
    (damaged,) = [each for each in all_facts(read_history(run.directory)) if each.outcome == "damaged"]
    assert (damaged.record.stream, damaged.truth, damaged.witnessed) == (60, "subscribers", 1.0)


def test_subscribers_each_of_a_topic_of_their_own_are_unknown(run):
    for number in range(70):
        subscribed(run, (1, 100), topic=f"room {number}")
    result = run.one("lost = 0")
    assert (result.verdict, result.code, result.untold, result.truths) == ("unknown", "no-truth", 70, {})
    assert "no other subscriber of their topic witnessed enough" in result.sentence
    assert "--users" in result.next


# --- numbers of the whole service ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("streams", "shared"),
    [
        ([[(1, 2), (5, 6)], [(3, 4), (7, 8)]], True),
        ([[(1, 2), (6, 6)], [(3, 4), (7, 8)]], True),  # 5 is nobody's: lost, or of a stream that is not ours
        ([[(1, 2), (9, 9)], [(4, 4)]], False),  # most of what is missing is nobody's
        ([[(1, 4)], [(1, 2), (4, 4)]], False),  # each counts for itself, and one lost an event
        ([[(1, 2), (4, 4)]], False),
        ([[(1, 4)], [(5, 8)]], False),  # one after the other: no holes
        ([[(1, 2), (4, 4)], [(101, 104)]], False),  # each counts from a place of its own
    ],
)
def test_streams_that_fill_each_others_holes_have_the_services_numbers(
    streams: list[list[tuple[int, int]]], shared: bool
):
    rows = [record(number, *ids, topic=None) for number, ids in enumerate(streams)]
    assert numbered_by_the_service(rows) == ({None} if shared else set())
    assert numbered_by_the_service([record(number, *ids) for number, ids in enumerate(streams)]) == set()


@pytest.mark.parametrize(("doubled", "success"), [(0, "pass"), (1, "fail")])
def test_holes_that_others_fill_accuse_nobody(run, doubled: int, success: str):
    """60 streams at once, of which each has every sixtieth number: the client took the others' for its own losses."""
    for number in range(60):
        ids = [(number + 60 * place,) * 2 for place in range(5)]
        run.stream(ids=ids, lost=4 * 59, outcome="damaged", doubled=doubled)
    run.claims("success >= 95%", "lost = 0", "doubled = 0")
    ended_well, lost, twice = run.judge().verdicts
    assert (ended_well.verdict, ended_well.blind) == (success, ["lost", "text"])
    assert (lost.verdict, lost.code, lost.untold) == ("unknown", "no-truth", 60)
    assert "the service numbers the events of all streams together" in lost.sentence
    assert "target.sequence=json:FIELD" in lost.next
    assert twice.verdict == success

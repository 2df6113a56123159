"""Topics: one sequence for all subscribers, where each begins, how each resumes, and defects of single ones."""

import json

import pytest

from sseproof.reference_server.feed import FIRST, FeedAdmitter, FeedAsk
from sseproof.reference_server.misbehave import Misbehaviour
from sseproof.reference_server.script import Script
from sseproof.reference_server.streams import StreamName

FEED = "/api/v1/stream/feed"
ASK = FeedAsk(topic="news", interval_ms=100)


def admitter(modes=(), share=1.0) -> FeedAdmitter:
    return FeedAdmitter(7, Misbehaviour(modes, share, seed=7))


def named(number: int) -> StreamName:
    return StreamName(f"r/-/{number}", "r")


def test_all_subscribers_share_one_sequence_and_begin_with_what_is_due_next():
    feeds = admitter()
    first = feeds.admit(ASK, named(0), None, now=50.0)
    later = feeds.admit(ASK, named(1), None, now=51.0)
    assert (first.first, first.meant_first) == (FIRST, FIRST)
    assert later.first == later.meant_first
    due = [first.stream.script.step(number).due_ns / 1e9 for number in (later.first - 1, later.first)]
    assert due[0] < 1.0 <= due[1]
    assert first.stream.key == later.stream.key
    assert first.stream is not later.stream
    assert [later.stream.script.text(number) for number in range(2, 40)] == [
        first.stream.script.text(number) for number in range(2, 40)
    ]


@pytest.mark.parametrize("now", [0.0, 0.000_1, 0.05, 0.1, 0.333, 7.77, 3_600.0])
def test_the_next_event_is_the_first_that_is_not_yet_due(now):
    feeds = admitter()
    script = feeds.admit(ASK, None, None, now=0.0).stream.script
    number = feeds.admit(ASK, None, None, now=now).first
    assert script.step(number).due_ns >= now * 1e9
    assert number == FIRST or script.step(number - 1).due_ns < now * 1e9


def test_another_topic_pace_or_seed_is_another_feed():
    feeds = admitter()
    asks = [
        ASK,
        FeedAsk(topic="sport", interval_ms=100),
        FeedAsk(topic="news", interval_ms=200),
        FeedAsk(topic="news", interval_ms=100, seed=1),
        FeedAsk(topic="sport", interval_ms=100, seed=1),
    ]
    assert len({feeds.admit(ask, None, None, 0.0).stream.key for ask in asks}) == len(asks)


def test_a_resume_continues_behind_its_id_and_others_ids_are_unknown():
    feeds = admitter()
    key = feeds.admit(ASK, named(0), None, now=0.0).stream.key
    again = feeds.admit(ASK, named(0), f"{key}-5", now=2.0)
    assert (again.kind, again.first, again.meant_first, again.stream.connections) == ("serve", 6, 6, 2)
    for last in (f"{key}-500", f"{key}-0", "0123456789ab-5", "nonsense"):
        assert feeds.admit(ASK, named(0), last, now=2.0).kind == "unknown", last


def test_defects_lie_behind_the_place_where_each_subscriber_began():
    feeds = admitter(["loss", "cut"])
    early, late = feeds.admit(ASK, named(0), None, 0.0), feeds.admit(ASK, named(1), None, 60.0)
    assert FIRST < early.stream.acts.loss < early.stream.acts.cut_after < FIRST + 16
    assert late.first < late.stream.acts.loss < late.stream.acts.cut_after < late.first + 16


def test_who_ignores_resume_sends_what_is_due_and_who_repeats_goes_back():
    ignoring, repeating = admitter(["no-resume"]), admitter(["duplicate"])
    for feeds, first in ((ignoring, None), (repeating, 3)):
        key = feeds.admit(ASK, named(0), None, 0.0).stream.key
        again = feeds.admit(ASK, named(0), f"{key}-5", now=2.0)
        assert again.meant_first == 6
        assert again.first == (first or feeds.admit(ASK, named(1), None, 2.0).first)
        assert again.misbehaved == (("no-resume",) if first is None else ("duplicate",))


# --- over real sockets ---


def test_two_subscribers_get_the_same_bytes_from_where_the_later_one_begins(serve):
    server = serve()
    target = f"{FEED}?topic=two&interval_ms=5"
    early = server.client().send(target, {"Sseproof-Stream": "two/-/0"})
    early.read_until(b"-30\n")
    late = server.client().send(target, {"Sseproof-Stream": "two/-/1"})
    late.read_until(b"\n\n")
    early.read_until(b"-120\n")
    late.read_until(b"-120\n")
    one, other = early.reply(quiet_s=0.001), late.reply(quiet_s=0.001)
    assert "kind=subscription" in one.headers["sseproof-server"]
    assert one.body.startswith(b"retry: 300\n\n")
    assert other.body.startswith(b"retry: 300\n\n")
    frames = [reply.body.partition(b"\n\n")[2].split(b"\n\n")[:-1] for reply in (one, other)]
    begin = int(frames[1][0].partition(b"\n")[0].rpartition(b"-")[2])
    assert begin >= 30
    shared = min(len(frames[0]) - (begin - FIRST), len(frames[1]))
    assert shared > 50
    assert frames[0][begin - FIRST :][:shared] == frames[1][:shared]
    early.close()
    late.close()
    rows = {row.truth_id: row for row in server.ended_rows("two", 2)}
    assert (rows["two/-/0"].meant_first, rows["two/-/1"].meant_first) == (FIRST, begin)
    script = Script(rows["two/-/0"].script)
    assert script.text(FIRST) == json.loads(frames[0][0].partition(b"data: ")[2])["text"]
    assert rows["two/-/1"].script == rows["two/-/0"].script


def test_a_lost_event_is_lost_for_one_subscriber_only(serve):
    server = serve(misbehave="loss", misbehave_share=0.5, seed=3)
    clients = [
        server.client().send(f"{FEED}?topic=lossy&interval_ms=2", {"Sseproof-Stream": f"lossy/-/{number}"})
        for number in range(6)
    ]
    for client in clients:
        client.read_until(b"-60\n")
        client.close()
    rows = server.ended_rows("lossy", 6)
    hit = Misbehaviour(["loss"], 0.5, seed=3)
    for row in rows:
        name = row.truth_id.removeprefix("lossy/")
        assert (len(row.written) == 2) == hit.hits(name) == (row.misbehaved == ["loss"]), row
    assert 0 < sum(bool(row.misbehaved) for row in rows) < 6


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("", "topic"),
        ("topic=", "topic"),
        ("topic=a&interval_ms=0", "interval_ms"),
        ("topic=a&events=3", "'events' is not known"),
        ("topic=a&intervall_ms=3", "did you mean 'interval_ms'?"),
    ],
)
def test_a_wrong_ask_is_one_sentence(serve, query, words):
    reply = serve().client().send(f"{FEED}?{query}").reply()
    assert reply.status == 400
    assert words in json.loads(reply.body)["error"]


def test_legacy_has_no_feed(serve):
    reply = serve(profile="legacy").client().send(f"{FEED}?topic=a").reply()
    assert reply.status == 404
    assert "legacy" in json.loads(reply.body)["error"]

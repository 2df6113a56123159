"""Subscriptions held for the whole run on the reference server's topics: who tells a loss, and what heartbeats and fan-out show."""

from pathlib import Path

import pytest

from sseproof.reference_server.misbehave import Misbehaviour
from sseproof.rundir.files import PLAN_NAME, STREAMS, WITNESS, read_document, write_document
from sseproof.rundir.rows import Plan
from tests.integration.suite import claims, directory_of, rows, sseproof, verdict_of

pytestmark = pytest.mark.integration

FEED = "/api/v1/stream/feed"
TOPIC = """
claims = ["lost = 0 over 3", "success = 100% over 3"]
[target]
url = "/api/v1/stream/feed?topic=news&interval_ms=10&sent_at=true"
topic = "news"
sent_at = "json:sent_at"
[load]
users = 3
duration = "2s"
"""


def seed_that_hits(streams: int, share: float) -> tuple[int, int]:
    """A seed of the run by which the last of so many subscribers misbehaves and no other, and its number.

    The last one: the others are there by then and get what it misses, however long lies between two connections.
    """
    for seed in range(1_000):
        planted = Misbehaviour(["loss"], share, seed)
        hit = [number for number in range(streams) if planted.hits(f"-/{number}")]
        if hit == [streams - 1]:
            return seed, hit[0]
    raise AssertionError("no such seed")


def judged_without_witness(directory: Path, cwd: Path) -> None:
    """As for a service that has none: other subscribers are the only truth."""
    (directory / WITNESS.name).unlink()
    plan = read_document(directory / PLAN_NAME, Plan, "plan")
    for variant in plan.variants:
        assert variant.preflight is not None
        assert variant.preflight.witness_path is not None
        variant.preflight.witness_path = None
    write_document(directory / PLAN_NAME, plan)
    sseproof("judge", str(directory), cwd=cwd)


def test_subscribers_tell_what_one_of_them_lost_as_the_servers_own_witness_does(tmp_path):
    seed, hit = seed_that_hits(3, 0.3)
    (tmp_path / "topic.toml").write_text(TOPIC + '[server]\nmisbehave = "loss"\n')
    done = sseproof("run", "topic.toml", "--seed", str(seed), cwd=tmp_path)
    directory = directory_of(tmp_path)
    records = {row.stream: row for row in rows(directory, STREAMS)}
    assert sorted(records) == [0, 1, 2], done.stdout + done.stderr
    assert {row.outcome for row in records.values()} == {"held"}
    assert {row.topic for row in records.values()} == {"news"}
    assert {row.lost for row in records.values()} == {None}, "holes alone are no loss in a topic"
    for truth in ("witness", "subscribers"):
        lost, success = verdict_of(directory).verdicts
        assert lost.truths == {truth: 3}, lost
        assert (lost.verdict, lost.amount, lost.examples, lost.k) == ("fail", 1, [hit], 2)
        assert (success.verdict, success.examples, success.reasons) == ("fail", [hit], {"damaged": 1})
        if truth == "witness":
            judged_without_witness(directory, tmp_path)


def test_a_healthy_topic_is_judged_and_passes(tmp_path):
    (tmp_path / "topic.toml").write_text(TOPIC + '[server]\nprofile = "robust"\n')
    done = sseproof("run", "topic.toml", cwd=tmp_path)
    directory = directory_of(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    judged_without_witness(directory, tmp_path)
    lost, success = verdict_of(directory).verdicts
    assert (lost.verdict, lost.n, lost.truths) == ("pass", 3, {"subscribers": 3}), lost
    assert (success.verdict, success.n) == ("pass", 3)
    assert "Other subscribers of the topic tell the loss" in lost.sentence


def test_a_subscriber_that_is_served_late_is_behind_the_others(tmp_path):
    """`slow` holds back every event of one subscriber by 1.2 s: it shows in that one's row, and in no other's."""
    seed, hit = seed_that_hits(3, 0.3)
    longer = TOPIC.replace('duration = "2s"', 'duration = "4s"')
    (tmp_path / "topic.toml").write_text(longer + '[server]\nmisbehave = "slow"\n')
    wanted = ("fanout p95 <= 600ms", "age p90 <= 1s", "stale p5 <= 99%", "complete >= 50%", "e2e p50 <= 1s")
    done = sseproof("run", "topic.toml", "--seed", str(seed), *claims(*wanted), cwd=tmp_path)
    fanout, age, stale, complete, e2e = verdict_of(directory_of(tmp_path)).verdicts
    assert (fanout.verdict, fanout.unit, fanout.examples) == ("fail", "event", [hit]), fanout
    assert (age.verdict, age.unit, age.streams) == ("pass", "event", 3), age
    assert (stale.n, stale.figure.value) == (3, 0.0)
    assert (complete.code, e2e.code, complete.excluded) == ("not-measured", "not-measured", 3)
    records = {row.stream: row for row in rows(directory_of(tmp_path), STREAMS)}
    late = records.pop(hit)
    assert late.behind is not None, done.stdout + done.stderr
    assert late.ages is not None
    assert late.behind.count > 50
    assert late.behind.sum_ns / late.behind.count == pytest.approx(1.2e9, rel=0.1)
    assert late.ages.sum_ns / late.ages.count < 0.2e9, "it is sent late, and says so"
    assert sum(row.behind.count for row in records.values()) >= 100
    for row in records.values():
        assert row.behind.sum_ns / row.behind.count < 0.3e9
        assert row.stale_ns == 0


@pytest.mark.parametrize(("modes", "lost_by"), [("cut", 0), ("cut,no-resume", 1)])
def test_a_break_loses_what_no_resume_brings_back(tmp_path, modes, lost_by):
    """One of three is cut in mid-event and comes back after 0.3 s: behind its last id, or with what is due by then."""
    seed, hit = seed_that_hits(3, 0.3)
    (tmp_path / "topic.toml").write_text(TOPIC + f'[server]\nmisbehave = "{modes}"\n')
    done = sseproof("run", "topic.toml", "--seed", str(seed), cwd=tmp_path)
    directory = directory_of(tmp_path)
    broken = {row.stream for row in rows(directory, STREAMS) if row.breaks}
    assert broken == {hit}, done.stdout + done.stderr
    for truth in ("witness", "subscribers"):
        lost = verdict_of(directory).verdicts[0]
        assert lost.truths == {truth: 3}
        assert (lost.verdict, lost.n - lost.k, lost.examples) == (
            ("fail", 1, [hit]) if lost_by else ("pass", 0, [])
        )
        if truth == "witness":
            counted = lost.amount
            judged_without_witness(directory, tmp_path)
    assert lost.amount == counted, "both tell the same number"
    assert lost_by * 10 <= counted <= lost_by * 300


@pytest.mark.parametrize(
    ("url", "target", "words"),
    [
        ("/api/v1/stream/chat", 'kind = "answer"', "target.topic is for subscriptions with numbered events"),
        (f"{FEED}?topic=a", 'sequence = "none"', "target.topic is for subscriptions with numbered events"),
        ("/api/v1/stream/chat?events=3&interval_ms=1", "", "one look took the target for an answer"),
        (f"{FEED}?topic=a", 'topic = "{payload:room}"', "load.payloads names no file"),
        (f"{FEED}?topic=a", 'topic = " "', "target.topic is empty"),
    ],
)
def test_what_is_no_topic_is_refused(tmp_path, url, target, words):
    lines = ["[server]", "[load]", 'duration = "1s"', "[target]", f'url = "{url}"', target]
    if "topic =" not in target:
        lines.append('topic = "a"')
    (tmp_path / "topic.toml").write_text("\n".join(lines))
    done = sseproof("run", "topic.toml", *claims("lost = 0"), cwd=tmp_path)
    assert done.returncode == 64, done.stdout + done.stderr
    assert words in " ".join(done.stderr.split())
    assert not (tmp_path / "runs").exists()

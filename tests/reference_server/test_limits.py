"""The token bucket and the gate, by a clock that is a number."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sseproof.reference_server.auth import Tokens, User
from sseproof.reference_server.gate import KNOWN_S, Gate, Visitor
from sseproof.reference_server.limits import VISITORS_KEPT, RateLimiter, Refusal, come_again
from sseproof.reference_server.settings import ServerSettings

ANN = Visitor("user ann", User("ann"))
BOB = Visitor("user bob", User("bob"))


def retry_after(refusal):
    return int(dict(refusal.headers)["Retry-After"])


def test_a_burst_and_then_the_rate():
    limiter = RateLimiter(60, 3)
    assert [limiter.take("ann", 0.0) for _ in range(3)] == [None] * 3
    refusal = limiter.take("ann", 0.0)
    assert (refusal.status, retry_after(refusal)) == (429, 1)
    assert dict(refusal.headers)["RateLimit-Policy"] == '"requests";q=60;w=60'
    assert limiter.take("bob", 0.0) is None, "each has his own"
    assert limiter.take("ann", 0.9) is not None
    assert limiter.take("ann", 1.0) is None
    assert limiter.take("ann", 1.0) is not None
    assert [limiter.take("ann", 100.0) is None for _ in range(4)] == [True, True, True, False]


@example(per_minute=30, burst=1, gaps=[0.0, 1.975, 0.0])
@given(
    per_minute=st.integers(1, 600),
    burst=st.integers(1, 20),
    gaps=st.lists(st.floats(0, 30), min_size=1, max_size=200),
)
def test_never_more_than_the_burst_and_the_rate_and_waiting_as_told_is_enough(per_minute, burst, gaps):
    limiter = RateLimiter(per_minute, burst)
    now, taken = 0.0, 0
    for gap in gaps:
        now += gap
        refusal = limiter.take("ann", now)
        taken += refusal is None
        assert taken <= burst + now * per_minute / 60 + 1e-6
        if refusal is not None:
            now += retry_after(refusal)
            assert limiter.take("ann", now) is None
            taken += 1


def test_the_table_of_buckets_is_bounded():
    limiter = RateLimiter(60, 1, limit=3)
    for name in ("a", "b", "c"):
        assert limiter.take(name, 0.0) is None
    assert limiter.take("a", 0.0) is not None
    assert limiter.take("d", 0.0) is None
    assert len(limiter) == 3
    assert limiter.take("a", 0.0) is not None, "asked for last but one"
    assert limiter.take("b", 0.0) is None, "the one that was forgotten"


@pytest.mark.parametrize(("wait_s", "shown"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.01, "2"), (59.5, "60")])
def test_when_to_come_again_is_whole_seconds_and_never_too_early(wait_s, shown):
    assert dict(come_again(429, "No.", wait_s).headers) == {"Retry-After": shown}


def test_streams_are_counted_and_not_their_connections():
    gate = Gate(ServerSettings(streams_per_user=2), None)
    with gate.holding(ANN, "s1"), gate.holding(ANN, "s2"):
        refusal = gate.room(ANN, None)
        assert isinstance(refusal, Refusal)
        assert (refusal.status, refusal.sentence) == (
            429,
            "Too many open streams: 2 streams are allowed at once.",
        )
        assert gate.room(BOB, None) is None
        assert gate.room(ANN, "s2") is None, "the same stream on a second connection"
        assert gate.room(ANN, "s3") is not None
        with gate.holding(ANN, "s2"):
            pass
        assert gate.room(ANN, None) is not None, "s2 is still held once"
    assert gate.room(ANN, None) is None


def test_a_rule_that_is_off_asks_nothing():
    gate = Gate(ServerSettings(), None)
    assert gate.visitor([], "10.0.0.1", 0.0, 0.0, admins_only=False) == Visitor("peer 10.0.0.1")
    assert gate.rate(ANN, 0.0) is None
    assert gate.draining(0.0) is None
    with gate.holding(ANN, "s1"):
        assert gate.room(ANN, None) is None


def test_who_is_let_in_where():
    gate = Gate(ServerSettings(), Tokens("ann:ann-token-1,root:root-token:admin"))
    user = gate.visitor(["Bearer ann-token-1"], "::1", 0.0, 0.0, admins_only=False)
    assert user == ANN
    assert user.owner == "ann"
    assert gate.visitor(["Bearer ann-token-1"], "::1", 0.0, 0.0, admins_only=True) == Refusal(
        403, "This path is for admins."
    )
    assert gate.visitor(["Bearer root-token"], "::1", 0.0, 0.0, admins_only=True).user.admin
    assert gate.visitor([], "::1", 0.0, 0.0, admins_only=True).status == 401


def test_a_draining_server_says_when_to_come_again():
    gate = Gate(ServerSettings(), None)
    gate.draining_until = 10.0
    refusal = gate.draining(7.5)
    assert (refusal.status, retry_after(refusal)) == (503, 4)
    assert retry_after(gate.draining(60.0)) == 1


# Unknown tokens

ANNS, BOBS, GUESS = "ann-token-1", "bob-token-1", "no-such-token"
PROXY = "10.0.0.1"


def guarded(**settings):
    """A gate, and what a token from an address gets at a time: a user's name, or a status."""
    gate = Gate(
        ServerSettings(failed_logins_per_minute=60, **settings),
        Tokens(f"ann:{ANNS},bob:{BOBS},old:old-token-1::1970-01-01"),
    )

    def told(token, peer=PROXY, now=0.0):
        headers = [] if token is None else [f"Bearer {token}"]
        found = gate.visitor(headers, peer, 1.0, now, admins_only=False)
        return found.status if isinstance(found, Refusal) else found.owner

    return gate, told


def test_guesses_from_one_address_are_bounded_and_others_come_in():
    gate, told = guarded()
    assert told(ANNS) == "ann"
    assert [told(GUESS) for _ in range(12)] == [401] * 10 + [429] * 2
    assert told(BOBS) == 429, "that the token is right is not told"
    refusal = gate.visitor([f"Bearer {GUESS}"], PROXY, 1.0, 0.0, admins_only=False)
    assert (retry_after(refusal), refusal.reason) == (1, "too-many-logins")
    assert dict(refusal.headers)["RateLimit-Policy"] == '"failed-logins-from-this-address";q=60;w=60'
    assert told(ANNS) == "ann", "she came in from there before"
    assert told(None) == 401, "nothing was guessed"
    assert (told(BOBS, "10.0.0.2"), told(GUESS, "10.0.0.3")) == ("bob", 401), "elsewhere nobody waits"
    assert told(BOBS, now=1.0) == "bob"
    assert [told(GUESS, now=1.0) for _ in range(2)] == [401, 429]
    assert told(BOBS, now=1.0) == "bob", "he is known by now"


def test_what_is_no_guess_is_not_counted():
    _, told = guarded()
    assert {told(None) for _ in range(50)} == {401}
    assert {told("old-token-1") for _ in range(50)} == {401}, "it was right once"
    assert {told("ä") for _ in range(50)} == {401}, "no token reads so"
    assert {told(ANNS) for _ in range(50)} == {"ann"}
    assert told(GUESS) == 401


def test_who_came_in_long_ago_waits_as_everybody():
    _, told = guarded()
    assert told(ANNS) == told(ANNS, now=KNOWN_S - 1) == "ann"
    late = 2 * KNOWN_S - 2
    assert [told(GUESS, now=late) for _ in range(11)][-1] == 429
    assert told(ANNS, now=late) == "ann", "an hour counts from the last time"
    later = late + KNOWN_S
    assert [told(GUESS, now=later) for _ in range(11)][-1] == 429
    assert told(ANNS, now=later) == 429


@pytest.mark.parametrize(
    ("peers", "shared"),
    [
        (("2001:db8::1", "2001:db8::ffff:2"), True),
        (("2001:db8::1", "2001:db8:0:1::1"), False),
        (("::ffff:10.0.0.1", "10.0.0.1"), True),
        (("10.0.0.1", "10.0.0.2"), False),
        (("fe80::1%eth0", "fe80::2%eth1"), True),
        ((None, "x"), True),
    ],
)
def test_whose_guesses_are_counted_together(peers, shared):
    _, told = guarded()
    assert {told(GUESS, peers[0]) for _ in range(10)} == {401}
    assert told(GUESS, peers[1]) == (429 if shared else 401)


def test_guesses_from_everywhere_take_bounded_memory():
    gate, told = guarded()
    for number in range(VISITORS_KEPT + 50):
        peer = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        assert (told(GUESS, peer), told(ANNS, peer)) == (401, "ann")
    assert len(gate._logins) == len(gate._logins._limiter) == VISITORS_KEPT


def test_no_limit_of_failed_logins_counts_none():
    gate = Gate(ServerSettings(), Tokens("ann:ann-token-1"))
    refused = {
        gate.visitor(["Bearer no-such-token"], PROXY, 1.0, 0.0, admins_only=False).status for _ in range(50)
    }
    assert refused == {401}

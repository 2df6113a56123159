import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseproof.reference_server.misbehave import (
    ENDLESS_EVENTS,
    MODES,
    NO_ACTS,
    Misbehaviour,
    damaged_literal,
    parse_modes,
)
from sseproof.reference_server.script import Script, spec_for
from sseproof.rundir.rows import ScriptSpec

NAMES = st.builds("-/{}".format, st.integers(0, 10**6))
TEXTS = st.text(min_size=1).filter(lambda text: text.encode("utf-8", "ignore").decode() == text)


def spec(events=50, first_token_ms=60.0):
    return ScriptSpec(kind="mixed", seed=1, events=events, first_token_ms=first_token_ms, interval_ms=36)


def acts_of(modes, name="-/1", events=50, seed=0):
    return Misbehaviour(parse_modes(modes), 1, seed).acts(name, spec(events))


def test_modes_are_read_in_any_order_and_once():
    assert parse_modes(" cut, loss ,cut") == ("loss", "cut")
    assert parse_modes("") == ()
    assert parse_modes(",".join(MODES)) == MODES


@pytest.mark.parametrize(
    ("wrong", "hint"), [("los", "'loss'"), ("no-resum", "'no-resume'"), ("dupe", "'duplicate'")]
)
def test_a_wrong_mode_names_the_nearest(wrong, hint):
    with pytest.raises(ValueError, match=f"{wrong!r} is not a way to misbehave: did you mean {hint}"):
        parse_modes(f"utf8,{wrong}")


def test_a_mode_like_no_other_names_them_all():
    with pytest.raises(ValueError, match="there are loss, utf8, slow"):
        parse_modes("xyz")


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_lies_between_0_and_1(share):
    with pytest.raises(ValueError, match="share"):
        Misbehaviour(("loss",), share)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_the_share_of_streams_that_is_hit(share):
    misbehaviour = Misbehaviour(("loss",), share, seed=5)
    hit = sum(misbehaviour.hits(f"-/{number}") for number in range(4_000))
    assert hit == pytest.approx(4_000 * share, abs=4 * (4_000 * share * (1 - share)) ** 0.5)


def test_without_modes_nobody_is_hit():
    assert not Misbehaviour((), 1).hits("-/1")
    assert Misbehaviour((), 1).acts("-/1", spec()) is NO_ACTS


def test_who_is_hit_depends_on_the_seed():
    def hit(seed):
        return [Misbehaviour(("loss",), 0.5, seed).hits(f"-/{number}") for number in range(64)]

    assert hit(1) == hit(1)
    assert hit(1) != hit(2)


@given(NAMES, st.integers(1, 10_000), st.integers(0, 2**32))
def test_no_mode_hides_another(name, events, seed):
    acts = acts_of(",".join(MODES), name, events, seed)
    assert acts.no_resume
    assert acts.duplicate
    places = (acts.loss, acts.utf8, acts.cut_after, acts.truncate_after, acts.stall_after)
    assert None not in places
    assert all(2 <= place <= events + 1 for place in places)
    if events >= 5:
        assert acts.loss != acts.utf8
        assert max(acts.loss, acts.utf8) < acts.cut_after < min(acts.truncate_after, acts.stall_after)


@pytest.mark.parametrize("events", range(5, 30))
def test_lost_and_damaged_events_lie_before_every_break_in_small_answers_too(events):
    for number in range(50):
        acts = acts_of(",".join(MODES), f"-/{number}", events)
        assert acts.loss != acts.utf8
        assert max(acts.loss, acts.utf8) < acts.cut_after < min(acts.truncate_after, acts.stall_after)


@given(NAMES, st.integers(8, 10_000))
def test_places_lie_in_the_middle(name, events):
    acts = acts_of(",".join(MODES), name, events)
    assert 1 + events // 4 <= min(acts.loss, acts.utf8)
    assert max(acts.truncate_after, acts.stall_after) <= 3 + events * 3 // 4


@given(NAMES, st.sets(st.sampled_from(MODES), min_size=1))
def test_a_mode_more_moves_no_other_place(name, modes):
    every, some = acts_of(",".join(MODES), name), acts_of(",".join(modes), name)
    wanted = {
        "loss": "loss",
        "utf8": "utf8",
        "slow": "delay_ns",
        "no-resume": "no_resume",
        "duplicate": "duplicate",
        "cut": "cut_after",
        "truncate": "truncate_after",
        "stall": "stall_after",
    }
    for mode, field in wanted.items():
        assert getattr(some, field) == getattr(every if mode in modes else NO_ACTS, field)


@given(NAMES)
def test_places_in_an_endless_feed_come_early(name):
    acts = acts_of(",".join(MODES), name, events=0)
    assert max(acts.truncate_after, acts.stall_after) <= ENDLESS_EVENTS


def test_places_differ_between_streams():
    assert len({acts_of("loss", f"-/{number}").loss for number in range(50)}) > 5


@pytest.mark.parametrize(("first_ms", "delay_ns"), [(60.0, 1_140_000_000), (1200.0, 0), (3000.0, 0)])
def test_slow_brings_the_first_token_to_1200_ms(first_ms, delay_ns):
    made = Misbehaviour(("slow",), 1).acts("-/1", spec(first_token_ms=first_ms))
    assert made.delay_ns == delay_ns


def ill_formed(data):
    try:
        data.decode()
    except UnicodeDecodeError:
        return True
    return False


@given(TEXTS, st.integers(1, 10_000))
def test_damaged_bytes_are_ill_formed_in_one_place_and_the_json_stays_whole(text, number):
    literal = damaged_literal(text, number)
    assert ill_formed(literal)
    assert b"\n" not in literal
    assert b"\r" not in literal
    read = json.loads(literal.decode("utf-8", "replace"))
    places = [place for place in range(len(text)) if read == text[:place] + "\ufffd" + text[place + 1 :]]
    assert places, "one character, and only one, is replaced"
    if not text.isascii():
        assert any(ord(text[place]) > 0x7F for place in places)


@given(
    st.sampled_from(["mixed", "arabic", "hebrew", "cjk", "emoji", "combining", "ascii"]), st.integers(2, 60)
)
def test_every_token_of_a_script_can_be_damaged(kind, number):
    text = Script(spec_for(kind, 3, events=0)).text(number)
    assert ill_formed(damaged_literal(text, number))


def test_ascii_becomes_ff_and_a_wide_character_loses_its_last_byte():
    assert damaged_literal("abc", 0) == b'"\xffbc"'
    assert damaged_literal('a"ن', 0) == b'"a\\"\xd9"'


def test_an_empty_text_has_nothing_to_damage():
    with pytest.raises(ValueError, match="empty"):
        damaged_literal("", 1)

import hashlib
import itertools
import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sseproof.reference_server.script import KINDS, Script, Step, seed_for, spec_for
from sseproof.rundir.rows import ScriptSpec

SEEDS = st.integers(0, 2**53)
FINITE = [kind for kind in KINDS if kind != "endless"]


def script(kind="mixed", seed=7, **options):
    return Script(spec_for(kind, seed, **options))


@given(st.sampled_from(FINITE), SEEDS)
def test_a_script_is_a_function_of_its_spec(kind, seed):
    first, again = script(kind, seed), script(kind, seed)
    backwards = [again.step(number) for number in range(again.last, 0, -1)]
    assert [first.step(number) for number in range(1, first.last + 1)] == backwards[::-1]


@given(st.sampled_from(FINITE), SEEDS)
def test_numbers_types_and_text(kind, seed):
    made = script(kind, seed)
    steps = [made.step(number) for number in range(1, made.last + 1)]
    assert [step.type for step in steps] == [
        "hello",
        *["progress"] * (5 * (kind == "multimedia")),
        *["delta"] * made.spec.events,
        "done",
    ]
    assert [step.number for step in steps] == list(range(1, made.last + 1))
    assert all(bool(step.text) == (step.type == "delta") for step in steps)
    assert "".join(step.text for step in steps) == made.full_text()
    assert made.sha256() == hashlib.sha256(made.full_text().encode()).hexdigest()


@given(st.sampled_from(FINITE), SEEDS, st.data())
def test_text_of_the_ranges_of_any_partition_is_the_full_text(kind, seed, data):
    made = script(kind, seed)
    cuts = sorted(data.draw(st.sets(st.integers(2, made.last), max_size=6)))
    ranges = [(first, after - 1) for first, after in zip([1, *cuts], [*cuts, made.last + 1], strict=True)]
    assert made.text_of(ranges) == made.full_text()


@given(SEEDS, st.data())
def test_text_of_holds_exactly_the_numbers_asked_for(seed, data):
    made = script("mixed", seed)
    numbers = sorted(data.draw(st.sets(st.integers(1, made.last))))
    expected = "".join(made.step(number).text for number in numbers)
    assert made.text_of([(number, number) for number in numbers]) == expected
    assert "".join(made.text(number) for number in numbers) == expected


def test_a_multimedia_job_tells_its_progress_in_even_steps_before_its_first_token():
    made = script("multimedia", events=3, first_token_ms=600, interval_ms=10)
    steps = [made.step(number) for number in range(1, made.last + 1)]
    assert [step.type for step in steps] == ["hello", *["progress"] * 5, *["delta"] * 3, "done"]
    assert [step.due_ns / 1e6 for step in steps[:7]] == [0, 100, 200, 300, 400, 500, 600]
    assert made.first_delta == 7
    assert made.text_of([(1, 6)]) == ""
    assert made.text_of([(6, 7)]) == steps[6].text
    assert script("multimedia").spec.first_token_ms == 1_000


def test_text_of_keeps_the_order_given():
    made = script()
    assert made.text_of([(5, 6), (2, 3)]) == made.text_of([(5, 6)]) + made.text_of([(2, 3)])


@pytest.mark.parametrize("ranges", [[(0, 3)], [(1, 999)], [(-4, -1)]])
def test_text_of_refuses_numbers_the_script_does_not_have(ranges):
    with pytest.raises(ValueError, match="no event"):
        script().text_of(ranges)


@given(st.sampled_from(KINDS), SEEDS, st.integers(1, 10**12))
def test_any_step_of_an_endless_feed_is_computed_alone(kind, seed, number):
    feed, other = script(kind, seed, events=0), script(kind, seed, events=0)
    around = [feed.step(place) for place in range(max(1, number - 3), number + 4)]
    assert other.step(number) in around
    assert feed.text_of([(number, number)]) == other.step(number).text
    assert feed.endless
    assert feed.last is None


@pytest.mark.parametrize("ask", ["full_text", "sha256"])
def test_an_endless_feed_has_no_whole_text(ask):
    with pytest.raises(ValueError, match="endless"):
        getattr(script("endless"), ask)()


def test_the_endless_kind_can_not_be_told_to_end():
    with pytest.raises(ValueError, match="endless"):
        spec_for("endless", 1, events=3)


def test_a_kind_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(ValueError, match=r"'klingon'.*arabic"):
        Script(ScriptSpec(kind="klingon", seed=1, events=1, first_token_ms=0, interval_ms=0))


@pytest.mark.parametrize("number", [0, -1, 10_000])
def test_a_step_the_script_does_not_have(number):
    with pytest.raises(ValueError, match="no event"):
        script().step(number)


@given(SEEDS, st.floats(0, 5000), st.floats(0.001, 5000))
def test_instants_follow_the_grid_with_a_bounded_jitter(seed, first_ms, interval_ms):
    made = script("mixed", seed, events=30, first_token_ms=first_ms, interval_ms=interval_ms)
    steps = [made.step(number) for number in range(1, 33)]
    assert steps[0].due_ns == 0
    assert steps[1].due_ns == round(first_ms * 1e6)
    assert steps[-1].due_ns == pytest.approx((first_ms + 30 * interval_ms) * 1e6, abs=2)
    for token, step in enumerate(steps[1:-1]):
        away_ns = step.due_ns - (first_ms + token * interval_ms) * 1e6
        assert abs(away_ns) <= 0.2 * interval_ms * 1e6 + 1
    assert all(a.due_ns <= b.due_ns for a, b in itertools.pairwise(steps))


def test_the_jitter_is_there_and_differs_by_seed():
    def aways(seed):
        made = script("mixed", seed, events=60, first_token_ms=0, interval_ms=100)
        return [made.step(number).due_ns / 1e8 - (number - 2) for number in range(3, 62)]

    assert min(aways(1)) < -0.15
    assert max(aways(1)) > 0.15
    assert aways(1) != aways(2)


@given(SEEDS)
def test_a_default_answer_lasts_about_two_seconds(seed):
    made = script("mixed", seed)
    assert 40 <= made.spec.events <= 60
    assert made.spec.first_token_ms == 60
    assert 35 <= made.spec.interval_ms <= 40
    assert 1.4e9 <= made.step(made.last).due_ns <= 2.5e9


@given(SEEDS)
def test_short_and_long(seed):
    assert 2 <= script("short", seed).spec.events <= 5
    assert len(script("long", seed).full_text()) > 2_000


def test_long_is_several_thousand_characters_on_average():
    sizes = [len(script("long", seed).full_text()) for seed in range(50)]
    assert 3_000 < sum(sizes) / len(sizes) < 10_000


@pytest.mark.parametrize(
    ("kind", "first", "last"),
    [
        ("arabic", 0x600, 0x6FF),
        ("hebrew", 0x590, 0x5FF),
        ("cjk", 0x3040, 0x2FFFF),
        ("emoji", 0x1F1E6, 0x1FFFF),
    ],
)
def test_each_kind_holds_its_script(kind, first, last):
    text = script(kind).full_text()
    assert sum(first <= ord(char) <= last for char in text) > len(text) / 3


def test_ascii_is_ascii_and_needs_escapes():
    text = script("ascii", events=200).full_text()
    assert text.isascii()
    assert {'"', "\\", "\n", "\t"} <= set(text)


def test_separators_are_no_line_ends_of_the_format():
    text = script("separators", events=200).full_text()
    assert {"\u2028", "\u2029", "\x85", "\v", "\f", "\x1c", "\x1e", "\n", "\r"} <= set(text)


@given(SEEDS)
def test_mixed_holds_every_script_of_the_claims(seed):
    text = script("mixed", seed).full_text()
    assert any("\u0600" <= char <= "\u06ff" for char in text)
    assert any("\u0590" <= char <= "\u05ff" for char in text)
    assert any("\u3040" <= char <= "\ud7af" or ord(char) >= 0x20000 for char in text)
    assert any(unicodedata.combining(char) for char in text)
    assert any(ord(char) > 0xFFFF for char in text)


def test_tokens_are_cut_inside_characters_that_belong_together():
    """A delta that begins with a combining mark, a joiner or the second half of a flag is an ordinary thing."""
    made = script("mixed", 1, events=2_000)
    starts = [made.text(number)[0] for number in range(2, 2_002)]
    assert sum(unicodedata.combining(char) > 0 for char in starts) > 20
    assert starts.count("\u200d") > 5
    ends = [made.text(number)[-1] for number in range(2, 2_002)]
    assert ends.count("\u200d") > 5


def test_a_client_that_normalises_changes_the_bytes():
    """Composed forms are taken apart, and some marks stand in an order that normalising would change."""
    text = script("combining", events=500).full_text()
    assert "\u1112\u1161\u11ab" in text
    assert {unicodedata.normalize(form, text) == text for form in ("NFC", "NFD", "NFKC", "NFKD")} == {False}


@settings(max_examples=200)
@given(st.sampled_from(KINDS), SEEDS, st.integers(2, 500))
def test_every_delta_alone_is_well_formed_and_survives_json(kind, seed, number):
    made = script(kind, seed, events=0)
    text = made.text(number + made.first_delta - 2)
    assert text
    assert text.encode().decode() == text
    assert json.loads(json.dumps(text)) == text


@given(SEEDS, st.integers(2, 40))
def test_the_digest_is_the_same_however_much_of_it_was_taken_while_sending(seed, upto):
    made = script("mixed", seed)
    for number in [1, *range(2, upto + 1), 3, 2]:  # a second attempt goes over the same steps again
        made.digest_step(made.step(number))
    assert made.sha256() == script("mixed", seed).sha256()
    assert made.sha256() == made.sha256()


def test_the_seed_depends_on_server_stream_and_question():
    base = seed_for(1, "-/1", "why?")
    assert base == seed_for(1, "-/1", "why?")
    assert (
        len({base, seed_for(2, "-/1", "why?"), seed_for(1, "-/2", "why?"), seed_for(1, "-/1", "how?")}) == 4
    )
    assert seed_for(1, "-/1", "half a pair: \ud800") != base


def test_a_known_answer():
    """Recorded runs are judged by rebuilding their text: what a spec means may never change."""
    made = Script(ScriptSpec(kind="mixed", seed=1, events=50, first_token_ms=60, interval_ms=36))
    assert made.sha256() == KNOWN_SHA256
    assert made.step(3) == KNOWN_STEP


KNOWN_SHA256 = "6677f3a6eae7e61a5495cfaaa8824c80bc7d7d7ca54bee36c5d18e44aaabf80d"
KNOWN_STEP = Step(3, 97220609, "delta", "\u062a\u0651\u0635\u0644. \u0663\u066b\u0661\u0664 ")

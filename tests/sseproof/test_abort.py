"""When a run gives up, as a rule over instants; no clock, no process."""

import pytest

from sseproof.abort import FEWEST, Met, Watch, parse_condition
from sseproof.scenario import load_scenario


@pytest.mark.parametrize(
    ("text", "normal", "below", "length_s", "fewest"),
    [
        ("success < 50% for 10s", "success < 50% for 10s", 0.5, 10, FEWEST),
        (" success<99.5 %  for 1m over 5 ", "success < 99.5% for 1m over 5", 0.995, 60, 5),
        ("success < 100% for 1500ms over 20", "success < 100% for 1.5s", 1.0, 1.5, FEWEST),
    ],
)
def test_a_condition_is_read_and_written_again(text, normal, below, length_s, fewest):
    found = parse_condition(text)
    assert (found.below, found.length.seconds, found.fewest, found.text) == (below, length_s, fewest, normal)
    assert parse_condition(normal) == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "write it as in 'success < 50% for 10s'"),
        ("success > 50% for 10s", "write it as in"),
        ("ttft p95 > 1s for 10s", "write it as in"),
        ("success < 50 for 10s", "write it as in"),
        ("success < 50% for 10s over", "write it as in"),
        ("success < 0% for 10s", "above 0%"),
        ("success < 101% for 10s", "up to 100%"),
        ("success < 50% for ever", "is not a duration"),
        ("success < 50% for 999ms", "give 1s to 1h"),
        ("success < 50% for 2h", "give 1s to 1h"),
        ("success < 50% for 9s over 0", "give 1 to"),
        ("success < 50% for 9s over 9999999", "give 1 to"),
    ],
)
def test_a_condition_that_can_not_be_watched_is_refused(text, words):
    with pytest.raises(ValueError, match=r"[.]$") as caught:
        parse_condition(text)
    assert words in str(caught.value)


def watched(text: str, *ended: tuple[float, bool], began_s: float = 100.0) -> Watch:
    watch = Watch(parse_condition(text))
    watch.began(began_s)
    watch.began(began_s + 50)  # said at every look: the first word counts
    for at_s, good in ended:
        watch.ended(began_s + at_s, good=good)
    return watch


BAD = [(9.0 + number / 10, False) for number in range(10)]


def test_it_is_met_below_the_share_and_not_at_it():
    half = [(9.0 + number / 10, number % 2 == 0) for number in range(20)]
    assert watched("success < 50% for 10s", *half).look(111) is None
    assert watched("success < 50% for 10s", *half, (11, False)).look(111) == Met(n=21, k=10)


def test_few_streams_stop_nothing_however_bad_they_are():
    nineteen = [(9 + number / 100, False) for number in range(FEWEST - 1)]
    assert watched("success < 50% for 10s", *nineteen).look(111) is None
    assert watched("success < 50% for 10s", *nineteen, (10, False)).look(111) == Met(n=FEWEST, k=0)
    assert watched("success < 50% for 10s over 2", (9, False), (9, False)).look(111) == Met(n=2, k=0)


def test_a_condition_that_never_has_streams_enough_says_so():
    """Nine streams in each 2 s, all bad: who relies on it must hear that it stops nothing."""
    slow = watched("success < 95% for 2s")
    for number in range(90):
        slow.ended(100 + number / 4.5, good=False)
        assert slow.look(100 + number / 4.5) is None
    assert slow.blind() == (
        "abort.when was blind: it waits for 20 streams that end within 2s, and there were never more than 9. Let it watch "
        "for longer, or write a smaller number behind it (over 4)."
    )
    enough = watched("success < 95% for 2s", *[(1 + number / 100, True) for number in range(FEWEST)])
    assert enough.look(102) is None
    assert enough.blind() == ""


def test_it_has_to_be_bad_for_as_long_as_was_said():
    watch = watched("success < 50% for 10s over 10", *((each - 8, good) for each, good in BAD))
    assert watch.look(109.9) is None, "the load has not lasted that long"
    assert watch.look(110) == Met(n=10, k=0)


def test_only_the_last_so_many_seconds_count():
    watch = watched("success < 50% for 10s over 10", *BAD)
    assert watch.look(118.95) == Met(n=10, k=0)
    assert watch.look(119.05) is None, "one of the ten is over ten seconds old"
    for number in range(10):
        watch.ended(121 + number / 100, good=True)
    assert watch.look(122) is None


def test_before_the_load_has_begun_nothing_is_met():
    watch = Watch(parse_condition("success < 50% for 1s over 1"))
    watch.ended(5, good=False)
    assert watch.look(5.5) is None
    assert watch.elapsed_s(5.5) == 0
    watch.began(5)
    assert watch.look(6) is None, "that stream is a second old"
    watch.ended(6, good=False)
    assert (watch.look(6.1), watch.elapsed_s(6.5)) == (Met(n=1, k=0), 1.5)


# --- in a scenario ---

BASE = '[target]\nurl = "http://127.0.0.1:8000/x"\n'
FAULT = '[[fault]]\nkind = "cut"\nshare = "20%"\nafter_bytes = 600\n'


def test_a_scenario_has_it_in_its_normal_form(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text(BASE + FAULT + '[abort]\nwhen = "success<50% for 10s"\n')
    found = load_scenario(path, environ={}, sets=[], flags={}).scenario.abort
    assert (found.when, found.stop) == ("success < 50% for 10s", "faults")
    found = load_scenario(
        path, environ={"SSEPROOF_ABORT_STOP": "load"}, sets=["abort.when=success < 9% for 2s"], flags={}
    ).scenario.abort
    assert (found.when, found.stop) == ("success < 9% for 2s", "load")

import pytest

from sseproof.reference_server.misbehave import NO_ACTS, Misbehaviour, parse_modes
from sseproof.reference_server.script import Script
from sseproof.reference_server.streams import (
    TRUTH_LIMIT_CHARS,
    Admitter,
    Ask,
    Stream,
    StreamTable,
    parse_event_id,
    parse_name,
    unnamed,
)
from sseproof.rundir.rows import ScriptSpec

SPEC = ScriptSpec(kind="ascii", seed=1, events=10, first_token_ms=0, interval_ms=0)
ASK = Ask(events=10)


def admitter(modes="", *, share=1.0, seed=0, resumes=True, limit=100):
    return Admitter(seed, Misbehaviour(parse_modes(modes), share, seed), resumes=resumes, limit=limit)


def stream(key):
    return Stream(key, unnamed(0, 1), Script(SPEC), NO_ACTS)


@pytest.mark.parametrize(
    ("header", "run", "repeatable"),
    [
        ("r/-/1", "r", "-/1"),
        ("r/before/12", "r", "before/12"),
        ("demo/2026-01-01T00:00:00Z-5/after/3", "demo/2026-01-01T00:00:00Z-5", "after/3"),
    ],
)
def test_a_name_has_run_variant_and_number(header, run, repeatable):
    name = parse_name(header)
    assert (name.truth_id, name.run, name.repeatable) == (header, run, repeatable)


@pytest.mark.parametrize(
    "header",
    ["", "r", "r/1", "r//1", "/-/1", "r/-/", "r/-/x", "r/-/-1", "r r/-/1", "r/é/1", "r/-/1\n", "r/-/١", "r/-/" + "1" * 13,
     "r" * TRUTH_LIMIT_CHARS + "/-/1"],
)  # fmt: skip
def test_other_names_are_refused_in_a_sentence(header):
    with pytest.raises(ValueError, match="run/variant/number"):
        parse_name(header)


@pytest.mark.parametrize("text", ["", "abc", "0123456789ab", "0123456789ab-", "0123456789ab-0", "0123456789ab-01",
                                  "0123456789AB-1", "0123456789ab-١", "0123456789ab-1 ", " 0123456789ab-1", "x-1"])  # fmt: skip
def test_foreign_ids_are_not_ours(text):
    assert parse_event_id(text) is None


def test_an_id_has_the_number_at_its_end():
    assert parse_event_id("0123456789ab-42") == ("0123456789ab", 42)


def test_the_table_drops_the_longest_unused():
    table = StreamTable(limit=2)
    for key in ("a", "b"):
        table.add(stream(key))
    assert table.find("a") is not None
    table.add(stream("c"))
    assert len(table) == 2
    assert table.find("b") is None
    assert table.find("a") is not None


def test_the_table_keeps_streams_that_are_being_sent_while_others_can_go():
    table = StreamTable(limit=2)
    kept = stream("open")
    kept.opened = 1
    for made in (kept, stream("b"), stream("c")):
        table.add(made)
    assert table.find("open") is kept
    assert table.find("b") is None


def test_the_table_is_bounded_by_what_is_open():
    table = StreamTable(limit=2)
    for key in "abcd":
        made = stream(key)
        made.opened = 1
        table.add(made)
    assert len(table) == 4
    table.add(stream("e"))
    assert len(table) == 4
    assert table.find("e") is None


def test_key_and_answer_are_the_same_in_a_repeated_run():
    first, again = (admitter(seed=3).admit(ASK, parse_name("r/-/1"), None, 0.0).stream for _ in range(2))
    assert (first.key, first.script.spec) == (again.key, again.script.spec)


def test_the_next_run_gets_the_same_answers_and_defects_under_other_keys():
    made = admitter("loss", share=0.5)
    for number in range(20):
        one, two = (
            made.admit(ASK, parse_name(f"{run}/-/{number}"), None, 0.0).stream for run in ("r1", "r2")
        )
        assert one.script.spec == two.script.spec
        assert one.acts == two.acts
        assert one.key != two.key


def test_streams_questions_variants_and_servers_differ():
    def spec(name="r/-/1", seed=0, **ask):
        return admitter(seed=seed).admit(Ask(**ask), parse_name(name), None, 0.0).stream.script.spec

    specs = {spec(), spec("r/-/2"), spec("r/x/1"), spec(seed=1), spec(question="why?")}
    assert len(specs) == 5
    assert spec(seed=1) == spec(seed=1)


def test_a_seed_of_its_own_fixes_the_answer():
    made = admitter()
    specs = {made.admit(Ask(seed=9), parse_name(f"r/-/{n}"), None, 0.0).stream.script.spec for n in range(3)}
    assert [spec.seed for spec in specs] == [9]


def test_streams_without_a_name_are_told_apart():
    made = admitter()
    names = [made.admit(ASK, None, None, 0.0).name for _ in range(3)]
    assert len({name.truth_id for name in names}) == 3
    assert {name.run for name in names} == {"-"}


@pytest.mark.parametrize("named", [True, False])
def test_a_resume_continues_behind_the_id_on_the_old_timeline(named):
    made, name = admitter(), parse_name("r/-/1") if named else None
    started = made.admit(ASK, name, None, 5.0).stream
    for number in range(1, 12):
        resumed = made.admit(ASK, name, f"{started.key}-{number}", 9.0)
        assert (resumed.kind, resumed.first, resumed.meant_first) == ("serve", number + 1, number + 1)
        assert resumed.stream is started
        assert started.started == 5.0
        assert started.connections == number + 1
    assert made.admit(ASK, name, f"{started.key}-12", 9.0).kind == "finished"


def test_somebody_else_s_id_and_numbers_beyond_the_end_are_unknown():
    made, name = admitter(), parse_name("r/-/1")
    key = made.admit(ASK, name, None, 0.0).stream.key
    assert made.admit(ASK, parse_name("r/-/2"), f"{key}-3", 0.0).kind == "unknown"
    assert made.admit(ASK, name, f"{key}-13", 0.0).kind == "unknown"
    assert made.admit(ASK, name, "0123456789ab-3", 0.0).kind == "unknown"
    assert made.admit(ASK, name, "nonsense", 0.0).kind == "unknown"
    assert made.admit(ASK, name, f"{key}-3", 0.0).kind == "serve"


def test_an_unknown_id_counts_as_a_connection_of_its_stream():
    made, name = admitter(), parse_name("r/-/1")
    stream = made.admit(ASK, name, None, 0.0).stream
    assert made.admit(ASK, name, "nonsense", 0.0).stream is stream
    assert stream.connections == 2


def test_a_forgotten_stream_is_unknown():
    made = admitter(limit=2)
    key = made.admit(ASK, parse_name("r/-/1"), None, 0.0).stream.key
    for number in range(2, 4):
        made.admit(ASK, parse_name(f"r/-/{number}"), None, 0.0)
    assert made.admit(ASK, parse_name("r/-/1"), f"{key}-3", 0.0).kind == "unknown"


def test_a_restart_is_another_attempt_of_the_same_stream_on_a_new_timeline():
    made, name = admitter(), parse_name("r/-/1")
    first = made.admit(ASK, name, None, 1.0).stream
    again = made.admit(ASK, name, None, 7.0)
    assert again.stream is first
    assert (first.connections, first.started, again.first) == (2, 7.0, 1)


def test_the_legacy_profile_knows_no_resume():
    made, name = admitter(resumes=False), parse_name("r/-/1")
    key = made.admit(ASK, name, None, 0.0).stream.key
    again = made.admit(ASK, name, f"{key}-3", 4.0)
    assert (again.kind, again.first, again.misbehaved) == ("serve", 1, ())


@pytest.mark.parametrize("named", [True, False])
def test_no_resume_starts_again_with_the_same_ids(named):
    made, name = admitter("no-resume"), parse_name("r/-/1") if named else None
    first = made.admit(ASK, name, None, 0.0)
    assert first.misbehaved == ()
    again = made.admit(ASK, name, f"{first.stream.key}-5", 4.0)
    assert (again.first, again.meant_first, again.misbehaved) == (1, 1, ("no-resume",))
    assert again.stream is first.stream
    assert again.stream.started == 4.0


@pytest.mark.parametrize(("after", "first"), [(1, 1), (2, 1), (3, 1), (4, 2), (9, 7)])
def test_duplicate_sends_the_last_three_again(after, first):
    made, name = admitter("duplicate"), parse_name("r/-/1")
    key = made.admit(ASK, name, None, 0.0).stream.key
    resumed = made.admit(ASK, name, f"{key}-{after}", 0.0)
    assert (resumed.first, resumed.meant_first, resumed.misbehaved) == (first, after + 1, ("duplicate",))


def test_a_stream_that_is_not_hit_behaves():
    made = admitter("no-resume,duplicate", share=0.0)
    name = parse_name("r/-/1")
    key = made.admit(ASK, name, None, 0.0).stream.key
    resumed = made.admit(ASK, name, f"{key}-5", 0.0)
    assert (resumed.first, resumed.misbehaved) == (6, ())


def test_an_endless_stream_resumes_anywhere_and_never_finishes():
    made, ask, name = admitter(), Ask(script="endless"), parse_name("r/-/1")
    key = made.admit(ask, name, None, 0.0).stream.key
    assert made.admit(ask, name, f"{key}-123456", 0.0).first == 123_457


def test_an_endless_script_that_is_to_end_is_refused():
    with pytest.raises(ValueError, match="endless"):
        admitter().admit(Ask(script="endless", events=4), None, None, 0.0)

"""A live answer's buffer: what it keeps, what it forgets, when it pauses its source."""

from hypothesis import given
from hypothesis import strategies as st

from sseproof.reference_server.completions import CompletionError
from sseproof.reference_server.live import EVENT_COST_BYTES, LiveAnswer

LIMIT = 10 * EVENT_COST_BYTES


class Reader:
    def __init__(self):
        self.told = 0
        self.over = False

    def more(self):
        self.told += 1

    def taken_over(self):
        self.over = True


def answer_of(*texts, limit=LIMIT, resumable=True):
    answer = LiveAnswer(limit, resumable=resumable)
    for text in texts:
        answer.add(text)
    return answer


def test_numbers_begin_behind_hello_and_end_with_done():
    answer = answer_of("a", "b")
    assert (answer.newest, answer.last, answer.over) == (3, None, False)
    assert [answer.text(number) for number in (2, 3)] == ["a", "b"]
    answer.finish("stop")
    assert (answer.newest, answer.last, answer.over, answer.finish_reason) == (4, 4, True, "stop")


def test_what_may_be_asked_for():
    answer = answer_of("a", "b")
    assert [number for number in range(7) if answer.has(number)] == [2, 3, 4]
    answer.finish(None)
    assert [number for number in range(7) if answer.has(number)] == [2, 3, 4]


def test_who_comes_back_after_an_error_may_hear_of_it():
    answer = answer_of("a")
    answer.fail(CompletionError("internal", "x"))
    assert answer.has(3)
    assert not answer.has(4)


def test_the_first_end_stays():
    error = CompletionError("internal", "x")
    answer = answer_of("a")
    answer.finish("stop")
    answer.fail(error)
    assert answer.error is None
    failed = answer_of("a")
    failed.fail(error)
    failed.finish("stop")
    assert (failed.last, failed.error) == (None, error)


def test_the_reader_hears_of_everything():
    answer, reader = answer_of("a"), Reader()
    answer.attach(reader)
    answer.add("b")
    answer.finish(None)
    assert reader.told == 2


def test_one_reader_at_a_time():
    answer, first, second, left = answer_of(), Reader(), Reader(), []
    answer.on_left = lambda: left.append(1)
    answer.attach(first)
    answer.attach(second)
    assert (first.over, second.over) == (True, False)
    answer.detach(first)
    assert not left
    answer.detach(second)
    assert left


def test_a_source_waits_for_its_reader_and_is_told_when_there_is_room():
    answer, room = answer_of(), []
    answer.on_room = lambda: room.append(answer.full)
    while not answer.full:
        answer.add("x")
    answer.taken(3)
    answer.taken(answer.newest + 1)
    assert room == [False]
    assert not answer.full


def test_an_answer_nobody_can_resume_is_not_kept():
    answer = answer_of("a", "b", resumable=False)
    answer.taken(3)
    assert (answer.has(2), answer.text(3)) == (False, "b")
    assert answer.kept_bytes == 1 + EVENT_COST_BYTES


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 500)), max_size=200))
def test_memory_is_bounded_and_nothing_unread_is_lost(steps):
    """Each step adds a text where the answer is not full, or takes a few events."""
    answer, written, taken, got = answer_of(), "", 2, ""
    largest = 500 + EVENT_COST_BYTES
    for adds, amount in steps:
        if adds and not answer.full:
            text = chr(0x61 + len(written) % 26) * amount
            answer.add(text)
            written += text
        elif not adds:
            for number in range(taken, min(answer.newest + 1, taken + amount % 7)):
                got += answer.text(number)
                taken = number + 1
            answer.taken(taken)
        assert answer.kept_bytes <= 2 * LIMIT + 2 * largest
        assert answer.has(taken)
    while taken <= answer.newest:
        got += answer.text(taken)
        taken += 1
    assert got == written

"""Short gaps of an answer that was held back are named; a stream that is merely faster or later is not."""

import pytest

from sseproof.reports.facts import all_facts
from sseproof.reports.held_back import held_back
from sseproof.reports.history import read_history
from sseproof.reports.judge import judge_directory
from sseproof.reports.render import render_report
from sseproof.reports.summary import summary_text
from sseproof.rundir.files import STREAMS
from sseproof.rundir.rows import StreamRecord
from tests.reports.made_runs import Maker, at


def two(directory, before: tuple[float, float], after: tuple[float, float], streams: int = 8):
    """A run whose streams wait and then last so many milliseconds, in each variant."""
    maker = Maker(directory)
    for variant, (wait_ms, rest_ms) in {"before": before, "after": after}.items():
        for number in range(streams):
            start = number * 100.0
            first = start + wait_ms
            record = StreamRecord(
                stream=number,
                variant=variant,
                group="clean",
                dispatched=at(start),
                sent=at(start),
                first_token=at(first),
                last_event=at(first + rest_ms),
                ended=at(first + rest_ms),
                outcome="complete",
                end="terminal",
                attempts_total=1,
            )
            maker.append(STREAMS, record)
    maker.documents(["before", "after"], length_s=10.0)
    maker.close()
    return directory


def said(directory) -> dict:
    history = read_history(directory)
    return held_back(all_facts(history), [variant.name for variant in history.plan.variants])


SENTENCE = (
    "before: the answers were held back and then came at once, the first token after 2.49 s and the last event 12 ms later "
    "(after: 90 ms and 2.41 s later; medians). Short gaps there are no sign of a smooth stream."
)


def test_an_answer_that_was_held_back_is_named_wherever_its_gaps_are_shown(tmp_path):
    directory = two(tmp_path, (2_490, 12), (90, 2_410))
    assert said(directory) == {"before": SENTENCE}
    verdict = judge_directory(directory)
    assert [variant.note for variant in verdict.variants] == [SENTENCE, ""]
    assert SENTENCE in " ".join(summary_text(verdict, directory).split())
    assert render_report(directory).decode().replace("\N{NO-BREAK SPACE}", " ").count(SENTENCE) == 1


def test_all_in_one_instant_is_said_so(tmp_path):
    assert "the last event with it (after: 90 ms" in said(two(tmp_path, (2_490, 0), (90, 2_410)))["before"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((90, 2_410), (95, 2_390)),  # alike
        ((2_490, 2_410), (90, 2_410)),  # late, and as slow afterwards
        ((90, 12), (90, 2_410)),  # fast from the start
        ((1_000, 12), (90, 2_410)),  # the wait is not what became shorter
        ((2_490, 700), (90, 2_410)),  # not at once
    ],
)
def test_what_was_not_held_back_is_not_accused(tmp_path, before, after):
    directory = two(tmp_path, before, after)
    assert said(directory) == {}
    assert [variant.note for variant in judge_directory(directory).variants] == ["", ""]


def test_seven_streams_are_too_few(tmp_path):
    assert said(two(tmp_path, (2_490, 12), (90, 2_410), streams=7)) == {}

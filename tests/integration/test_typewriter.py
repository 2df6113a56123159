"""`adaptive-typewriter.js` in a real Chromium, on a clock that the test moves: pace, pauses, lag, whole characters."""

# ruff: noqa: F811  # the fixture that is imported is what each test names

import unicodedata
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

import pytest

from tests.integration.pages import Stage, staged
from tests.integration.test_report_browser import browser  # noqa: F401  # the fixture

pytestmark = pytest.mark.integration

PLAY: Final = """
async ({pieces, options = {}, end = "finish", frameMs = 10, atMs = [], motion}) => {
  const {AdaptiveTypewriter} = await import("/adaptive-typewriter.js");
  let now = 1000, step = null, behind = 0;
  const writes = [];
  const frame = then => { step = then; return () => { step = null; }; };
  const writer = new AdaptiveTypewriter(
    text => writes.push([now - 1000, text]), {reducedMotion: false, now: () => now, frame, ...options});
  const run = until => {
    while (now < until) {
      now = step ? Math.min(now + frameMs, until) : until;
      const then = step;
      step = null;
      then?.();
      behind = Math.max(behind, writer.behindMs);
    }
  };
  for (const [at, piece] of pieces.entries()) {
    if (atMs[at] !== undefined) run(1000 + atMs[at]);
    writer.push(piece);
  }
  const before = writes.map(([, text]) => text).join("");
  let ended = end !== "finish";
  if (end === "flush") writer.flush();
  else writer.finish().then(() => { ended = true; });
  run(1000 + 100000);
  await Promise.resolve();
  return {writes, before, behind, ended, idle: step === null};
}
"""
PER_CHAR: Final = {"charsPerSecond": 100, "maxLagMs": 60_000}
"""10 ms a character, one a frame, and no hurry."""


@pytest.fixture(scope="module")
def stage(browser: Any) -> Iterator[Stage]:
    with staged(browser) as stage:
        yield stage


def play(stage: Stage, *pieces: str, **told: Any) -> dict[str, Any]:
    found = stage.page.evaluate(PLAY, {"pieces": pieces, **told})
    assert "".join(text for _, text in found["writes"]) == "".join(pieces), "nothing is lost or changed"
    assert found["ended"]
    assert found["idle"], "no frame is asked for when there is nothing to show"
    return found


def pauses(stage: Stage, text: str) -> list[tuple[str, int]]:
    """Each character with the time until the next one, in characters' times."""
    writes = play(stage, text, options=PER_CHAR)["writes"]
    return [(one, round((after - at) / 10)) for (at, one), (after, _) in pairwise(writes)]


@pytest.mark.parametrize("mark", ".!?؟。")
def test_a_sentence_ends_with_a_long_pause(stage: Stage, mark: str) -> None:
    assert pauses(stage, f"a{mark} b") == [("a", 1), (mark, 10), (" ", 1)]


@pytest.mark.parametrize("mark", ",;:،")
def test_a_clause_ends_with_a_short_one(stage: Stage, mark: str) -> None:
    assert pauses(stage, f"a{mark} b") == [("a", 1), (mark, 5), (" ", 1)]


def test_marks_in_a_row_and_in_numbers_are_no_ends(stage: Stage) -> None:
    assert pauses(stage, "a?! b") == [("a", 1), ("?", 1), ("!", 10), (" ", 1)]
    assert {pause for _, pause in pauses(stage, "3.14 12:30 1,5 x")} == {1}


def test_the_first_character_comes_at_once_and_idle_time_is_no_credit(stage: Stage) -> None:
    writes = play(stage, "ab", "cd", atMs=[0, 5_000], options=PER_CHAR)["writes"]
    assert writes == [[0, "a"], [5_000, "b"], [5_010, "c"], [5_020, "d"]], "b might have gone on"


WHOLE: Final = [
    "👨‍👩‍👧‍👦",
    "🧑🏿‍🚀",
    "🏴󠁧󠁢󠁳󠁣󠁴󠁿",
    "🇪🇬",
    "🇯🇵",
    "1️⃣",
    unicodedata.normalize("NFD", "ệ"),
    "مُ",
    "نِّ",
    "한",
    "नि",
    "q̣̇",
    "𠮷",
]


def test_no_character_is_shown_in_parts(stage: Stage) -> None:
    """Cut between any two code points, as models do."""
    text = " ".join(WHOLE) + "🇪🇬🇯🇵🇮🇳"
    found = play(stage, *text, options=PER_CHAR)
    spaced = [each for one in WHOLE for each in (one, " ")]
    assert [text for _, text in found["writes"]] == [*spaced[:-1], "🇪🇬", "🇯🇵", "🇮🇳"]


def test_the_last_character_waits_for_what_follows_or_for_the_end(stage: Stage) -> None:
    found = play(stage, "ab", end="flush", options={"charsPerSecond": 1e6})
    assert found["before"] == "a"
    assert [text for _, text in found["writes"]] == ["a", "b"]
    endless = "a" + "\u0301" * 2_000
    assert len(play(stage, endless, "b", options=PER_CHAR)["writes"]) > 1, (
        "marks without end are not waited for"
    )


def test_a_burst_is_shown_within_the_bound_and_evenly(stage: Stage) -> None:
    found = play(
        stage, "x" * 5_000, "y" * 5_000, atMs=[0, 500], options={"charsPerSecond": 50, "maxLagMs": 1_000}
    )
    assert found["behind"] <= 1_000 + 10, "a frame at most"
    sizes = [len(text) for at, text in found["writes"] if 0 < at < 490]
    assert len(sizes) > 40
    assert max(sizes) <= 5 * min(sizes), "no jumps"
    assert found["writes"][-1][0] <= 1_510


def test_a_long_pause_is_cut_short_by_the_bound(stage: Stage) -> None:
    found = play(stage, "a. bc", options={"charsPerSecond": 2, "maxLagMs": 600}, end="flush")
    assert found["behind"] == 0
    found = play(stage, "a. ", "bc", atMs=[0, 700], options={"charsPerSecond": 2, "maxLagMs": 600})
    assert found["behind"] <= 610


def test_a_picture_that_is_not_drawn_holds_nothing_back(stage: Stage) -> None:
    found = play(stage, "x" * 100, frameMs=5_000, options={"charsPerSecond": 10, "maxLagMs": 1_000})
    assert [at for at, _ in found["writes"]] == [0, 5_000]


@pytest.mark.parametrize("end", ["finish", "flush"])
def test_who_wants_no_motion_gets_the_text_as_it_comes(stage: Stage, end: str) -> None:
    found = play(stage, "Hello. ", "World", atMs=[0, 300], end=end, options={"reducedMotion": True})
    assert found["writes"] == [[0, "Hello."], [300, " Worl"], [300, "d"]]


def test_the_systems_wish_is_asked_for_and_may_change(stage: Stage) -> None:
    asks = """
    async () => {
      const {AdaptiveTypewriter} = await import("/adaptive-typewriter.js");
      const shown = [];
      const writer = new AdaptiveTypewriter(text => shown.push(text), {charsPerSecond: 1, maxLagMs: 100000});
      writer.push("abcdef");
      return shown;
    }
    """
    try:
        stage.page.emulate_media(reduced_motion="reduce")
        assert stage.page.evaluate(asks) == ["abcde"]
    finally:
        stage.page.emulate_media(reduced_motion="no-preference")
    assert stage.page.evaluate(asks) == ["a"]


def test_real_pictures_carry_it_to_its_end(stage: Stage) -> None:
    shows = """
    async () => {
      const {AdaptiveTypewriter} = await import("/adaptive-typewriter.js");
      const shown = [];
      const writer = new AdaptiveTypewriter(text => shown.push(text), {charsPerSecond: 50, maxLagMs: 60000});
      writer.push("a".repeat(100));
      await writer.finish();
      return shown;
    }
    """
    shown = stage.page.evaluate(shows)
    assert "".join(shown) == "a" * 100
    assert len(shown) > 3


def test_misuse_is_refused(stage: Stage) -> None:
    for options in ({"charsPerSecond": 0}, {"maxLagMs": -1}, {"charsPerSecond": "x"}):
        told = stage.page.evaluate(
            "async options => { const {AdaptiveTypewriter} = await import('/adaptive-typewriter.js');"
            " try { new AdaptiveTypewriter(() => {}, options); return ''; } catch (error) { return error.name; } }",
            options,
        )
        assert told == "RangeError"

"""Whatever bytes an endpoint sends, no check breaks over them, and what is said of them can be printed."""

import random
from typing import Final

import pytest

from tests.reports.captures import head, judged, probed
from tests.zoo.defects import DEFECTS
from tests.zoo.models import anthropic, chat, gemini, mcp, responses

SMALL_BYTES: Final = 20_000
ROUNDS: Final = 40
STREAMS: Final = [
    chat(),
    responses(),
    anthropic(),
    gemini(),
    mcp(),
    *(list(each.events) for each in DEFECTS if sum(map(len, each.events)) < SMALL_BYTES),
]
FRAGMENTS: Final = [
    b"\xff", b"\r", b"\n", b"\r\n", b"\0", b"data:", b"id:", b"retry: 9999999999999999\n", b"\xef\xbb\xbf", b"{", b'"',
    b"[DONE]", b"event: error\n", b"null", b"1e999", b"[]", b'{"a":' * 200, b"\xe2\x80\xa8", b"\x1b[31m", b"\xe2\x80\xae",
]  # fmt: skip
ESCAPES: Final = [b"\\u001b[31m", b"\\u202e", b"\\u0000", b"\\ud83d"]
"""What JSON strings may hold."""
ENDS: Final = ["complete", "fin", "enough", "rst", "eof", "late", "protocol"]
DIALECTS: Final = [None, "openai", "openai-responses", "anthropic", "gemini", "mcp", "plain"]


def spoilt(rng: random.Random, pieces: list[bytes]) -> list[bytes]:
    """The stream with some bytes put in, taken out, changed, or its events shuffled."""
    changed = [bytearray(each) for each in pieces]
    for _ in range(rng.randint(1, 7)):
        piece = rng.choice(changed)
        at = rng.randint(0, len(piece))
        what = rng.randrange(5)
        if what == 0:
            piece[at:at] = rng.choice(FRAGMENTS)
        elif what == 1:
            del piece[at : at + rng.randint(1, 30)]
        elif what == 2:
            quotes = [place + 1 for place, byte in enumerate(piece) if byte == ord('"')]
            place = rng.choice(quotes or [at])
            piece[place:place] = rng.choice(ESCAPES)
        elif what == 3 and piece:
            piece[min(at, len(piece) - 1)] = rng.randrange(256)
        else:
            rng.shuffle(changed)
    return [bytes(each) for each in changed if each]


@pytest.mark.parametrize("seed", range(6))
def test_no_check_breaks(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(ROUNDS):
        start = bytearray(head())
        for _ in range(rng.choice([0, 0, 3])):
            start[rng.randrange(len(start))] = rng.randrange(256)
        answer = probed(
            spoilt(rng, rng.choice(STREAMS)),
            start=bytes(start),
            end=rng.choice(ENDS),
            framed=rng.random() < 0.8,
        )
        report = judged(
            answer, terminal=None, dialect=rng.choice(DIALECTS)
        )  # it looks for broken checks itself
        for finding in report.findings:
            shown = [finding.sentence, finding.fix, *(each.excerpt or "" for each in finding.evidence)]
            # Joiners are a part of how some scripts are written.
            assert all(text.replace("\u200c", "").replace("\u200d", "").isprintable() for text in shown), (
                finding
            )

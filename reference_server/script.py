"""Seeded scripts: every step of an answer, its instant and its text, known before a byte is sent.

Rules:
- A script is a function of its ScriptSpec alone; the checker rebuilds the expected text from the spec in witness.jsonl.
- Events are numbered from 1: hello, then `spec.events` deltas, then done. A multimedia job has work to do before its
  first delta, and tells its progress in numbered events between hello and that. With events=0 the deltas never end; any step
  of such a feed is computed without the ones before it (splitmix64 of seed and number).
- Two neighbouring deltas share one piece of text that is cut anywhere between two code points, as model tokenisers do:
  inside words, between a letter and its combining marks, inside ZWJ families and flags. Each delta alone is still
  well-formed Unicode; what is put together must be byte-exact.
- Instants are offsets from the start of the stream: hello at 0, the first delta at `first_token_ms`, the others every
  `interval_ms` with a seeded jitter of at most 20 % around that grid (they never swap), done one interval later.
"""

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Final, Literal, NamedTuple, get_args

from sseproof.rundir.rows import ScriptSpec
from sseproof.rundir.seeds import SEED_BITS, named_random

Kind = Literal[
    "mixed",
    "arabic",
    "hebrew",
    "cjk",
    "emoji",
    "combining",
    "separators",
    "ascii",
    "short",
    "long",
    "endless",
    "multimedia",
]
StepType = Literal["hello", "progress", "delta", "done"]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
DEFAULT_FIRST_TOKEN_MS: Final = 60.0
DEFAULT_EVENTS: Final = (40, 60)
DEFAULT_INTERVAL_MS: Final = (35.0, 40.0)
"""With 40 to 60 deltas: an answer of about 2 s, so that ten seconds of 50 users give over 200 streams."""
SHORT_EVENTS: Final = (2, 5)
MULTIMEDIA_FIRST_TOKEN_MS: Final = 1_000.0
PROGRESS: Final = ("queued", "fetched", "decoded", "analysed", "described")
"""What a multimedia job has done, at even steps of the time until its first token and of 100 %."""
JITTER_SHARE: Final = 0.2
NS_PER_MS: Final = 1_000_000


class Step(NamedTuple):
    """One numbered event of a script."""

    number: int
    due_ns: int
    """Offset from the start of the stream."""
    type: StepType
    text: str
    """What the user reads; empty for all but deltas."""


class _Pool(NamedTuple):
    words: tuple[str, ...]
    joint: str


def _nfd(*words: str) -> tuple[str, ...]:
    """Decomposed here, not in this file: an editor that composes what it saves would change the answers."""
    return tuple(unicodedata.normalize("NFD", word) for word in words)


_ARABIC: Final = _Pool(
    (
        "مرحبا", "السلام", "عليكم", "كيف", "يمكنني", "مساعدتك", "اليوم؟", "الذكاء", "الاصطناعي", "يبني",
        "الجسور", "بين", "اللغات،", "وهذا", "نصٌّ", "مُشَكَّلٌ", "لِلاِختبارِ", "٣٫١٤", "١٢٣٤٥", "الكتابُ",  # noqa: RUF001  # Arabic digits are meant
        "جديدٌ", "لأنّ", "الحروفَ", "تتّصل.", "إلى", "اللقاء!",
    ),
    " ",
)  # fmt: skip  # one word a line helps nobody
_HEBREW: Final = _Pool(
    (
        "שלום", "עולם", "מה", "שלומך", "היום?", "בְּרֵאשִׁית", "בָּרָא", "הַשָּׁמַיִם", "וְאֵת", "הָאָרֶץ",
        "תשובה", "ארוכה", "נשלחת", "במקטעים", "קטנים,", "אות", "אחר", "אות.", "צה״ל", "ירושלים",
    ),
    " ",
)  # fmt: skip
_CJK: Final = _Pool(
    (
        "你好", "世界", "流式", "传输", "每个字", "都要", "完整", "到达", "こんにちは", "ストリーミング", "応答は",
        "一文字ずつ", "届きます", "안녕하세요", "스트리밍", "응답이", "도착합니다", "漢字", "𠮷野家", "𩸽", "鬱",
    ),
    "",
)  # fmt: skip
_EMOJI: Final = _Pool(
    (
        "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",  # family, three joiners
        "\U0001f469\u200d\u2764\ufe0f\u200d\U0001f48b\u200d\U0001f468",  # kiss
        "\U0001f9d1\U0001f3ff\u200d\U0001f680",  # astronaut with a skin tone
        "\U0001f44d\U0001f3fd",
        "\U0001f937\U0001f3fc\u200d\u2640\ufe0f",
        "\U0001f3f3\ufe0f\u200d\U0001f308",
        "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",  # Scotland, by tag characters
        "\U0001f1ea\U0001f1ec",
        "\U0001f1ef\U0001f1f5",
        "\U0001f1ee\U0001f1f1",
        "1\ufe0f\u20e3",
        "\u2764\ufe0f\u200d\U0001f525",
        "\U0001f600",
        "\U0001fae8",
        "ok",
    ),
    " ",
)
_COMBINING: Final = _Pool(
    (
        *_nfd("Việt", "Nam", "trường", "những", "Ångström", "crème", "brûlée", "naïve", "Dvořák", "ǖǘǚǜ"),
        *_nfd("한국어", "ἄνθρωπος"),
        "q\u0307\u0323",
        "Z\u0351\u036b\u0343\u0359\u0323a\u030a\u0301\u0317\u0330l\u0306\u0346\u0353g\u0311\u0302o\u0308\u0363",
        "n\u0308\u0308\u0308",
        "\u0e01\u0e33\u0e25\u0e31\u0e07",  # Thai
        "\u0939\u093f\u0928\u094d\u0926\u0940",  # Hindi
        "\u0ba8\u0bbf",  # Tamil
        "\u0645\u064f\u062d\u064e\u0645\u0651\u064e\u062f",  # Arabic with vowel marks
    ),
    " ",
)
_SEPARATORS: Final = _Pool(
    # None of these ends a line of an event stream (sse.md L09), all of them do for str.splitlines().
    (
        "one\u2028",
        "two\u2029",
        "three\x85",
        "four\v",
        "five\f",
        "six\x1c",
        "seven\x1e",
        "data: eight",
        "\n\n",
        "\r\n",
        ": nine",
    ),
    " ",
)
_ASCII: Final = _Pool(
    (
        "The", "answer", "comes", "in", "small", "pieces,", "each", "with", "its", 'own "id",', "and", "no", "line\nbreak",
        "or\ttab", "or C:\\path", "may", "end", "an", "event.", "{}", "[DONE]", "data:", "e = mc^2;",
    ),
    " ",
)  # fmt: skip

_MIXED: Final = (_ARABIC, _ASCII, _CJK, _EMOJI, _HEBREW, _COMBINING)
_POOLS: Final[dict[Kind, tuple[_Pool, ...]]] = {
    "mixed": _MIXED,
    "arabic": (_ARABIC,),
    "hebrew": (_HEBREW,),
    "cjk": (_CJK,),
    "emoji": (_EMOJI,),
    "combining": (_COMBINING,),
    "separators": (_SEPARATORS,),
    "ascii": (_ASCII,),
    "short": _MIXED,
    "long": _MIXED,
    "endless": _MIXED,
    "multimedia": _MIXED,
}
_WORDS_A_PAIR: Final = 3
_WORDS_A_LONG_PAIR: Final = 24
"""Some 60 characters a delta, several thousand an answer."""

_MASK: Final = (1 << 64) - 1


def spec_for(
    kind: Kind = "mixed",
    seed: int = 0,
    *,
    events: int | None = None,
    first_token_ms: float | None = None,
    interval_ms: float | None = None,
) -> ScriptSpec:
    """The spec with what was not asked for drawn from the seed.

    Raises ValueError for an endless kind that is to end.
    """
    if kind == "endless" and events:
        raise ValueError("a script of kind endless has no end: leave out events, or ask for another kind")
    rng = named_random(seed, "script", "spec")
    drawn = rng.randint(*(SHORT_EVENTS if kind == "short" else DEFAULT_EVENTS))
    pace = round(rng.uniform(*DEFAULT_INTERVAL_MS), 3)
    first_ms = MULTIMEDIA_FIRST_TOKEN_MS if kind == "multimedia" else DEFAULT_FIRST_TOKEN_MS
    return ScriptSpec(
        kind=kind,
        seed=seed,
        events=0 if kind == "endless" else drawn if events is None else events,
        first_token_ms=first_ms if first_token_ms is None else first_token_ms,
        interval_ms=pace if interval_ms is None else interval_ms,
    )


def first_delta(kind: str) -> int:
    """The number of the first delta in scripts of this kind."""
    return 2 + (len(PROGRESS) if kind == "multimedia" else 0)


def seed_for(server_seed: int, stream: str, question: str) -> int:
    """The script seed of one logical stream: other streams and other questions get other answers, repeatably."""
    asked = hashlib.sha256(question.encode("utf-8", "surrogatepass")).hexdigest()
    return named_random(server_seed, "answer", stream, asked).getrandbits(SEED_BITS)


class Script:
    """The steps of one spec.

    Raises ValueError for a kind that does not exist.
    """

    def __init__(self, spec: ScriptSpec) -> None:
        kind = next((kind for kind in KINDS if kind == spec.kind), None)
        if kind is None:
            raise ValueError(f"{spec.kind!r} is not a kind of script: there are {', '.join(KINDS)}")
        self.spec = spec
        self.first_delta = first_delta(kind)
        """Its number; what stands between hello and it is progress."""
        self.last: int | None = spec.events + self.first_delta if spec.events else None
        """The number of done; None for an endless feed."""
        self._pools = _POOLS[kind]
        self._words = _WORDS_A_LONG_PAIR if kind == "long" else _WORDS_A_PAIR
        self._key = named_random(spec.seed, "script", "text", kind).getrandbits(64)
        self._pair = -1
        self._halves: tuple[str, str] = ("", "")
        self._mixed = 0
        self._digest = hashlib.sha256()
        self._digested = self.first_delta - 1

    @property
    def endless(self) -> bool:
        """True when there is no done."""
        return self.last is None

    def step(self, number: int) -> Step:
        """Event `number`, 1 is hello. Raises ValueError for a number the script does not have."""
        self._check(number)
        if number == 1:
            return Step(1, 0, "hello", "")
        if number == self.last:
            return Step(number, self._due_ns(number - self.first_delta, 0.0), "done", "")
        token = number - self.first_delta
        if token < 0:
            share = (number - 1) / (len(PROGRESS) + 1)
            return Step(number, round(self.spec.first_token_ms * share * NS_PER_MS), "progress", "")
        text = self._text(token)
        jitter = (
            JITTER_SHARE * (((self._mixed >> (20 * (token & 1))) & 0xFFFFF) / 0x80000 - 1) if token else 0.0
        )
        return Step(number, self._due_ns(token, jitter), "delta", text)

    def text(self, number: int) -> str:
        """What the user reads of event `number`. Raises ValueError for a number the script does not have."""
        self._check(number)
        return (
            "" if number < self.first_delta or number == self.last else self._text(number - self.first_delta)
        )

    def text_of(self, ranges: Iterable[tuple[int, int]]) -> str:
        """The text of exactly these numbers, ranges inclusive, in the order given.

        Raises ValueError for a number the script does not have.
        """
        return "".join(self._texts(ranges))

    def full_text(self) -> str:
        """The whole answer. Raises ValueError for an endless feed."""
        return self.text_of([(1, self._end())])

    def sha256(self) -> str:
        """Of the whole answer in UTF-8; cheap after `digest_step` saw the deltas. Raises ValueError for an endless feed."""
        if self._digested < self._end():
            self._digest.update(self.text_of([(self._digested + 1, self._end())]).encode())
            self._digested = self._end()
        return self._digest.hexdigest()

    def digest_step(self, step: Step) -> None:
        """Takes a delta into the digest as it is sent, so that a long answer's end is no long computation."""
        if step.number == self._digested + 1 and step.type == "delta":
            self._digest.update(step.text.encode())
            self._digested = step.number

    def _texts(self, ranges: Iterable[tuple[int, int]]) -> Iterator[str]:
        for first, last in ranges:
            self._check(first)
            self._check(last)
            end = last if self.last is None else min(last, self.last - 1)
            for number in range(max(first, self.first_delta), end + 1):
                yield self._text(number - self.first_delta)

    def _end(self) -> int:
        if self.last is None:
            raise ValueError("an endless feed has no whole text: ask for ranges")
        return self.last

    def _check(self, number: int) -> None:
        if number < 1 or (self.last is not None and number > self.last):
            raise ValueError(
                f"the script has no event {number}: its events are 1 to {self.last or 'without end'}"
            )

    def _due_ns(self, token: int, jitter: float) -> int:
        return round((self.spec.first_token_ms + (token + jitter) * self.spec.interval_ms) * NS_PER_MS)

    def _text(self, token: int) -> str:
        if token >> 1 != self._pair:
            self._pair = token >> 1
            self._halves = self._cut(self._pair)
        return self._halves[token & 1]

    def _cut(self, pair: int) -> tuple[str, str]:
        """The text two deltas share, cut between any two of its code points."""
        pool = self._pools[pair % len(self._pools)]
        words, size = pool.words, len(pool.words)
        drawn = []
        mixed = 0
        for place in range(self._key + pair * self._words, self._key + (pair + 1) * self._words):
            mixed = _splitmix64(place)
            drawn.append(words[mixed % size])
        self._mixed = mixed
        text = pool.joint.join(drawn) + pool.joint
        cut = 1 + (mixed >> 40) % (len(text) - 1)
        return text[:cut], text[cut:]


def _splitmix64(place: int) -> int:
    """Steele, Lea, Flood 2014: a good 64-bit mix of consecutive numbers, without state."""
    z = (place * 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)

"""Claims: what a service promises, as one line that is parsed strictly and printed back normalised.

Grammar (design.md "A claim"): METRIC [pNN] OP VALUE [scope] [options]

    success >= 98%      recovery = 100% after cut      ttft p95 <= 1s      gap p99 <= 250ms in group clean
    of CLASS (errors) · with LIMIT, LIMIT (goodput) · within TIME (connected): what the metric asks for besides
    scope:   in group NAME · in variant NAME · in phase NAME · after FAULT        (a name with spaces in "quotes")
    options: margin N% · confidence N% (default 95 %) · over N (only where one violation fails)

Rules:
- Every claim is a question about counted units (measurement.md 3.1): a quantile claim is the share of units within the
  limit, "= 100 %" and "= 0" mean that no unit may violate (decision 10), and so does the peak of a rate.
- A quantile is one of the measured values: "token-rate p5 >= 20/s" asks 95 % of the streams to be that fast. The p95 of
  a rate would ask 5 % of them, which nobody means: it is refused.
- Nothing is guessed: a value without its unit, a duration without its quantile and an unknown word are errors that
  point at the word and say what to write.
- `text` is normalised: parsing it gives the same claim again, so it can stand in files, reports and command lines.
- A floor with `>` is judged as with `>=`: no number of units tells the two apart. A limit with `<` is not: an interval of
  exactly the limit is outside.
"""

import difflib
import re
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final, Literal, NoReturn

import msgspec
from msgspec import Struct

from sseproof.reports import statistics
from sseproof.reports.metrics import ALIASES, ERROR_CLASSES, METRICS, Metric, Unit, ValueKind
from sseproof.rundir.rows import GAP_GRID_NS
from sseproof.rundir.text import printable
from sseproof.rundir.units import format_duration, parse_duration

Form = Literal["share", "quantile", "all", "none"]
Op = Literal[">=", ">", "<=", "<", "="]

LONGEST_CLAIM_CHARS: Final = 200
"""A claim is one line that a person reads in a table."""

FLOOR_OF_ALL: Final = 0.95
"""What "no violation" must show at least: 59 units at 95 % confidence (decision 10)."""

GOOD_ENOUGH: Final = 0.25
"""A plan assumes a service with a quarter of the failures that the floor allows: 99.5 % for a floor of 98 %."""

HIGHEST_OF_RATES: Final = 0.5
"""A rate is claimed for half of the units at least."""

LOWEST_CONFIDENCE: Final = 0.5
"""Below it one count could pass and fail the same claim."""

HIGHEST_CONFIDENCE: Final = 0.999999

WANTED_CHANCE: Final = 0.9
"""The chance of a pass for which a plan advises a number of units."""


_GRAMMAR: Final = (
    "Values  share         >= N% of the units, or = 100%",
    "        bad-share     <= N% of the units, or = 0",
    "        duration      <= or < with its unit (250ms, 1s, 2m); rate >= N/s,",
    "                      portion <= N% and number <= N likewise. Always with a",
    '                      quantile (p95): "ttft p95 <= 1s" says that 95 % of all',
    "                      streams have TTFT <= 1 s; without a first token a",
    '                      stream counts as too late. "token-rate p5 >= 20/s":',
    "                      95 % of all streams are that fast",
    "        count         = 0; peak <= N/s",
    "Besides of CLASS      an outcome or the end of an attempt: throttled, stalled,",
    "                      rst, status, … (see docs/verdicts.md)",
    "        with LIMIT, … limits that one stream has to keep: ttft <= 1s",
    "        within TIME",
    "Scope   in group NAME, in variant NAME, in phase NAME, after FAULT; a name",
    '        with spaces in "quotes". Without a scope a claim covers every unit.',
    "Options confidence N%  one-sided, 95 % unless said",
    "        margin N%      subtracted from the floor, said before the run",
    "        over N         units without a violation that = 100%, = 0 and a peak",
    "                       need (59 unless said: at least 95 % at 95 %",
    "                       confidence)",
    "",
    "A claim passes when the exact lower bound of the share of good units reaches",
    "the floor, fails when the upper bound is below it, and is unknown between.",
    '"= 100%", "= 0" and a peak fail with the first violation.',
)


class Scope(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which units a claim covers; without any word it covers all, those under faults included."""

    group: str | None = None
    variant: str | None = None
    phase: str | None = None
    after: str | None = None
    """Only the breaks and streams of this class of fault."""


class Limit(Struct, frozen=True, kw_only=True):
    """What one stream has to keep, in a claim about goodput."""

    metric: str
    op: Op
    value: float
    """As in a claim."""

    @property
    def text(self) -> str:
        """As it is written: ttft <= 1s."""
        return f"{self.metric} {self.op} {_value_text(METRICS[self.metric].value, self.value)}"

    @property
    def inclusive(self) -> bool:
        """Whether a value of exactly the limit keeps it."""
        return self.op in {">=", "<="}

    @property
    def edge_ns(self) -> int:
        """The longest duration that keeps it."""
        return int(self.value) if self.inclusive else int(self.value) - 1

    def within(self, duration_ns: int | None) -> bool:
        """Whether a duration keeps it; None is an instant that never happened and keeps none."""
        return duration_ns is not None and duration_ns <= self.edge_ns

    def keeps(self, value: float) -> bool:
        """Whether a rate, a portion or a number keeps it."""
        if METRICS[self.metric].value == "rate":
            return value >= self.value if self.inclusive else value > self.value
        return value <= self.value if self.inclusive else value < self.value


class Claim(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A promise about counted units; made by `parse_claim`."""

    text: str
    """Normalised; parses back to the same claim."""
    metric: str
    """Key of METRICS."""
    form: Form
    """share: success >= 98%; quantile: ttft p95 <= 1s; all: = 100%; none: = 0, and the peak of a rate."""
    op: Op
    value: float
    """A share from 0 to 1, nanoseconds for durations, a second for rates, 0 for counts."""
    quantile: float | None = None
    """0.95 for p95: the share of units that must be within the limit; for rates the share that may be below it."""
    of: str | None = None
    """The class of errors that is counted; None counts all."""
    limits: tuple[Limit, ...] = ()
    """What one stream has to keep, for goodput."""
    within_ns: int | None = None
    """Time to be connected again."""
    scope: Scope = Scope()
    confidence: float = statistics.CONFIDENCE
    margin: float = 0.0
    """Subtracted from the floor, as a share; said before the run."""
    over: int | None = None
    """Units without a violation that `= 100%` and `= 0` need; None for the default."""

    @property
    def unit(self) -> Unit:
        """What n counts."""
        return METRICS[self.metric].unit

    @property
    def value_kind(self) -> ValueKind:
        """What `value` is."""
        return METRICS[self.metric].value

    @property
    def inclusive(self) -> bool:
        """Whether a value of exactly the limit is within it."""
        return self.op in {">=", "<=", "="}

    @property
    def limit(self) -> Limit:
        """What each unit has to keep. Raises ValueError for claims without a quantile."""
        if self.form != "quantile":
            raise ValueError(f"{self.text} has no limit for each unit")
        return Limit(metric=self.metric, op=self.op, value=self.value)

    @property
    def limit_ns(self) -> int:
        """The limit of a duration claim. Raises ValueError for other claims."""
        if self.form != "quantile" or self.value_kind != "duration":
            raise ValueError(f"{self.text} has no time limit")
        return int(self.value)

    @property
    def edge_ns(self) -> int:
        """The longest duration within the limit. Raises ValueError for claims without one."""
        return self.limit_ns if self.inclusive else self.limit_ns - 1

    def within(self, duration_ns: int | None) -> bool:
        """Whether a duration keeps the limit; None is an instant that never happened and keeps none."""
        return duration_ns is not None and duration_ns <= self.edge_ns

    def required_share(self) -> float:
        """The share of good units that the exact bound is held against: floor or quantile, minus the margin."""
        if self.form in {"all", "none"}:
            return 1.0
        floor = Decimal(repr(self.value if self.quantile is None else self.quantile))
        if self.value_kind in {"bad-share", "rate"}:
            floor = 1 - floor
        return float(floor - Decimal(repr(self.margin)))

    def needed_units(self) -> int:
        """Units with which a pass is possible at all: for `= 100%` and `= 0` what `over` says, else 59 at 95 %."""
        if self.form in {"all", "none"}:
            return self.over or statistics.smallest_n(FLOOR_OF_ALL, 0, self.confidence)
        return statistics.smallest_n(self.required_share(), 0, self.confidence)


class ClaimError(ValueError):
    """A claim that can't be read; `start` and `end` are the character positions of the word in `text`."""

    def __init__(self, text: str, start: int, end: int, sentence: str) -> None:
        self.text = text
        self.start = start
        self.end = end
        self.sentence = sentence
        super().__init__(f"{sentence}\n{_pointed(text, start, end)}")


class ClaimPlan(Struct, frozen=True, kw_only=True):
    """What a run of n units can say about a claim, before it runs."""

    unit: Unit
    n: int | None
    """None where the plan does not fix it."""
    p0: float
    """The share of good units that must be shown; 1 for `= 100%` and `= 0`."""
    needed_n: int
    """Units with which a pass is possible, if none fails."""
    advised_n: int | None
    """Units with which a service at `expected_rate` passes with a chance of at least 90 %; None where a million or, for
    `= 100%` and `= 0`, the fewest that count do not give it."""
    allowed_failures: int | None
    """The most failures that still pass; None when n is unknown or too small for any pass."""
    expected_rate: float
    """The true share of good units that the chance assumes."""
    chance_if_good: statistics.Chance | None
    """How likely each verdict is then; None when n is unknown."""


def parse_claim(text: str) -> Claim:
    """The claim that the line says.

    Raises ClaimError, which points at the word that can't be read and says what to write.
    """
    return _Parser(text).claim()


def parse_claims(texts: Iterable[str]) -> list[Claim]:
    """The claims in their order, each once.

    Raises ClaimError for the first one that can't be read.
    """
    return list({claim.text: claim for claim in map(parse_claim, texts)}.values())


def gap_edges(claims: Sequence[Claim]) -> list[int]:
    """Upper edges in ns, ascending and unique, of the histograms of gaps and ages: the fixed grid and every claimed limit.

    An edge is the longest gap within the limit (for `<` one nanosecond less), so that a claim is a sum of whole buckets.
    """
    return sorted({*GAP_GRID_NS, *(claim.edge_ns for claim in claims if claim.unit in {"gap", "event"})})


def plan_claim(claim: Claim, n: int | None, expected_rate: float | None = None) -> ClaimPlan:
    """What n units can say about the claim if the service is good; n is None where the plan does not fix it.

    `expected_rate` is the true share of good units to assume; by default one with a quarter of the failures that the
    claim allows. Raises ValueError when it is no share above the one that must be shown.
    """
    p0 = claim.required_share()
    exact = claim.form in {"all", "none"}
    rate = round(1.0 - (1.0 - p0) * GOOD_ENOUGH, 12) if expected_rate is None else expected_rate
    if not (0.0 if exact else p0) < rate <= 1.0:
        raise ValueError(f"a good service keeps a share above {share_text(p0)}, not {share_text(rate)}")
    needed = claim.needed_units()
    plan = _exact_plan if exact else _floor_plan
    allowed, chance = plan(n, p0, needed, rate, claim.confidence)
    return ClaimPlan(
        unit=claim.unit,
        n=n,
        p0=p0,
        needed_n=needed,
        advised_n=_advised_n(p0, needed, rate, claim.confidence, exact=exact),
        allowed_failures=allowed,
        expected_rate=rate,
        chance_if_good=chance,
    )


def _floor_plan(
    n: int | None, p0: float, _needed: int, rate: float, confidence: float
) -> tuple[int | None, statistics.Chance | None]:
    if n is None:
        return None, None
    return (
        statistics.allowed_failures(n, p0, confidence),
        statistics.decision_chance(n, p0, rate, confidence),
    )


def _exact_plan(
    n: int | None, _p0: float, needed: int, rate: float, _confidence: float
) -> tuple[int | None, statistics.Chance | None]:
    """One violation fails, none in enough units passes."""
    if n is None:
        return None, None
    clean = rate**n
    enough = n >= needed
    return (0 if enough else None), statistics.Chance(
        passes=clean if enough else 0.0, fails=1.0 - clean, unknown=0.0 if enough else clean
    )


def _advised_n(p0: float, needed: int, rate: float, confidence: float, *, exact: bool) -> int | None:
    if not exact:
        return statistics.advised_n(p0, rate, WANTED_CHANCE, confidence)
    return needed if rate**needed >= WANTED_CHANCE else None


def help_claims() -> str:
    """The metrics with units, meaning and an example each, and the grammar; 80 columns."""
    lines = [
        "A claim is one line: METRIC [pNN] OP VALUE [scope] [options]",
        "",
        f"{'METRIC':<14} {'UNIT':<7} {'VALUE':<9} MEANING",
    ]
    for metric in METRICS.values():
        meaning = textwrap.wrap(metric.meaning, 80 - 33)
        lines.append(f"{metric.name:<14} {metric.unit:<7} {metric.value:<9} {meaning[0]}")
        lines += [" " * 33 + more for more in meaning[1:]]
        lines.append(" " * 33 + f"{metric.example!r}".replace("'", '"'))
    lines += ["", *_GRAMMAR]
    return "\n".join(lines) + "\n"


def share_text(share: float) -> str:
    """A share as people write it: 98%, 99.95%."""
    return f"{(Decimal(repr(share)) * 100).normalize():f}%"


class _Token(Struct, frozen=True):
    word: str
    """As written, without the quotes of a quoted name."""
    start: int
    end: int
    quoted: bool = False

    @property
    def key(self) -> str:
        """The word as a key word; a quoted name is none."""
        return "" if self.quoted else self.word.lower()


_TOKEN: Final = re.compile(r'"(?P<name>[^"]*)"|(?P<op>[<>=!≤≥~]+)|(?P<word>[^\s<>=!≤≥~"]+)|(?P<stray>")')
_TOKEN_OP: Final = re.compile(r"[<>=!≤≥~]+")
_OPS: Final[dict[str, Op]] = {
    ">=": ">=",
    "≥": ">=",
    ">": ">",
    "<=": "<=",
    "≤": "<=",
    "<": "<",
    "=": "=",
    "==": "=",
}
_OPS_OF: Final[dict[ValueKind, tuple[Op, ...]]] = {
    "share": (">=", ">", "="),
    "bad-share": ("<=", "<", "="),
    "duration": ("<=", "<"),
    "rate": (">=", ">"),
    "portion": ("<=", "<"),
    "number": ("<=", "<"),
    "count": ("=", "<="),
    "peak": ("<=", "<"),
}
_OF_EACH_UNIT: Final[frozenset[ValueKind]] = frozenset({"duration", "rate", "portion", "number"})
"""Values that every unit has, so that a claim says for which share of them."""
_QUANTILE: Final = re.compile(r"p(\d{1,3}(?:\.\d{1,4})?)", re.ASCII | re.IGNORECASE)
_PERCENT: Final = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)%", re.ASCII)
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_RATE: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)/s(?:ec(?:ond)?)?", re.ASCII)
_COUNT: Final = re.compile(r"\d{1,9}", re.ASCII)
_UNIT_WORDS: Final = frozenset({"%", "ns", "us", "µs", "ms", "s", "m", "min", "h", "/s", "/sec", "/second"})
_LONGEST_NUMBER_CHARS: Final = 12
_PLACES: Final = ("group", "variant", "phase")
_CLAUSES: Final = ("in", "after", "margin", "confidence", "over")
_OWN_CLAUSES: Final = {"of": "errors", "with": "goodput", "within": "connected"}
"""Clauses that one metric has, and has to have but for `of`."""


class _Clauses(Struct, kw_only=True):
    """What stands behind the value."""

    group: str | None = None
    variant: str | None = None
    phase: str | None = None
    after: str | None = None
    margin: float | None = None
    confidence: float | None = None
    over: int | None = None
    of: str | None = None
    limits: tuple[Limit, ...] | None = None
    within: int | None = None


class _Parser:
    """Reads one claim from left to right; every method takes the words it understands or raises ClaimError."""

    def __init__(self, text: str) -> None:
        self._text = text
        if len(text) > LONGEST_CLAIM_CHARS:
            raise ClaimError(
                text[:LONGEST_CLAIM_CHARS],
                LONGEST_CLAIM_CHARS - 1,
                LONGEST_CLAIM_CHARS,
                f"A claim has at most {LONGEST_CLAIM_CHARS} characters; this one has {len(text)}.",
            )
        self._tokens = [_token(match) for match in _TOKEN.finditer(text)]
        self._at = 0
        for token in self._tokens:
            if not token.quoted and token.word == '"':
                self._fail(token, "This quote is never closed.")
            if printable(token.word) != token.word:
                self._fail(token, "A claim holds no control characters.")

    def claim(self) -> Claim:
        """The whole line."""
        metric = self._metric()
        quantile = self._quantile(metric)
        op = self._op(metric, quantile)
        form, value, op = self._value(metric, op)
        clauses = self._clauses(metric, form, self._floor(metric, quantile, value))
        self._check_own(metric, clauses)
        claim = Claim(
            text="",
            metric=metric.name,
            form=form,
            op=op,
            value=value,
            quantile=quantile,
            scope=Scope(
                group=clauses.group, variant=clauses.variant, phase=clauses.phase, after=clauses.after
            ),
            confidence=statistics.CONFIDENCE if clauses.confidence is None else clauses.confidence,
            margin=clauses.margin or 0.0,
            over=clauses.over,
            of=clauses.of,
            limits=clauses.limits or (),
            within_ns=clauses.within,
        )
        return msgspec.structs.replace(claim, text=_claim_text(claim))

    @staticmethod
    def _floor(metric: Metric, quantile: float | None, value: float) -> float:
        """The share of good units that is asked for, before a margin."""
        if quantile is None:
            return float(1 - Decimal(repr(value))) if metric.value == "bad-share" else value
        return float(1 - Decimal(repr(quantile))) if metric.value == "rate" else quantile

    def _check_own(self, metric: Metric, clauses: _Clauses) -> None:
        """Refuses a metric without the clause that it needs."""
        for missing, name, words in (
            (clauses.limits is None, "goodput", "the limits that a stream has to keep"),
            (clauses.within is None, "connected", "the time within which"),
        ):
            if missing and metric.name == name:
                end = len(self._text.rstrip())
                raise ClaimError(
                    self._text, end, end + 1, f'{name} needs {words}: write it as in "{metric.example}".'
                )

    def _metric(self) -> Metric:
        token = self._next('A claim is missing: write one such as "success >= 98%".')
        if token.quoted:
            self._fail(token, "Only names stand in quotes: leave them out here.")
        name = ALIASES.get(token.key, token.key)
        if name not in METRICS:
            self._fail(token, f"Unknown metric {token.word!r}: {_nearest(token.key, METRICS, ALIASES)}")
        following = self._peek()
        if name in {"lost", "doubled"} and following is not None and following.key == "events":
            self._at += 1
        return METRICS[name]

    def _quantile(self, metric: Metric) -> float | None:
        token = self._peek()
        match = _QUANTILE.fullmatch(token.key) if token is not None else None
        if token is None or match is None:
            return None
        self._at += 1
        if metric.value not in _OF_EACH_UNIT:
            self._fail(token, f'{metric.name} has no quantile: write it as in "{metric.example}".')
        quantile = float(Decimal(match[1]) / 100)
        if not 0.0 < quantile < 1.0:
            self._fail(
                token, "A quantile lies between p0 and p100: no number of units shows p100, p99.9 may do."
            )
        if metric.value == "rate" and quantile > HIGHEST_OF_RATES:
            rest = float(1 - Decimal(repr(quantile)))
            share, meant = share_text(rest), _quantile_text(rest)
            self._fail(
                token,
                f"{token.key} of a rate would ask only {share} of the {metric.unit}s to reach it: "
                f'write "{metric.name} {meant} >= …" to ask {share_text(quantile)} of them.',
            )
        return quantile

    def _op(self, metric: Metric, quantile: float | None) -> Op:
        token = self._next(f'{metric.name} says nothing yet: write it as in "{metric.example}".')
        op = _OPS.get(token.key)
        if op is None:
            if token.key[:1].isdigit():
                self._fail(token, f"A comparison is missing before {token.word!r}: {_op_words(metric)}.")
            self._fail(token, f"{token.word!r} is no comparison: {_op_words(metric)}.")
        if op not in _OPS_OF[metric.value]:
            self._fail(token, f"{metric.name} can't be claimed with {op}: {_op_words(metric)}.")
        if metric.value in _OF_EACH_UNIT and quantile is None:
            value = "".join(other.word for other in self._tokens[self._at : self._at + 2])
            limit = (
                metric.example.split()[3]
                if metric.value != "duration"
                else value
                if _is_duration(value)
                else "1s"
            )
            share = _quantile_text(metric.default_quantile or statistics.CONFIDENCE)
            self._fail(
                self._tokens[0],
                f"{metric.name} needs the share of {metric.unit}s that must keep the limit: "
                f'write "{metric.name} {share} {op} {limit}".',
            )
        return op

    def _value(self, metric: Metric, op: Op) -> tuple[Form, float, Op]:
        token = self._merged(f'{metric.name} {op} what? Write it as in "{metric.example}".')
        if metric.value == "share":
            return self._share_value(metric, op, token)
        if metric.value == "bad-share":
            return self._bad_share_value(metric, op, token)
        if metric.value in _OF_EACH_UNIT:
            return "quantile", self._unit_value(metric, op, token), op
        if metric.value == "peak":
            return "none", self._rate(metric, token), op
        if token.word.strip("0"):
            self._fail(
                token, f'{metric.name} counts streams, and one is too many: write "{metric.name} = 0".'
            )
        return "none", 0.0, "="

    def _unit_value(self, metric: Metric, op: Op, token: _Token) -> float:
        """The value that each unit is held against."""
        if metric.value == "duration":
            return self._duration_value(token)
        if metric.value == "rate":
            return self._rate(metric, token)
        if metric.value == "portion":
            share = self._percent(token)
            if share == 1.0 or (share == 0.0 and op == "<"):
                self._fail(token, f"No {metric.unit} can have another value: this claim decides nothing.")
            return share
        if not _COUNT.fullmatch(token.word):
            self._fail(token, f'{token.word!r} is no number: write it as in "{metric.example}".')
        if int(token.word) == 0 and op == "<":
            self._fail(token, "Nothing is below 0.")
        return float(token.word)

    def _rate(self, metric: Metric, token: _Token) -> float:
        match = _RATE.fullmatch(token.word)
        if match is None and _NUMBER.fullmatch(token.word) and len(token.word) <= _LONGEST_NUMBER_CHARS:
            self._fail(token, f"The unit is missing: write {token.word}/s.")
        if match is None or not float(match[1]):
            self._fail(token, f'{token.word!r} is no rate: write it as in "{metric.example}".')
        return float(match[1])

    def _bad_share_value(self, metric: Metric, op: Op, token: _Token) -> tuple[Form, float, Op]:
        if not token.word.strip("0"):
            return "none", 0.0, "="
        share = self._percent(token)
        if share == 0.0:
            return "none", 0.0, "="
        if op == "=":
            self._fail(
                token,
                f"{metric.name} are never exactly {share_text(share)}: "
                f'write "{metric.name} <= {share_text(share)}" or "{metric.name} = 0".',
            )
        if share == 1.0:
            self._fail(token, "Every service keeps 100%: this claim says nothing.")
        return "share", share, op

    def _share_value(self, metric: Metric, op: Op, token: _Token) -> tuple[Form, float, Op]:
        share = self._percent(token)
        if share == 1.0:
            if op == ">":
                self._fail(token, f'Nothing is above 100%: write "{metric.name} = 100%".')
            return "all", 1.0, "="
        if op == "=":
            self._fail(
                token,
                f"{metric.name} is never exactly {share_text(share)}: "
                f'write "{metric.name} >= {share_text(share)}" or "{metric.name} = 100%".',
            )
        if share == 0.0:
            self._fail(token, "Every service keeps 0%: this claim says nothing.")
        return "share", share, op

    def _duration_value(self, token: _Token) -> float:
        if _NUMBER.fullmatch(token.word):
            self._fail(token, f"The unit is missing: write {token.word}ms or {token.word}s.")
        try:
            duration = parse_duration(token.word)
        except ValueError as error:
            self._fail(token, f"{str(error)[0].upper()}{str(error)[1:]}.")
        if duration.ns == 0:
            self._fail(token, "A limit of 0 can't be kept by anything that takes time.")
        return float(duration.ns)

    def _clauses(self, metric: Metric, form: Form, floor: float) -> _Clauses:
        clauses = _Clauses()
        while (token := self._peek()) is not None:
            self._at += 1
            if token.key == "in":
                place = self._next("In what? Write in group, in variant or in phase, then its name.")
                if place.key not in _PLACES:
                    self._fail(place, f"{place.word!r} is no place: write in group, in variant or in phase.")
                self._set(clauses, place, place.key, self._name(place))
            elif token.key == "after":
                self._set(clauses, token, "after", self._name(token))
            elif token.key == "margin":
                self._set(clauses, token, "margin", self._margin(form, token, floor))
            elif token.key == "confidence":
                self._set(clauses, token, "confidence", self._confidence())
            elif token.key == "over":
                self._set(clauses, token, "over", self._over(form, token))
            elif token.key in _OWN_CLAUSES:
                self._own_clause(metric, token, clauses)
            else:
                self._fail(token, f"{token.word!r} is not expected here: {_clause_hint(token)}")
        return clauses

    def _own_clause(self, metric: Metric, token: _Token, clauses: _Clauses) -> None:
        """Reads `of CLASS`, `with LIMIT, …` and `within TIME`: each belongs to one metric."""
        if metric.name != _OWN_CLAUSES[token.key]:
            owner = METRICS[_OWN_CLAUSES[token.key]]
            self._fail(token, f'{token.key} belongs to {owner.name}, as in "{owner.example}".')
        if token.key == "of":
            kind = self._next("of what? Name an outcome or an end, as in of throttled.")
            if kind.key not in ERROR_CLASSES:
                self._fail(kind, f"{kind.word!r} is no class of errors: {_nearest(kind.key, ERROR_CLASSES)}")
            self._set(clauses, token, "of", kind.key)
        elif token.key == "with":
            self._set(clauses, token, "limits", self._limits())
        else:
            value = self._merged("within what? Write it as in within 5s.")
            self._set(clauses, token, "within", int(self._duration_value(value)))

    def _limits(self) -> tuple[Limit, ...]:
        """Reads METRIC OP VALUE, METRIC OP VALUE, and so on."""
        limits: dict[str, Limit] = {}
        comma = True
        while comma:
            token = self._next("with what? Name a limit, as in with ttft <= 1s.")
            name = ALIASES.get(token.key, token.key)
            known = [metric.name for metric in METRICS.values() if metric.of_stream]
            if token.quoted or name not in known:
                self._fail(token, f"{token.word!r} is no limit of a stream: {_nearest(token.key, known)}")
            metric = METRICS[name]
            if name in limits:
                self._fail(token, f"{name} is said twice.")
            following = self._peek()
            if following is not None and _QUANTILE.fullmatch(following.key):
                self._fail(following, f"A stream has one {name}, or its longest: leave {following.word} out.")
            op = self._limit_op(metric)
            self._split_comma()
            value = self._merged(f"{name} {op} what? Write it as in with ttft <= 1s.")
            limits[name] = Limit(metric=name, op=op, value=self._unit_value(metric, op, value))
            separator = self._peek()
            comma = separator is not None and separator.key == ","
            self._at += comma
        return tuple(limits.values())

    def _limit_op(self, metric: Metric) -> Op:
        token = self._next(f"{metric.name} says nothing yet: write it as in with ttft <= 1s.")
        op = _OPS.get(token.key)
        if op is None or op not in _OPS_OF[metric.value]:
            self._fail(
                token,
                f"{token.word!r} does not fit {metric.name}: write {' or '.join(_OPS_OF[metric.value])}.",
            )
        return op

    def _split_comma(self) -> None:
        """Makes words of their own of the commas behind the value, up to the next limit."""
        for at in range(self._at, min(self._at + 2, len(self._tokens))):
            token = self._tokens[at]
            head, comma, rest = token.word.partition(",")
            if token.quoted or not comma:
                continue
            parts = [
                _Token(head, token.start, token.start + len(head)),
                _Token(",", token.start + len(head), token.start + len(head) + 1),
                _Token(rest, token.start + len(head) + 1, token.end),
            ]
            self._tokens[at : at + 1] = [part for part in parts if part.word]
            return

    def _set(
        self, clauses: _Clauses, token: _Token, key: str, value: str | float | tuple[Limit, ...]
    ) -> None:
        if getattr(clauses, key) is not None:
            self._fail(token, f"{token.key if key == 'limits' else key} is said twice.")
        setattr(clauses, key, value)

    def _name(self, before: _Token) -> str:
        token = self._next(f"The name after {before.word} is missing.")
        if not token.word.strip() or (not token.quoted and _TOKEN_OP.fullmatch(token.word)):
            self._fail(token, f"The name after {before.word} is missing.")
        return token.word

    def _margin(self, form: Form, token: _Token, floor: float) -> float:
        if form in {"all", "none"}:
            self._fail(
                token, "A margin needs a floor: = 100% and = 0 allow no violation; write >= 99% instead."
            )
        value = self._merged("margin what? Write it as in margin 1%.")
        margin = self._percent(value)
        if not 0.0 < margin < floor:
            self._fail(value, f"A margin lies above 0% and below the floor of {share_text(floor)}.")
        return margin

    def _confidence(self) -> float:
        value = self._merged("confidence what? Write it as in confidence 99%.")
        confidence = self._percent(value)
        if not LOWEST_CONFIDENCE <= confidence <= HIGHEST_CONFIDENCE:
            self._fail(
                value,
                f"A confidence lies between {share_text(LOWEST_CONFIDENCE)} and {share_text(HIGHEST_CONFIDENCE)}.",
            )
        return confidence

    def _over(self, form: Form, token: _Token) -> int:
        if form not in {"all", "none"}:
            self._fail(token, "over belongs to = 100% and = 0; a floor says itself how many units it needs.")
        value = self._next("over what? Write the number of units, as in over 300.")
        if not _COUNT.fullmatch(value.word) or int(value.word) == 0:
            self._fail(value, f"{value.word!r} is no number of units: write it as in over 300.")
        return int(value.word)

    def _percent(self, token: _Token) -> float:
        match = _PERCENT.fullmatch(token.word)
        if match is None:
            if _NUMBER.fullmatch(token.word) and len(token.word) <= _LONGEST_NUMBER_CHARS:
                number = Decimal(token.word)
                percent = number * 100 if number < 1 else number
                self._fail(token, f"The unit is missing: write {min(percent, Decimal(100)).normalize():f}%.")
            self._fail(token, f"{token.word!r} is no share: write it as in 98% or 99.95%.")
        share = Decimal(match[1]) / 100
        if share > 1:
            self._fail(token, "Nothing is above 100%.")
        return float(share)

    def _merged(self, missing: str) -> _Token:
        """The next token; a number and a unit that stand apart are one."""
        token = self._next(missing)
        unit = self._peek()
        if unit is not None and _NUMBER.fullmatch(token.word) and unit.key in _UNIT_WORDS:
            self._at += 1
            return _Token(token.word + unit.key, token.start, unit.end)
        return token if token.quoted else _Token(token.key, token.start, token.end)

    def _peek(self) -> _Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _next(self, missing: str) -> _Token:
        token = self._peek()
        if token is None:
            end = len(self._text.rstrip())
            raise ClaimError(self._text, end, end + 1, missing)
        self._at += 1
        return token

    def _fail(self, token: _Token, sentence: str) -> NoReturn:
        raise ClaimError(self._text, token.start, token.end, sentence)


def _token(match: re.Match[str]) -> _Token:
    name = match["name"]
    if name is not None:
        return _Token(name, match.start(), match.end(), quoted=True)
    return _Token(match[0], match.start(), match.end())


def _is_duration(text: str) -> bool:
    try:
        return parse_duration(text).ns > 0
    except ValueError:
        return False


def _nearest(word: str, *names: Iterable[str]) -> str:
    """Which name was meant, or all of the first collection, as the end of a sentence."""
    first, *more = names
    listed = list(first)
    close = difflib.get_close_matches(word, [*listed, *(name for other in more for name in other)], n=1)
    if close:
        return f"did you mean {ALIASES.get(close[0], close[0])}?"
    return f"known are {', '.join(listed)}."


def _op_words(metric: Metric) -> str:
    """Which comparisons a metric takes."""
    if metric.value in _OF_EACH_UNIT:
        ops = " or ".join(_OPS_OF[metric.value])
        return f'write {metric.name} with a quantile and {ops}, as in "{metric.example}"'
    return {
        "share": f"write {metric.name} >= or >, or {metric.name} = 100%",
        "bad-share": f"write {metric.name} <= or <, or {metric.name} = 0",
        "count": f"write {metric.name} = 0",
        "peak": f'write {metric.name} <= or <, as in "{metric.example}"',
    }[metric.value]


def _clause_hint(token: _Token) -> str:
    if token.key in _PLACES:
        return f"write in {token.key}."
    if _QUANTILE.fullmatch(token.key):
        return "the quantile stands behind the metric, as in ttft p95 <= 1s."
    return _nearest(token.key, _CLAUSES)


def _value_text(kind: ValueKind, value: float) -> str:
    """A value of this kind as it is written."""
    if kind == "duration":
        return format_duration(int(value))
    if kind in {"rate", "peak"}:
        return f"{Decimal(repr(value)).normalize():f}/s"
    if kind in {"number", "count"}:
        return f"{value:.0f}"
    return share_text(value)


def _quantile_text(quantile: float) -> str:
    return f"p{share_text(quantile)[:-1]}"


def _name_text(name: str) -> str:
    """A name as it is written in a claim: in quotes where it is not one plain word."""
    match = _TOKEN.fullmatch(name)
    return name if match is not None and match["word"] else f'"{name}"'


def _claim_text(claim: Claim) -> str:
    """The claim in its normal form."""
    words = [claim.metric]
    if claim.quantile is not None:
        words.append(_quantile_text(claim.quantile))
    value = "0" if claim.form == "none" and claim.value == 0 else _value_text(claim.value_kind, claim.value)
    words += [claim.op, value]
    if claim.of is not None:
        words += ["of", claim.of]
    if claim.limits:
        words += ["with", ", ".join(limit.text for limit in claim.limits)]
    if claim.within_ns is not None:
        words += ["within", format_duration(claim.within_ns)]
    for place in _PLACES:
        name: str | None = getattr(claim.scope, place)
        if name is not None:
            words += ["in", place, _name_text(name)]
    if claim.scope.after is not None:
        words += ["after", _name_text(claim.scope.after)]
    if claim.margin:
        words += ["margin", share_text(claim.margin)]
    if claim.confidence != statistics.CONFIDENCE:
        words += ["confidence", share_text(claim.confidence)]
    if claim.over is not None:
        words += ["over", str(claim.over)]
    return " ".join(words)


def _pointed(text: str, start: int, end: int) -> str:
    """The claim and a line of carets below the word, in columns of a terminal."""
    shown = "".join(char if char.isprintable() else " " if char.isspace() else "·" for char in text)
    return f"  {shown}\n  {' ' * _columns(shown[:start])}{'^' * max(1, _columns(shown[start:end]))}"


def _columns(text: str) -> int:
    """How many columns a terminal gives the text: wide characters take two, combining marks none."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )

"""The grammar of claims: what is understood, how it is printed back, and where errors point."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseproof.reports.claims import (
    LONGEST_CLAIM_CHARS,
    Claim,
    ClaimError,
    Limit,
    Scope,
    gap_edges,
    help_claims,
    parse_claim,
    parse_claims,
    plan_claim,
    share_text,
)
from sseproof.reports.metrics import ERROR_CLASSES, METRICS
from sseproof.reports.statistics import allowed_failures, decision_chance
from sseproof.rundir.rows import GAP_GRID_NS
from sseproof.rundir.units import LONGEST_NS, format_duration

MS = 1_000_000
S = 1_000_000_000

UNDERSTOOD = {
    "success >= 98%": {"form": "share", "op": ">=", "value": 0.98},
    "success > 99.95%": {"form": "share", "op": ">", "value": 0.9995},
    "success = 100%": {"form": "all", "op": "=", "value": 1.0},
    "utf8 = 100%": {"metric": "utf8", "form": "all"},
    "recovery = 100% after cut": {"metric": "recovery", "form": "all", "scope": Scope(after="cut")},
    "recovery >= 95% in variant after in phase recovering": {
        "form": "share",
        "scope": Scope(variant="after", phase="recovering"),
    },
    "ttft p95 <= 1s": {"form": "quantile", "op": "<=", "value": 1e9, "quantile": 0.95},
    "ttft p99.9 < 1.5s": {"op": "<", "value": 1.5e9, "quantile": 0.999},
    "e2e p50 <= 2m": {"metric": "e2e", "value": 120e9, "quantile": 0.5},
    "gap p99 <= 250ms in group clean": {"metric": "gap", "value": 250e6, "scope": Scope(group="clean")},
    "reconnect p95 < 1s": {"metric": "reconnect", "op": "<"},
    "lost = 0": {"metric": "lost", "form": "none", "op": "=", "value": 0.0},
    "doubled = 0 over 300": {"metric": "doubled", "form": "none", "over": 300},
    "success >= 98% margin 1% confidence 99%": {"margin": 0.01, "confidence": 0.99},
    'ttft p95 <= 1s in group "slow mobile" confidence 90%': {
        "scope": Scope(group="slow mobile"),
        "confidence": 0.9,
    },
    'lost = 0 in group ">=" after "كلّ شيء"': {"scope": Scope(group=">=", after="كلّ شيء")},
    "lost = 0 in group نجاح in variant می‌خواهم": {"scope": Scope(group="نجاح", variant="می‌خواهم")},
    "utf8 = 100% in group margin": {"scope": Scope(group="margin")},
    "complete >= 99%": {"metric": "complete", "form": "share"},
    "errors <= 1% of throttled": {"form": "share", "op": "<=", "value": 0.01, "of": "throttled"},
    "errors < 0.5% of rst margin 0.25%": {"op": "<", "of": "rst", "margin": 0.0025},
    "errors = 0 over 300": {"form": "none", "value": 0.0, "of": None, "over": 300},
    "ttft-plan p95 <= 1s": {"metric": "ttft-plan", "quantile": 0.95},
    "ttft-send p99 < 500ms in phase baseline": {"scope": Scope(phase="baseline")},
    "token-rate p5 >= 20/s": {"form": "quantile", "op": ">=", "value": 20.0, "quantile": 0.05},
    "token-rate p0.5 > 12.5/s": {"op": ">", "value": 12.5, "quantile": 0.005},
    "stale p95 <= 5%": {"form": "quantile", "value": 0.05, "quantile": 0.95},
    "age p99 <= 500ms": {"value": 500e6},
    "fanout p99 <= 200ms": {"value": 200e6},
    "heartbeat p95 <= 20s": {"value": 20e9},
    "attempts p99 <= 3": {"form": "quantile", "value": 3.0},
    "retries p95 < 2 after cut": {"value": 2.0, "scope": Scope(after="cut")},
    "reconnect-rate <= 50/s over 100": {"form": "none", "op": "<=", "value": 50.0, "over": 100},
    "connected >= 99% within 5s after refused": {"within_ns": 5 * S, "value": 0.99},
    "connected = 100% within 500ms": {"form": "all", "within_ns": 500 * MS},
    "goodput >= 95% with ttft <= 1s, gap < 500ms, token-rate >= 5.5/s in group a,b": {
        "limits": (
            Limit(metric="ttft", op="<=", value=1e9),
            Limit(metric="gap", op="<", value=500e6),
            Limit(metric="token-rate", op=">=", value=5.5),
        ),
        "scope": Scope(group="a,b"),
    },
}


@pytest.mark.parametrize(("text", "expected"), UNDERSTOOD.items())
def test_normal_forms_read_back_as_themselves(text, expected):
    claim = parse_claim(text)
    assert claim.text == text
    assert parse_claim(claim.text) == claim
    assert {name: getattr(claim, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("  success>=98%  ", "success >= 98%"),
        ("Success ≥ 98.00 %", "success >= 98%"),
        ("success >= 100%", "success = 100%"),
        ("utf-8 == 100%", "utf8 = 100%"),
        ("TTFT P95<=1000MS", "ttft p95 <= 1s"),
        ("ttft p95 ≤ 1500 ms", "ttft p95 <= 1.5s"),
        ("e2e p90 <= 1m30s", "e2e p90 <= 90s"),
        ("lost events = 0", "lost = 0"),
        ("lost <= 0", "lost = 0"),
        ("duplicated = 0", "doubled = 0"),
        ("duplicates events = 0", "doubled = 0"),
        ("reconnection p95.0 < 1s", "reconnect p95 < 1s"),
        ("success >= 98% confidence 95%", "success >= 98%"),
        ("goodput>=95% with ttft<=1s,gap<=500 ms", "goodput >= 95% with ttft <= 1s, gap <= 500ms"),
        (
            "goodput >= 95% with staleness < 3 % , amplification<=2",
            "goodput >= 95% with stale < 3%, attempts <= 2",
        ),
        ("errors <= 0% of throttled", "errors = 0 of throttled"),
        ("error-rate = 0%", "errors = 0"),
        ("token-rate p5.0 >= 20.00 /sec", "token-rate p5 >= 20/s"),
        ("reconnects <= 50/second", "reconnect-rate <= 50/s"),
        ("Retry-Amplification p99 <= 3", "attempts p99 <= 3"),
        ("connected >= 99% after cut within 5000 ms", "connected >= 99% within 5s after cut"),
        ('utf8 = 100% in group "clean"', "utf8 = 100% in group clean"),
        (
            "success >= 98% over_is_a_name_only".replace(
                "over_is_a_name_only", "after cut margin 1% in phase p"
            ),
            "success >= 98% in phase p after cut margin 1%",
        ),
    ],
)
def test_other_spellings_are_printed_normalised(written, normal):
    assert parse_claim(written).text == normal
    assert parse_claim(written) == parse_claim(normal)


NAMES = st.text(alphabet="aZ09 -_.,%<>=~≥\u200cكلّشيء表示é🤝\u200d", min_size=1, max_size=12).filter(str.strip)


RATES = st.integers(1, 10**12).map(lambda millionths: f"{millionths / 10**6:.6f}/s")


@st.composite
def _limits(draw, metric):
    """The comparison and the value that a unit is held against."""
    kind = METRICS[metric].value
    op = draw(st.sampled_from([">=", ">"] if kind == "rate" else ["<=", "<"]))
    if kind == "duration":
        return op, f"{draw(st.integers(1, LONGEST_NS))}ns"
    if kind == "rate":
        return op, draw(RATES)
    return op, f"{draw(st.integers(1, 99_999_999)) / 1_000_000:f}%" if kind == "portion" else str(
        draw(st.integers(1, 10**6))
    )


@st.composite
def _claims(draw):
    metric = draw(st.sampled_from(sorted(METRICS)))
    words = [metric]
    exact = True
    kind = METRICS[metric].value
    percent = draw(st.integers(3_000_000, 96_999_999)) / 1_000_000
    if kind in {"count", "peak"}:
        words += ["=", "0"] if kind == "count" else [draw(st.sampled_from(["<=", "<"])), draw(RATES)]
    elif kind in {"share", "bad-share"}:
        exact = draw(st.booleans())
        every, some = ("100%", [">=", ">"]) if kind == "share" else ("0", ["<=", "<"])
        words += ["=", every] if exact else [draw(st.sampled_from(some)), f"{percent:f}%"]
    else:
        exact = False
        quantile = draw(st.integers(30_000, 500_000 if kind == "rate" else 969_999)) / 10_000
        words += [f"p{quantile:.4f}", *draw(_limits(metric))]
    if metric == "errors" and draw(st.booleans()):
        words += ["of", draw(st.sampled_from(ERROR_CLASSES))]
    if metric == "connected":
        words += ["within", f"{draw(st.integers(1, 10**12))}ns"]
    if metric == "goodput":
        of_stream = [name for name, each in METRICS.items() if each.of_stream]
        names = draw(st.lists(st.sampled_from(of_stream), min_size=1, max_size=4, unique=True))
        words += ["with", ", ".join(" ".join([name, *draw(_limits(name))]) for name in names)]
    for place in ("in group", "in variant", "in phase", "after"):
        if draw(st.booleans()):
            words += [place, f'"{draw(NAMES)}"']
    if exact and draw(st.booleans()):
        words += ["over", str(draw(st.integers(1, 10**6)))]
    if not exact and draw(st.booleans()):
        words += ["margin", f"{draw(st.integers(1, 2_999_999)) / 1_000_000:f}%"]
    if draw(st.booleans()):
        words += ["confidence", f"{draw(st.integers(500_000, 999_999)) / 10_000:f}%"]
    return " ".join(words)


@given(_claims())
def test_every_claim_survives_printing(text):
    if len(text) > LONGEST_CLAIM_CHARS:
        return
    claim = parse_claim(text)
    assert parse_claim(claim.text) == claim
    assert 0.0 < claim.required_share() <= 1.0


@given(st.text(max_size=40) | st.text(alphabet='sucetfp95<>=% 01ms"inover', max_size=40))
def test_any_text_is_a_claim_or_an_error_that_points_into_it(text):
    caught = None
    try:
        claim = parse_claim(text)
    except ClaimError as error:
        caught = error
    if caught is None:
        assert parse_claim(claim.text) == claim
        return
    assert caught.text == text
    assert 0 <= caught.start < caught.end <= len(text) + 1
    assert caught.sentence.endswith((".", "?"))
    sentence, line, carets = str(caught).splitlines()
    assert sentence
    assert line.startswith("  ")
    assert set(carets) <= {" ", "^"}
    assert "^" in carets


REFUSED = [  # claim, the word it points at, a part of the sentence
    ("", "", "success >= 98%"),
    ("sucess >= 98%", "sucess", "did you mean success?"),
    ("duplicate = 0", "duplicate", "did you mean doubled?"),
    ("latency < 1s", "latency", "known are success, complete, goodput, errors, ttft,"),
    ("token_rate p5 >= 20/s", "token_rate", "did you mean token-rate?"),
    ("token-rate p95 >= 20/s", "p95", 'write "token-rate p5 >= …" to ask 95% of them'),
    ("token-rate p5 <= 20/s", "<=", ">= or >"),
    ("token-rate p5 >= 20", "20", "write 20/s"),
    ("token-rate p5 >= 0/s", "0/s", "no rate"),
    ("token-rate p5 >= 1s", "1s", "no rate"),
    ("token-rate >= 20/s", "token-rate", 'write "token-rate p5 >= 20/s"'),
    ("stale <= 5%", "stale", 'write "stale p95 <= 5%"'),
    ("stale p95 <= 100%", "100%", "decides nothing"),
    ("stale p95 <= 5s", "5s", "no share"),
    ("attempts p99 <= 1.5", "1.5", "no number"),
    ("attempts p99 < 0", "0", "below 0"),
    ("attempts p99 >= 3", ">=", "<= or <"),
    ("reconnect-rate <= 50", "50", "write 50/s"),
    ("reconnect-rate p95 <= 50/s", "p95", "no quantile"),
    ("reconnect-rate = 0/s", "=", "<= or <"),
    ("errors >= 1%", ">=", "errors <= or <, or errors = 0"),
    ("errors = 1%", "1%", 'write "errors <= 1%" or "errors = 0"'),
    ("errors <= 100%", "100%", "says nothing"),
    ("errors <= 1% of throtled", "throtled", "did you mean throttled?"),
    ("errors <= 1% of complete", "complete", "no class of errors"),
    ("errors <= 1% of", "", "of what?"),
    ("success >= 98% of cut", "of", "of belongs to errors"),
    ("errors <= 1% margin 99%", "99%", "below the floor of 99%"),
    ("connected >= 99%", "", "needs the time within which"),
    ("connected >= 99% within 5", "5", "5ms or 5s"),
    ("recovery = 100% within 5s", "within", "within belongs to connected"),
    ("goodput >= 95%", "", "needs the limits"),
    ("goodput >= 95% with", "", "with what?"),
    ("goodput >= 95% with ttft <= 1s,", "", "with what?"),
    ("goodput >= 95% with success >= 98%", "success", "no limit of a stream"),
    ("goodput >= 95% with tfft <= 1s", "tfft", "did you mean ttft?"),
    ("goodput >= 95% with ttft p95 <= 1s", "p95", "leave p95 out"),
    ("goodput >= 95% with ttft >= 1s", ">=", "write <= or <"),
    ("goodput >= 95% with ttft <= 1s, ttft <= 2s", "ttft", "said twice"),
    ("goodput >= 95% with ttft <= 5%", "5%", "not a duration"),
    ("ttft p95 <= 1s with gap <= 1s", "with", "with belongs to goodput"),
    ('"success" >= 98%', '"success"', "quotes"),
    ("success", "", "says nothing yet"),
    ("success >=", "", "success >= what?"),
    ("success 98%", "98%", "comparison is missing"),
    ("success => 98%", "=>", "no comparison"),
    ("success is 98%", "is", "no comparison"),
    ("success <= 98%", "<=", "success >= or >"),
    ("success >= 98", "98", "write 98%"),
    ("success >= 0.985", "0.985", "write 98.5%"),
    ("success = 100", "100", "write 100%"),
    ("success >= 1000", "1000", "write 100%"),
    ("success >= ninety", "ninety", "no share"),
    ("success >= 98,5%", "98,5%", "no share"),
    ("success >= ٩٨%", "٩٨%", "no share"),
    ("success >= 1s", "1s", "no share"),
    ("success >= 101%", "101%", "above 100%"),
    ("success > 100%", "100%", "success = 100%"),
    ("success = 98%", "98%", "success >= 98%"),
    ("success >= 0%", "0%", "says nothing"),
    ("success >= 99.9999999%", "99.9999999%", "no share"),
    ("success p95 >= 98%", "p95", "no quantile"),
    ("lost = 3", "3", "lost = 0"),
    ("lost < 1", "<", "lost = 0"),
    ("lost >= 0", ">=", "lost = 0"),
    ("lost = 0%", "0%", "lost = 0"),
    ("ttft events p95 <= 1s", "events", "no comparison"),
    ("ttft <= 1s", "ttft", 'write "ttft p95 <= 1s"'),
    ("gap < 250 ms", "gap", 'write "gap p99 < 250ms"'),
    ("reconnect <= 7", "reconnect", 'write "reconnect p95 <= 1s"'),
    ("ttft p95 >= 1s", ">=", "<= or <"),
    ("ttft p95 = 1s", "=", "<= or <"),
    ("ttft p95 <= 1000", "1000", "1000ms or 1000s"),
    ("ttft p95 <= 95%", "95%", "is not a duration"),
    ("ttft p95 <= 0s", "0s", "limit of 0"),
    ("ttft p95 <= -1s", "-1s", "is not a duration"),
    ("ttft p95 <= 999h", "999h", "one week"),
    ("ttft p100 <= 1s", "p100", "p99.9"),
    ("ttft p0 <= 1s", "p0", "between"),
    ("ttft 95 <= 1s", "95", "missing before '95'"),
    ("success >= 98% p95", "p95", "behind the metric"),
    ("success >= 98% group a", "group", "write in group"),
    ("success >= 98% in clean", "clean", "no place"),
    ("success >= 98% in", "", "In what?"),
    ("success >= 98% in group", "", "missing"),
    ('success >= 98% in group ""', '""', "missing"),
    ("success >= 98% in group = 5", "=", "missing"),
    ('success >= 98% in group "a', '"', "never closed"),
    ("success >= 98% in group a in group b", "group", "said twice"),
    ("success >= 98% after", "", "missing"),
    ("success >= 98% after a after b", "after", "said twice"),
    ("success >= 98% and utf8 = 100%", "and", "known are in, after, margin, confidence, over"),
    ("success >= 98% marign 1%", "marign", "did you mean margin?"),
    ("success >= 98% margin", "", "margin 1%"),
    ("success >= 98% margin 1", "1", "write 1%"),
    ("success >= 98% margin 0%", "0%", "above 0%"),
    ("success >= 98% margin 98%", "98%", "below the floor of 98%"),
    ("ttft p95 <= 1s margin 95%", "95%", "below the floor of 95%"),
    ("utf8 = 100% margin 1%", "margin", "no violation"),
    ("success >= 98% margin 1% margin 2%", "margin", "said twice"),
    ("success >= 98% confidence 49%", "49%", "between 50% and 99.9999%"),
    ("success >= 98% confidence 100%", "100%", "between 50% and 99.9999%"),
    ("success >= 98% over 300", "over", "belongs to"),
    ("lost = 0 over 0", "0", "number of units"),
    ("lost = 0 over many", "many", "number of units"),
    ("lost = 0 over", "", "over 300"),
    ("lost = 0\x1b[31m", "0\x1b[31m", "control"),
    ("lost = 0 in group a\u202eb", "a\u202eb", "control"),
]


@pytest.mark.parametrize(("text", "word", "part"), REFUSED)
def test_errors_point_at_the_word_and_say_what_to_write(text, word, part):
    with pytest.raises(ClaimError) as caught:
        parse_claim(text)
    error = caught.value
    assert part in error.sentence
    assert text[error.start : error.end] == word
    if not word:
        assert (error.start, error.end) == (len(text), len(text) + 1)


def test_said_twice_points_at_the_second():
    with pytest.raises(ClaimError) as caught:
        parse_claim("success >= 98% in group a in group b")
    assert caught.value.start == 29


def test_the_carets_stand_below_the_word():
    with pytest.raises(ClaimError) as caught:
        parse_claim("success >= 98% marign 1%")
    assert str(caught.value) == (
        "'marign' is not expected here: did you mean margin?\n"
        "  success >= 98% marign 1%\n"
        "                 ^^^^^^"
    )  # fmt: skip
    with pytest.raises(ClaimError) as caught:
        parse_claim('utf8 = 100% in group "表示" marign 1%')  # wide characters take two columns
    assert str(caught.value).splitlines()[2] == " " * 30 + "^^^^^^"
    with pytest.raises(ClaimError) as caught:
        parse_claim("utf8\t=\x07")
    assert str(caught.value).splitlines()[1] == "  utf8 =·"


def test_an_endless_claim_is_refused_shortly():
    with pytest.raises(ClaimError) as caught:
        parse_claim("success >= 98% in group " + "a" * 1_000_000)
    assert "at most 200" in caught.value.sentence
    assert len(str(caught.value)) < 600


def test_several_claims_keep_their_order_and_count_once():
    texts = ["lost = 0", "success>=98%", "lost events = 0", "ttft p95 <= 1s"]
    assert [claim.text for claim in parse_claims(texts)] == ["lost = 0", "success >= 98%", "ttft p95 <= 1s"]
    with pytest.raises(ClaimError):
        parse_claims(["lost = 0", "lots = 0"])
    assert parse_claims([]) == []


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("success >= 98%", 0.98),
        ("success >= 98% margin 1%", 0.97),
        ("success >= 99.9% margin 0.3%", 0.996),
        ("ttft p95 <= 1s", 0.95),
        ("ttft p95 <= 1s margin 1.3%", 0.937),
        ("utf8 = 100%", 1.0),
        ("lost = 0", 1.0),
        ("errors <= 1% of throttled", 0.99),
        ("errors <= 1% margin 0.3%", 0.987),
        ("token-rate p5 >= 20/s", 0.95),
        ("token-rate p0.1 >= 20/s margin 0.4%", 0.995),
        ("stale p95 <= 1%", 0.95),
        ("reconnect-rate <= 50/s", 1.0),
    ],
)
def test_the_share_that_must_be_shown(text, share):
    assert parse_claim(text).required_share() == share  # exactly: 0.95 - 0.013 is another number in binary


def test_limits_include_their_edge_or_not():
    at_most, below = parse_claim("ttft p95 <= 1s"), parse_claim("ttft p95 < 1s")
    assert (at_most.limit_ns, at_most.edge_ns, at_most.inclusive) == (S, S, True)
    assert (below.limit_ns, below.edge_ns, below.inclusive) == (S, S - 1, False)
    assert [at_most.within(ns) for ns in (0, S, S + 1, None)] == [True, True, False, False]
    assert [below.within(ns) for ns in (0, S - 1, S, None)] == [True, True, False, False]
    with pytest.raises(ValueError, match="no time limit"):
        _ = parse_claim("lost = 0").limit_ns
    with pytest.raises(ValueError, match="no time limit"):
        _ = parse_claim("success >= 98%").edge_ns


def test_limits_of_rates_portions_and_numbers_include_their_edge_or_not():
    def kept(text, *values):
        limit = parse_claim(text).limit
        return [limit.keeps(value) for value in values]

    assert kept("token-rate p5 >= 20/s", 19.999, 20.0, 21.0) == [False, True, True]
    assert kept("token-rate p5 > 20/s", 20.0, 20.001) == [False, True]
    assert kept("stale p95 <= 5%", 0.05, 0.0501) == [True, False]
    assert kept("stale p95 < 5%", 0.0499, 0.05) == [True, False]
    assert kept("attempts p99 <= 3", 3, 4) == [True, False]
    with pytest.raises(ValueError, match="no limit"):
        _ = parse_claim("success >= 98%").limit
    with pytest.raises(ValueError, match="no time limit"):
        _ = parse_claim("attempts p99 <= 3").limit_ns


def test_units_and_kinds_come_from_the_metric():
    kinds = {metric.name: (metric.unit, metric.value) for metric in METRICS.values()}
    assert kinds == {
        "success": ("stream", "share"),
        "complete": ("stream", "share"),
        "goodput": ("stream", "share"),
        "errors": ("stream", "bad-share"),
        "ttft": ("stream", "duration"),
        "ttft-plan": ("stream", "duration"),
        "ttft-send": ("stream", "duration"),
        "token-rate": ("stream", "rate"),
        "gap": ("gap", "duration"),
        "stale": ("stream", "portion"),
        "age": ("event", "duration"),
        "fanout": ("event", "duration"),
        "heartbeat": ("stream", "duration"),
        "e2e": ("stream", "duration"),
        "reconnect": ("break", "duration"),
        "connected": ("break", "share"),
        "recovery": ("break", "share"),
        "attempts": ("stream", "number"),
        "retries": ("break", "number"),
        "reconnect-rate": ("attempt", "peak"),
        "lost": ("stream", "count"),
        "doubled": ("stream", "count"),
        "utf8": ("stream", "share"),
    }
    for metric in METRICS.values():
        claim = parse_claim(metric.example)
        assert (claim.metric, claim.unit, claim.value_kind) == (metric.name, metric.unit, metric.value)
        of_each = metric.value in {"duration", "rate", "portion", "number"}
        assert (metric.default_quantile is not None) == of_each


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ("lost = 0", 59),
        ("utf8 = 100%", 59),
        ("utf8 = 100% confidence 99%", 90),
        ("utf8 = 100% over 300", 300),
        ("utf8 = 100% over 5 confidence 99%", 5),
        ("success >= 98%", 149),
        ("success >= 98% confidence 99%", 228),
        ("success >= 98% margin 3%", 59),
        ("ttft p95 <= 1s", 59),
        ("ttft p99 <= 1s", 299),
    ],
)
def test_units_that_a_pass_needs(text, n):
    assert parse_claim(text).needed_units() == n


def test_gap_edges_hold_the_grid_and_every_claimed_gap():
    claims = parse_claims([
        "gap p99 <= 123ms",
        "gap p95 < 400ms",
        "gap p95 <= 2s",
        "gap p50 <= 3h",
        "age p99 <= 7ms",
        "fanout p99 < 9ms",
        "ttft p95 <= 777ms",
        "lost = 0",
    ])  # fmt: skip
    edges = gap_edges(claims)
    assert edges == sorted(set(edges))
    assert set(edges) - set(GAP_GRID_NS) == {123 * MS, 400 * MS - 1, 3 * 3600 * S, 7 * MS, 9 * MS - 1}
    assert gap_edges([]) == list(GAP_GRID_NS)
    assert max(gap_edges([])) == 60 * S
    for claim in claims:  # a claim is a sum of whole buckets: (edge before, edge]
        if claim.unit in {"gap", "event"}:
            assert claim.edge_ns in edges
            assert claim.within(claim.edge_ns)
            assert not claim.within(claim.edge_ns + 1)


def test_a_plan_for_a_floor():
    plan = plan_claim(parse_claim("success >= 98%"), 420)
    assert (plan.unit, plan.n, plan.p0, plan.needed_n) == ("stream", 420, 0.98, 149)
    assert plan.allowed_failures == 3
    assert plan.expected_rate == 0.995
    assert plan.chance_if_good == decision_chance(420, 0.98, 0.995)
    assert plan.advised_n is not None
    assert decision_chance(plan.advised_n, 0.98, 0.995).passes >= 0.9


def test_a_plan_uses_margin_confidence_quantile_and_rate():
    plan = plan_claim(parse_claim("ttft p95 <= 1s margin 1% confidence 99%"), 500, 0.99)
    assert (plan.p0, plan.expected_rate) == (0.94, 0.99)
    assert plan.allowed_failures == allowed_failures(500, 0.94, 0.99)
    assert plan.chance_if_good == decision_chance(500, 0.94, 0.99, 0.99)


def test_a_plan_without_n_still_says_what_is_needed():
    plan = plan_claim(parse_claim("gap p99 <= 250ms"), None)
    assert (plan.unit, plan.n, plan.allowed_failures, plan.chance_if_good) == ("gap", None, None, None)
    assert plan.needed_n == 299
    assert plan_claim(parse_claim("lost = 0"), None).chance_if_good is None


def test_a_plan_too_small_for_any_pass():
    plan = plan_claim(parse_claim("success >= 98%"), 148)
    assert plan.allowed_failures is None
    assert plan.chance_if_good is not None
    assert plan.chance_if_good.passes == 0.0


def test_plans_for_no_violation():
    few, enough = (plan_claim(parse_claim("lost = 0"), n) for n in (58, 59))
    assert (few.allowed_failures, enough.allowed_failures) == (None, 0)
    assert (few.needed_n, few.advised_n, few.p0, few.expected_rate) == (59, 59, 1.0, 1.0)
    assert few.chance_if_good is not None
    assert enough.chance_if_good is not None
    assert (few.chance_if_good.unknown, enough.chance_if_good.passes) == (1.0, 1.0)
    risky = plan_claim(parse_claim("lost = 0"), 100, 0.99)
    assert risky.chance_if_good is not None
    assert risky.chance_if_good.passes == pytest.approx(0.99**100)
    assert risky.chance_if_good.fails == pytest.approx(1 - 0.99**100)
    assert risky.advised_n is None


@pytest.mark.parametrize(
    ("text", "rate"), [("success >= 98%", 0.98), ("success >= 98%", 1.1), ("lost = 0", 0.0)]
)
def test_a_plan_for_a_service_that_is_not_good_is_refused(text, rate):
    with pytest.raises(ValueError, match="good service"):
        plan_claim(parse_claim(text), 420, rate)


def test_help_fits_and_names_everything_and_its_examples_parse():
    text = help_claims()
    assert all(len(line) <= 80 for line in text.splitlines())
    for metric in METRICS.values():
        assert any(
            line.startswith(f"{metric.name:<14} {metric.unit:<7} {metric.value}")
            for line in text.splitlines()
        )
        assert f'"{metric.example}"' in text
    quoted = [line.strip().strip('"') for line in text.splitlines() if line.strip().startswith('"')]
    assert len(
        [parse_claim(example) for example in quoted if example in {m.example for m in METRICS.values()}]
    ) == len(METRICS)
    for word in ("in group", "in variant", "in phase", "after", "margin", "confidence", "over"):
        assert word in text


def test_shares_are_written_without_binary_dust():
    assert [share_text(share) for share in (0.98, 1.0, 0.5, 0.9995, 0.07, 0.1)] == [
        "98%",
        "100%",
        "50%",
        "99.95%",
        "7%",
        "10%",
    ]


@given(st.integers(1, LONGEST_NS))
def test_durations_survive_normalising(ns):
    claim = parse_claim(f"ttft p95 <= {format_duration(ns)}")
    assert claim.limit_ns == ns


def test_claims_are_values():
    claim = parse_claim("success >= 98%")
    assert isinstance(claim, Claim)
    assert {claim: 1}[parse_claim("success>=98 %")] == 1
    with pytest.raises(AttributeError):
        claim.value = 0.5

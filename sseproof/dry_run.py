"""`run --dry-run`: what a run would need and could decide, before anything is sent.

Per claim: its unit, n where the plan fixes it, how many failures still pass, the chance of a decision, and the n that
would be enough. Besides: requests, time and descriptors. Nothing is contacted, not even a name server.
"""

import os
import textwrap
from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Struct, structs

from sseproof.abort import FEWEST, Abort
from sseproof.calibration import PlannedLoad, calibration_path, warning
from sseproof.engine import check_named_engine
from sseproof.limits import Demand, check_limits, descriptors_a_worker, size_text
from sseproof.loadtests.arrivals import admission_ns
from sseproof.loadtests.settings import Client
from sseproof.planning import (
    asked_length_s,
    asked_rate,
    check_faults,
    demand_of,
    expected_streams,
    expected_units,
    fixed_units,
    judged_variant,
    most_at_once,
    planned_load,
    share_covered,
)
from sseproof.reports.claims import Claim, ClaimPlan, plan_claim, share_text
from sseproof.reports.looks import confidence_at
from sseproof.reports.statistics import Chance, chance_at_looks
from sseproof.reports.words import count_of
from sseproof.rundir.errors import RigError
from sseproof.rundir.rows import LookPlan
from sseproof.scenario import STAND_IN, Resolved, Scenario
from sseproof.timeline import PlannedFault, PlannedPhase, planned_faults, planned_phases, timeline

OPEN_LOAD: Final = "Whether this machine bears it is known only after the look at the target, which tells how long an answer lasts."


class Needs(Struct):
    """What the run itself takes."""

    users: int
    workers: int
    streams: int | None
    """None in a closed loop by duration: it depends on how long an answer lasts."""
    at_once: int
    """The most streams that are open at the same time, of each variant."""
    by_schedule: bool
    """An open loop: streams start when the schedule says so."""
    staged: bool
    """A closed loop whose number of users changes by a plan; `users` is the most."""
    duration_s: float | None
    drain_s: float
    """The longest wait for open answers after admission."""
    answer_s: float | None
    """How long one answer of the run's own server lasts without faults, where its address says it; else None."""
    expected_s: float | None
    """Least length of a run with a number of streams: they share the users. None where answers are of unknown length."""
    requests_at_most: int | None
    descriptors_a_worker: int
    memory_bytes: int
    """About what all processes of the run take."""


class PlannedVerdict(Struct):
    """A claim and what the planned run can say about it."""

    claim: str
    plan: ClaimPlan
    fixed: bool
    """The plan fixes n; otherwise it is what is to be expected."""
    phase: str | None = None
    """The phase that it speaks of."""
    not_fixed: str = ""
    """Why n is not known, and what would fix it; empty where it is."""
    at_looks: Chance | None = None
    """How likely each verdict is at some look before the end, in a run that goes on until it is decided."""


class DryRun(Struct):
    """The answer of `--dry-run`."""

    scenario: str
    target: str
    variants: list[str]
    """Empty without variants; what is needed is needed for each."""
    needs: Needs
    claims: list[PlannedVerdict]
    faults: list[PlannedFault]
    """Each group of streams and when its fault acts; empty without faults."""
    phases: list[PlannedPhase] = []
    """Parts of the load that claims may name."""
    abort: Abort | None = None
    """When the run would give up."""
    looks: list[LookPlan] = []
    """When the claims may be decided, in a run that goes on until they are; n and chances are those of the first look."""
    refusal: str | None = None
    """Which limit of this machine would refuse the run now, and how to raise it."""
    warning: str | None = None
    """That the plan comes near to what this machine was seen to bear."""
    unknown_load: str | None = None
    """That only the run can tell whether it does, where there is a calibration."""

    def to_json(self) -> str:
        """As JSON, one document with a line end."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode() + "\n"

    def to_text(self) -> str:
        """As text of 80 columns."""
        needs = self.needs
        lines = [f"Nothing was sent. {self.scenario} would load {self.target}", ""]
        size = (
            count_of(needs.streams, "stream")
            if needs.streams
            else f"{_plain(needs.duration_s)} s of admission"
        )
        each = f" for each of the variants {' and '.join(self.variants)}" if self.variants else ""
        workers = count_of(needs.workers, "worker")
        by = f"{count_of(needs.users, 'user')} in {workers}"
        if needs.staged:
            by = f"stages of up to {count_of(needs.users, 'user')} in {workers}"
        if needs.by_schedule:
            by = f"schedule in {workers}, within {_plain(needs.duration_s)} s and at most {needs.at_once:,} at once"
        lines.append(f"{size} by {by}{each}.")
        if needs.requests_at_most is not None:
            at_most = count_of(needs.requests_at_most, "request")
            lines.append(f"At most {at_most}, reconnections included, besides the one look before the run.")
        else:
            lines.append("No upper limit of requests; set one with --max-requests (load.max_requests).")
        lines.append(
            f"{needs.descriptors_a_worker} file descriptors a worker, about {size_text(needs.memory_bytes)} of memory."
        )
        if self.refusal:
            lines.append(f"This machine would refuse it. {self.refusal}")
        if self.unknown_load:
            lines.append(self.unknown_load)
        lines.append(_time_line(needs))
        if self.abort is not None:
            over = "" if " over " in self.abort.when else f", of {FEWEST} streams or more"
            lines.append(f"Stops the {self.abort.stop} when {self.abort.when}{over}.")
        if self.looks:
            numbers = [f"{look.streams:,}" for look in self.looks if look.streams is not None]
            lines.append(
                f"Ends sooner when the claims are decided, which is looked at after {', '.join(numbers)} streams and at the "
                "end; all looks together err no more often than one. The chances are those of the first look."
            )
        if not self.claims:
            lines.append("No claim: the run would only be recorded.")
        for planned in self.claims:
            lines += [
                "",
                planned.claim,
                *(
                    f"  {line}"
                    for line in _claim_lines(planned.plan, fixed=planned.fixed, not_fixed=planned.not_fixed)
                ),
            ]
            if (later := planned.at_looks) is not None:
                lines.append(
                    f"  At one of the looks before the end: pass {later.passes:.1%}, fail {later.fails:.1%}, unknown "
                    f"{later.unknown:.1%}."
                )
        length_ms = None if needs.duration_s is None else needs.duration_s * 1e3
        drawn = timeline(self.faults, length_ms, phases=self.phases)
        if drawn:
            lines += ["", f"{'Faults' if self.faults else 'Phases'}, from the begin of load:"]
        return "\n".join([*(_wrapped(line) for line in lines), *drawn])


def dry_run(
    resolved: Resolved, expected_rate: float | None = None, environ: Mapping[str, str] = os.environ
) -> DryRun:
    """Plans without sending.

    `expected_rate` is the true share of good units to assume; by default one with a quarter of the failures that each
    claim allows. Raises UsageError when the Toxiproxy that was named can't do the faults.
    """
    scenario = resolved.scenario
    check_named_engine(resolved.source, resolved.groups, scenario.toxiproxy, ask=False)
    load = scenario.load
    check_faults(resolved)
    most = load.max_requests
    admitted = admission_ns(load, resolved.replays[-1])
    streams = expected_streams(resolved, warmup=True)
    if most is None and streams is not None:
        most = _most_requests(streams, scenario.client)
    answer_s = None if load.is_open or load.streams is None else _answer_s(scenario)
    demand = demand_of(resolved)
    planned = _planned_load(resolved)
    drains = [(variant.load.drain or variant.client.timeouts.total).seconds for variant in scenario.variant]
    return DryRun(
        scenario=scenario.name,
        target=scenario.target.url.replace(f"http://{STAND_IN}", "reference servers of its own, "),
        variants=[variant.name for variant in scenario.variant if variant.name is not None],
        needs=Needs(
            users=load.at_once if load.is_staged else load.users,
            workers=scenario.all_workers,
            streams=streams,
            at_once=load.at_once,
            by_schedule=load.is_open,
            staged=load.is_staged,
            duration_s=None if admitted is None else admitted / 1e9,
            drain_s=max(drains),
            answer_s=answer_s,
            expected_s=None
            if answer_s is None or load.streams is None
            else answer_s * -(-load.streams // load.users),
            requests_at_most=most,
            descriptors_a_worker=descriptors_a_worker(load.at_once, scenario.all_workers),
            memory_bytes=demand.memory_bytes,
        ),
        claims=[_planned(resolved, claim, expected_rate) for claim in resolved.claims],
        faults=planned_faults(resolved.groups),
        phases=planned_phases(resolved.phases),
        abort=scenario.abort,
        looks=resolved.looks,
        refusal=_refusal(demand),
        warning=None if planned is None else warning(planned, environ),
        unknown_load=OPEN_LOAD if planned is None and calibration_path(environ).exists() else None,
    )


def _refusal(demand: Demand) -> str | None:
    try:
        check_limits(demand)
    except RigError as error:
        return str(error)
    return None


def _plain(seconds: float | None) -> str:
    """Seconds to a hundredth: 10, 0.5, 3.33."""
    return f"{round(seconds or 0.0, 2):.12g}"


def _time_line(needs: Needs) -> str:
    if needs.duration_s is not None:
        most = needs.duration_s + needs.drain_s
        return (
            f"Takes {_plain(needs.duration_s)} s and what open answers still need: at most {_plain(most)} s (load.drain is "
            f"{needs.drain_s:g} s), besides start-up and judging."
        )
    if needs.expected_s is not None:
        return (
            f"Takes at least {needs.expected_s:.0f} s (an answer of the server lasts {needs.answer_s:.1f} s), longer "
            "under faults, besides start-up and judging."
        )
    return "How long it takes is not known before: it depends on how long an answer of the target lasts."


def _answer_s(scenario: Scenario) -> float | None:
    """How long an answer of our own servers lasts, the longest of the variants; None where the address leaves it open."""
    lengths = [asked_length_s(variant) for variant in scenario.variant]
    known = [length for length in lengths if length is not None]
    return max(known) if len(known) == len(lengths) else None


def _planned_load(resolved: Resolved) -> PlannedLoad | None:
    """What the generator would bear; None where only the look before the run tells how long a stream of an open loop is."""
    at_once = []
    for variant, replay in zip(resolved.scenario.variant, resolved.replays, strict=True):
        length_s = asked_length_s(variant)
        if variant.load.is_open and length_s is None:
            return None
        length_ns = None if length_s is None else round(length_s * 1e9)
        at_once.append(most_at_once(variant.load, length_ns, replay))
    rates = [asked_rate(variant) for variant in resolved.scenario.variant]
    return planned_load(resolved, at_once, rates, os.cpu_count() or 1)


def _most_requests(streams: int, client: Client) -> int | None:
    """Attempts of that many streams, None where each new event gives a stream all its retries back (sse.md C20)."""
    if client.profile == "legacy" or (client.profile == "resilient" and client.retries == 0):
        return streams
    if client.profile == "resilient" and client.on_cut == "give-up":
        return streams * client.retries
    return None


def _at_first_look(resolved: Resolved, claim: Claim, expected_rate: float | None) -> PlannedVerdict:
    """What the planned number can say, in a run that may go on to further looks."""
    first = resolved.looks[0]
    n = int((first.streams or 0) * share_covered(resolved, claim)) if claim.unit == "stream" else None
    judged = structs.replace(claim, confidence=confidence_at(claim, first))
    plan = plan_claim(judged, n, expected_rate)
    not_fixed = _not_fixed(resolved, claim) if n is None else ""
    at_looks = None
    if n and claim.form not in {"all", "none"}:
        numbered = [look for look in resolved.looks if look.streams is not None]
        sizes = [int((look.streams or 0) * share_covered(resolved, claim)) for look in numbered]
        confidences = [confidence_at(claim, look) for look in numbered]
        at_looks = chance_at_looks(sizes, confidences, plan.p0, plan.expected_rate)
    return PlannedVerdict(
        claim=claim.text, plan=plan, fixed=n is not None, not_fixed=not_fixed, at_looks=at_looks
    )


def _planned(resolved: Resolved, claim: Claim, expected_rate: float | None) -> PlannedVerdict:
    if resolved.looks:
        return _at_first_look(resolved, claim, expected_rate)
    fixed = fixed_units(resolved, claim)
    n = expected_units(resolved, claim) if fixed is None else fixed
    return PlannedVerdict(
        claim=claim.text,
        plan=plan_claim(claim, n, expected_rate),
        fixed=fixed is not None,
        phase=claim.scope.phase,
        not_fixed=_not_fixed(resolved, claim) if n is None else "",
    )


def _not_fixed(resolved: Resolved, claim: Claim) -> str:
    """Why the plan says nothing about the number of units, and what would."""
    variant = judged_variant(resolved)
    if claim.unit != "stream":
        return f"{claim.unit}s come as they come"
    if claim.scope.phase is not None:
        return "how many streams a phase gets is known only of the schedule of an open loop (--rate)"
    if variant.load.is_staged:
        return "under stages of users it depends on how long an answer lasts"
    if variant.target.kind == "subscription":
        return "those of the warm-up are not judged, and a subscription lasts as long as the load (--users)"
    return "fix it with --streams"


def _wrapped(line: str) -> str:
    """Within 80 columns, further lines under the first; a long address stays whole."""
    indent = " " * (len(line) - len(line.lstrip()))
    return textwrap.fill(
        line, 80, subsequent_indent=f"{indent}  ", break_long_words=False, break_on_hyphens=False
    )


def _claim_lines(plan: ClaimPlan, *, fixed: bool, not_fixed: str) -> list[str]:
    unit = f"{plan.unit}s"
    need = f"A pass needs at least {plan.needed_n} {unit}"
    advice = (
        f"; {plan.advised_n} give a 90 % chance of it" if plan.advised_n not in {None, plan.needed_n} else ""
    )
    rate = f"if {share_text(plan.expected_rate)} of them are good"
    if plan.n is None or plan.chance_if_good is None:
        return [f"{need}{advice}, {rate}.", f"The plan does not fix their number: {not_fixed}."]
    chance = plan.chance_if_good
    allowed = "no pass is possible" if plan.allowed_failures is None else f"{plan.allowed_failures} may fail"
    if fixed or plan.unit != "break":
        count, if_so_many = f"{plan.n} {unit} {'planned' if fixed else 'to be expected'}", ""
    else:  # chance may bring more, and with them a pass
        count, if_so_many = f"At least {plan.n} {unit} to be expected; with so many", ", with so many,"
    return [
        f"{count}: {allowed}. {need}{advice}.",
        f"Chance{if_so_many} {rate}: pass {chance.passes:.1%}, fail {chance.fails:.1%}, unknown {chance.unknown:.1%}.",
    ]

"""`sseproof check` against endpoints with one defect each, and against healthy ones that look odd.

Every defect is found under its id and with its verdict, nothing else about such an endpoint fails, and nothing about a
healthy one does. All of them are examined side by side, as the command would, over real connections.
"""

import contextlib
import ssl
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import pytest
import trustme

from sseproof.chaos.install import install
from sseproof.chaos.processes import PortLease
from sseproof.chaos.toxics import Toxic
from sseproof.chaos.toxiproxy import Server
from sseproof.loadtests.examination import CheckRequest, examine
from sseproof.loadtests.probe import Trust
from sseproof.reports.endpoint.judge import CHECKS, judge_capture
from sseproof.reports.endpoint.model import CheckReport, Finding
from sseproof.rundir.capture import Capture
from tests.loadtests.rawserver import serving
from tests.zoo.conftest import TABLE
from tests.zoo.defects import DEFECTS
from tests.zoo.endpoints import Endpoint
from tests.zoo.healthy import HEALTHY

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.alone]

SIDE_BY_SIDE: Final = 20
"""Nearly all the time of an examination is spent waiting."""
JITTER_MS: Final = 60
"""Up to twice this much, and more than the distance of two events: they come in uneven groups."""
TIMED: Final = {"B03", "B04", "B05", "B07", "T09"}
"""Checks by when things come: their animals have an interpreter of their own. Where forty threads share one, each waits for
another that the kernel has stopped in the midst, for a tenth of a second at times."""
NOT_IN_THE_ZOO: Final = {
    "T03": "only reports when things came",
    "T04": "needs a silence of 20 s at least",
    "T07": "needs a stream of 15 s at least",
    "T10": "is about this machine",
    "H16": "only HTTP/2 shows it",
    "R04": "needs more than a minute of reconnections",
    "K02": "only HTTP/2 shows it",
    "K03": "needs a pause of 10 s",
    "K04": "only the server sees it",
    "K05": "needs an endpoint that repeats what it is sent",
    "K06": "only reports the spread",
    "D01": "only says which dialect it is",
    "D07": "only says that usage frames exist",
}
"""Checks without an animal of their own, and why."""


def examined(
    endpoint: Endpoint, link: Callable[[int], contextlib.AbstractContextManager[int]] = contextlib.nullcontext
) -> Capture:
    """What the command sees of one endpoint."""
    with contextlib.ExitStack() as parts:
        tls, trust = secured(endpoint, parts)
        asks = dict(endpoint.asks)
        if endpoint.origin is not None:
            asks["origin"] = parts.enter_context(serving(endpoint.origin.script)).url
        server = parts.enter_context(serving(endpoint.script, tls=tls))
        port = parts.enter_context(link(server.port)) if endpoint.through == "jitter" else server.port
        url = f"{'https' if tls else 'http'}://127.0.0.1:{port}{endpoint.path}"
        return examine(CheckRequest(url=url, trust=trust, **asks), {}, lambda _: None)


def secured(endpoint: Endpoint, parts: contextlib.ExitStack) -> tuple[ssl.SSLContext | None, Trust]:
    """What the server shows in TLS, and what the client trusts."""
    if endpoint.tls == "none":
        return None, Trust()
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.set_alpn_protocols(["http/1.1"] if endpoint.tls == "private" else ["h2", "http/1.1"])
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    if endpoint.tls == "unknown":
        return tls, Trust(insecure=True)
    file = Path(parts.enter_context(tempfile.TemporaryDirectory())) / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return tls, Trust(ca=str(file))


@contextlib.contextmanager
def jittery() -> Iterator[Callable[[int], contextlib.AbstractContextManager[int]]]:
    """A real Toxiproxy; what it gives puts a link with jitter before a port."""
    server = Server(install(print), say=print)

    @contextlib.contextmanager
    def link(port: int) -> Iterator[int]:
        with PortLease(1) as lease:
            name, listen = f"zoo-{port}", f"127.0.0.1:{lease.ports[0]}"
            server.client.create(name, listen=listen, upstream=f"127.0.0.1:{port}", enabled=True)
            attributes: dict[str, int | str] = {"latency": JITTER_MS, "jitter": JITTER_MS}
            server.client.add_toxic(name, Toxic(name="jitter", type="latency", attributes=attributes))
            yield lease.ports[0]

    try:
        yield link
    finally:
        server.close()


@pytest.fixture(scope="module")
def reports() -> dict[str, CheckReport]:
    animals = [*DEFECTS, *HEALTHY]
    timed = [each.name for each in animals if each.expected.keys() & TIMED]
    # The slowest ones first, so that none of them is left alone at the end.
    others = sorted(
        (each for each in animals if each.name not in timed), key=lambda each: each.answer is None
    )
    with (
        ProcessPoolExecutor(1, get_context("spawn")) as apart,
        prompt_threads(),
        jittery() as link,
        ThreadPoolExecutor(SIDE_BY_SIDE) as pool,
    ):
        by_time = apart.submit(examined_apart, timed)
        captures = dict(
            zip([each.name for each in others], pool.map(partial(examined, link=link), others), strict=True)
        )
        captures.update(by_time.result())
    # Not beside those that are still read: it keeps the processor, and what is read late counts for nothing.
    return {name: judge_capture(capture) for name, capture in captures.items()}


def examined_apart(names: list[str]) -> dict[str, Capture]:
    """Runs in a process of its own."""
    animals = [each for each in (*DEFECTS, *HEALTHY) if each.name in names]
    with prompt_threads(), ThreadPoolExecutor(len(animals)) as pool:
        return dict(zip([each.name for each in animals], pool.map(examined, animals), strict=True))


@contextlib.contextmanager
def prompt_threads() -> Iterator[None]:
    """Who has something to read waits for another thread no longer than a fifth of what counts as late."""
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(0.001)
    try:
        yield
    finally:
        sys.setswitchinterval(usual_s)


def finding_of(report: CheckReport, check: str) -> Finding:
    return next(finding for finding in report.findings if finding.id == check)


def wrong_with(animal: Endpoint, report: CheckReport) -> list[str]:
    """How the findings differ from what they must be."""
    wrong = [
        f"{check} is {found.verdict}, not {verdict}: {found.sentence}"
        for check, verdict in animal.expected.items()
        if (found := finding_of(report, check)).verdict != verdict
    ]
    return wrong + [
        f"{finding.id} fails: {finding.sentence}"
        for finding in report.findings
        if finding.verdict == "fail" and animal.expected.get(finding.id) != "fail"
    ]


def table_of(reports: dict[str, CheckReport]) -> str:
    lines = []
    for animal in (*DEFECTS, *HEALTHY):
        report = reports[animal.name]
        expected = " ".join(f"{check} {verdict}" for check, verdict in animal.expected.items()) or "no fail"
        others = [
            each.id for each in report.findings if each.verdict == "warn" and each.id not in animal.expected
        ]
        state = "ok   " if not wrong_with(animal, report) else "WRONG"
        lines.append(
            f"{state} {animal.name:<44} {expected:<20} {'also warned: ' + ' '.join(others) if others else ''}".rstrip()
        )
    return "\n".join(lines)


def test_every_defect_is_found_and_nobody_else_is_accused(
    reports: dict[str, CheckReport], record_property: Callable[[str, object], None]
) -> None:
    record_property(TABLE, table_of(reports))
    wrong = {
        animal.name: found
        for animal in (*DEFECTS, *HEALTHY)
        if (found := wrong_with(animal, reports[animal.name]))
    }
    assert not wrong, "\n".join(f"{name}: {'; '.join(found)}" for name, found in wrong.items())


def test_the_first_line_is_about_the_defect(reports: dict[str, CheckReport]) -> None:
    """The diagnosis is the sentence of a check that the animal was made for."""
    strange = {}
    for animal in DEFECTS:
        report = reports[animal.name]
        failing = [check for check, verdict in animal.expected.items() if verdict == "fail"]
        sentences = [finding.sentence for finding in report.findings if finding.id in failing]
        if failing and not any(report.diagnosis.startswith(sentence) for sentence in sentences):
            strange[animal.name] = report.diagnosis
        assert report.exit_code == (1 if failing else report.exit_code)
    assert not strange, strange


def test_findings_show_what_they_saw(reports: dict[str, CheckReport]) -> None:
    """Whoever is accused is told what to change; no animal breaks a check."""
    for report in reports.values():
        for finding in report.findings:
            assert "itself broke" not in finding.sentence, (report.url, finding)
            if finding.verdict in {"fail", "warn"}:
                assert finding.fix, (finding.id, finding.sentence)


def test_how_mcp_is_resumed(reports: dict[str, CheckReport]) -> None:
    by_get, never = (
        reports["MCP, asked by POST, resumed by GET"],
        reports["MCP of a version that can't resume"],
    )
    assert [finding_of(by_get, check).verdict for check in ("R01", "R02", "R03")] == ["pass"] * 3
    assert [finding_of(never, check).verdict for check in ("R01", "R02", "R03", "R05")] == ["n/a"] * 4


def test_no_healthy_endpoint_ends_with_1(reports: dict[str, CheckReport]) -> None:
    assert {
        animal.name: reports[animal.name].exit_code
        for animal in HEALTHY
        if reports[animal.name].exit_code == 1
    } == {}


def test_every_check_has_an_animal_or_a_reason() -> None:
    found = {check for animal in DEFECTS for check in animal.expected}
    ids = {check.id for check in CHECKS}
    assert ids - found - NOT_IN_THE_ZOO.keys() == set()
    assert not found & NOT_IN_THE_ZOO.keys()


def test_the_zoo_is_large_enough() -> None:
    assert len(DEFECTS) >= 40
    assert len(HEALTHY) >= 15
    names = [animal.name for animal in (*DEFECTS, *HEALTHY)]
    assert len(set(names)) == len(names)

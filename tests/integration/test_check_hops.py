"""`sseproof check` of a real server behind a real nginx: each thing that nginx does to a stream is named, with its own fix.

The larger table, with services of other makers, is that of `make check-real`.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest

from sseproof.chaos.hop_config import HopKind
from sseproof.chaos.hops import Hop, find_nginx
from sseproof.loadtests.examination import CheckRequest, examine
from sseproof.reports.endpoint.judge import judge_capture
from sseproof.reports.endpoint.model import CheckReport, Finding
from sseproof.rundir.capture import Capture
from tests.integration.suite import served

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(find_nginx() is None, reason="no nginx here"),
]

STEADY: Final = "script=long&sent_at=true&first_token_ms=0&events=900&interval_ms=8"
"""Some forty pieces of 4 KiB in seven seconds: twice what buffering is judged from."""
QUIET: Final = "script=long&first_token_ms=0&events=20&interval_ms=7000"
"""Silent for longer than the read time-out of 5 s."""
TOPIC: Final = "/api/v1/stream/feed?topic=news&interval_ms=2"
"""Never whole, and so never kept."""
WAYS: Final[dict[str, tuple[str, HopKind | None, str]]] = {
    "direct": ("robust", None, STEADY),
    "sse.conf": ("robust", "nginx-sse", STEADY),
    "defaults, told not to buffer": ("robust", "nginx-plain", STEADY),
    "defaults": ("legacy", "nginx-plain", STEADY),
    "gzip": ("legacy", "nginx-defaults", STEADY),
    "time-out": ("robust", "nginx-timeout", QUIET),
    "cache": ("robust", "nginx-cache", STEADY),
    "cache before a topic": ("robust", "nginx-cache", TOPIC),
}
NAMED: Final = {
    "defaults": ("B02", "proxy_buffering off"),
    "gzip": ("B06", "gzip off"),
    "time-out": ("T08", "proxy_read_timeout"),
    "cache": ("H04", "proxy_cache off"),
    "cache before a topic": ("B02", "proxy_buffering off"),
}
"""What must be found by each way, and what the fix must say."""


@pytest.fixture
def reports(tmp_path: Path) -> Iterator[dict[str, CheckReport]]:
    with ExitStack() as parts:
        servers = {
            profile: urlsplit(parts.enter_context(served("--profile", profile)))
            for profile in ("robust", "legacy")
        }
        urls = {}
        for name, (profile, kind, query) in WAYS.items():
            server = servers[profile]
            place = server.netloc
            if kind is not None:
                hop = Hop(kind, upstreams=[place], folder=tmp_path / f"{profile}-{kind}", say=lambda _: None)
                place = f"127.0.0.1:{parts.enter_context(hop).port}"
            urls[name] = f"http://{place}{query if query.startswith('/') else f'{server.path}?{query}'}"
        with ThreadPoolExecutor(len(urls)) as pool:
            captures = list(pool.map(examined, urls.values()))
        # Not beside those that are still read: it keeps the processor, and what is read late counts for nothing.
        yield {name: judge_capture(capture) for name, capture in zip(urls, captures, strict=True)}


def examined(url: str) -> Capture:
    # A topic would be looked at for ten seconds; half of it brings sixty pieces, and no more time than the others take.
    return examine(CheckRequest(url=url, look_s=5.0 if url.endswith(TOPIC) else None), {}, lambda _: None)


def failing(report: CheckReport) -> dict[str, Finding]:
    return {each.id: each for each in report.findings if each.verdict == "fail"}


def test_what_nginx_does_is_named_with_its_fix_and_nobody_else_accused(
    reports: dict[str, CheckReport],
) -> None:
    """One test, because all of its ways are examined side by side."""
    for way, report in reports.items():
        found = failing(report)
        if way in NAMED:
            check, fix = NAMED[way]
            assert check in found, (way, found)
            assert "nginx" in found[check].fix, way
            assert fix in found[check].fix, way
        else:
            assert found == {}, way
            passed = {each.id for each in report.findings if each.verdict == "pass"}
            assert {"B01", "B02"} <= passed, way
    cached = next(each for each in reports["cache before a topic"].findings if each.id == "H04")
    assert (cached.verdict, "proxy_cache off" in cached.fix) == ("unknown", True)
    assert cached.sentence.startswith("X-Cache-Status: MISS: a cache is asked for this stream.")

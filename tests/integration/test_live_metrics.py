"""`--metrics-port` and /metrics in a real run, and the dashboard that draws them.

While it lasts the run tells of streams, the fault that acts and the generators; at its end it says what its file says. The
service's figures are its witness's. Every query of the dashboard is read by a parser of PromQL, and names only what the two
really expose.
"""

import contextlib
import json
import os
import re
import signal
import socket
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import promql_parser
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from sseproof.reports.openmetrics import StreamFigures, live_text
from sseproof.rundir.files import STREAMS
from sseproof.rundir.rows import BrowserPlan, BrowserRow, Plan, VariantPlan, WitnessRow
from tests.integration.suite import directory_of, nobody_listens, rows, served, sseproof, started

if TYPE_CHECKING:
    from subprocess import Popen

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = json.loads((ROOT / "docs" / "grafana-dashboard.json").read_text("utf-8"))
SCENARIO = """
claims = ["success >= 30%"]
[target]
url = "URL?events=10&interval_ms=20&script=arabic"
[load]
rate = 20
duration = "2500ms"
[[fault]]
kind = "refused"
name = "away"
share = "40%"
after = "500ms"
duration = "1500ms"
[[fault]]
kind = "cut"
name = "cut"
share = "40%"
after_bytes = 500
"""
TOLD = re.compile(r"Live metrics: (http://127\.0\.0\.1:(\d+)/metrics)")
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(content: bytes) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(content.decode())
        for sample in family.samples
    }


def total(found: Samples, name: str, **labels: str) -> float:
    return sum(
        value
        for (told, pairs), value in found.items()
        if told == name and labels.items() <= dict(pairs).items()
    )


def labels_of(seen: list[Samples], name: str, label: str) -> set[str]:
    """Every value that the label ever had."""
    return {dict(pairs)[label] for found in seen for told, pairs in found if told == name}


def told_by(process: "Popen[str]") -> tuple[str, int]:
    """The address in the first line on standard error."""
    assert process.stderr is not None
    line = process.stderr.readline()
    found = TOLD.match(line)
    assert found, line
    return found[1], int(found[2])


def got(url: str) -> bytes:
    request = urllib.request.Request(url, headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    with urllib.request.urlopen(request, timeout=10) as reply:
        return reply.read()


def scrapes(process: "Popen[str]", url: str) -> Iterator[Samples]:
    """What it answers, again and again, until it is over."""
    while process.poll() is None:
        try:
            content = got(url)
        except (urllib.error.URLError, ConnectionError):
            return  # it closes its port last
        yield samples(content)
        time.sleep(0.1)


def ended_rows(url: str) -> list[WitnessRow]:
    """Every row of a witness, once the server has noticed that all connections are gone."""
    ends = time.monotonic() + 20
    while True:
        found = [msgspec.json.decode(line, type=WitnessRow) for line in got(url).splitlines()]
        if all(row.ended is not None for row in found):
            return found
        assert time.monotonic() < ends, found
        time.sleep(0.05)


class Live(NamedTuple):
    """A run that is over."""

    seen: list[Samples]
    """What it answered while it lasted."""
    file: Samples
    service: Samples
    witness: list[WitnessRow]
    streams: int
    served: int
    """Streams that got an event: one that was refused until it gave up is unknown to the service."""
    port: int


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Live:
    folder = tmp_path_factory.mktemp("live")
    with served("--misbehave", "utf8", "--misbehave-share", "0.2") as url:
        (folder / "live.toml").write_text(SCENARIO.replace("URL", url))
        marks = folder / "marks.jsonl"
        marks.touch()
        options = ["--metrics-port", "0", "--quiet", "--openmetrics", "file.txt", "--seed", "7"]
        process = started("run", "live.toml", *options, "--marks", str(marks), cwd=folder)
        try:
            address, port = told_by(process)
            # Marks are read when the load is over, and before it is judged: until its last figures are seen they keep it waiting.
            marks.unlink()
            os.mkfifo(marks)
            seen = []
            for found in scrapes(process, address):
                seen.append(found)
                if labels_of([found], "sse_run_info", "how") - {"running"}:
                    with contextlib.suppress(OSError):  # it does not read yet
                        os.close(os.open(marks, os.O_WRONLY | os.O_NONBLOCK))
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.returncode == 0, out + err
        root = "/".join(url.split("/")[:3])
        with pytest.raises(urllib.error.HTTPError, match="400") as refused:
            got(f"{url}?events=x")
        refused.value.close()
        witness = ended_rows(f"{root}/witness")
        service = samples(got(f"{root}/metrics"))
    records = rows(directory_of(folder), STREAMS)
    file = samples((folder / "file.txt").read_bytes())
    served_ones = sum(record.events > 0 for record in records)
    return Live(seen, file, service, witness, len(records), served_ones, port)


def changes(values: list[float]) -> list[float]:
    return [now for now, before in zip(values, [None, *values], strict=False) if now != before]


def test_a_run_tells_what_it_has_come_to(live: Live):
    nobody_listens([live.port])
    ended = [total(found, "sse_streams_total") for found in live.seen]
    assert ended == sorted(ended)
    assert len(set(ended)) >= 3, "it grows while the run lasts"
    assert max(total(found, "sse_streams_open") for found in live.seen) >= 1
    assert max(total(found, "sse_generator_open_streams") for found in live.seen) >= 1
    assert labels_of(live.seen, "sse_generator_open_streams", "worker") == {"0"}
    acts = [total(found, "sse_fault_active", group="away", toxic="refused") for found in live.seen]
    assert changes(acts) == [0, 1, 0]
    assert labels_of(live.seen, "sse_run_info", "how") == {"running", "finished"}


def test_its_last_answer_is_what_its_file_says(live: Live):
    file, last = live.file, live.seen[-1]
    assert total(file, "sse_streams_total") == live.streams == total(last, "sse_streams_started_total")
    assert total(last, "sse_streams_open") == 0
    shared = {name for name, _ in file} & {name for name, _ in last}
    assert {
        *("sse_streams_total", "sse_breaks_total", "sse_defects_total", "sse_reconnections_total"),
        *("sse_time_to_first_token_seconds_bucket", "sse_reconnect_seconds_bucket"),
    } <= shared
    for (name, labels), value in last.items():
        if name in shared and not name.endswith("_created") and name != "sse_fault_active":
            assert file[name, labels] == pytest.approx(value), (name, labels)


def test_the_services_figures_are_its_witnesses(live: Live):
    service, witness = live.service, live.witness
    assert len(witness) >= live.served >= 10
    ends: defaultdict[str, int] = defaultdict(int)
    for row in witness:
        ends[row.end] += 1
    told = {
        dict(labels)["end"]: value
        for (name, labels), value in service.items()
        if name == "sse_server_connections_ended_total"
    }
    assert told == ends
    assert total(service, "sse_server_sent_bytes_total") == sum(row.written_bytes for row in witness)
    streamed = sum(row.end not in {"finished", "unknown-id"} for row in witness)
    assert total(service, "sse_server_stream_size_bytes_count") == streamed >= live.served
    events = sum(last - first + 1 for row in witness for first, last in row.written)
    assert total(service, "sse_server_events_total") == events
    again = sum(row.last_event_id is not None or row.connection > 1 for row in witness)
    assert total(service, "sse_server_reconnections_total") == again >= 5
    first = sum(row.last_event_id is None and row.first_token_write is not None for row in witness)
    assert total(service, "sse_server_time_to_first_token_seconds_count") == first
    assert total(service, "sse_server_active_connections") == 0


# --- the dashboard ---


def exposed(live: Live) -> dict[str, set[str]]:
    """Metric → its labels, of the service, of the run, and of a run of browsers."""
    browser = VariantPlan(
        name="b",
        target=msgspec.Raw(b"null"),
        load=msgspec.Raw(b"null"),
        client=msgspec.Raw(b"null"),
        browser=BrowserPlan(name="firefox", client="eventsource", at_once=1),
    )
    plan = Plan(run="r", scenario="s", seed=1, created_ns=1, gap_edges_ns=[1], variants=[browser])
    drawn = BrowserRow(
        variant="b",
        at_ns=1,
        resolution_ns=1,
        length_ns=1,
        frames=1,
        frame_gap_p95_ns=1,
        long_tasks=1,
        long_tasks_ns=1,
    )
    browsers = samples(live_text(plan, StreamFigures(plan), [], how="running", browsers=[drawn]))
    labels: defaultdict[str, set[str]] = defaultdict(set)
    for found in (live.service, *live.seen, browsers):
        for name, pairs in found:
            labels[name] |= {key for key, _ in pairs}
    return labels


def queries() -> list[tuple[str, str, str]]:
    """Title, query and legend of everything that the dashboard asks."""
    told = [
        (panel["title"], target["expr"], target["legendFormat"])
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", [])
    ]
    return told + [
        (each["name"], each["expr"], each["titleFormat"] + each["textFormat"])
        for each in DASHBOARD["annotations"]["list"]
    ]


def selectors(node: Any) -> Iterator[promql_parser.VectorSelector]:
    """Every series that an expression names."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for name in ("expr", "lhs", "rhs", "vector_selector", "param", "vs"):
        inner = getattr(node, name, None)
        if inner is not None:
            yield from selectors(inner)
    for inner in getattr(node, "args", []) or []:
        yield from selectors(inner)


def parsed(expression: str) -> promql_parser.Expr:
    plain = re.sub(r"\$(endpoint|variant|group)\b", ".*", expression.replace("$__rate_interval", "1m"))
    assert "$" not in plain, plain
    return promql_parser.parse(plain)


FROM_PROMETHEUS = {"instance", "job", "le"}


@pytest.mark.parametrize(("title", "query", "legend"), queries())
def test_a_query_parses_and_names_what_there_is(live: Live, title: str, query: str, legend: str):
    there = exposed(live)
    found = list(selectors(parsed(query)))
    assert found, "it asks for nothing"
    # A label that runs without variants don't have is one all the same.
    known = FROM_PROMETHEUS | {"variant"}
    for selector in found:
        assert selector.name in there, f"{title}: there is no {selector.name}"
        for matcher in selector.matchers.matchers:
            assert matcher.name in there[selector.name] | known, (
                f"{title}: {selector.name} has no {matcher.name}"
            )
        known |= there[selector.name]
    grouped = {
        label.strip() for by in re.findall(r"\b(?:by|on) \(([^)]*)\)", query) for label in by.split(",")
    }
    shown = set(re.findall(r"\{\{(\w+)\}\}", legend))
    assert grouped | shown <= known, title
    if " by (" in query:
        assert shown <= grouped, f"{title}: its legend names what the query sums away"


def test_rates_are_of_counters_and_quantiles_of_histograms():
    for title, query, _ in queries():
        for name in re.findall(r"\brate\((\w+)", query):
            assert name.endswith(("_total", "_sum", "_count", "_bucket")), title
        for inner in re.findall(r"histogram_quantile\([\d.]+, sum by \(([^)]*)\)", query):
            assert "le" in inner, title


SPARSE = {"sse_streams_total": "outcome", "sse_server_errors_total": "endpoint"}
"""Counters that are not there before the first of a kind, and the label that chooses among them."""


def test_a_share_of_none_is_drawn_as_0():
    """Where nothing succeeded there is no success to be divided: a panel without data would look as before the run."""
    shares = []
    for title, query, _ in queries():
        part = getattr(parsed(query), "lhs", None)
        for each in [] if part is None else selectors(part):
            if SPARSE.get(each.name) in {matcher.name for matcher in each.matchers.matchers}:
                shares.append(title)
                assert " or 0 * sum by (" in query, title
                break
    assert shares == ["Error rate per endpoint", "Connection success"]


@pytest.mark.parametrize("counter", ["sse_streams_total", "sse_attempts_total", "sse_defects_total"])
def test_a_single_error_is_drawn(counter):
    """A counter that begins at 1 has no rate: what came once in a run would be on no panel."""
    assert not [title for title, query, _ in queries() if re.search(rf"\brate\({counter}\b", query)]


def test_it_can_be_imported_anywhere():
    """No server's own names: the source of the data is asked for, and nothing else is."""
    (source, *others) = DASHBOARD["templating"]["list"]
    assert (source["type"], source["name"]) == ("datasource", "datasource")
    assert {each["type"] for each in others} == {"query"}
    for each in (*DASHBOARD["panels"], *others, *DASHBOARD["annotations"]["list"]):
        if each.get("type") != "row":
            assert each["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    identifiers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(identifiers) == len(set(identifiers))
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, f"{panel['title']} lies on another"
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_every_family_is_drawn(live: Live):
    """What is exposed and on no panel is told in the documentation, or is somebody's mistake."""
    drawn = {selector.name for _, query, _ in queries() for selector in selectors(parsed(query))}
    families = families_of(exposed(live))
    families -= {re.sub(r"_(bucket|sum|count)$", "", name) for name in drawn}
    assert families == {"sse_run_info", "sse_browser_hidden"}


def families_of(labels: dict[str, set[str]]) -> set[str]:
    """The names without what the kinds of a family add, but for counters, which are asked for as they are."""
    found = {re.sub(r"_(bucket|sum|count)$", "", name) for name in labels if not name.endswith("_created")}
    return {name for name in found if name.startswith("sse_")}


def test_the_documentation_names_all_of_them_and_its_queries_parse(live: Live):
    text = (ROOT / "docs" / "monitoring.md").read_text("utf-8")
    there = families_of(exposed(live))
    told = set(re.findall(r"`(sse_\w+)`", text))
    assert told - there == set(), "named, and not there"
    assert there - told == set(), "there, and not named"
    asked = [code for code in re.findall(r"`([^`]+\))`", text) if "sse_" in code]
    assert len(asked) >= 8
    for query in asked:
        assert {selector.name for selector in selectors(parsed(query))} <= exposed(live).keys(), query


# --- other ways to have a port ---


def test_faults_alone_tell_which_of_them_acts(tmp_path: Path):
    """One that comes and goes, and one that stays, with which it lasts until it is told to end."""
    (tmp_path / "plan.toml").write_text(
        '[[fault]]\nkind = "refused"\nname = "away"\nafter = "500ms"\nduration = "1500ms"\n'
        '[[fault]]\nkind = "latency"\nname = "late"\ndelay = "1ms"\n'
    )
    with socket.create_server(("127.0.0.1", 0)) as upstream:
        place = f"127.0.0.1:{upstream.getsockname()[1]}"
        options = ["--upstream", place, "--listen", "0", "--metrics-port", "0", "--quiet"]
        process = started("chaos", "run", "plan.toml", *options, cwd=tmp_path)
        url, port = told_by(process)
        acts: list[float] = []
        for found in scrapes(process, url):
            acts.append(total(found, "sse_fault_active", group="away", toxic="refused"))
            if changes(acts) == [0, 1, 0]:
                break
        assert total(found, "sse_fault_active", group="late", toxic="latency") == 1
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert changes(acts) == [0, 1, 0], out + err
    nobody_listens([port])


def test_a_port_that_is_taken_is_told_before_anything_is_sent(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as target:
        port = target.getsockname()[1]
        url = f"http://127.0.0.1:{port}/"
        done = sseproof("run", "--target", url, "--metrics-port", str(port), "--streams", "1", cwd=tmp_path)
        target.setblocking(False)
        with pytest.raises(BlockingIOError):
            target.accept()
    assert done.returncode == 70
    assert done.stderr == (
        f"metrics_port {port} of 127.0.0.1 can't be had (Address already in use): give another, or 0 for a free one.\n"
    )
    assert not (tmp_path / "runs").exists()

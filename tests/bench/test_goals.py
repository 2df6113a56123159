"""A goal that is missed is said, and a source that limited is told apart; with figures that were made up."""

import importlib
import json
import re
import sys
from pathlib import Path

import msgspec
import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def bench(monkeypatch):
    """A module of the bench by its name; their names are too common to stay imported."""
    monkeypatch.syspath_prepend(str(BENCH))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(BENCH)):
            del sys.modules[name]


def changed(rows, at, **fields):
    return [msgspec.structs.replace(row, **fields) if place == at else row for place, row in enumerate(rows)]


def missed(module, rows, *words):
    said = module.missed_goals(rows)
    assert len(said) == len(words), said
    for sentence, word in zip(said, words, strict=True):
        assert word in sentence


def test_parser(bench):
    parser = bench("parser")
    rows = [
        parser.ParserRow("ASCII", newline, chunk, 700_000, 300_000, 150_000, times, 4.0)
        for newline, chunk, times in (("LF", "event", 2.0), ("CRLF", "event", 1.0), ("LF", "64 KiB", 1.0))
    ]
    missed(parser, rows)
    missed(parser, changed(rows, 0, times_httpx_sse=1.99), "LF, chunks of event; the goal is 2")
    missed(parser, changed(rows, 1, times_httpx_sse=0.99), "CRLF, chunks of event; the goal is 1")
    missed(parser, changed(rows, 2, times_httpx_sse=0.99), "LF, chunks of 64 KiB; the goal is 1")


def test_clients(bench):
    clients = bench("clients")

    def row(name, cpu_us, p99_ms):
        return clients.ClientRow(
            client=name, events_per_s=49_000, cpu_us_per_event=cpu_us, error_p99_ms=p99_ms, received_share=1.0
        )

    rows = [row(clients.SSEPROOF, 12, 0.2), row(clients.FASTHTTP, 20, 5.1), row(clients.HTTPUSER, 13, 0.1)]
    rows.append(clients.ClientRow(client=clients.K6, here=False))
    missed(clients, rows)
    missed(clients, changed(rows, 0, cpu_us_per_event=17), "0.85 of that of Locust FastHttpUser")
    missed(
        clients,
        changed(rows, 3, here=True, cpu_us_per_event=19),
        "0.63 of that of k6 with xk6-sse; the goal is 0.6",
    )
    missed(clients, changed(rows, 0, error_p99_ms=0.21), "p99 of the error is 0.21 ms; the goal is 0.2")
    missed(clients, changed(rows, 1, error_p99_ms=5.0), "not above 5 ms: the load is too light")
    missed(
        clients,
        changed(rows, 2, source_lag_p99_ms=6),
        "late at p99 under Locust HttpUser (iter_lines): it limited",
    )
    missed(clients, changed(rows, 0, events_per_s=40_000), "40,000 of 50,000")
    for wrong in ({"lost": 1}, {"left_out": 1}, {"received_share": 0.98}):
        missed(clients, changed(rows, 0, **wrong), "sseproof lost")
        worse = msgspec.structs.replace(rows[0], cpu_us_per_event=13, **wrong)
        missed(clients, [clients.best_of([rows[0], worse]), *rows[1:]], "sseproof lost")
    assert clients.best_of([worse, rows[0]]).cpu_us_per_event == 12


def test_saturation(bench):
    saturation = bench("saturation")
    rows = [saturation.SaturationRow(100, 2_000_000, 250_000.0, 3.0, 0, 0.5)]
    missed(saturation, rows)
    missed(saturation, changed(rows, 0, events_per_s=199_999.0), "the goal is 200,000")
    missed(saturation, changed(rows, 0, lost=1), "1 events were lost")
    missed(saturation, changed(rows, 0, source_idle_share=0.05), "it limited")
    slower = changed(rows, 0, events_per_s=240_000.0, lost=3)
    missed(saturation, [saturation.best_of([*rows, *slower])], "3 events were lost")
    assert saturation.best_of([*slower, *rows]).events_per_s == 250_000


def test_memory(bench):
    memory = bench("memory")
    rows = [memory.MemoryRow(9_000, 9_000, 58.0, 217.0, 17.7, 0.05, 53.0, 0, 18_000, 0, 4.0, 0.01)]
    missed(memory, rows)
    missed(memory, changed(rows, 0, waiting_share=0.3))
    missed(
        memory, changed(rows, 0, waiting_share=0.3, lost=2), "2 events were lost", "waited 30% of the time"
    )
    missed(memory, changed(rows, 0, kb_a_stream=18.1), "18.1 KB RSS a stream")
    missed(memory, changed(rows, 0, error_p99_ms=0.5), "p99 of the error")
    missed(memory, changed(rows, 0, lost=2), "2 events were lost")
    missed(memory, changed(rows, 0, left_out=5), "5 events were left out")
    missed(memory, changed(rows, 0, not_received=18_001), "18,001 events were written and never received")
    missed(memory, changed(rows, 0, most_open=8_999), "only 8,999 were open")
    missed(memory, changed(rows, 0, source_lag_p99_ms=21.0), "it limited")


def test_server(bench):
    server = bench("server")
    paced = server.ServerRow(server.OURS, "paced", 4_900.0, 25.0, 40_000.0, 1.0, 0.3)
    rows = [paced, msgspec.structs.replace(paced, pace="unpaced", wants_core=0.95)]
    missed(server, rows)
    missed(server, changed(rows, 0, events_per_s=4_400.0), "4,400 of 5,000")
    missed(server, changed(rows, 0, of_plain=0.89), "reference server, paced: 0.89 of the plain")
    missed(server, changed(rows, 1, of_plain=0.89), "reference server, unpaced: 0.89 of the plain")
    missed(server, changed(rows, 1, of_plain=0.89, server=server.STARLETTE))
    missed(server, changed(rows, 0, wants_core=0.91), "it was behind, and events went in groups")
    missed(server, changed(rows, 1, wants_core=0.89), "at work for 89% of the time: the reader limited")


def test_servers_are_compared_within_a_round(bench):
    server = bench("server")

    def rounds(*rates):
        return [server._Window(1.0, rate, 1.0) for rate in rates]

    # The machine was half as fast in the second round, for both.
    row = server.row_of(server.OURS, "paced", rounds(30.0, 16.0, 33.0), rounds(30.0, 15.0, 30.0))
    assert row.of_plain == 16 / 15
    assert row.events_per_core_s == 33.0


@pytest.mark.integration
def test_all_servers_write_the_same_events(bench):
    server = bench("server")
    peer_events = bench("peer_events")
    first = [
        f'event: delta\ndata: {{"text":{json.dumps(text, ensure_ascii=False)}}}'
        for text in peer_events.texts()[:40]
    ]
    for name in server.SERVERS:
        with server.served(server.command(name, 1)[0]) as (_, port):
            raw = b""
            with server.ask(port, server.command(name, 1)[1]) as stream:
                stream.settimeout(20)
                while raw.count(b"\n\n") <= len(first) + 1:  # hello, and the last one is not whole
                    raw += stream.recv(65_536)
        # Each event is a chunk of its own or several share one: what is left of the framing is no part of an event.
        body = re.sub(rb"\r\n(?:[0-9a-f]+\r\n)?", b"", raw.partition(b"\r\n\r\n")[2])
        events = [part for part in body.decode().split("\n\n") if "event: delta" in part][: len(first)]
        shown = [part.partition("id: ")[2].partition("\n") for part in events]
        assert [fields for _, _, fields in shown] == first, name
        numbers = [event_id.partition("-") for event_id, _, _ in shown]
        assert all(len(key) == len(peer_events.KEY) for key, _, _ in numbers)
        begins = int(numbers[0][2])
        assert [int(number) for _, _, number in numbers] == list(range(begins, begins + len(first)))


def test_holding(bench):
    holding = bench("holding")
    rows = [holding.HoldRow(9_000, 5.0, 9_000, 40.0, 200.0, 17.0, 18_000, 2, 5.3, 100, 1.5, 160.0, 0.01)]
    missed(holding, rows)
    missed(holding, changed(rows, 0, most_open=8_999), "only 8,999 were open")
    missed(holding, changed(rows, 0, kb_a_stream=24.1), "24.1 KB RSS a stream; the goal is 24")
    missed(holding, changed(rows, 0, fewest=1), "one got 1 of 2 heartbeats")
    missed(holding, changed(rows, 0, silence_s=10.1), "10.1 s without a heartbeat of 5 s")
    missed(holding, changed(rows, 0, health_max_ms=1_001.0), "took 1,001 ms; the goal is 1,000")
    busy = changed(rows, 0, health_max_ms=1_001.0, waiting_share=0.4)
    missed(holding, busy, "took 1,001 ms; the goal is 1,000", "waited 40% of the time for a core")
    missed(holding, changed(rows, 0, waiting_share=0.4))


@pytest.mark.integration
def test_one_server_holds_many_silent_streams_alive(bench):
    holding = bench("holding")
    (row,) = holding.measure((1_500,), heartbeat_s=1.5)
    missed(holding, [row])
    assert row.most_open == 1_500
    assert row.health_asked >= 5
    assert row.kb_a_stream > 4  # less is no stream's memory but a mistake of the measuring


def test_the_flood_is_numbered_whole_and_says_whether_it_limited(bench):
    flood_source = bench("flood_source")
    flood = flood_source.Flood(1_200)
    try:
        body = b"".join(flood.blocks)
        assert body.startswith(flood_source.HEAD)
        assert body.endswith(b"\r\n0\r\n\r\n")
        assert [body.count(b"id: %d\n" % number) for number in range(1, 1_202)] == [1] * 1_200 + [0]
        flood.began_s, flood.ended_s, flood.idle_s, flood.whole = 10.0, 14.0, 1.0, 3
        assert flood.summary() == {"written": 3_600, "idle_share": 0.25}
    finally:
        flood.poll.close()
        flood.listener.close()


def test_judging(bench):
    judging = bench("judging")
    rows = [
        judging.JudgingRow(
            streams=streams, outputs="none", seconds=seconds, cpu_s=seconds, peak_mb=480, report_kb=700
        )
        for streams, seconds in ((10_000, 2.5), (100_000, 22.0))
    ]
    missed(judging, rows)
    missed(
        judging,
        changed(rows, 0, seconds=5.1, cpu_s=5.0),
        "10,000 streams, outputs none: 5.1 s; the goal is 5",
    )
    missed(
        judging,
        changed(rows, 1, seconds=31),
        "31.0 s; the goal is 30 (the process computed for 22.0 s: leave",
    )
    missed(judging, changed(rows, 1, peak_mb=601), "100,000 streams, outputs none: 601 MB; the goal is 600")
    missed(judging, changed(rows, 0, report_kb=1_001), "the report has 1001 KB; the goal is 1000")


def test_a_small_run_is_judged_in_a_process_of_its_own(bench):
    judging = bench("judging")
    rows = judging.measure((200,))
    assert [(row.streams, row.outputs) for row in rows] == [(200, "none"), (200, "all")]
    assert all(row.cpu_s > 0.1 and 20 < row.peak_mb < 300 and row.report_kb > 20 for row in rows)

"""What the stream client's tests share: a client for an address, and the rows its streams left."""

from collections.abc import Iterator
from typing import Any

import gevent

from sseproof.loadtests.metrics import Metrics
from sseproof.loadtests.session import StreamClient
from sseproof.loadtests.settings import Client, Target, Timeouts
from sseproof.loadtests.stream import Ledger
from sseproof.rundir.rows import GAP_GRID_NS, AddressPlan, BreakRow, Instant, StartRow, StreamRecord
from sseproof.rundir.units import Duration

MS = 1_000_000


def ms(value: float) -> Duration:
    return Duration(round(value * MS))


def timeouts(**given: float) -> Timeouts:
    """Time-outs in ms; what is not given is long enough never to matter."""
    return Timeouts(
        **{
            name: ms(given.get(name, 20_000))
            for name in ("connect", "headers", "first_event", "idle", "total")
        }
    )


class Streams:
    """A client and its rows. Keywords: fields of Target, `client` fields by their name, options of StreamClient."""

    def __init__(self, url: str, **options: Any) -> None:
        self.starts: list[StartRow] = []
        self.breaks: list[BreakRow] = []
        self.records: list[StreamRecord] = []
        self.metrics = Metrics(worker=0)
        self.ledger = Ledger(options.pop("ledger_bytes", 256 << 20))
        client = {name: options.pop(name) for name in Client.__struct_fields__ if name in options}
        client.setdefault("timeouts", timeouts())
        client.setdefault("backoff", ms(10))
        # `kind` belongs to both; the client needs the decided one.
        target = {
            name: options.pop(name) for name in Target.__struct_fields__ if name in options and name != "kind"
        }
        self.target = Target(url=url, **target)
        if "reader" in options:
            options["dialect"] = options.pop("reader")  # an object; `dialect` in the target is a name
        settings = {
            "run": "r1",
            "on_start": self.starts.append,
            "on_break": self.breaks.append,
            "on_end": self.records.append,
            "gap_edges_ns": list(GAP_GRID_NS),
            "environ": {},
        }
        self.client = StreamClient(
            self.target,
            Client(**client),
            metrics=self.metrics,
            ledger=self.ledger,
            **{**settings, **options},
        )

    def run(self, path: str | None = None, **options: Any) -> StreamRecord:
        """One stream; fails the test instead of hanging it."""
        with gevent.Timeout(60):
            return self.client.run(path, **options)

    @property
    def only(self) -> StreamRecord:
        assert len(self.records) == 1
        return self.records[0]


def address(port: int, group: str | None = None) -> AddressPlan:
    return AddressPlan(host="127.0.0.1", port=port, group=group)


def instants(record: StreamRecord) -> Iterator[tuple[str, Instant]]:
    """Every instant of a row, with its name."""
    for place, row in [("stream", record), *((f"attempt {each.number}", each) for each in record.attempts)]:
        for name in row.__struct_fields__:
            value = getattr(row, name)
            if isinstance(value, Instant):
                yield f"{place}.{name}", value

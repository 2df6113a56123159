"""`--metrics-port`: what a run or a rig of faults has come to so far, for a Prometheus, while it lasts.

Rules:
- It answers on loopback alone, in a thread of the process that shows the progress: the processes that measure are asked
  nothing and do nothing for it. Rows are read as they come, once a second, from the run directory; those of faults, which
  are few and may be healed within a second, as often as the progress looks.
- Names and meanings are those of the OpenMetrics file (`sseproof.reports.openmetrics`); labels are the plan's words.
- The port is had before the first connection, or the run is refused. What asks too slowly is closed: the answers are made
  one after the other, so that nobody takes more of this process than one of them.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer
from typing import Any, Final, Generic, TypeVar

import msgspec

from sseproof.chaos.faults import Clean, kind_of
from sseproof.chaos.plan import FaultPlan
from sseproof.progress import Tail
from sseproof.reports.facts import client_facts
from sseproof.reports.judge import rig_table_so_far
from sseproof.reports.openmetrics import Generators, StreamFigures, live_text
from sseproof.rundir.errors import unbound
from sseproof.rundir.files import BREAKS, BROWSERS, FAULTS, GENERATOR, STARTS, STREAMS, RowFile
from sseproof.rundir.rows import BrowserRow, FaultRow, Plan, Row

R = TypeVar("R", bound=Row)

LOOPBACK: Final = "127.0.0.1"
PATH: Final = "/metrics"
CONTENT_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
LOOK_AGAIN_S: Final = 1.0
"""Rows are read so often: reading takes time of the machine that measures."""
PATIENCE_S: Final = 5.0
"""How long one who asks may take to ask, and to take the answer."""
CLOSING_S: Final = 0.1
"""How long closing the port may take."""
NOTHING_YET: Final = b"# EOF\n"
RUNNING: Final = "running"


class Endpoint:
    """The port, from its making until `close`; `text` gives what it answers, from a thread of its own."""

    def __init__(self, port: int) -> None:
        """Listens; 0 takes a free port. Raises RigError when the port is taken, UsageError when it can't be had by us at all."""
        self.text: Callable[[], bytes] = lambda: NOTHING_YET

        try:
            self._server = _Server((LOOPBACK, port), partial(_Handler, self))
        except OSError as error:
            raise unbound(
                error,
                f"metrics_port {port} of {LOOPBACK} can't be had ({error.strerror}): give another, or 0 for a free one.",
            ) from None
        self.url = f"http://{LOOPBACK}:{self._server.server_address[1]}{PATH}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(CLOSING_S,), name="metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """The port is free afterwards."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    timeout = PATIENCE_S
    server_version, sys_version = "sseproof", ""

    def __init__(self, endpoint: Endpoint, *of_connection: Any) -> None:
        self._endpoint = endpoint
        super().__init__(*of_connection)

    def setup(self) -> None:
        super().setup()
        # The time-out above is that of one read, and who sends a byte now and then never meets it.
        self._end = threading.Timer(PATIENCE_S, self._shut)
        self._end.start()

    def finish(self) -> None:
        self._end.cancel()
        super().finish()

    def do_GET(self) -> None:
        known = self.path.partition("?")[0] == PATH
        content = self._endpoint.text() if known else b"The metrics are at /metrics.\n"
        self.send_response(HTTPStatus.OK if known else HTTPStatus.NOT_FOUND)
        self.send_header("Content-Type", CONTENT_TYPE if known else "text/plain")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Standard error is the progress's."""

    def _shut(self) -> None:
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


class _Server(TCPServer):
    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Who asks may leave in the middle, or send anything."""


@contextlib.contextmanager
def endpoint(
    port: int | None, say: Callable[[str], None], *, quiet: bool = False
) -> Iterator[Endpoint | None]:
    """The port of a run; None without one. A free one that was taken is told in any case. Raises as Endpoint does."""
    if port is None:
        yield None
        return
    opened = Endpoint(port)
    try:
        if not quiet or port == 0:
            say(f"Live metrics: {opened.url}")
        yield opened
    finally:
        opened.close()


class LiveRun:
    """What the rows of a growing run directory come to. `update` belongs to one thread, `text` to any."""

    def __init__(
        self,
        directory: Path,
        plan: Plan,
        faults: FaultPlan | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._how = RUNNING
        self._plan = plan
        self._planned_faults = planned_faults(faults)
        self._clock = clock
        self._looked: float | None = None
        self._lock = threading.Lock()
        self._figures = StreamFigures(plan)
        self._generators = Generators()
        self._dropped = 0
        self._faults: list[FaultRow] = []
        self._warm: set[tuple[str | None, int]] = set()
        self._starts = _Rows(directory, STARTS)
        self._streams = _Rows(directory, STREAMS)
        self._breaks = _Rows(directory, BREAKS)
        self._fault_rows = _Rows(directory, FAULTS)
        self._generator_rows = _Rows(directory, GENERATOR)
        self._browsers: list[BrowserRow] = []
        self._browser_rows = _Rows(directory, BROWSERS)

    def update(self, *, now: bool = False) -> None:
        """Takes over what is new: of faults at once, else at most once a second unless it is to be `now`."""
        if faults := self._fault_rows.new():
            with self._lock:
                self._faults += faults
        at = self._clock()
        if self._looked is not None and at - self._looked < LOOK_AGAIN_S and not now:
            return
        self._looked = at
        # An end is read before its start could be, never after it: a stream is not seen to end before it began.
        ended, broke = self._streams.new(), self._breaks.new()
        with self._lock:
            for start in self._starts.new():
                if start.warmup:
                    self._warm.add((start.variant, start.stream))
                self._dropped += start.dropped
                self._figures.start(start)
            for record in ended:
                self._figures.end(record, client_facts(record).outcome)
            for row in broke:
                if (row.variant, row.stream) not in self._warm:
                    self._figures.broke(row)
            for second in self._generator_rows.new():
                self._generators.add(second)
            self._browsers += self._browser_rows.new()

    def end(self, how: str) -> None:
        """The last rows are there, and how it ended is known."""
        self.update(now=True)
        with self._lock:
            self._how = how

    def text(self) -> bytes:
        """The answer of now."""
        with self._lock:
            return live_text(
                self._plan,
                self._figures,
                self._faults,
                how=self._how,
                planned_faults=self._planned_faults,
                generators=self._generators,
                browsers=self._browsers,
                rig=rig_table_so_far(self._plan, list(self._generators.rows), self._browsers, self._dropped),
            )


def planned_faults(faults: FaultPlan | None) -> list[tuple[str, str, str | None]]:
    """Group, kind and variant of everything that a plan breaks."""
    if faults is None:
        return []
    kinds = {
        group.name: kind_of(group.fault) for group in faults.groups if not isinstance(group.fault, Clean)
    }
    found = {
        (proxy.group, kinds[proxy.group], proxy.variant) for proxy in faults.proxies if proxy.group in kinds
    }
    return sorted(found, key=str)


def faults_text(plan: Plan, faults: FaultPlan, rows: Sequence[FaultRow], how: str = RUNNING) -> bytes:
    """The answer of a rig of faults without streams."""
    return live_text(plan, StreamFigures(plan), rows, how=how, planned_faults=planned_faults(faults))


class _Rows(Generic[R]):
    """The rows appended to a file since the last look; what is damaged is told when the run is judged."""

    def __init__(self, directory: Path, file: RowFile[R]) -> None:
        self._tail = Tail(directory / file.name)
        self._decoder = msgspec.json.Decoder(file.type)

    def new(self) -> list[R]:
        rows = []
        for line in self._tail.lines():
            with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                rows.append(self._decoder.decode(line))
        return rows

"""Writes one connection's events at their instants, by timers of the event loop and without a task for each event.

Rules:
- A timer writes everything that is due in one go (at most BURST events, then the others have their turn), straight to
  the transport. The request's own task sleeps meanwhile; it wakes when the stream ends or the reader is slow.
- A transport that holds more than the write limit gets nothing more until it has drained.
- Instants are those of the stream's own start, on the loop's clock: a resume finds the timeline where it is by now.
- Planted defects act here and are written down as they act (misbehave.py says what each does).
- A live answer's events are written as they come; there is no timeline and no defect is planted.
"""

import asyncio
from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct

from sseproof.reference_server import wire
from sseproof.reference_server.completions import CompletionError
from sseproof.reference_server.live import LiveAnswer
from sseproof.reference_server.misbehave import Acts, damaged_literal
from sseproof.reference_server.script import PROGRESS, Script, Step
from sseproof.reference_server.streams import Stream
from sseproof.reference_server.witness import Connection
from sseproof.rundir.clock import NS_PER_S, now_ns

BURST: Final = 64
"""Events in one write: a stream that catches up must not hold up the others for longer than a millisecond."""
EARLY_S: Final = 0.000_05
"""An event due within this is written now; a timer of its own would cost as much."""

_STOPPING: Final = CompletionError(
    "server-stopping", "The server stopped before the answer was whole: ask again."
)

Signal = Literal["full", "end"]
End = Literal[
    "done",
    "cut",
    "truncate",
    "failed",
    "error",
    "shutdown",
    "total-limit",
    "idle-limit",
    "drain",
    "taken-over",
]
Break = Literal["cut", "truncate", "stall"]


class Options(Struct, frozen=True):
    """How the events of one connection look."""

    ids: bool
    """Ids, heartbeats and retry: the robust profile."""
    sent_at: bool
    chunked: bool
    """False for an HTTP/1.0 client: the body then ends with the connection."""
    retry_ms: int | None
    write_limit_bytes: int
    details: Mapping[str, str | int] = {}
    """What hello tells besides."""


class Emission:
    """One connection's writer. Lives on the loop's thread; `first` is the number it starts with."""

    def __init__(
        self,
        transport: asyncio.Transport,
        stream: Stream,
        connection: Connection,
        options: Options,
        first: int,
    ) -> None:
        self.end: End | None = None
        self.error: Exception | None = None
        self._loop = loop = asyncio.get_running_loop()
        self._transport = transport
        self._stream = stream
        self._connection = connection
        self._options = options
        self._key = stream.key if options.ids else None
        self._shown = first - 1
        """The number of the last id the client has seen."""
        self._timer: asyncio.Handle | None = None
        self._silent = False
        """Stalled on purpose."""
        self._full = False
        self.began = self._last_write = self._last_event = self._last_timeout = loop.time()
        self._signal: asyncio.Future[Signal] = loop.create_future()

    def begin(self) -> None:
        """Writes what is due and sets the timer for what is not."""
        if not self._stream.greets and self._options.retry_ms is not None:
            frame = wire.retry_frame(self._options.retry_ms)
            self._write(frame)
            self._connection.extra_bytes(len(frame))
        self._run()

    async def signal(self) -> Signal:
        """`end`, or `full` when the transport has to drain before `go_on` is called."""
        return await self._signal

    def go_on(self) -> None:
        """The transport has drained."""
        self._full = False
        self._signal = self._loop.create_future()
        if self.end is not None:  # it was ended meanwhile
            self._wake("end")
        self._run()

    def stop(self, end: End) -> None:
        """Ends the emission; nothing is written any more. The first end stays."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.end is None:
            self.end = end
        self._wake("end")

    def spread(self, size: int) -> int:
        """A number below `size`, even over the streams."""
        return int(self._stream.key, 16) % size

    def idle_s(self, now: float) -> float:
        """How long no event was written, heartbeats left out."""
        return now - self._last_event

    def leave(self, end: End, frame: bytes) -> None:
        """Ends the emission before its time with a word (`retry:` or an error event), which is not an event of its own."""
        if self.end is not None or self._transport.is_closing():
            return
        if frame:
            self._write(frame)
            self._connection.extra_bytes(len(frame))
        self.stop(end)

    def send_home(self, frame: bytes) -> None:
        """Ends the emission because the server stops; `frame` says when to come again."""
        self.leave("drain", frame)

    def ping(self, now: float, heartbeat_s: float) -> None:
        """Writes a heartbeat if nothing was written for so long."""
        if now - max(self._last_write, self._last_timeout) < heartbeat_s or self.end is not None:
            return
        if self._transport.is_closing():
            return
        if self._full or self._silent:
            self._last_timeout = now
            self._connection.heartbeat_timeouts += 1
            return
        self._last_write = now
        self._connection.heartbeats += 1
        frame = wire.ping_frame(self._key, max(self._shown, 1))
        self._write(frame)
        self._connection.extra_bytes(len(frame))

    def _run(self) -> None:
        self._timer = None
        if self.end is not None or self._transport.is_closing():
            return  # a lost connection ends the request's task, which writes it down
        try:
            self._advance()
        except Exception as error:  # noqa: BLE001  # a timer has no caller: the request's task raises it
            self.error = error
            self.stop("failed")

    def _advance(self) -> None:
        """Writes what is due and says when to come back."""
        raise NotImplementedError

    def _hand_over(self, data: bytes, now: float, before_ns: int, *, token: bool) -> None:
        self._write(data)
        self._last_write = self._last_event = now
        self._connection.handed(len(data), before_ns, token=token)

    def _write(self, data: bytes) -> None:
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._options.chunked else data)

    def _wake(self, signal: Signal) -> None:
        if not self._signal.done():
            self._signal.set_result(signal)


class ScriptEmission(Emission):
    """Writes a scripted answer or feed."""

    def __init__(
        self,
        transport: asyncio.Transport,
        stream: Stream,
        connection: Connection,
        options: Options,
        first: int,
    ) -> None:
        super().__init__(transport, stream, connection, options, first)
        assert isinstance(stream.script, Script)
        self._script = stream.script
        self._acts = stream.acts
        self._break_after, self._break_mode = _nearest_break(
            stream.acts, first_attempt=stream.connections == 1
        )
        self._started = stream.started
        self._step = self._script.step(first)

    def _advance(self) -> None:
        now = self._loop.time()
        before_ns = now_ns()
        frames: list[bytes] = []
        token = False
        try:
            while True:
                step = self._step
                due = self._due(step)
                waits = due - now > EARLY_S
                if waits or len(frames) == BURST or self._broken(step):
                    break
                if step.number == self._acts.loss:
                    self._connection.misbehaved("loss")
                else:
                    frames.append(self._frame(step, before_ns))
                    self._connection.wrote(step.number, len(step.text))
                    self._shown = step.number
                    token = token or step.type == "delta"
                if step.type == "done":
                    break
                self._step = self._script.step(step.number + 1)
        finally:  # what was due before a failure is written, as the witness says
            if frames:
                self._hand_over(b"".join(frames), now, before_ns, token=token)
        if step.number == self._shown == self._script.last:
            self.stop("done")
        elif not waits and self._broken(step):
            self._break(step)
        elif self._transport.get_write_buffer_size() > self._options.write_limit_bytes:
            self._full = True
            self._wake("full")
        elif waits:
            self._timer = self._loop.call_at(due, self._run)
        else:
            self._timer = self._loop.call_soon(self._run)

    def _due(self, step: Step) -> float:
        delay_ns = self._acts.delay_ns if step.number > 1 else 0
        return self._started + (step.due_ns + delay_ns) / NS_PER_S

    def _frame(self, step: Step, sent_ns: int) -> bytes:
        sent_at_ns = sent_ns if self._options.sent_at else None
        if step.type == "hello":
            return wire.hello_frame(
                self._key, self._stream.key, self._options.retry_ms, self._options.details
            )
        if step.type == "done":
            return wire.done_frame(self._key, step.number, self._script.sha256())
        if step.type == "progress":
            return wire.progress_frame(
                self._key, step.number, (step.number - 1) * 100 // len(PROGRESS), PROGRESS[step.number - 2]
            )
        if not self._script.endless:
            self._script.digest_step(step)
        if step.number == self._stream.first_token and self._acts.delay_ns:
            self._connection.misbehaved("slow")
        frame = wire.delta_frame(self._key, step.number, step.text, sent_at_ns)
        if step.number == self._acts.utf8:
            self._connection.misbehaved("utf8")
            literal = wire.text_literal(step.text)
            return frame.replace(literal, damaged_literal(step.text, step.number), 1)
        return frame

    def _broken(self, step: Step) -> bool:
        """Whether this step lies behind the place of a planted defect and is never written whole."""
        return self._break_after is not None and step.number > self._break_after

    def _break(self, step: Step) -> None:
        mode = self._break_mode
        self._connection.misbehaved(mode)
        if mode == "stall":
            self._silent = True
            return
        if mode == "cut":
            self._cut(step)
        self.stop(mode)

    def _cut(self, step: Step) -> None:
        """Half an event, fewer bytes than its chunk promised, then the connection closes."""
        whole = self._unnoted_frame(step)
        # Up to the data line: inside an event but not inside a character, which would be a second defect.
        half = whole[: whole.index(b"data: ") + 6]
        self._transport.write(b"%x\r\n%b" % (len(whole), half) if self._options.chunked else half)
        self._connection.extra_bytes(len(half))
        self._transport.close()

    def _unnoted_frame(self, step: Step) -> bytes:
        if step.type == "done":
            return wire.done_frame(self._key, step.number, self._script.sha256())
        return wire.delta_frame(self._key, step.number, step.text)


class LiveEmission(Emission):
    """Writes a live answer as it comes."""

    def __init__(
        self,
        transport: asyncio.Transport,
        stream: Stream,
        connection: Connection,
        options: Options,
        first: int,
    ) -> None:
        super().__init__(transport, stream, connection, options, first)
        assert isinstance(stream.script, LiveAnswer)
        self._answer = stream.script
        self._next = first
        self._answer.attach(self)

    def more(self) -> None:
        """Something new can be read."""
        if self._timer is None and not self._full:
            self._timer = self._loop.call_soon(self._run)

    def taken_over(self) -> None:
        """Another connection reads from now on."""
        self.stop("taken-over")

    def send_home(self, _: bytes) -> None:
        """Ends the answer: no other server can say it again, so to come again would be in vain."""
        if self.end is None and not self._transport.is_closing():
            self._tell(_STOPPING)
            self.stop("error")

    def stop(self, end: End) -> None:
        """Ends the emission; nothing is written any more. The first end stays."""
        super().stop(end)
        self._answer.detach(self)

    def _advance(self) -> None:
        answer = self._answer
        before_ns = now_ns()
        first = self._next
        tokens = self._connection.tokens
        data = bytearray()
        while self._next <= answer.newest and self._next < first + BURST:
            if len(data) > self._options.write_limit_bytes:
                break
            data += self._frame(self._next, before_ns)
            self._shown = self._next
            self._next += 1
        if data:
            self._hand_over(bytes(data), self._loop.time(), before_ns, token=self._connection.tokens > tokens)
        answer.taken(self._next)
        if self._shown == answer.last:
            self._connection.answered(answer.last, answer.sha256(), answer.finish_reason or "")
            self.stop("done")
        elif answer.error is not None and self._next > answer.newest:
            self._tell(answer.error)
            self.stop("error")
        elif self._transport.get_write_buffer_size() > self._options.write_limit_bytes:
            self._full = True
            self._wake("full")
        elif self._next <= answer.newest:
            self._timer = self._loop.call_soon(self._run)

    def _frame(self, number: int, sent_ns: int) -> bytes:
        answer = self._answer
        if number == 1:
            self._connection.wrote(number, 0)
            return wire.hello_frame(
                self._key, self._stream.key, self._options.retry_ms, self._options.details
            )
        if number == answer.last:
            self._connection.wrote(number, 0)
            return wire.done_frame(self._key, number, answer.sha256(), answer.finish_reason)
        text = answer.text(number)
        self._connection.wrote(number, len(text))
        return wire.delta_frame(self._key, number, text, sent_ns if self._options.sent_at else None)

    def _tell(self, error: CompletionError) -> None:
        frame = wire.error_frame(error.sentence, code=error.code)
        self._write(frame)
        self._connection.extra_bytes(len(frame))
        self._connection.answered(None, None, error.code)


def _nearest_break(acts: Acts, *, first_attempt: bool) -> tuple[int | None, Break]:
    """The number after which this attempt breaks, and how; None for never. The cut is met on the first attempt only."""
    places: list[tuple[int, Break]] = []
    if acts.cut_after is not None and first_attempt:
        places.append((acts.cut_after, "cut"))
    if acts.truncate_after is not None:
        places.append((acts.truncate_after, "truncate"))
    if acts.stall_after is not None:
        places.append((acts.stall_after, "stall"))
    return min(places, key=lambda place: place[0], default=(None, "cut"))

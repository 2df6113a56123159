"""Breaks and heals by the plan, and writes down when; judges nothing.

Rules (design.md decision 9; toxiproxy.md 1.9, 6 and 8):
- Before each call there is an `intent` (or `heal-intent`) row on the disk; after it a row with the bracket: the first
  call sent, the last one answered, and what the server echoed. A crash leaves a journal that names every proxy.
- Standing faults are set while their proxies are off, then the proxies are switched on, and the whole state is read
  back before `setup` returns.
- Windows begin and end by a timer thread. A window is healed `duration` after its first call was sent.
- Healing happens always and once: `heal` may be called from anywhere, in any state, as often as wanted. It is verified
  by reading the state back and by a TCP connect to every proxy.
- An abort comes while streams run: what stands is laid to rest in its place, and no connection ends for it. Where that can't
  be had the proxies are made anew, which streams pay for that the target has nothing to do with: the row says so.
- A server that does not answer is never asked again: it is ended, which heals everything it did; `check` (from the main
  thread) starts an empty one with clean proxies at the same addresses. The row is `failed`, the caller gets a RigError.
- From `setup` on the server is asked twice a second whether it is there and still has our proxies. A `failed` row holds
  when it last was well and when that was known to be over: what streams met in between is not the target's doing.
- Somebody else's server that is gone, wedged or without our proxies can't be replaced: `is_lost`, and the load is over.
- On somebody else's server we touch what we made, by the names of the plan, and leave nothing of ours behind.
"""

import contextlib
import heapq
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Final, Protocol, Self

import msgspec
from msgspec import Struct

from sseproof.chaos.faults import Clean, Fault, is_timed, kind_of
from sseproof.chaos.plan import FaultPlan, ProxyPlan, Window
from sseproof.chaos.toxics import (
    COUNTERS,
    Change,
    Outside,
    Switch,
    Toxic,
    standing_toxics,
    toxics_laid_to_rest,
    window_action,
)
from sseproof.chaos.toxiproxy import (
    Client,
    MismatchError,
    ProxyState,
    Server,
    ServerError,
    WedgedError,
    same_proxy,
)
from sseproof.rundir.clock import now_ns
from sseproof.rundir.errors import RigError
from sseproof.rundir.files import Appender
from sseproof.rundir.rows import FaultRow, FaultStep

CONNECT_LIMIT_S: Final = 2.0
THREAD_LIMIT_S: Final = 8.0
"""A call in flight ends within 6 s; then the timer thread sees that it is to stop."""
WATCH_EVERY_S: Final = 0.5
ERRAND_POLL_S: Final = 0.05
OVER_POLL_S: Final = 0.1
CLEAN_KIND: Final = kind_of(Clean())

Side = tuple[str | None, str]
"""Variant and group: what has a row of its own."""


class Service(Protocol):
    """Something of the run's own that a fault may take away."""

    def take_away(self) -> None:
        """At once; from any thread. Raises RigError."""

    def bring_back(self) -> None:
        """Until it is ready; from the main thread, which its children belong to. Raises RigError."""

    def is_over(self) -> bool:
        """Whether it has come to its end by itself, before its time."""


class _Due(Struct, order=True, frozen=True):
    """A call of the timetable, ordered by time; healing before beginning at the same moment."""

    at_s: float
    begins: bool
    position: int
    """Of its window in the plan."""


class _Bracket(Struct):
    """The span of a group's calls and what came back."""

    sent_ns: int
    answered_ns: int
    echo: dict[str, ProxyState]


class _GivenUpError(RigError):
    """The healing of everything came before the end of an errand: it is done there, and nothing is broken."""


class _Errand:
    """Something that only the main thread may do, for a thread that waits for it."""

    def __init__(self, do: Callable[[], None]) -> None:
        self._do = do
        self._done = threading.Event()
        self._problem: RigError | None = None

    def run(self) -> None:
        """In the main thread."""
        try:
            self._do()
        except RigError as error:
            self._problem = error
        finally:
            self._done.set()

    def wait(self, stop: threading.Event) -> None:
        """In the other. Raises the errand's RigError, and _GivenUpError when everything is to end first."""
        while not self._done.wait(ERRAND_POLL_S):
            if stop.is_set():
                raise _GivenUpError("The faults were healed before their time.")
        if self._problem is not None:
            raise self._problem


class Injector:
    """Carries out one plan on one server. A context manager: leaving it heals and ends a private server."""

    def __init__(
        self,
        plan: FaultPlan,
        server: Server | Client,
        rows: Appender[FaultRow],
        services: Mapping[str | None, Service] | None = None,
    ) -> None:
        """`server` is a private child of ours or the client of somebody else's; `services` has those of the variants."""
        self._plan = plan
        self._services = services or {}
        self._errands: queue.SimpleQueue[_Errand] = queue.SimpleQueue()
        self._private = server if isinstance(server, Server) else None
        self._external = server if isinstance(server, Client) else None
        self._rows = rows
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._over = threading.Event()
        """Nothing more is broken by the timetable."""
        self._thread: threading.Thread | None = None
        self._problem: RigError | None = None
        self._disk_problem: RigError | None = None
        self._needs_restart = False
        self._well_ns: int | None = None
        self._made: set[str] = set()
        self._open: dict[int, Window] = {}
        self._standing: set[Side] = set()
        self._is_set = False
        self._healed = False
        self._aborted = False
        self._sides: dict[Side, list[ProxyPlan]] = {}
        for proxy in plan.proxies:
            self._sides.setdefault((proxy.variant, proxy.group), []).append(proxy)
        self._faults: dict[str, Fault] = {group.name: group.fault for group in plan.groups}

    @property
    def _client(self) -> Client:
        if self._private is not None:
            return self._private.client
        assert self._external is not None
        return self._external

    @property
    def problem(self) -> RigError | None:
        """What broke in the injector, None while all is well. Claims on faults are unknown then."""
        return self._problem or self._disk_problem

    @property
    def is_lost(self) -> bool:
        """Somebody else's server has failed: no stream has a way to the target any more, or none that could be trusted."""
        return self._external is not None and self._problem is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    # --- before the load ---

    def setup(self) -> None:
        """Makes all proxies with their standing toxics, switches them on and reads everything back.

        Raises RigError; what was made until then is healed by `heal`.
        """
        for side in self._sides:
            self._write([self._row(side, "intent", kind=self._standing_kind(side))], sync=True)
            self._setup_side(side)
        self._verify_all()
        self._is_set = True
        self._well_ns = now_ns()
        threading.Thread(target=self._watch, name="fault watch", daemon=True).start()

    def _setup_side(self, side: Side) -> None:
        self._standing.add(side)
        sent_ns = now_ns()
        try:
            for proxy in self._sides[side]:
                self._create(proxy)
                for toxic in standing_toxics(proxy.fault, proxy.cut_after_bytes):
                    self._client.add_toxic(proxy.name, toxic)
            echo = {proxy.name: self._client.set_enabled(proxy.name, True) for proxy in self._sides[side]}
            for proxy in self._sides[side]:
                same_proxy(_wanted(proxy), echo[proxy.name])
        except ServerError as error:
            self._broken([self._row(side, "failed", kind=self._standing_kind(side))], error)
            raise
        bracket = _Bracket(sent_ns, now_ns(), echo)
        self._write([self._row(side, "applied", kind=self._standing_kind(side), bracket=bracket, ok=True)])

    def _create(self, proxy: ProxyPlan) -> None:
        """A proxy is ours from the call on, unless the server said that it did not make it: 409 is somebody else's."""
        self._made.add(proxy.name)
        try:
            self._client.create(proxy.name, listen=proxy.listen, upstream=proxy.upstream)
        except (WedgedError, MismatchError):
            raise
        except ServerError:
            self._made.discard(proxy.name)
            raise

    def _verify_all(self) -> None:
        there = self._client.proxies()
        for proxy in self._plan.proxies:
            if proxy.name not in there:
                raise MismatchError(f"The proxy {proxy.name} was made and is not there.")
            same_proxy(_wanted(proxy), there[proxy.name])
            _connect(proxy)

    def _standing_kind(self, side: Side) -> str:
        """What stands on a group's proxies: nothing where its fault comes in windows."""
        fault = self._faults[side[1]]
        return CLEAN_KIND if is_timed(fault) else kind_of(fault)

    # --- during the load ---

    def begin(self) -> None:
        """Starts the timetable: now is the begin of load. Call `setup` first."""
        if not self._is_set:
            raise RigError("The faults were begun before their proxies were set up.")
        begun_s = time.monotonic()
        due = [
            _Due(begun_s + window.start_ms / 1000, True, position)
            for position, window in enumerate(self._plan.windows)
        ]
        if due:
            heapq.heapify(due)
            self._thread = threading.Thread(target=self._timetable, args=(due,), name="faults", daemon=True)
            self._thread.start()

    def check(self) -> RigError | None:
        """To be called a few times a second from the main thread: the problem, if there is one.

        Where the server is gone it is replaced first, so that streams of every group find a clean way again. What only the
        main thread may do for a fault is done here.
        """
        with contextlib.suppress(queue.Empty):
            self._errands.get_nowait().run()
        # The timer thread may hold the lock until its next errand is run, which is for us to do: never wait for it here.
        if self._has_ended() and self._lock.acquire(blocking=False):
            try:
                if self._has_ended():
                    self._broken(self._failed_rows(), ServerError("The Toxiproxy server ended by itself."))
            finally:
                self._lock.release()
        if self._needs_restart and not self._healed:
            self._restart()
        return self.problem

    def _has_ended(self) -> bool:
        return (
            self._private is not None
            and self._private.pid is None
            and not self._healed
            and not self._needs_restart
        )

    def _watch(self) -> None:
        """Its own thread: asks again and again, until told to stop or until it is not answered as it should be."""
        while not self._stop.wait(WATCH_EVERY_S):
            asked_ns = now_ns()
            try:
                there = self._client.proxies()
                if self._made - there.keys():
                    with self._lock:  # an abort may just make one anew
                        there = self._client.proxies()
                if missing := sorted(self._made - there.keys()):
                    raise MismatchError(
                        f"The proxy {missing[0]} of this run is no longer on {self._client.place}."
                    )
            except ServerError as error:
                with self._lock:
                    # A child that has ended is `check`'s to find: it says so better than a refused call.
                    if not self._stop.is_set() and not (
                        self._private is not None and self._private.pid is None
                    ):
                        self._broken(self._failed_rows(), self._left_behind(error))
                return
            self._well_ns = asked_ns

    def _failed_in(self, window: Window, sides: Sequence[Side]) -> list[FaultRow]:
        """Of a call for a window: a private server is ended then, and what stands on the other sides goes with it."""
        rows = [self._row(side, "failed", window=window) for side in sides]
        if self._private is not None:
            rows += [row for row in self._failed_rows() if (row.variant, row.group) not in sides]
        return rows

    def _failed_rows(self) -> list[FaultRow]:
        return [self._row(side, "failed", kind=self._standing_kind(side)) for side in self._sides]

    def _left_behind(self, error: RigError) -> RigError:
        """On somebody else's server something of ours may be left, which no end of a process takes away."""
        if self._private is not None:
            return error
        return RigError(
            f"{error} Proxies of this run may be left on it; their names begin with sseproof-; `sseproof chaos heal` removes them."
        )

    def _timetable(self, due: list[_Due]) -> None:
        """The timer thread: sleeps until the next call is due; ends when told to, when done, or when broken."""
        while due:
            wait_s = max(due[0].at_s - time.monotonic(), 0)
            if self._over.wait(min(wait_s, OVER_POLL_S) if self._may_be_over() else wait_s):
                return
            if self._may_be_over() and any(each.is_over() for each in self._services.values()):
                due = [msgspec.structs.replace(one, at_s=0) if not one.begins else one for one in due]
                heapq.heapify(due)
            if due[0].at_s > time.monotonic():
                continue
            one = heapq.heappop(due)
            window = self._plan.windows[one.position]
            with self._lock:
                if self._over.is_set():
                    return
                try:
                    if one.begins:
                        sent_s = self._begin_window(one.position, window)
                        healed_s = sent_s + window.duration_ms / 1000
                        due = self._none_within(due, window, healed_s)
                        heapq.heappush(due, _Due(healed_s, False, one.position))
                    else:
                        self._heal_window(one.position, window)
                except (
                    RigError
                ):  # told by `check`; healing has been done by ending the server, or is left to `heal`
                    return

    def _none_within(self, due: Sequence[_Due], window: Window, healed_s: float) -> list[_Due]:
        """The timetable, the later windows of this one's group put off until half of the pause before them has passed.

        One that begins late, on a busy machine, would last into the next one, which its healing then ended.
        """
        ends_ms = window.start_ms + window.duration_ms
        later = []
        for each in due:
            other = self._plan.windows[each.position]
            if each.begins and other.group == window.group:
                pause_s = (other.start_ms - ends_ms) / 1000
                each = msgspec.structs.replace(each, at_s=max(each.at_s, healed_s + pause_s / 2))  # noqa: PLW2901
            later.append(each)
        heapq.heapify(later)
        return later

    def _may_be_over(self) -> bool:
        """Whether what is open now is no link of ours: then it is the only window, and ends by itself, too."""
        return bool(self._services) and bool(self._open)

    def _begin_window(self, position: int, window: Window) -> float:
        """Gives when the first call was about to be sent, from which its length counts: a slow disk is no part of it."""
        sides = self._sides_of(window)
        self._write([self._row(side, "intent", window=window) for side in sides], sync=True)
        self._open[position] = window
        sent_s = time.monotonic()
        self._step(sides, "applied", window)
        return sent_s

    def _heal_window(self, position: int, window: Window) -> None:
        sides = self._sides_of(window)
        self._write_quietly([self._row(side, "heal-intent", window=window) for side in sides], sync=True)
        self._step(sides, "healed", window)
        del self._open[position]
        self._write_quietly([self._verified(side, window=window) for side in sides])

    def _step(self, sides: Sequence[Side], step: FaultStep, window: Window) -> None:
        for side in sides:
            try:
                bracket = self._bracketed_step(side, step)
            except _GivenUpError:  # its window stays open, which `heal` then ends
                raise
            except RigError as error:
                self._broken(self._failed_in(window, sides), error)
                raise
            self._write_quietly([self._row(side, step, window=window, bracket=bracket, ok=True)])

    def _bracketed_step(self, side: Side, step: FaultStep) -> _Bracket:
        """What begins or ends a window on one side: a call for each proxy, or one for the service behind them."""
        begins = step == "applied"
        acting = [
            proxy for proxy in self._sides[side] if is_timed(proxy.fault)
        ]  # not those of later attempts
        if not isinstance(_action(acting[0]), Outside):
            return self._bracketed(acting, self._break if begins else self._mend)
        service = self._services[side[0]]
        sent_ns = now_ns()
        if begins:
            service.take_away()
        elif threading.current_thread() is threading.main_thread():
            service.bring_back()
        else:
            errand = _Errand(service.bring_back)
            self._errands.put(errand)
            errand.wait(self._over)
        return _Bracket(sent_ns, now_ns(), {})

    def _bracketed(self, proxies: Sequence[ProxyPlan], act: Callable[[ProxyPlan], ProxyState]) -> _Bracket:
        sent_ns = now_ns()
        echo = {}
        answered_ns = sent_ns
        for proxy in proxies:
            echo[proxy.name] = act(proxy)
            answered_ns = now_ns()
        return _Bracket(sent_ns, answered_ns, echo)

    def _break(self, proxy: ProxyPlan) -> ProxyState:
        match _action(proxy):
            case Change(toxics=toxics):
                return self._changed(proxy, toxics)
            case Switch():
                return self._client.set_enabled(proxy.name, False)
            case Outside():
                raise AssertionError("no proxy has a part in it")

    def _mend(self, proxy: ProxyPlan) -> ProxyState:
        match _action(proxy):
            case Change(closes=closes):
                if closes:
                    self._client.set_enabled(proxy.name, False)
                state = self._changed(proxy, standing_toxics(proxy.fault, proxy.cut_after_bytes))
                if closes:
                    self._client.set_enabled(proxy.name, True)
                return state
            case Switch():
                return self._client.set_enabled(proxy.name, True)
            case Outside():
                raise AssertionError("no proxy has a part in it")

    def _changed(self, proxy: ProxyPlan, toxics: Sequence[Toxic]) -> ProxyState:
        state = _clean(proxy)
        state.toxics = [self._client.update_toxic(proxy.name, toxic) for toxic in toxics]
        return state

    def _sides_of(self, window: Window) -> list[Side]:
        return [side for side in self._sides if side[1] == window.group]

    # --- healing ---

    def heal(self) -> None:
        """Takes back everything, verifies and records it. Idempotent; never raises: look at `problem` afterwards."""
        self._stop.set()
        self._end_timetable()
        with self._lock:
            if self._healed:
                return
            self._healed = True
            sides = [side for side in self._sides if side in self._standing]
            if self._private is not None and self._private.pid is None:
                self._ended_with_the_server(now_ns())
                self._write_quietly([self._row(side, "healed", ok=True, detail=_ENDED) for side in sides])
                return
            self._write_quietly([self._row(side, "heal-intent") for side in sides], sync=True)
            try:
                self._heal_windows()
                self._heal_sides(sides)
            except RigError as error:
                self._heal_by_force(sides, error)
            self._open.clear()

    def abort(self, reason: str) -> None:
        """Takes back every fault before its time; nothing more is broken, and streams go on through clean proxies.

        From the main thread. Idempotent; never raises: look at `problem` afterwards. `heal` still has to be called.
        """
        self._end_timetable()
        with self._lock:
            if self._healed or self._aborted or self._needs_restart or self._problem is not None:
                return
            self._aborted = True
            standing = [side for side in self._sides if self._standing_kind(side) != CLEAN_KIND]
            try:
                self._heal_windows(reason)
                self._open.clear()
                self._write_quietly(
                    [self._row(side, "heal-intent", detail=reason) for side in standing], sync=True
                )
                there = self._client.proxies()
                ends = [
                    side for side in standing if any(_at_rest(each) is None for each in self._sides[side])
                ]
                self._count_firings(ends, there)  # the others' toxics stay, and are asked at the end
                for side in standing:
                    bracket = self._bracketed(self._sides[side], self._laid_to_rest)
                    row = self._row(side, "healed", bracket=bracket, ok=True)
                    row.ended_connections = side in ends
                    self._write_quietly([row])
                there = self._client.proxies()
                self._write_quietly([self._verified(side, there=there, stays=True) for side in self._sides])
            except RigError as error:
                self._broken(self._failed_rows(), self._left_behind(error))

    def _end_timetable(self) -> None:
        """A call in flight ends, and none follows."""
        self._over.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(THREAD_LIMIT_S)

    def close(self) -> None:
        """Heals, then ends a private server."""
        try:
            self.heal()
        finally:
            if self._private is not None:
                self._private.close()

    def _heal_windows(self, reason: str = "") -> None:
        """Windows that are open now: what a stall holds has to be let go before its proxy can be taken apart."""
        for window in self._open.values():
            for side in self._sides_of(window):
                self._write_quietly([self._row(side, "heal-intent", window=window, detail=reason)], sync=True)
                bracket = self._bracketed_step(side, "healed")
                self._write_quietly([self._row(side, "healed", window=window, bracket=bracket, ok=True)])

    def _heal_sides(self, sides: Sequence[Side]) -> None:
        there = self._client.proxies()
        self._count_firings(sides, there)
        for side in sides:
            sent_ns = now_ns()
            echo = {}
            for proxy in self._sides[side]:
                if proxy.name in self._made and proxy.name in there:
                    echo.update(self._healed_proxy(proxy, there[proxy.name]))
            bracket = _Bracket(sent_ns, now_ns(), echo)
            self._write_quietly([self._row(side, "healed", bracket=bracket, ok=True)])
        there = self._client.proxies()
        for side in sides:
            self._write_quietly([self._verified(side, there=there)])

    def _count_firings(self, sides: Sequence[Side], there: dict[str, ProxyState]) -> None:
        """What the toxics of ours say themselves; they forget it when they are taken away."""
        for side in sides:
            counts = [
                count
                for proxy in self._sides[side]
                if proxy.name in there
                for toxic in there[proxy.name].toxics
                for name, count in toxic.attributes.items()
                if name in COUNTERS and isinstance(count, int)
            ]
            if counts:
                row = self._row(side, "fired")
                row.fired = sum(counts)
                self._write_quietly([row])

    def _healed_proxy(self, proxy: ProxyPlan, state: ProxyState) -> dict[str, ProxyState]:
        """A private server's proxy is made anew, clean; on somebody else's server ours goes away.

        Toxics are not taken away one by one: each of a proxy's links has to yield first, and on one whose client is there, or
        has just gone, that can last longer than an answer may (toxiproxy.md 1.9).
        """
        if self._external is None and not state.toxics:
            return {state.name: self._client.set_enabled(state.name, True)}
        self._client.delete(state.name)
        return {} if self._external is not None else {state.name: self._recreated(proxy)}

    def _laid_to_rest(self, proxy: ProxyPlan) -> ProxyState:
        """Without ending a connection where that can be had; else the proxy is made anew.

        To take a toxic away under load can last longer than an answer may (toxiproxy.md 1.9), also where the proxy is off.
        """
        if (resting := _at_rest(proxy)) is None:
            self._client.delete(proxy.name)
            return self._recreated(proxy)
        return self._changed(proxy, resting.toxics)

    def _heal_by_force(self, sides: Sequence[Side], error: RigError) -> None:
        """Ending a private server takes back all it did; somebody else's we can only report."""
        if self._private is None:
            self._note_problem(self._left_behind(error))
            self._write_quietly([self._row(side, "failed", detail=str(error), ok=False) for side in sides])
            return
        sent_ns = now_ns()
        self._private.kill()
        self._ended_with_the_server(sent_ns)
        detail = f"{_ENDED} ({error})"
        self._write_quietly([self._row(side, "healed", ok=True, detail=detail) for side in sides])

    def _verified(
        self,
        side: Side,
        *,
        window: Window | None = None,
        there: dict[str, ProxyState] | None = None,
        stays: bool = False,
    ) -> FaultRow:
        """Reads the state back and connects: clean, as planned (after a window, or where it `stays`) or gone."""
        try:
            seen = self._client.proxies() if there is None else there
            for proxy in self._sides[side]:
                if window is None and self._external is not None and not stays:
                    if proxy.name in seen:
                        raise MismatchError(f"The proxy {proxy.name} is still there.")
                elif proxy.name in self._made:
                    wanted = self._outside(proxy) if window is not None or stays else _clean(proxy)
                    same_proxy(wanted, seen.get(proxy.name, _absent(proxy)))
                    _connect(proxy)
        except ServerError as error:
            self._note_problem(error)
            return self._row(side, "verified", window=window, ok=False, detail=str(error))
        return self._row(side, "verified", window=window, ok=True)

    def _outside(self, proxy: ProxyPlan) -> ProxyState:
        """A proxy as it is to be outside of windows; a fault that stood rests or is gone after an abort."""
        stood = self._standing_kind((proxy.variant, proxy.group)) != CLEAN_KIND
        return (_at_rest(proxy) or _clean(proxy)) if self._aborted and stood else _wanted(proxy)

    # --- when it breaks ---

    def _broken(self, rows: list[FaultRow], error: RigError) -> None:
        """A call failed: say so, and end a private server, which takes back whatever it was doing. From any thread."""
        self._note_problem(error)
        for row in rows:
            row.detail, row.ok = str(error), False
            row.call_sent_ns, row.call_answered_ns = self._well_ns, now_ns()
        self._write_quietly(rows)
        self._stop.set()
        self._over.set()
        if self._private is not None:
            # Before it is gone, so that `check` does not take it for a second failure.
            self._needs_restart = True
            sent_ns = now_ns()
            self._private.kill()
            self._ended_with_the_server(sent_ns)

    def _ended_with_the_server(self, sent_ns: int) -> None:
        """What a window had set was gone with the process; what a command of its own did to the service was not."""
        bracket = _Bracket(sent_ns, now_ns(), {})
        for window in self._open.values():
            for side in self._sides_of(window):
                if any(is_timed(proxy.fault) and not _is_outside(proxy) for proxy in self._sides[side]):
                    row = self._row(side, "healed", window=window, bracket=bracket, ok=True, detail=_ENDED)
                    self._write_quietly([row])

    def _restart(self) -> None:
        """A new server with clean proxies at the old addresses: streams of all groups find the target again."""
        assert self._private is not None
        self._needs_restart = False
        with self._lock:
            sides = list(self._standing)
            try:
                self._private.restart()
                for side in sides:
                    bracket = self._bracketed(self._sides[side], self._recreated)
                    self._write_quietly(
                        [self._row(side, "healed", bracket=bracket, ok=True, detail="A new server, clean.")]
                    )
            except RigError as error:
                # Nothing acts any more, and nobody may find the target again: without a call there is no end of the outage.
                for side in sides:
                    gone = self._row(side, "healed", ok=True, detail=_ENDED)
                    self._write_quietly([self._row(side, "failed", detail=str(error), ok=False), gone])
            self._open.clear()

    def _recreated(self, proxy: ProxyPlan) -> ProxyState:
        return self._client.create(proxy.name, listen=proxy.listen, upstream=proxy.upstream, enabled=True)

    def _note_problem(self, error: RigError) -> None:
        self._problem = self._problem or error

    # --- rows ---

    def _row(
        self,
        side: Side,
        step: FaultStep,
        *,
        kind: str | None = None,
        window: Window | None = None,
        bracket: _Bracket | None = None,
        ok: bool | None = None,
        detail: str = "",
    ) -> FaultRow:
        variant, group = side
        row = FaultRow(
            at_ns=now_ns(),
            fault=group,
            step=step,
            kind=window.kind if window else kind or self._standing_kind(side),
            window=window.number if window else None,
            group=group,
            variant=variant,
            proxies=[proxy.name for proxy in self._sides[side]],
            ok=ok,
            detail=detail,
        )
        if bracket is not None:
            row.call_sent_ns, row.call_answered_ns = bracket.sent_ns, bracket.answered_ns
            row.echo = msgspec.Raw(msgspec.json.encode(bracket.echo))
        return row

    def _write(self, rows: Iterable[FaultRow], *, sync: bool = False) -> None:
        """Raises RigError on a full disk: no call is made whose intent could not be kept."""
        try:
            for row in rows:
                self._rows.append(row)
            if sync:
                self._rows.sync()
        except RigError as error:
            self._disk_problem = self._disk_problem or error
            raise

    def _write_quietly(self, rows: Iterable[FaultRow], *, sync: bool = False) -> None:
        """Healing goes on without its rows; the disk's problem is told all the same."""
        with contextlib.suppress(RigError):
            self._write(rows, sync=sync)


_ENDED: Final = "The server was ended, and with it everything it did."


def _action(proxy: ProxyPlan) -> Change | Switch | Outside:
    assert not isinstance(proxy.fault, Clean), "nothing acts on a clean proxy"
    return window_action(proxy.fault, proxy.cut_after_bytes)


def _is_outside(proxy: ProxyPlan) -> bool:
    return isinstance(_action(proxy), Outside)


def _wanted(proxy: ProxyPlan) -> ProxyState:
    """A proxy as it is to be outside of windows."""
    state = _clean(proxy)
    state.toxics = standing_toxics(proxy.fault, proxy.cut_after_bytes)
    return state


def _at_rest(proxy: ProxyPlan) -> ProxyState | None:
    """A proxy whose fault stood, and does nothing any more; None where its toxics have to be taken away for that."""
    toxics = toxics_laid_to_rest(proxy.fault, proxy.cut_after_bytes)
    if toxics is None:
        return None
    state = _clean(proxy)
    state.toxics = toxics
    return state


def _clean(proxy: ProxyPlan) -> ProxyState:
    return ProxyState(name=proxy.name, listen=proxy.listen, upstream=proxy.upstream, enabled=True, toxics=[])


def _absent(proxy: ProxyPlan) -> ProxyState:
    return ProxyState(name=proxy.name, listen="", upstream="", enabled=False)


def _connect(proxy: ProxyPlan) -> None:
    """Raises ServerError unless the proxy accepts a connection."""
    try:
        socket.create_connection((proxy.host, proxy.port), CONNECT_LIMIT_S).close()
    except OSError as error:
        raise ServerError(f"The proxy {proxy.name} at {proxy.listen} does not accept: {error}.") from None

"""One port before several proxies: which connection meets which fault, where nobody of ours makes the load.

Rules:
- A connection is to a port what a stream is to a run: number n, in the order in which they are accepted, belongs to the
  group that the seeded rule gives stream n, and dials the proxy of its seat. So a share is one of connections.
- Bytes pass as they come. An end is passed on as what it was, behind what was before it: FIN by FIN, a reset by a reset
  once the other side has acknowledged the rest, which would else be lost with it.
- The port is everybody's, so a link that is down can't refuse here: the connection is taken, and reset at once.
- One thread and non-blocking sockets. What waits for a slow side is bounded: its other side is not read meanwhile.
"""

import contextlib
import errno
import fcntl
import selectors
import socket
import struct
import termios
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from sseproof.rundir.errors import unbound
from sseproof.rundir.groups import GroupRule, address_of
from sseproof.rundir.rows import AddressPlan

READ_BYTES: Final = 65_536
WAITING_BYTES: Final = 262_144
BACKLOG: Final = 1_024
RESET_LIMIT_S: Final = 5.0
"""How long the last bytes before a reset may take to be acknowledged."""
RESET_POLL_S: Final = 0.005
FULL_PAUSE_S: Final = 0.05
"""Without a descriptor left: until some connection has ended."""
_ABORT: Final = struct.pack("ii", 1, 0)
_STARTED: Final = frozenset({0, errno.EINPROGRESS})


class _Side:
    """One of the two sockets of a connection."""

    __slots__ = ("connecting", "ended", "finishing", "other", "reset_by_s", "shut", "sock", "waiting")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.other = self
        self.waiting = bytearray()
        """To be sent here."""
        self.connecting = False
        self.ended = False
        """Nothing more comes from here."""
        self.finishing = False
        """Nothing more is to be sent here behind what waits."""
        self.shut = False
        self.reset_by_s: float | None = None
        """It is to be reset as soon as everything was acknowledged, and then at the latest."""


class Front:
    """A listening port and its connections, in a thread of its own, from its making until `close`."""

    def __init__(self, host: str, port: int, rule: GroupRule, addresses: Sequence[AddressPlan]) -> None:
        """Listens. Raises RigError when the port is taken, UsageError when it can't be had by us at all."""
        self._rule = rule
        self._addresses = addresses
        self._number = 0
        self.counts: Counter[str] = Counter()
        """Connections of each group so far."""
        self._listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._listener.bind((host, port))
            self._listener.listen(BACKLOG)
        except OSError as error:
            self._listener.close()
            raise unbound(
                error, f"Port {port} of {host} can't be had ({error.strerror}): take another."
            ) from None
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._woken, self._wake = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._stopped = False
        self._sides: set[_Side] = set()
        self._resetting: set[_Side] = set()
        self._thread = threading.Thread(target=self._run, name=f"front {port}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the port and what still passes through it."""
        self._stopped = True
        self._wake.send(b"x")
        self._thread.join()
        self._selector.close()
        for sock in (self._listener, self._woken, self._wake, *(side.sock for side in self._sides)):
            sock.close()

    def _run(self) -> None:
        while not self._stopped:
            for key, events in self._selector.select(RESET_POLL_S if self._resetting else None):
                if key.fileobj is self._listener:
                    self._accept()
                elif (
                    key.data is not None and key.data.sock.fileno() >= 0
                ):  # an event before may have closed it
                    self._serve(key.data, events)
            for side in [each for each in self._resetting if _is_due(each)]:
                self._abort(side)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError as error:
            if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                time.sleep(FULL_PAUSE_S)
            return
        client = _Side(sock)
        address = address_of(self._addresses, self._rule, self._number, 1)
        assert address is not None, "each group has a proxy"
        self._number += 1
        self.counts[address.group or ""] += 1
        try:
            behind = _Side(socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET))
        except OSError:
            self._abort(client)
            return
        client.other, behind.other = behind, client
        self._sides |= {client, behind}
        for side in (client, behind):
            side.sock.setblocking(False)
            side.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        behind.connecting = True
        if behind.sock.connect_ex((address.host, address.port)) not in _STARTED:
            self._end_by_reset(behind)
            return
        self._watch(behind)
        self._watch(client)

    def _serve(self, side: _Side, events: int) -> None:
        try:
            if side.connecting and events & selectors.EVENT_WRITE:
                _check_connected(side)
            if events & selectors.EVENT_READ and not side.ended:
                self._read(side)
            self._send(side)
        except BlockingIOError:
            pass
        except OSError:
            self._end_by_reset(side)
            return
        try:
            self._send(side.other)
        except OSError:
            self._end_by_reset(side.other)
            return
        if side.ended and side.other.ended and side.shut and side.other.shut:
            self._close(side)
            self._close(side.other)
            return
        self._watch(side)
        self._watch(side.other)

    def _read(self, side: _Side) -> None:
        data = side.sock.recv(READ_BYTES)
        if data:
            side.other.waiting += data
        else:
            side.ended = side.other.finishing = True

    def _send(self, side: _Side) -> None:
        if side.connecting or side.shut or side.sock.fileno() < 0:
            return
        with contextlib.suppress(BlockingIOError):
            while side.waiting:
                del side.waiting[: side.sock.send(side.waiting)]
        if side.finishing and not side.waiting:
            side.sock.shutdown(socket.SHUT_WR)
            side.shut = True

    def _watch(self, side: _Side) -> None:
        """Asks for what a side can do next."""
        if side.sock.fileno() < 0:
            return
        events = 0
        if not side.ended and side.reset_by_s is None and len(side.other.waiting) < WAITING_BYTES:
            events |= selectors.EVENT_READ
        if side.connecting or side.waiting:
            events |= selectors.EVENT_WRITE
        key = self._selector.get_map().get(side.sock)
        if not events and key is not None:
            self._selector.unregister(side.sock)
        elif events and key is None:
            self._selector.register(side.sock, events, side)
        elif key is not None and key.events != events:
            self._selector.modify(side.sock, events, side)

    def _end_by_reset(self, side: _Side) -> None:
        """A side is gone, by a reset or before it came: so is the other, once it has what was before."""
        other = side.other
        self._close(side)
        if other.reset_by_s is not None or other.sock.fileno() < 0:
            self._abort(other)
            return
        other.ended = True
        other.reset_by_s = time.monotonic() + RESET_LIMIT_S
        self._resetting.add(other)
        self._watch(other)

    def _abort(self, side: _Side) -> None:
        self._resetting.discard(side)
        if side.sock.fileno() >= 0:
            side.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        self._close(side)

    def _close(self, side: _Side) -> None:
        if side.sock.fileno() >= 0:
            if self._selector.get_map().get(side.sock) is not None:
                self._selector.unregister(side.sock)
            side.sock.close()
        self._sides.discard(side)


def _check_connected(side: _Side) -> None:
    """Raises OSError when the connect that was begun has failed."""
    code = side.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, "no connection")
    side.connecting = False


def _is_due(side: _Side) -> bool:
    """Whether a side that is to be reset has acknowledged everything, or its time is over."""
    assert side.reset_by_s is not None
    if time.monotonic() > side.reset_by_s or side.sock.fileno() < 0:
        return True
    unsent = struct.unpack("i", fcntl.ioctl(side.sock, termios.TIOCOUTQ, b"\0" * 4))[0]
    return not side.waiting and not unsent

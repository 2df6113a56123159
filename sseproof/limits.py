"""What a planned load takes of this machine, against what the machine allows: descriptors, outgoing ports, memory.

Rules (design.md "Ground rules": checked before the start; exit code 70, since a limit is the machine's, not the target's):
- Each limit is one sentence with what is needed, what there is, and how to raise it; nothing was started before.
- A stream takes a descriptor in its worker and in a reference server of the run, two in a Toxiproxy and in an nginx.
- A connection takes an outgoing port towards its destination, and each destination has the whole range to itself. Behind
  Toxiproxy or nginx the service is a destination as it is without: there it is they that need the ports.
- Memory is an estimate from measured processes; it refuses what can't be, and promises nothing.
"""

import resource
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from sseproof.reports.words import count_of
from sseproof.rundir.errors import RigError

DESCRIPTORS_A_PROCESS: Final = 200
"""Interpreter, Locust, its sockets, row files and room for a file or two of the user's own."""
LOCUST_BYTES: Final = 60_000_000
"""A worker or a master without a stream (59 MB measured)."""
STREAM_BYTES: Final = 20_000
"""A quiet stream in a worker (17.8 KB measured at 9,000 by `make bench`, and its rows at the end)."""
SERVER_BYTES: Final = 41_000_000
SERVER_STREAM_BYTES: Final = 17_000
"""A quiet stream in the reference server (16.4 KB measured at 2,000)."""
TOXIPROXY_BYTES: Final = 20_000_000
TOXIPROXY_STREAM_BYTES: Final = 55_000
"""Four goroutines and a buffer for each direction (53 KB measured at 2,000)."""
HOP_BYTES: Final = 20_000_000
HOP_STREAM_BYTES: Final = 18_000
"""nginx's buffers and its two connections (17.7 KB measured at 2,000)."""
SOCKET_BYTES: Final = 4_000
"""What the kernel keeps for each end of a quiet connection."""
_GIB: Final = 1 << 30
_MIB: Final = 1 << 20


class Side(Struct, frozen=True, kw_only=True):
    """One variant's part of the load."""

    streams: int
    """At once."""
    service: str | None = None
    """host:port of its service; None = a reference server that the run starts for it."""
    hop: bool = False
    """Through an nginx of the run's own."""

    @property
    def place(self) -> str:
        """Its service in a sentence."""
        return self.service or "a reference server of the run"


class Demand(Struct, frozen=True, kw_only=True):
    """A planned load: all its variants run at once, each in so many workers of its own."""

    sides: Sequence[Side]
    workers: int
    elsewhere: int = 0
    """Of those workers, the ones on other machines: they look after themselves."""
    proxied: bool = False
    """Through a Toxiproxy of the run's own."""

    @property
    def streams(self) -> int:
        """At once, of all variants."""
        return sum(side.streams for side in self.sides)

    def here(self, streams: int) -> int:
        """What of so many streams the workers of this machine make."""
        return -(-streams * (self.workers - self.elsewhere) // self.workers)

    @property
    def memory_bytes(self) -> int:
        """About what all processes of the run on this machine take, and the kernel for their connections."""
        processes = len(self.sides) * (self.workers - self.elsewhere + 1) * LOCUST_BYTES
        ends = self.here(self.streams)
        needed = processes + self.here(self.streams) * STREAM_BYTES
        for side in self.sides:
            if side.service is None:
                needed += SERVER_BYTES + side.streams * SERVER_STREAM_BYTES
                ends += side.streams
            if side.hop:
                needed += HOP_BYTES + side.streams * HOP_STREAM_BYTES
                ends += 2 * side.streams
        if self.proxied:
            needed += TOXIPROXY_BYTES + self.streams * TOXIPROXY_STREAM_BYTES
            ends += 2 * self.streams
        return needed + ends * SOCKET_BYTES


def check_limits(demand: Demand) -> None:
    """Refuses a load that this machine can't bear; raises the soft limit of descriptors as far as needed and allowed.

    Raises RigError with the limit and how to raise it.
    """
    check_descriptors(demand)
    check_ports(demand)
    check_memory(demand)


def check_descriptors(demand: Demand) -> None:
    """Raises RigError when one process's share of the streams does not fit into its descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = descriptors_allowed()
    largest = max((side.streams for side in demand.sides), default=0)
    most = DESCRIPTORS_A_PROCESS
    needed = descriptors_a_worker(largest, demand.workers)
    if allowed is not None and needed > allowed:
        room = max(1, allowed - DESCRIPTORS_A_PROCESS)
        raise RigError(
            f"{largest} streams over {count_of(demand.workers, 'worker')} need {needed} file descriptors a process, {allowed} "
            f"are allowed: use --workers {-(-largest // room)} or more, or at most {room * demand.workers} users, or raise "
            "`ulimit -n`."
        )
    most = max(most, needed)
    for streams, each, process in _single_processes(demand):
        needed = streams * each + DESCRIPTORS_A_PROCESS
        if allowed is not None and needed > allowed:
            room = max(1, (allowed - DESCRIPTORS_A_PROCESS) // each)
            raise RigError(
                f"{streams} streams through {process} need {needed} file descriptors in that one process "
                f"({'two' if each == 2 else 'one'} a stream), {allowed} are allowed: use at most {room} users, "
                "or raise `ulimit -n`."
            )
        most = max(most, needed)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most if allowed is None else allowed, hard))


def descriptors_allowed() -> int | None:
    """How many a process may have at most; None = without limit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return None if hard == resource.RLIM_INFINITY else hard


def descriptors_a_worker(streams: int, workers: int) -> int:
    """What one worker's share of a variant's streams takes."""
    return -(-streams // workers) + DESCRIPTORS_A_PROCESS


def _single_processes(demand: Demand) -> list[tuple[int, int, str]]:
    """(streams, descriptors a stream, name) of the processes that no number of workers divides."""
    found = [(demand.streams, 2, "Toxiproxy")] if demand.proxied else []
    found += [(side.streams, 2, "nginx") for side in demand.sides if side.hop]
    found += [(side.streams, 1, "the reference server") for side in demand.sides if side.service is None]
    return found


def check_ports(demand: Demand) -> None:
    """Raises RigError when a destination can't get so many connections from this machine."""
    lowest, highest = ephemeral_range()
    room = highest - lowest + 1
    for sides in _destinations(demand.sides):
        streams = sum(side.streams for side in sides)
        through = "nginx" if any(side.hop for side in sides) else "Toxiproxy" if demand.proxied else ""
        if not through:
            streams = demand.here(streams)
        if streams <= room:
            continue
        whose = f" (those of {through}, on its upstream side)" if through else ""
        raise RigError(
            f"{streams} streams at once to {sides[0].place} need as many outgoing ports{whose}, this machine has {room} "
            f"({lowest}-{highest}) to one address: use fewer users, or widen net.ipv4.ip_local_port_range."
        )


def _destinations(sides: Sequence[Side]) -> list[list[Side]]:
    """The variants by the address of their service; a server of the run's own is its variant's alone."""
    shared: dict[str, list[Side]] = {}
    for side in sides:
        if side.service is not None:
            shared.setdefault(side.service, []).append(side)
    return [*shared.values(), *([side] for side in sides if side.service is None)]


def ephemeral_range() -> tuple[int, int]:
    """The range outgoing ports are taken from; the Linux default where it can't be read."""
    try:
        lowest, highest = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()
        return int(lowest), int(highest)
    except (OSError, ValueError):
        return 32_768, 60_999


class Room(Struct, frozen=True):
    """Memory that can still be had."""

    free_bytes: int
    limit: str
    """What limits it, and what would raise it."""


def check_memory(demand: Demand, root: Path = Path("/")) -> None:
    """Raises RigError when the load needs more memory than this machine or our control group has left."""
    room = free_memory(root)
    needed = demand.memory_bytes
    if room is None or needed <= room.free_bytes:
        return
    raise RigError(
        f"{demand.streams} streams at once need about {size_text(needed)} of memory, {size_text(room.free_bytes)} are left "
        f"({room.limit}): use fewer users, or {_RAISE[room.limit.partition(' ')[0]]}."
    )


_RAISE: Final[Mapping[str, str]] = {
    "MemAvailable": "free some or take a larger machine",
    "memory.max": "raise the control group's memory.max (the container's memory limit)",
    "memory.limit_in_bytes": "raise the control group's memory.limit_in_bytes (the container's memory limit)",
}


def free_memory(root: Path = Path("/")) -> Room | None:
    """The tightest of the kernel's own figure and the limits of our control groups, v1 and v2; None where none is known.

    `root` is where proc and sys are mounted. Pages of files that the kernel can drop count as free.
    """
    rooms = [
        *_machine_room(root / "proc/meminfo"),
        *_group_rooms(root, "memory.max", "memory.current", "inactive_file"),
        *_group_rooms(root, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ]
    return min(rooms, key=lambda room: room.free_bytes, default=None)


def size_text(size: int) -> str:
    """Bytes for people: MiB, from 10 GiB on GiB."""
    return f"{size / _GIB:,.0f} GiB" if size >= 10 * _GIB else f"{size / _MIB:,.0f} MiB"


def _machine_room(meminfo: Path) -> list[Room]:
    for line in _lines(meminfo):
        name, _, value = line.partition(":")
        if name == "MemAvailable" and value.split()[:1]:
            return [Room(int(value.split()[0]) * 1024, "MemAvailable of /proc/meminfo")]
    return []


def _group_rooms(root: Path, limit_name: str, used_name: str, droppable: str) -> list[Room]:
    """What each control group from ours up to the root leaves; a group without a limit leaves everything."""
    rooms = []
    for folder in _group_folders(root, v2=limit_name == "memory.max"):
        limit, used = _number(folder / limit_name), _number(folder / used_name)
        if limit is None or used is None:
            continue
        dropped = next(
            (
                int(line.split()[1])
                for line in _lines(folder / "memory.stat")
                if line.startswith(f"{droppable} ")
            ),
            0,
        )
        rooms.append(Room(max(0, limit - max(0, used - dropped)), f"{limit_name} of our control group"))
    return rooms


def _group_folders(root: Path, *, v2: bool) -> list[Path]:
    """Our control group and those above it. In a container the path may be the host's: what is not there has no files."""
    mounts = (
        [root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified"] if v2 else [root / "sys/fs/cgroup/memory"]
    )
    paths = []
    for line in _lines(root / "proc/self/cgroup"):
        number, controllers, path = (*line.split(":", 2), "", "")[:3]
        if (number == "0" and not controllers) if v2 else "memory" in controllers.split(","):
            paths.append(Path(path.lstrip("/")))
    return [mount / place for mount in mounts for path in paths for place in (path, *path.parents)]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    """The number in a file; None without one, as for `max`."""
    text = "".join(_lines(path)).strip()
    return int(text) if text.isascii() and text.isdigit() else None

"""Two machines as network namespaces joined by a cable: nothing of one is reachable from the other but its address."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Struct

HOW = "install iproute2 (Debian: apt-get install iproute2) and run as root, where the kernel allows network namespaces"


class Machines(Struct, frozen=True):
    """The names of two namespaces, and the first one's address on the cable."""

    master: str
    other: str
    address: str

    @staticmethod
    def on(name: str, *command: str) -> list[str]:
        """The command line that runs there."""
        return ["ip", "netns", "exec", name, *command]


@contextlib.contextmanager
def two_machines() -> Iterator[Machines]:
    """Made for one test. Where the kernel refuses them the test is skipped with its reason, since nothing can be installed
    that gives the right; where only the program is missing it fails with CI set.
    """
    # One of 128 pairs of the benchmarking range (RFC 2544), by the process: tests run side by side.
    number = os.getpid() % 64
    names = [f"sseproof-{os.getpid()}-{side}" for side in "ab"]
    cable = [f"sp{os.getpid() % 100_000}{side}" for side in "ab"]
    addresses = [f"198.18.{number}.1", f"198.18.{number}.2"]
    try:
        for name in names:
            _ip("netns", "add", name)
        _ip("link", "add", cable[0], "type", "veth", "peer", "name", cable[1])
        for name, end, address in zip(names, cable, addresses, strict=True):
            _ip("link", "set", end, "netns", name)
            _ip("-n", name, "address", "add", f"{address}/30", "dev", end)
            for each in (end, "lo"):
                _ip("-n", name, "link", "set", each, "up")
        yield Machines(names[0], names[1], addresses[0])
    finally:
        for name in names:
            if Path("/run/netns", name).exists():
                subprocess.run(["ip", "netns", "del", name], check=False)


_REFUSALS = ("not permitted", "denied", "not supported", "Unknown device type")
"""What `ip` says when this user or this kernel may not, or can't."""


def _ip(*arguments: str) -> None:
    if shutil.which("ip") is None:
        if os.environ.get("CI"):
            pytest.fail(f"ip not found: {HOW}")
        pytest.skip(f"ip not found: {HOW}")
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        said = f"ip {' '.join(arguments)}: {done.stderr.strip()}"
        if any(word in said for word in _REFUSALS):
            pytest.skip(f"{said}: {HOW}")
        pytest.fail(said)

"""What the machine has, names, consent. Checked before the first connection; limits of a load are in limits.py.

Rules:
- A name is resolved once, here, and the addresses are recorded (design.md "Ground rules").
- Loopback is free; any other host needs consent, and load on a public address a second one (decision 13).
"""

import ipaddress
import os
import platform
import resource
import socket
import struct
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from sseproof.limits import DESCRIPTORS_A_PROCESS, ephemeral_range, free_memory, size_text
from sseproof.rundir.errors import EXIT_RIG, UsageError, unbound
from sseproof.rundir.machine import version_of

FREE_LOAD: Final = 50
"""Streams at once that a public address may get without a second consent (decision 13)."""
_SO_TIMESTAMPING: Final = 37
_STAMP_FLAGS: Final = (1 << 3) | (1 << 4)


class Finding(Struct, frozen=True):
    """One line of `sseproof setup --check`."""

    name: str
    ok: bool
    value: str
    advice: str = ""
    needed: bool = True
    """Without it runs or faults are impossible; else only something less is measured."""


def resolve(host: str, port: int) -> list[str]:
    """The IP addresses of a host, IPv4 first. Raises UsageError when the name does not resolve."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else "it is no host name"
        raise UsageError(
            f"The host name {host!r} does not resolve ({reason}): check the spelling in the target's URL."
        ) from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    return sorted(addresses, key=lambda address: ":" in address)


def check_consent(
    host: str, addresses: Iterable[str], users: int, allow: Iterable[str], allow_load: int | None
) -> None:
    """Refuses hosts nobody consented to. Raises UsageError with the option that gives the consent."""
    ips = [ipaddress.ip_address(address.partition("%")[0]) for address in addresses]
    if all(ip.is_loopback for ip in ips):
        return
    if host.lower() not in {name.lower() for name in allow}:
        raise UsageError(
            f"{host} is not this machine: load on it needs consent. "
            f"If you may test it, add --allow-target {host} (or allow = [{host!r}] under [target])."
        )
    public = any(not (ip.is_private or ip.is_loopback) for ip in ips)
    if public and users > max(FREE_LOAD, allow_load or 0):
        raise UsageError(
            f"{users} streams at once against the public host {host} need a second consent: add --allow-load {users}, "
            f"or stay at {FREE_LOAD} or fewer."
        )


class Aim(Struct, kw_only=True, frozen=True):
    """Where one variant's load would go, how much of it, and what was consented to."""

    host: str
    addresses: list[str]
    port: int
    users: int
    allow: list[str]
    allow_load: int | None


def check_consents(aims: Sequence[Aim]) -> None:
    """Consent for all variants together: they run at once, and a host bears what all of them send it.

    Two names of one address are one host. Raises UsageError as `check_consent` does.
    """
    for aim in aims:
        same = [
            other
            for other in aims
            if other.host.lower() == aim.host.lower() or set(other.addresses) & set(aim.addresses)
        ]
        allowed = max(other.allow_load or 0 for other in same)
        check_consent(aim.host, aim.addresses, sum(other.users for other in same), aim.allow, allowed)


def check_bind(host: str, port: int) -> None:
    """RigError when somebody else listens there, UsageError when no master could."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise unbound(
                error,
                f"master_bind {host}:{port} can't be listened on: {error.strerror}; give an address of this machine and a "
                "free port.",
            ) from None


def kernel_stamps() -> bool:
    """Whether a TCP receive on loopback carries a kernel stamp."""
    if not sys.platform.startswith("linux"):
        return False
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        client.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, _STAMP_FLAGS)
        peer, _ = server.accept()
        with peer:
            time.sleep(
                0.1
            )  # the kernel switches stamping on lazily, for the first socket that asks (capacity.md)
            peer.sendall(b"x")
            client.settimeout(2)
            _, ancillary, _, _ = client.recvmsg(1, 128)
    return any(
        level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPING and struct.unpack_from("qq", data)[0] > 0
        for level, kind, data in ancillary
    )


def findings() -> list[Finding]:
    """What `sseproof setup --check` reports."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
    enough = hard == resource.RLIM_INFINITY or hard >= 1_000 + DESCRIPTORS_A_PROCESS
    lowest, highest = ephemeral_range()
    stamps = kernel_stamps()
    setpriv = _on_path("setpriv")
    return [
        Finding(
            "file descriptors",
            enough,
            f"{soft}, may be raised to {allowed}",
            "" if enough else "raise the hard limit (`ulimit -Hn`): every open stream needs one.",
        ),
        Finding(
            "outgoing ports",
            highest - lowest >= 1_000,
            f"{highest - lowest + 1} to one address ({lowest}-{highest})",
        ),
        *_memory_finding(),
        Finding(
            "kernel stamps",
            stamps,
            "receive instants come from the kernel" if stamps else "not available",
            ""
            if stamps
            else "instants come from the process clock, with wider error brackets; reports say so.",
            needed=False,
        ),
        Finding(
            "children end with us",
            setpriv,
            "setpriv found" if setpriv else "setpriv not found",
            ""
            if setpriv
            else "install util-linux: without it a killed run may leave its workers for some seconds.",
            needed=False,
        ),
        Finding("python", sys.version_info >= (3, 11), platform.python_version()),
        Finding("locust", True, version_of("locust")),
    ]


def calibrated(environ: Mapping[str, str]) -> Finding:
    """Whether this machine's ceiling is known, and from when."""
    from sseproof.calibration import read

    try:
        found = read(environ)
    except UsageError as error:
        return Finding("calibration", False, "not readable", str(error), needed=False)
    if found is None:
        advice = "run sseproof calibrate: runs too near to the ceiling then say so."
        return Finding("calibration", False, "none of this machine and version", advice, needed=False)
    return Finding("calibration", True, found.text, needed=False)


def _memory_finding() -> list[Finding]:
    room = free_memory()
    if room is None:
        return []
    return [Finding("memory", True, f"{size_text(room.free_bytes)} left ({room.limit})")]


def parts(toxiproxy: str | None, *, build: bool) -> list[Finding]:
    """The real parts that faults and hops need; builds the Toxiproxy server if asked to.

    Raises UsageError when the server that was named can't be one, RigError when a build was asked for and fails.
    """
    from sseproof.browsers.programs import HOW_TO_GET, PROGRAMS
    from sseproof.browsers.programs import parts as browsers
    from sseproof.chaos.hops import HOW_TO_GET_APACHE, HOW_TO_GET_NGINX, find_apache, find_nginx
    from sseproof.chaos.install import find, install

    found = (
        install(lambda line: print(line, file=sys.stderr, flush=True), toxiproxy)
        if build
        else find(toxiproxy)
    )
    usable = found.kind not in {"none", "buildable"}
    value = f"{found.version or found.url}: {found.why}" if usable else found.why
    return [
        Finding(
            "toxiproxy",
            found.kind != "none",
            value,
            " ".join(found.tried) if found.kind in {"none", "stock"} else "",
        ),
        _program("nginx", find_nginx(), HOW_TO_GET_NGINX),
        _program("apache", find_apache(), HOW_TO_GET_APACHE),
        *(
            _program(name, None if browser is None else Path(browser.path), HOW_TO_GET[name])
            for name, browser in browsers(tuple(PROGRAMS), os.environ).items()
        ),
    ]


def _program(name: str, found: Path | None, advice: str) -> Finding:
    return Finding(
        name,
        found is not None,
        "found" if found else "not found",
        "" if found else advice,
        needed=False,
    )


def setup_code(found: Iterable[Finding]) -> int:
    """The exit code of `sseproof setup`: 0 when everything needed is there, else 70, as a run would end."""
    return 0 if all(finding.ok or not finding.needed for finding in found) else EXIT_RIG


def _on_path(command: str) -> bool:
    import shutil

    return shutil.which(command) is not None

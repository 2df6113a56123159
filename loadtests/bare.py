"""A run directory for a bare `locust -f …`: the target is Locust's host, the rest are defaults.

One preflight stream finds out what ends an answer and whether the target is our own reference server, as
`sseproof run` does; it runs in a process of its own, is printed, and is not judged.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import msgspec

from sseproof.loadtests.request import DEFAULT_PORTS
from sseproof.loadtests.settings import Client, Load, PreflightRequest, Target, Timeouts, adopted
from sseproof.rundir.clock import now_ns
from sseproof.rundir.errors import UsageError
from sseproof.rundir.layout import OUT_VARIABLE, create_run_directory, new_run_id
from sseproof.rundir.machine import host_facts, versions
from sseproof.rundir.rows import GAP_GRID_NS, AddressPlan, Plan, PreflightResult, RunInfo, VariantPlan
from sseproof.rundir.seeds import new_seed
from sseproof.rundir.text import SECRET_QUERY, printable
from sseproof.rundir.units import encode_hook, to_raw
from sseproof.rundir.variables import ENV_PART

SEED_VARIABLE: Final = "SSEPROOF_SEED"
LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
PREFLIGHT_LIMIT_S: Final = 60


def make_bare_run(host: str | None, workers: int, options: Any = None) -> Path:
    """Creates the run directory of a bare Locust test; `options` are Locust's own, as it parsed them.

    Raises UsageError without a usable host, with a secret written out in it, with a wrong seed, or when the target gives
    no event stream.
    """
    if not host:
        raise UsageError(
            "No target: give Locust the address of the stream, --host http://127.0.0.1:8000/stream."
        )
    name, port = _checked(host)
    seed = _seed(os.environ.get(SEED_VARIABLE, ""))
    if name not in LOOPBACK:
        raise UsageError(
            f"{name} is not this machine: load on it needs consent, "
            f"which `sseproof run --allow-target {name}` takes."
        )
    target = Target(url=host)
    preflight = _preflight(target)
    if not preflight.ok:
        raise UsageError(preflight.sentence)
    target = adopted(target, preflight)
    created_ns = now_ns()
    address = AddressPlan(host=preflight.addresses[0], port=port)
    run = new_run_id(seed, created_ns)
    # Locust decides when a bare test ends: no duration, no number of streams.
    variant = VariantPlan(
        target=to_raw(target),
        load=to_raw(Load()),
        client=to_raw(Client()),
        addresses=[address],
        preflight=preflight,
    )
    plan = Plan(
        run=run,
        scenario="locust",
        seed=seed,
        created_ns=created_ns,
        workers=workers,
        variants=[variant],
        gap_edges_ns=list(GAP_GRID_NS),
    )
    info = RunInfo(
        run=run,
        started_ns=created_ns,
        versions=versions(),
        host=host_facts(),
        command=_command(host, options),
    )
    return create_run_directory(Path(os.environ.get(OUT_VARIABLE) or "runs"), plan, info)


def _checked(host: str) -> tuple[str, int]:
    """The host's name and port. Raises UsageError, which shows no part of the address that may be secret."""
    try:
        parts = urlsplit(host)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"--host is not an http:// or https:// address: {error}.") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError("--host is not an http:// or https:// address; write http://HOST:PORT/PATH.")
    user, colon, password = ENV_PART.sub("", parts.netloc.rpartition("@")[0]).partition(":")
    written = [("password", password) if colon else ("user", user)]
    written += [
        (name, ENV_PART.sub("", value))
        for name, value in parse_qsl(parts.query)
        if SECRET_QUERY.search(name.lower())
    ]
    for name, value in written:
        if value:
            raise UsageError(
                f"--host holds a secret ({printable(name, 40)}), which would be written into the run directory: "
                "put it into an environment variable, and {env:NAME} into the address."
            )
    return parts.hostname, port or DEFAULT_PORTS[parts.scheme]


def _seed(text: str) -> int:
    """The seed of SSEPROOF_SEED, a new one without it."""
    if not text:
        return new_seed()
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"{SEED_VARIABLE} is {printable(text, 40)!r}; give a whole number from 0 up.")
    return int(text)


def _command(host: str, options: Any) -> list[str]:
    """The command that repeats the load. Of Locust's options only these: others may hold secrets of the locustfile's."""
    command = ["locust", "-f", str(getattr(options, "locustfile", None) or "locustfile.py")]
    command += [f"--{name}" for name in ("headless", "master") if getattr(options, name, False)]
    command += ["--host", host]
    for option, value, unit in (
        ("-u", getattr(options, "num_users", None), ""),
        ("-r", getattr(options, "spawn_rate", None), ""),
        ("-t", getattr(options, "run_time", None), "s"),
    ):
        if value:
            command += [option, f"{value:g}{unit}" if isinstance(value, int | float) else f"{value}"]
    return command


def _preflight(target: Target) -> PreflightResult:
    request = msgspec.json.encode(PreflightRequest(target=target, timeouts=Timeouts()), enc_hook=encode_hook)
    done = subprocess.run(
        [sys.executable, "-m", "sseproof.loadtests.preflight"],
        input=request,
        capture_output=True,
        timeout=PREFLIGHT_LIMIT_S,
        check=False,
    )
    try:
        return msgspec.json.decode(done.stdout, type=PreflightResult)
    except msgspec.DecodeError:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise UsageError(f"The look at {target.url} before the run failed: {' '.join(last)}") from None

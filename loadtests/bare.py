"""A run directory for a bare `locust -f …`: the target is Locust's host, the rest are defaults.

One preflight stream finds out what ends an answer and whether the target is our own reference server, as
`sseproof run` does; it runs in a process of its own, is printed, and is not judged.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from sseproof.loadtests.settings import Client, Load, PreflightRequest, Target, Timeouts, adopted
from sseproof.rundir.clock import now_ns
from sseproof.rundir.errors import UsageError
from sseproof.rundir.layout import create_run_directory, new_run_id
from sseproof.rundir.rows import GAP_GRID_NS, AddressPlan, Plan, PreflightResult, RunInfo, VariantPlan
from sseproof.rundir.seeds import new_seed
from sseproof.rundir.units import encode_hook, to_raw

SEED_VARIABLE: Final = "SSEPROOF_SEED"
OUT_VARIABLE: Final = "SSEPROOF_OUT"
LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
PREFLIGHT_LIMIT_S: Final = 60


def make_bare_run(host: str | None, workers: int) -> Path:
    """Creates the run directory of a bare Locust test.

    Raises UsageError without a usable host, or when the target gives no event stream.
    """
    if not host:
        raise UsageError(
            "No target: give Locust the address of the stream, --host http://127.0.0.1:8000/stream."
        )
    parts = urlsplit(host)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError(f"--host {host!r} is not an http:// or https:// address.")
    if parts.hostname not in LOOPBACK:
        raise UsageError(
            f"{parts.hostname} is not this machine: load on it needs consent, "
            f"which `sseproof run --allow-target {parts.hostname}` takes."
        )
    target = Target(url=host)
    preflight = _preflight(target)
    if not preflight.ok:
        raise UsageError(preflight.sentence)
    target = adopted(target, preflight)
    created_ns = now_ns()
    seed = int(os.environ.get(SEED_VARIABLE, "") or new_seed())
    address = AddressPlan(
        host=preflight.addresses[0], port=parts.port or (443 if parts.scheme == "https" else 80)
    )
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
        run=run, started_ns=created_ns, command=["locust", "-f", "loadtests/locustfile.py", "--host", host]
    )
    return create_run_directory(Path(os.environ.get(OUT_VARIABLE) or "runs"), plan, info)


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

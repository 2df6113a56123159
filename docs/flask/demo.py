"""`make demo-flask`: the deployment of the report on this machine, its failure, and the way out.

Starts chat.py twice under gunicorn, with four sync workers and with one of gevent, has `sseproof check` say what is
wrong with the first, and `sseproof run` load both with eight answers that are longer than gunicorn's time-out. All of it
takes about three minutes, for the time-out is 30 s, and is over in less with another one:

    python docs/flask/demo.py --timeout 6 --seconds 8
"""

import argparse
import http.client
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from sseproof.chaos.processes import LOOPBACK, Child, PortLease
from sseproof.rundir.errors import EXIT_INTERRUPTED, RigError

HERE: Final = Path(__file__).resolve().parent
CHAT: Final = "/api/v1/stream/chat"
HEALTH: Final = "/api/v1/stream/health"
START_LIMIT_S: Final = 60.0
WRITTEN: Final = {"sync": "127.0.0.1:8031", "gevent": "127.0.0.1:8032"}
"""Where the scenario expects the two, when they are started by hand."""
WORKERS: Final = {"sync": 4, "gevent": 1}


def main() -> int:
    """The exit code of the load run: 0 when the careful side keeps its claims."""
    options = argparse.ArgumentParser(
        description="Flask under gunicorn: four sync workers, and one of gevent."
    )
    options.add_argument("--timeout", type=int, default=30, help="gunicorn's, in seconds (30, as it comes)")
    options.add_argument("--seconds", type=int, default=40, help="length of an answer (40)")
    options.add_argument("--only", choices=("check", "run"), help="half of it")
    options.add_argument("--out", default="runs", help="the folder of runs")
    chosen = options.parse_args()
    with ExitStack() as parts:
        lease = parts.enter_context(PortLease(len(WRITTEN)))
        ports = dict(zip(WRITTEN, lease.ports, strict=True))
        for worker, port in ports.items():
            parts.callback(started(worker, port, chosen.timeout).end)
        for worker, port in ports.items():
            wait_for(worker, port)
        code = 0
        if chosen.only != "run":
            code = check(ports["sync"], chosen.timeout, chosen.seconds)
        if code == EXIT_INTERRUPTED:
            return code
        if chosen.only != "check":
            return load(ports, chosen.seconds, chosen.out)
    return 0


def started(worker: str, port: int, timeout_s: int) -> Child:
    """The app under gunicorn; what that says of killed workers is on standard error."""
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "-k",
        worker,
        "-w",
        str(WORKERS[worker]),
        "-t",
        str(timeout_s),
    ]
    command += ["-b", f"{LOOPBACK}:{port}", "--chdir", str(HERE), "--no-control-socket", "chat:app"]

    def hear(line: str) -> None:
        if "WORKER TIMEOUT" in line:
            print(f"gunicorn, {worker}: {line.strip()}", file=sys.stderr)

    return Child(f"gunicorn, {worker}", command, say=lambda _: None, on_line=hear, process_group=True)


def wait_for(worker: str, port: int) -> None:
    """Until a worker answers; proxies of the environment are not asked."""
    until_s = time.monotonic() + START_LIMIT_S
    while time.monotonic() < until_s:
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=5)
        try:
            connection.request("GET", HEALTH)
            if connection.getresponse().status == http.client.OK:
                return
        except (OSError, http.client.HTTPException):
            time.sleep(0.05)
        finally:
            connection.close()
    raise RigError(f"gunicorn with {worker} workers gave no sign of life within {START_LIMIT_S:g} s.")


def check(port: int, timeout_s: int, seconds: int) -> int:
    """What `sseproof check` says of the sync workers: an answer watched beyond their time-out, and eight at once."""
    url = f"http://{LOOPBACK}:{port}{CHAT}?seconds={seconds}"
    options = ["--terminal", "event:done", "--look", "5s", "--idle", str(timeout_s + 5), "--parallel"]
    return sseproof("check", url, *options)


def load(ports: dict[str, int], seconds: int, out: str) -> int:
    """Eight answers at once of each of the two; the exit code."""
    text = (HERE / "scenario.toml").read_text("utf-8").replace('"seconds": 40', f'"seconds": {seconds}')
    for worker, written in WRITTEN.items():
        text = text.replace(written, f"{LOOPBACK}:{ports[worker]}")
    with tempfile.TemporaryDirectory() as folder:
        scenario = Path(folder) / "flask.toml"
        scenario.write_text(text, "utf-8")
        return sseproof("run", str(scenario), "--out", out)


def sseproof(*arguments: str) -> int:
    """One command, in the open; a Ctrl-C is its own, and it says how it ends."""
    print(f"\n$ sseproof {' '.join(arguments)}\n", flush=True)
    with subprocess.Popen([sys.executable, "-m", "sseproof", *arguments]) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RigError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)

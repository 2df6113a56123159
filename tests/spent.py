"""What a command took: processor time and the most memory.

The kernel counts a child's largest memory from before its exec on, when it still is its parent: pytest's own 280 MB.
So a small process stands between and measures its one child.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

_BETWEEN: Final = """
import json, resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as said:
    json.dump([code, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024], said)
"""


class Spent(NamedTuple):
    code: int
    cpu_s: float
    peak_bytes: int
    stdout: str
    stderr: str


def spent(arguments: Sequence[str], *, cwd: Path, said: Path, limit_s: float) -> Spent:
    """One `sseproof` command; `said` is a file to be written. Raises AssertionError when it takes longer than the limit."""
    command = [sys.executable, "-m", "sseproof", *arguments]
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _BETWEEN, str(said), *command],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    timer = threading.Timer(limit_s, os.killpg, (process.pid, signal.SIGKILL))
    timer.start()
    try:
        stdout, stderr = process.communicate()
    finally:
        timer.cancel()
    assert process.returncode == 0, f"it took longer than {limit_s} s: {stderr}"
    code, cpu_s, peak_bytes = msgspec.json.decode(said.read_bytes(), type=tuple[int, float, int])
    return Spent(code, cpu_s, peak_bytes, stdout, stderr)

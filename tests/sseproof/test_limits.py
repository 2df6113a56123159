"""Limits of the machine: a load that they don't allow is refused before anything starts, in one sentence."""

import subprocess
import sys
from pathlib import Path

import pytest

from sseproof import limits
from sseproof.limits import Demand, Side
from sseproof.planning import demand_of
from sseproof.rundir.errors import RigError
from sseproof.scenario import load_scenario


def demand(*streams: int, workers: int = 1, proxied: bool = False, **side) -> Demand:
    side = {"service": "127.0.0.1:80", **side}
    return Demand(sides=[Side(streams=each, **side) for each in streams], workers=workers, proxied=proxied)


# --- descriptors ---

LIMITED = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 300))
from sseproof.limits import Demand, Side, check_descriptors
from sseproof.rundir.errors import RigError
try:
    check_descriptors({demand})
    print("fits", resource.getrlimit(resource.RLIMIT_NOFILE)[0])
except RigError as error:
    print(error.exit_code, error)
"""


def with_300_descriptors(planned: Demand) -> str:
    code = LIMITED.format(demand=planned)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_too_few_descriptors_says_how_many_and_what_to_do():
    sentence = with_300_descriptors(demand(500))
    assert sentence.startswith("70 500 streams")
    assert "--workers 5" in sentence
    assert "ulimit -n" in sentence


def test_the_soft_limit_is_raised_when_that_helps():
    assert with_300_descriptors(demand(90)) == "fits 300"
    assert with_300_descriptors(demand(20)) == "fits 256"


@pytest.mark.parametrize(
    ("planned", "words"),
    [
        (demand(51, workers=9, proxied=True), ["Toxiproxy need 302", "two a stream", "at most 50 users"]),
        (demand(30, 21, workers=9, proxied=True), ["51 streams through Toxiproxy"]),
        (demand(51, workers=9, hop=True), ["nginx need 302", "two a stream"]),
        (
            demand(101, workers=9, service=None),
            ["the reference server need 301", "one a stream", "at most 100"],
        ),
    ],
    ids=["proxy", "proxy of two variants", "hop", "own server"],
)
def test_a_process_that_no_number_of_workers_divides(planned, words):
    sentence = with_300_descriptors(planned)
    assert sentence.startswith("70 ")
    assert all(word in sentence for word in [*words, "ulimit -n"])


@pytest.mark.parametrize(
    "planned",
    [
        demand(50, proxied=True),
        demand(25, 25, proxied=True),
        demand(50, 50, hop=True),
        demand(100, 100, service=None),
    ],
)
def test_a_process_that_just_has_enough(planned):
    assert with_300_descriptors(planned) == "fits 300"


# --- outgoing ports ---


@pytest.fixture
def hundred_ports(monkeypatch):
    monkeypatch.setattr(limits, "ephemeral_range", lambda: (1000, 1099))


@pytest.mark.usefixtures("hundred_ports")
def test_more_streams_than_outgoing_ports():
    limits.check_ports(demand(100))
    with pytest.raises(
        RigError, match=r"^101 streams at once to 127\.0\.0\.1:80 .* 100 \(1000-1099\).*ip_local_port_range"
    ):
        limits.check_ports(demand(101))


@pytest.mark.usefixtures("hundred_ports")
def test_ports_add_up_for_one_destination_and_only_for_one():
    with pytest.raises(RigError, match=r"^110 streams"):
        limits.check_ports(demand(60, 50))
    limits.check_ports(demand(60, 50, service=None))
    limits.check_ports(
        Demand(sides=[Side(streams=90, service="a:1"), Side(streams=90, service="a:2")], workers=1)
    )


@pytest.mark.usefixtures("hundred_ports")
@pytest.mark.parametrize(("more", "whose"), [({"proxied": True}, "Toxiproxy"), ({"hop": True}, "nginx")])
def test_the_upstream_side_of_a_proxy_needs_ports_too(more, whose):
    limits.check_ports(demand(100, **more))
    with pytest.raises(RigError, match=rf"\(those of {whose}, on its upstream side\)"):
        limits.check_ports(demand(101, **more))


@pytest.mark.usefixtures("hundred_ports")
def test_workers_on_other_machines_look_after_themselves():
    spread = Demand(sides=[Side(streams=300, service="a:1")], workers=3, elsewhere=2)
    limits.check_ports(spread)
    with pytest.raises(RigError, match=r"^101 streams"):
        limits.check_ports(Demand(sides=[Side(streams=303, service="a:1")], workers=3, elsewhere=2))
    with pytest.raises(RigError, match=r"^300 streams .*Toxiproxy"):
        limits.check_ports(Demand(sides=spread.sides, workers=3, elsewhere=2, proxied=True))
    assert spread.memory_bytes == Demand(sides=[Side(streams=100, service="a:1")], workers=1).memory_bytes


# --- memory ---


def planted(root: Path, **files: str) -> Path:
    """Files below a root; `__` in a name stands for a slash."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MEMINFO = "MemTotal:  9000000 kB\nMemFree:  1 kB\nMemAvailable:    1024000 kB\n"


def test_what_the_kernel_says_is_available(tmp_path):
    room = limits.free_memory(planted(tmp_path, proc__meminfo=MEMINFO))
    assert room == limits.Room(1024000 * 1024, "MemAvailable of /proc/meminfo")


def test_no_figure_refuses_nothing(tmp_path):
    assert limits.free_memory(planted(tmp_path, proc__meminfo="rubbish\nMemAvailable:\n")) is None
    limits.check_memory(demand(10**9), tmp_path)


@pytest.mark.parametrize("mount", ["sys__fs__cgroup", "sys__fs__cgroup__unified"])
def test_a_limit_of_control_groups_v2_anywhere_above_us(tmp_path, mount):
    files = {
        "proc__meminfo": MEMINFO,
        "proc__self__cgroup": "0::/outer/inner\n",
        f"{mount}__outer__inner__memory.max": "max\n",
        f"{mount}__outer__inner__memory.current": "1\n",
        f"{mount}__outer__memory.max": "500000000\n",
        f"{mount}__outer__memory.current": "300000000\n",
        f"{mount}__outer__memory.stat": "anon 5\ninactive_file 100000000\n",
    }
    room = limits.free_memory(planted(tmp_path, **files))
    assert room is not None
    assert room.free_bytes == 300_000_000
    assert room.limit.startswith("memory.max")


def test_a_limit_of_control_groups_v1_whose_path_is_the_hosts(tmp_path):
    files = {
        "proc__meminfo": MEMINFO,
        "proc__self__cgroup": "9:name=systemd:/\n4:cpu,memory:/docker/0123\n0::/\n",
        "sys__fs__cgroup__memory__memory.limit_in_bytes": "400000000\n",
        "sys__fs__cgroup__memory__memory.usage_in_bytes": "150000000\n",
        "sys__fs__cgroup__memory__memory.stat": "total_inactive_file 50000000\n",
    }
    room = limits.free_memory(planted(tmp_path, **files))
    assert room is not None
    assert room.free_bytes == 300_000_000
    assert room.limit.startswith("memory.limit_in_bytes")


def test_a_load_that_memory_does_not_allow(tmp_path):
    root = planted(
        tmp_path,
        proc__self__cgroup="0::/\n",
        **{"sys__fs__cgroup__memory.max": "200000000", "sys__fs__cgroup__memory.current": "0"},
    )
    limits.check_memory(demand(1_000), root)
    with pytest.raises(
        RigError,
        match=r"^9000 streams at once need about \d+ MiB of memory, 191 MiB are left .*raise .*memory\.max",
    ):
        limits.check_memory(demand(9_000), root)


def test_each_part_of_a_run_takes_its_memory():
    plain = demand(1_000).memory_bytes
    for more in (
        demand(1_000, workers=2),
        demand(1_000, service=None),
        demand(1_000, hop=True),
        demand(1_000, proxied=True),
        demand(2_000),
    ):
        assert more.memory_bytes > plain + 10_000_000


# --- from a scenario ---


def demanded(**tree) -> Demand:
    return demand_of(load_scenario(None, environ={}, sets=[], flags=tree))


FAULT = [{"kind": "cut", "share": "50%", "by": "rst", "after_bytes": [1, 9]}]


def test_what_a_scenario_demands():
    target = {"url": "https://Example.org/x"}
    plain = demanded(target=target, load={"users": 7, "duration": "5s"}, workers=2)
    assert plain == Demand(sides=[Side(streams=7, service="example.org:443")], workers=2)
    opened = demanded(target=target, load={"rate": 2.0, "max_open": 70, "duration": "5s"})
    assert opened.streams == 70
    dialled = demanded(
        target={**target, "connect_to": "[::1]:81"}, load={"users": 7, "duration": "5s"}, fault=FAULT
    )
    assert (dialled.sides[0].service, dialled.proxied) == ("::1:81", True)
    external = demanded(
        target=target, load={"duration": "5s"}, fault=FAULT, toxiproxy="http://127.0.0.1:8474"
    )
    assert not external.proxied
    own = demanded(target={"url": "/api/v1/stream/chat"}, server={}, hop="nginx-sse", load={"duration": "5s"})
    assert (own.sides[0].service, own.sides[0].hop) == (None, True)


@pytest.mark.parametrize("limit", ["ports", "memory"])
def test_every_limit_is_looked_at(monkeypatch, limit):
    if limit == "ports":
        monkeypatch.setattr(limits, "ephemeral_range", lambda: (1000, 1001))
    else:
        monkeypatch.setattr(limits, "free_memory", lambda _root: limits.Room(1, "MemAvailable"))
    with pytest.raises(RigError, match=limit):
        limits.check_limits(demand(3))

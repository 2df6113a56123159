"""Named random streams: the same on every machine and Python, and apart from one another."""

import ast
import itertools
from collections import defaultdict
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sseproof.rundir.seeds import SEED_BITS, named_random, new_seed


def draws(source, count=8):
    return [source.random() for _ in range(count)]


def test_a_seed_gives_the_same_draws_on_every_python():
    """Pinned figures: a change would make every recorded seed worthless."""
    source = named_random(7, "arrivals", 3)
    assert source.random() == 0.38446158354857773
    assert source.randrange(10**6) == 459782
    assert source.sample(range(100), 4) == [5, 94, 92, 67]
    assert source.expovariate(2.0) == 0.4422455918704153


def test_every_name_has_its_own_stream():
    names = [("arrivals",), ("faults",), ("faults", 1), ("faults", 2), ("faults", 12), ("payloads", "a"), ()]
    streams = [tuple(draws(named_random(seed, *name))) for seed in (1, 2, 11) for name in names]
    assert len(set(streams)) == len(streams)


def test_draws_of_one_name_never_shift_another():
    apart = draws(named_random(7, "faults"))
    arrivals, faults = named_random(7, "arrivals"), named_random(7, "faults")
    mixed = []
    for _ in range(8):
        draws(arrivals, 3)
        mixed.append(faults.random())
    assert mixed == apart


@given(st.integers(0, 2**SEED_BITS - 1), st.text(max_size=20))
def test_asking_again_starts_again(seed, name):
    assert draws(named_random(seed, name), 2) == draws(named_random(seed, name), 2)


def test_new_seeds_are_short_and_differ():
    seeds = [new_seed() for _ in range(200)]
    assert all(0 <= seed < 2**SEED_BITS for seed in seeds)
    assert len(set(seeds)) > 190
    assert any(seed >= 2 ** (SEED_BITS - 1) for seed in seeds)
    assert all(one != other for one, other in itertools.pairwise(seeds))


def test_what_is_drawn_for_one_purpose_has_a_name_that_no_other_has():
    """Arrivals, payloads, faults, groups: no two modules draw from one stream, so that none can move another's inputs."""
    root = Path(__file__).resolve().parents[2]
    homes = defaultdict(set)
    for folder in ("loadtests", "chaos", "reference_server", "reports", "sseproof"):
        for path in (root / folder).glob("**/*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("named_random"):
                    assert isinstance(node.args[1], ast.Constant), (
                        f"{path}, line {node.lineno}: a name that varies"
                    )
                    homes[node.args[1].value].add(path.resolve())
    assert {"arrivals", "payloads", "groups", "cut", "client"} <= homes.keys()
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}

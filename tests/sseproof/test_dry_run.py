"""What `--dry-run` promises is an upper limit, or it says that there is none."""

import pytest

from sseproof.dry_run import dry_run
from sseproof.scenario import load_scenario


def planned(*sets: str):
    flags = {"target": {"url": "http://127.0.0.1:8000/stream"}}
    return dry_run(load_scenario(None, environ={}, sets=list(sets), flags=flags))


@pytest.mark.parametrize(
    ("sets", "most"),
    [
        ([], None),  # each new event gives a stream all its retries back
        (["client.profile=browser"], None),
        (["client.on_cut=give-up"], 70 * 5),
        (["client.retries=0"], 70),
        (["client.retries=0", "client.on_cut=give-up"], 70),
        (["client.profile=legacy"], 70),
        (["load.max_requests=12"], 12),
    ],
)
def test_the_most_requests_that_a_number_of_streams_can_make(sets, most):
    assert planned("load.streams=70", *sets).needs.requests_at_most == most


def test_one_of_a_thing_is_not_several():
    text = planned("load.streams=1", "load.users=1", "client.retries=0").to_text()
    assert "1 stream by 1 user in 1 worker." in text
    assert "At most 1 request, reconnections included" in text


def test_a_schedule_fixes_its_streams_and_leaves_its_warm_up_out():
    constant = planned("load.rate=20", "load.duration=30s", "load.warmup=5s", 'claims=["success >= 98%"]')
    assert (constant.needs.streams, constant.needs.at_once, constant.needs.duration_s) == (600, 1_000, 30)
    (success,) = constant.claims
    assert (success.plan.n, success.fixed) == (500, True)
    poisson = ("load.rate=20", "load.duration=30s", "load.arrivals=poisson", 'claims=["success >= 98%"]')
    (mean,) = planned(*poisson).claims
    assert (mean.plan.n, mean.fixed) == (600, False)
    (seeded,) = planned(*poisson, "seed=4").claims
    assert seeded.fixed
    assert 500 < seeded.plan.n < 700
    assert "by schedule" in constant.to_text()

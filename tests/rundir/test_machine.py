"""run.json says what explains a figure, and not whose machine it was."""

import socket

from sseproof.rundir.machine import host_facts, version_of, versions


def test_host_facts_name_no_host():
    facts = host_facts()
    assert socket.gethostname() not in facts.values() or socket.gethostname() in {"1", "2"}
    assert int(facts["cores"]) >= 1


def test_versions_are_those_that_explain_a_run():
    found = versions()
    assert set(found) == {"sseproof", "python", "locust", "gevent", "kernel"}
    assert found["locust"][:1].isdigit()
    assert version_of("no-such-distribution-anywhere") == "unknown"

"""Limits of the machine, names and consent: refused before the first connection, in one sentence."""

import sys
from pathlib import Path

import pytest

from sseproof import environment
from sseproof.rundir.errors import UsageError


@pytest.mark.parametrize(
    ("host", "addresses", "users", "allow", "allow_load"),
    [
        ("127.0.0.1", ["127.0.0.1"], 9_000, [], None),
        ("localhost", ["127.0.0.1", "::1"], 9_000, [], None),
        ("intranet", ["10.1.2.3"], 9_000, ["Intranet"], None),
        ("example.org", ["93.184.216.34"], 50, ["example.org"], None),
        ("example.org", ["93.184.216.34"], 80, ["example.org"], 80),
    ],
)
def test_consent_that_is_given(host, addresses, users, allow, allow_load):
    environment.check_consent(host, addresses, users, allow, allow_load)


@pytest.mark.parametrize(
    ("host", "addresses", "users", "allow", "allow_load", "advice"),
    [
        ("intranet", ["10.1.2.3"], 1, [], None, "--allow-target intranet"),
        ("example.org", ["93.184.216.34"], 1, ["other.org"], None, "--allow-target example.org"),
        ("rebound", ["127.0.0.1", "93.184.216.34"], 1, [], None, "--allow-target rebound"),
        ("example.org", ["93.184.216.34"], 51, ["example.org"], None, "--allow-load 51"),
        ("example.org", ["93.184.216.34"], 81, ["example.org"], 80, "--allow-load 81"),
    ],
)
def test_consent_that_is_missing(host, addresses, users, allow, allow_load, advice):
    with pytest.raises(UsageError, match=advice):
        environment.check_consent(host, addresses, users, allow, allow_load)


def aimed(host: str, address: str, users: int, allow_load: int | None = None) -> environment.Aim:
    return environment.Aim(
        host=host,
        addresses=[address],
        port=443,
        users=users,
        allow=["example.org", "www.example.org", "other.org"],
        allow_load=allow_load,
    )


@pytest.mark.parametrize(
    "aims",
    [
        [aimed("example.org", "93.184.216.34", 25), aimed("example.org", "93.184.216.34", 25)],
        [aimed("example.org", "93.184.216.34", 50), aimed("other.org", "93.184.216.99", 50)],
        [aimed("example.org", "93.184.216.34", 50, 100), aimed("example.org", "93.184.216.34", 50)],
        [aimed("localhost", "127.0.0.1", 500), aimed("localhost", "127.0.0.1", 500)],
    ],
)
def test_consent_that_is_enough_for_all_variants(aims):
    environment.check_consents(aims)


@pytest.mark.parametrize(
    "aims",
    [
        [aimed("example.org", "93.184.216.34", 50), aimed("Example.org", "93.184.216.35", 50)],
        [aimed("example.org", "93.184.216.34", 50), aimed("www.example.org", "93.184.216.34", 50)],
        [aimed("example.org", "93.184.216.34", 50, 99), aimed("example.org", "93.184.216.34", 50, 99)],
    ],
    ids=["one name", "one address", "too little"],
)
def test_variants_on_one_public_host_add_up(aims):
    with pytest.raises(UsageError, match=r"^100 streams at once .*example\.org .*--allow-load 100"):
        environment.check_consents(aims)


def test_a_name_that_does_not_resolve():
    with pytest.raises(UsageError, match=r"'no-such-host\.invalid' does not resolve"):
        environment.resolve("no-such-host.invalid", 80)


def test_loopback_resolves_ipv4_first():
    assert environment.resolve("localhost", 80)[0] == "127.0.0.1"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="kernel stamps are Linux's")
def test_kernel_stamps_are_found_on_linux():
    assert environment.kernel_stamps()


def test_findings_name_the_limits():
    names = {finding.name for finding in environment.findings()}
    assert {"file descriptors", "outgoing ports", "memory", "kernel stamps"} <= names


def test_setup_says_which_hops_there_can_be(monkeypatch):
    monkeypatch.setattr("sseproof.chaos.hops.find_apache", lambda: None)
    monkeypatch.setattr("sseproof.chaos.hops.find_nginx", lambda: Path("/usr/sbin/nginx"))
    found = {each.name: each for each in environment.parts(None, build=False)}
    assert (found["nginx"].ok, found["apache"].ok) == (True, False)
    assert "apt-get install apache2-bin" in found["apache"].advice
    assert not found["apache"].needed


def test_only_what_is_needed_decides_how_setup_ends():
    there, missing = environment.Finding("x", True, ""), environment.Finding("x", False, "")
    useful = environment.Finding("nginx", False, "", needed=False)
    assert environment.setup_code([there, useful]) == 0
    assert environment.setup_code([there, missing, useful]) == 70
    optional = {each.name for each in environment.findings() if not each.needed}
    assert optional == {"kernel stamps", "children end with us"}

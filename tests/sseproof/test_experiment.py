"""The experiment's own decisions, without a process or a connection."""

from pathlib import Path

import pytest

from sseproof.experiment import Interruption, _Experiment
from sseproof.rundir.errors import UsageError
from sseproof.rundir.rows import AddressPlan
from sseproof.scenario import load_scenario


def experiment(folder: Path, text: str, *sets: str) -> _Experiment:
    path = folder / "scenario.toml"
    path.write_text(text)
    resolved = load_scenario(path, environ={}, sets=list(sets), flags={})
    return _Experiment(resolved, {}, Interruption(), quiet=True, notes=())


TWO_ON_ONE_HOST = """
[target]
url = "https://93.184.216.34/stream"
allow = ["93.184.216.34"]
[load]
users = 50
[[variant]]
name = "one"
[[variant]]
name = "other"
"""
"""A literal address needs no name server, and nothing is contacted."""


def test_consent_is_asked_for_all_variants_together(tmp_path):
    with pytest.raises(UsageError, match=r"100 streams at once .*--allow-load 100"):
        experiment(tmp_path, TWO_ON_ONE_HOST)._checked_services()
    services = experiment(tmp_path, TWO_ON_ONE_HOST, "target.allow_load=100")._checked_services()
    assert services == [AddressPlan(host="93.184.216.34", port=443)] * 2


def test_a_server_of_our_own_needs_no_consent(tmp_path):
    assert experiment(tmp_path, "[server]\n[load]\nusers = 500")._checked_services() == [None]

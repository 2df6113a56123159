"""Runs that several modules look at: each is made once in a session."""

import pytest

from tests.integration.demos import SEED, Run, whole


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The demo as it is, in a folder of its own."""
    return whole(tmp_path_factory.mktemp("full"), *SEED, "--json")

"""The real Toxiproxy server, nginx and Apache; where one can't be had the tests say so, and with CI set they fail."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sseproof.chaos.hops import HOW_TO_GET_APACHE, HOW_TO_GET_NGINX, find_apache, find_nginx
from sseproof.chaos.install import Found, install
from sseproof.chaos.processes import PortLease
from sseproof.chaos.toxiproxy import Server
from sseproof.rundir.errors import RigError


def absent(sentence: str) -> None:
    """Skips the test; with CI set it fails instead."""
    if os.environ.get("CI"):
        pytest.fail(sentence)
    pytest.skip(sentence)


@pytest.fixture(scope="session")
def found() -> Found:
    environ = dict(os.environ)
    environ["PATH"] = f"{environ['PATH']}:/usr/local/go/bin"
    try:
        return install(lambda line: None, environ=environ)
    except RigError as error:
        absent(str(error))
        raise


@pytest.fixture
def server(found: Found) -> Iterator[Server]:
    running = Server(found, say=lambda line: None)
    yield running
    running.close()


@pytest.fixture
def lease() -> Iterator[PortLease]:
    with PortLease(40) as ports:
        yield ports


@pytest.fixture(scope="session")
def nginx() -> Path:
    program = find_nginx()
    if program is None:
        absent(HOW_TO_GET_NGINX)
    assert program is not None
    return program


@pytest.fixture(scope="session")
def apache() -> Path:
    program = find_apache()
    if program is None:
        absent(HOW_TO_GET_APACHE)
    assert program is not None
    return program

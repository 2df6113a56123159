"""The rows of a server that says it is ours: anybody can say so."""

import msgspec
import pytest

from sseproof import experiment
from sseproof.rundir.rows import AddressPlan, Instant, WitnessRow
from tests.loadtests.rawserver import serving


def line_of(run: str) -> bytes:
    row = WitnessRow(run=run, truth_id="t", connection=1, profile="robust", accepted=Instant(1))
    return msgspec.json.encode(row) + b"\n"


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (line_of("r") + b"\n" + line_of("r"), 2),
        (line_of("other") + line_of("r"), 1),
        (line_of("r") * 100, "more than 5,000 bytes"),
        (b'{"run": "' + b"r" * 4_000, "truncated"),
        (b"\xff\n", "malformed"),
    ],
    ids=["whole", "another run's", "too much", "one long line", "rubbish"],
)
def test_it_is_read_within_bounds(monkeypatch, body, found):
    monkeypatch.setattr(experiment, "MOST_WITNESS_BYTES", 5_000)
    monkeypatch.setattr(experiment, "LARGEST_ROW_BYTES", 2_000)

    def script(connection):
        connection.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body)

    with serving(script) as server:
        address = AddressPlan(host="127.0.0.1", port=server.port)
        if isinstance(found, int):
            assert len(experiment._witness_rows(address, "/w", "r")) == found
            return
        with pytest.raises((ValueError, msgspec.DecodeError), match=found):
            experiment._witness_rows(address, "/w", "r")

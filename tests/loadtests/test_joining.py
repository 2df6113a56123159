"""The handshake of a run: who knows the token is believed, everybody else is not."""

import msgspec
import pytest

from sseproof.loadtests.joining import (
    Batch,
    Join,
    Ping,
    Welcome,
    checked_files,
    digest,
    join_proof,
    new_token,
    packed,
    proven,
    unpacked,
    welcome_proof,
)

WELCOME = Welcome(run="r1", worker=2, proof="", plan=b"{}", files={"payloads": b"a\n", "ca": b"b"})


def test_a_proof_is_of_one_token_worker_and_handshake():
    proof = join_proof("token", "host_1", "n1")
    assert proven(proof, join_proof("token", "host_1", "n1"))
    for other in (
        join_proof("tokem", "host_1", "n1"),
        join_proof("token", "host_2", "n1"),
        join_proof("token", "host_1", "n2"),
        join_proof("token", "host_1n", "1"),
        "",
        "é",
    ):
        assert not proven(other, proof)


@pytest.mark.parametrize(
    "change",
    [
        {"run": "r2"},
        {"worker": 3},
        {"plan": b"{} "},
        {"files": {"payloads": b"a\n", "ca": b"c"}},
        {"files": {"payloads": b"a\n"}},
        {"files": {"payloads": b"b", "ca": b"a\n"}},
    ],
)
def test_the_masters_proof_covers_all_that_a_worker_will_obey(change):
    proof = welcome_proof("token", "n", WELCOME)
    assert proven(proof, welcome_proof("token", "n", WELCOME))
    assert not proven(welcome_proof("token", "n", msgspec.structs.replace(WELCOME, **change)), proof)
    assert not proven(welcome_proof("token", "m", WELCOME), proof)


def test_tokens_are_not_to_be_guessed():
    assert len({new_token() for _ in range(100)}) == 100
    assert len(new_token()) >= 32


@pytest.mark.parametrize(
    "message", [WELCOME, Ping(sent_ns=2**62), Batch(run="r", number=1, rows={"x": b"\xff\n"})]
)
def test_a_message_comes_out_as_it_went_in(message):
    assert unpacked(packed(message), type(message)) == message


@pytest.mark.parametrize("data", [None, 7, "x", [], {}, {"sent_ns": "soon"}, {"version": 1, "nonce": b""}])
def test_what_is_no_message_is_none(data):
    assert unpacked(data, Ping) is None
    assert unpacked(data, Join) is None


def test_files_are_those_that_the_plan_names():
    files = {"payloads": b"a\n"}
    assert checked_files(files, {"payloads": digest(b"a\n"), "ca": None})
    assert not checked_files(files, {"payloads": digest(b"b\n")})
    assert not checked_files({}, {"payloads": digest(b"a\n")})

"""What Locust's master and a worker say to each other of a run: who joins, the plan, rows, clocks, the end.

Rules (design.md "Run directory", decision 7):
- Every message is a struct; Locust carries it as msgpack. What can't be read as its struct was not sent by us.
- Whoever joins proves that it knows the run's token, and so does the master that answers, without either sending it: a
  stray worker gets no part of the run, and a stray master no environment variable of this machine into its load.
- Locust's connection is not encrypted and its own messages are not signed: the token keeps runs apart, not enemies.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

TOKEN_VARIABLE: Final = "SSEPROOF_TOKEN"  # noqa: S105  # a variable's name
"""Environment variable with the run's token, for the master and its workers."""

JOIN: Final = "sseproof-join"
"""Worker to master: a Join; again and again until it is answered."""
WELCOME: Final = "sseproof-welcome"
REFUSED: Final = "sseproof-refused"
READY: Final = "sseproof-ready"
"""Worker to master: a Note; it has the plan, and its clock is known."""
PING: Final = "sseproof-ping"
PONG: Final = "sseproof-pong"
BATCH: Final = "sseproof-batch"
TAKEN: Final = "sseproof-taken"
TROUBLE: Final = "sseproof-trouble"
"""Worker to master: a Note of why it can't go on."""
DRAINED: Final = "sseproof-drained"
"""Worker to master: a Note; it has ended, and its rows are where they belong."""
ENOUGH: Final = "sseproof-enough"
"""Master to worker: a Note; start no further stream, what is open goes on to its end."""
END: Final = "sseproof-end"
"""Master to worker: a Note; end the streams, send the rest."""


class Join(Struct, kw_only=True):
    """A worker that wants a part of the run."""

    version: str
    """Of sseproof: all processes of a run have the same."""
    nonce: str
    proof: str = ""
    """Empty from a worker that was given no token."""
    worker: int | None = None
    """The number that a worker of the master's machine was given; None asks for one, and for the plan."""
    locustfile_sha256: str | None = None
    """Of a user's own locustfile."""


class Welcome(Struct, kw_only=True):
    """A part of the run."""

    run: str
    worker: int
    proof: str
    plan: bytes = b""
    """plan.json; empty for a worker that has its path."""
    files: dict[str, bytes] = {}
    """Contents that the plan names by a path of the master's machine, by the key of the target or load."""


class Note(Struct, kw_only=True):
    """A word about the run."""

    run: str = ""
    sentence: str = ""


class Ping(Struct, kw_only=True):
    """A question for the time."""

    sent_ns: int
    """By the worker's clock."""
    master_ns: int = 0
    """In the answer, by the master's."""


class Batch(Struct, kw_only=True):
    """Rows of a worker's own files, whole lines."""

    run: str
    number: int
    """1 is the first; a batch that was not acknowledged comes again under its number."""
    rows: dict[str, bytes]
    """By the file's name."""


class Taken(Struct, kw_only=True):
    """The rows up to this batch are in the run directory."""

    run: str
    number: int


M = TypeVar("M", Join, Welcome, Note, Ping, Batch, Taken)


def packed(message: Struct) -> dict[str, Any]:
    """As Locust carries it."""
    fields: dict[str, Any] = msgspec.to_builtins(message, builtin_types=(bytes,))
    return fields


def unpacked(data: object, kind: type[M]) -> M | None:
    """The message, None when it is none of ours."""
    try:
        return msgspec.convert(data, kind, builtin_types=(bytes,))
    except msgspec.ValidationError:
        return None


def new_token() -> str:
    """For one run."""
    return secrets.token_hex(16)


def new_nonce() -> str:
    """For one handshake."""
    return secrets.token_hex(16)


def join_proof(token: str, node: str, nonce: str) -> str:
    """That a worker with this name in Locust's book knows the token."""
    return _proof(token, "join", node, nonce)


def welcome_proof(token: str, nonce: str, welcome: Welcome) -> str:
    """That the master knows it, and sent just this plan and these files."""
    parts = [digest(welcome.plan), *(f"{key}={digest(welcome.files[key])}" for key in sorted(welcome.files))]
    return _proof(token, "welcome", nonce, welcome.run, str(welcome.worker), *parts)


def proven(told: str, proof: str) -> bool:
    """Whether a proof is the right one, without telling by the time it takes how much of it is."""
    return hmac.compare_digest(told.encode(), proof.encode())


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal, as the plan has it."""
    return hashlib.sha256(content).hexdigest()


def checked_files(files: Mapping[str, bytes], digests: Mapping[str, str | None]) -> bool:
    """Whether the contents are those that the plan names."""
    return all(key in files and digest(files[key]) == told for key, told in digests.items() if told)


def _proof(token: str, *parts: str) -> str:
    return hmac.new(token.encode(), "\0".join(parts).encode(), hashlib.sha256).hexdigest()

"""Tokens: how they are written, whom they let in, and that nothing shows them."""

import hmac
from datetime import UTC, datetime

import pytest

from sseproof.reference_server import auth
from sseproof.reference_server.auth import LONGEST_TOKEN_CHARS, Tokens, User
from sseproof.reference_server.limits import Refusal

NOW_S = datetime(2026, 6, 1, tzinfo=UTC).timestamp()
ANN = "ann-token-1"
ROOT = "root/token+2=="


def user_of(tokens, *authorization, now_s=NOW_S):
    return Tokens(tokens).user_of(authorization, now_s)


@pytest.mark.parametrize(
    ("line", "user"),
    [
        (f"ann:{ANN}", User("ann")),
        (f"ann:{ANN}:user", User("ann")),
        (f"ann:{ANN}:Admin", User("ann", admin=True)),
        (f"ann:{ANN}::2026-06-02", User("ann")),
        (f"ann:{ANN}:2026-06-01T00:00:01Z", User("ann")),
        (f"ann:{ANN}:admin:2026-06-01T03:00:01+03:00", User("ann", admin=True)),
        (f"a.b@c-d_e:{ANN}", User("a.b@c-d_e")),
    ],
)
def test_a_token_has_a_user_a_role_and_an_end(line, user):
    assert user_of(line, f"Bearer {ANN}") == user


@pytest.mark.parametrize("joint", [",", "\n", " ,\n\n", "\r\n# a note\n"])
def test_several_tokens(joint):
    tokens = Tokens(joint.join([f"ann:{ANN}", f"root:{ROOT}:admin", "ann:another-of-ann"]))
    assert len(tokens) == 3
    assert tokens.user_of([f"bearer   {ROOT}"], NOW_S) == User("root", admin=True)
    assert tokens.user_of(["BEARER another-of-ann "], NOW_S) == User("ann")


@pytest.mark.parametrize(
    ("headers", "words", "error"),
    [
        ((), "A login is needed", None),
        (("Bearer wrong-token-1",), "not known", "invalid_token"),
        ((f"Bearer {ANN}x",), "not known", "invalid_token"),
        ((f"Bearer {ANN[:-1]}",), "not known", "invalid_token"),
        (("Bearer old-token-1",), "expired", "invalid_token"),
        (("Bearer ended-right-now",), "expired", "invalid_token"),
        (("Bearer",), "read Bearer TOKEN", "invalid_request"),
        ((f"Basic {ANN}",), "read Bearer TOKEN", "invalid_request"),
        ((ANN,), "read Bearer TOKEN", "invalid_request"),
        ((f"Bearer {ANN}", f"Bearer {ANN}"), "there once", "invalid_request"),
        ((f"Bearer {ANN},{ROOT}",), "read Bearer TOKEN", "invalid_request"),
        (("Bearer ann\u200btoken",), "read Bearer TOKEN", "invalid_request"),
        (("Bearer " + "x" * (LONGEST_TOKEN_CHARS + 1),), "read Bearer TOKEN", "invalid_request"),
    ],
)
def test_who_is_not_let_in_is_told_why_and_how(headers, words, error):
    text = f"ann:{ANN}\nbob:old-token-1:2026-05-31\ncy:ended-right-now:2026-06-01\nroot:{ROOT}:admin"
    refusal = user_of(text, *headers)
    assert isinstance(refusal, Refusal)
    assert refusal.status == 401
    assert words in refusal.sentence
    challenge = dict(refusal.headers)["WWW-Authenticate"]
    assert challenge == 'Bearer realm="sse-streaming"' + (f', error="{error}"' if error else "")
    assert ANN not in f"{refusal}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("ann", "1. token has to be written user:token"),
        (f"ann:{ANN}\n\nbob:", "3. token has to be written"),
        (f":{ANN}", "1. token has to be written"),
        (f"an n:{ANN}", "1. token has to be written"),
        ("ann:secret", "1. token has to have 8 to 1,000 characters"),
        ("ann:sécrètsécrèt", "1. token has to have 8"),
        ("ann:" + "x" * (LONGEST_TOKEN_CHARS + 1), "1. token has to have 8"),
        (f"ann:{ANN}:boss", "neither a role"),
        (f"ann:{ANN}:admin:soon", "neither a role"),
        (f"ann:{ANN},bob:{ANN}", "given twice"),
        ("\n".join(f"u{n}:token-{n:05}" for n in range(auth.TOKENS_LIMIT + 1)), "10,001 tokens"),
    ],
)
def test_what_is_written_wrong_is_named_without_the_token(text, problem):
    with pytest.raises(ValueError, match=problem) as caught:
        Tokens(text)
    assert ANN not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None or ANN not in str(caught.value.__cause__)


def test_all_tokens_are_compared_and_only_by_digest(monkeypatch):
    """The first of many fits, and the others are looked at all the same; what is compared is no token."""
    compared = []

    class Watched:
        compare_digest = staticmethod(
            lambda one, other: compared.append((one, other)) or hmac.compare_digest(one, other)
        )

    monkeypatch.setattr(auth, "hmac", Watched)
    tokens = Tokens("\n".join([f"ann:{ANN}", *(f"u{n}:token-{n:05}" for n in range(50))]))
    assert tokens.user_of([f"Bearer {ANN}"], NOW_S) == User("ann")
    assert len(compared) == 51
    assert all(len(one) == len(other) == 32 for one, other in compared)
    assert ANN.encode() not in b"".join(one + other for one, other in compared)

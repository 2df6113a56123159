"""Who may come in: bearer tokens (RFC 6750), their users, roles and expiry.

Rules:
- A token is written `user:token[:role][:expires]`, one a line or between commas. The role is user or admin; expires is a
  date or a time of ISO 8601, in UTC where it says no zone.
- Only digests are kept. A request's token is compared with all of them, each in constant time (`hmac.compare_digest`), so
  that neither the instant of the answer nor a dump of this process says anything of a token.
- No sentence and no error shows a token: a line that can't be read is named by its number.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

from sseproof.reference_server.limits import Refusal

TOKENS_VARIABLE: Final = "SSEPROOF_TOKENS"
SCHEME: Final = "bearer"
REALM: Final = 'Bearer realm="sse-streaming"'
GUESSED: Final = "unknown-token"
"""The reason of who may have guessed."""
SHORTEST_TOKEN_CHARS: Final = 8
"""Shorter ones are found by trying."""
LONGEST_TOKEN_CHARS: Final = 1_000
TOKENS_LIMIT: Final = 10_000
"""All are looked at for each request: a millisecond at most."""
_USER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", re.ASCII)
_TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*", re.ASCII)
"""RFC 6750, 2.1: b64token."""
_ROLES: Final = {"": False, "user": False, "admin": True}


class User(Struct, frozen=True):
    """Who asks."""

    name: str
    admin: bool = False


class _Known(Struct, frozen=True):
    digest: bytes
    user: User
    expires_s: float | None
    """In seconds since 1970; None never ends."""


class Tokens:
    """The tokens of this server. Raises ValueError with a sentence, without any token, when they can't be read."""

    def __init__(self, text: str) -> None:
        lines = [line.strip() for line in re.split(r"[\n,]", text)]
        self._known = [
            _known(number, line) for number, line in enumerate(lines, 1) if line and not line.startswith("#")
        ]
        if len(self._known) > TOKENS_LIMIT:
            raise ValueError(f"there are {len(self._known):,} tokens; {TOKENS_LIMIT:,} are the most")
        if len({known.digest for known in self._known}) < len(self._known):
            raise ValueError("one token is given twice: whose it is can't be told")

    def __len__(self) -> int:
        return len(self._known)

    def user_of(self, authorization: Sequence[str], now_s: float) -> User | Refusal:
        """Whose token the request's Authorization headers hold, at this time in seconds since 1970."""
        if not authorization:
            return _refused("A login is needed: send the header Authorization: Bearer TOKEN.", "")
        scheme, _, given = authorization[0].partition(" ")
        given = given.strip(" ")
        if len(authorization) > 1 or scheme.lower() != SCHEME or not _is_token(given):
            return _refused(
                "The header Authorization has to be there once and to read Bearer TOKEN.", "invalid_request"
            )
        found = _found(self._known, _digest(given))
        if found is None:
            return _refused("The token is not known.", "invalid_token", GUESSED)
        if found.expires_s is not None and now_s >= found.expires_s:
            return _refused("The token has expired.", "invalid_token")
        return found.user


def _found(known: Iterable[_Known], digest: bytes) -> _Known | None:
    found = None
    for each in known:  # all of them: to stop at the one that fits would tell where it stands
        if hmac.compare_digest(each.digest, digest):
            found = each
    return found


def _known(number: int, line: str) -> _Known:
    where = f"the {number}. token"
    user, _, rest = line.partition(":")
    token, _, rest = rest.partition(":")
    role, _, expires = rest.partition(":")
    if role.lower() not in _ROLES:
        role, expires = "", rest
    if not _USER.fullmatch(user) or not token:
        raise ValueError(
            f"{where} has to be written user:token[:role][:expires], the user of letters, digits, . _ @ and -"
        )
    if not _is_token(token) or len(token) < SHORTEST_TOKEN_CHARS:
        raise ValueError(
            f"{where} has to have {SHORTEST_TOKEN_CHARS} to {LONGEST_TOKEN_CHARS:,} characters: letters, digits and - . _ ~ + /"
        )
    return _Known(_digest(token), User(user, _ROLES[role.lower()]), _expiry(expires, where))


def _expiry(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"what follows {where} is neither a role (user, admin) nor a time such as 2030-12-31 or 2030-12-31T18:00Z"
        ) from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _is_token(text: str) -> bool:
    return len(text) <= LONGEST_TOKEN_CHARS and _TOKEN.fullmatch(text) is not None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _refused(sentence: str, error: str, reason: str = "") -> Refusal:
    # RFC 6750, 3.1: who sent no credentials is not told what was wrong with them.
    challenge = f'{REALM}, error="{error}"' if error else REALM
    return Refusal(401, sentence, (("WWW-Authenticate", challenge),), reason)

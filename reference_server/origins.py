"""Which browsers' pages may come here, by the head of a request alone (pure).

Rules:
- Host names who the browser took this server for. A page can have its own name lead to an address of ours (DNS
  rebinding) and is of the same origin then; so names have to be ours, and addresses are: no name leads to them.
- What starts an answer must not come from a page of another site. Browsers say so by Sec-Fetch-Site, which no page can
  set, to https and to loopback; elsewhere, and in old browsers, there is Origin, which a plain GET does not have.
- Who sends neither, as curl and every load generator, is no page.
"""

import ipaddress
import re
from collections.abc import Collection, Sequence
from typing import Final

from sseproof.reference_server.limits import Refusal
from sseproof.rundir.text import printable

_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*", re.ASCII)
_HERE: Final = frozenset({"same-origin", "none"})
"""Sec-Fetch-Site of the server's own page, and of an address that a person typed."""
_SCHEMES: Final = ("http://", "https://")
OTHER_NAME: Final = Refusal(
    421,
    "This server is not known by that name: ask it by its IP address or as localhost, or start it with --allow-host NAME.",
    reason="other-name",
)
OTHER_SITE: Final = Refusal(
    403,
    "Pages of other sites may not start a language model's answer here: use this server's own page, or give it a login "
    "(--tokens FILE).",
    reason="other-site",
)


def check_name(name: str) -> str:
    """A host's name as it is compared, in lower case. Raises ValueError for what is none."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"--allow-host {printable(name, 80)!r} is no name: write it as it stands in an address, without scheme, port or *, "
            "such as chat.example.com"
        )
    return name.lower()


class Names:
    """What this server is called."""

    def __init__(self, host: str, more: Collection[str] = (), allow_origin: str = "") -> None:
        """`host` is what it listens on, `more` the further names; `allow_origin` the one origin that may read from afar.

        Raises ValueError for a name that is none.
        """
        self._more = frozenset(check_name(each) for each in more)
        self._host = host.lower()
        self._allow_origin = allow_origin

    def heed(self, hosts: Sequence[str]) -> Refusal | None:
        """The refusal for a request with these Host headers; HTTP/1.0 has none, and no browser speaks it."""
        if not hosts or (len(hosts) == 1 and self._is_ours(_name_of(hosts[0]))):
            return None
        return OTHER_NAME

    def heed_site(self, hosts: Sequence[str], site: str | None, origin: str | None) -> Refusal | None:
        """The refusal for a request that a page of another site made, by Host, Sec-Fetch-Site and Origin."""
        if origin and origin == self._allow_origin:
            return None
        if site is not None:
            return None if site in _HERE else OTHER_SITE
        if origin is None or any(origin == f"{scheme}{host}" for scheme in _SCHEMES for host in hosts):
            return None
        place = next((origin.removeprefix(each) for each in _SCHEMES if origin.startswith(each)), "")
        return None if _name_of(place) in self._more else OTHER_SITE

    def _is_ours(self, name: str) -> bool:
        return (
            name == "localhost"
            or name.endswith(".localhost")
            or name in self._more
            or name == self._host
            or _is_address(name)
        )


def _name_of(place: str) -> str:
    """Host of host[:port], without brackets; empty for none."""
    if place.startswith("["):
        return place[1:].partition("]")[0].lower()
    return place.partition(":")[0].removesuffix(".").lower()


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True

"""Whom a certificate names, from its DER bytes: subject, issuer and end; no trust is decided here.

Rules: `ssl` hands out the names of a certificate only when it verified it, and the ones worth naming are those it did not.
Read as far as the names (RFC 5280 4.1: SEQUENCE { version, serial, algorithm, issuer, validity, subject … }), bounded,
and anything unexpected gives empty names.
"""

from typing import Final

from sseproof.rundir.capture import Certificate
from sseproof.rundir.text import printable

_SEQUENCE: Final = 0x30
_SET: Final = 0x31
_OID: Final = 0x06
_VERSION: Final = 0xA0
_COMMON_NAME: Final = b"\x55\x04\x03"
_ORGANISATION: Final = b"\x55\x04\x0a"
_UTF16: Final = 0x1E
_NAME_LIMIT_CHARS: Final = 120


def certificate_names(der: bytes) -> Certificate:
    """Subject and issuer as `name, organisation`, the end of its validity as it stands there; empty what can't be read."""
    try:
        _, whole, _ = _item(der, 0)
        _, body, _ = _item(whole, 0)
        at = 0
        tag, _, after = _item(body, at)
        at = after if tag == _VERSION else 0
        for _ in ("serial", "algorithm"):
            at = _item(body, at)[2]
        _, issuer, at = _item(body, at)
        _, validity, at = _item(body, at)
        _, subject, _ = _item(body, at)
        _, _, second = _item(validity, 0)
        _, not_after, _ = _item(validity, second)
        return Certificate(
            subject=_name(subject), issuer=_name(issuer), not_after=printable(not_after.decode("ascii"), 20)
        )
    except (IndexError, UnicodeDecodeError, ValueError):
        return Certificate()


def _item(data: bytes, at: int) -> tuple[int, bytes, int]:
    """Tag, content and the byte behind one DER item. Raises IndexError when it is cut."""
    tag = data[at]
    size = data[at + 1]
    at += 2
    if size & 0x80:
        octets = size & 0x7F
        if octets > 4:
            raise IndexError(at)
        size = int.from_bytes(data[at : at + octets], "big")
        at += octets
    if at + size > len(data):
        raise IndexError(at)
    return tag, data[at : at + size], at + size


def _name(data: bytes) -> str:
    found: dict[bytes, str] = {}
    at = 0
    while at < len(data):
        tag, parts, at = _item(data, at)
        if tag != _SET:
            continue
        _, pair, _ = _item(parts, 0)
        kind, oid, second = _item(pair, 0)
        text_kind, text, _ = _item(pair, second)
        if kind == _OID and oid in {_COMMON_NAME, _ORGANISATION}:
            found[oid] = text.decode("utf-16-be" if text_kind == _UTF16 else "utf-8", "replace")
    names = [found[oid] for oid in (_COMMON_NAME, _ORGANISATION) if found.get(oid)]
    return printable(", ".join(dict.fromkeys(names)), _NAME_LIMIT_CHARS)

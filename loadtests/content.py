"""Content codings undone, bounded: gzip, deflate and br. Pure.

Rules:
- `deflate` is what zlib wraps (RFC 9110, 8.4.1.2); servers that send it bare are read too, as browsers do.
- zstd is in the standard library only from Python 3.14 on, and is not read: whoever asks says so.
- A body that is cut is no damaged one: what came of it is there. Nor is one with something behind its end, which browsers
  leave out.
"""

import zlib
from collections.abc import Iterable
from typing import Final, Protocol

from sseproof.rundir.text import printable

DECODED_LIMIT_BYTES: Final = 4 * 1024 * 1024
"""A bomb makes a thousand bytes of each; what a look received is 4 MiB at most."""
_BROTLI_BYTES: Final = 65_536
"""Asked for at a time: up to twice as many come."""
_WRAPPED: Final = 47
_BARE: Final = -15
"""As zlib names them: gzip's or its own head, and none."""


class _DamagedError(Exception):
    """The bytes are not what the coding makes."""


class _Coder(Protocol):
    @property
    def pending(self) -> bool:
        """There is more without further input."""

    @property
    def eof(self) -> bool:
        """The body is whole."""

    def decode(self, part: bytes, room: int) -> bytes:
        """About `room` bytes at most; raises _DamagedError."""


class Decoded:
    """A body that comes in parts: `data` is what they decode to, `sizes` how long it was after each part."""

    def __init__(self, coding: str, parts: Iterable[bytes]) -> None:
        """`coding` is the Content-Encoding, empty for none; raises nothing."""
        self.data = bytearray()
        self.sizes: list[int] = []
        self.problem = ""
        """Why the rest is missing: an unknown coding, damage, or the limit; printable."""
        self.damaged = False
        """It is the body's fault: nobody can read it."""
        coding = coding.strip().lower()
        self.coding = "" if coding == "identity" else coding
        coder = _coder(self.coding)
        if self.coding and coder is None:
            self.problem = f"Content-Encoding {printable(self.coding, 40)} can't be read here"
        for part in parts:
            if not self.problem:
                if coder is None:
                    self.data += part
                else:
                    self._add(coder, part)
            self.sizes.append(len(self.data))
        self.whole = not self.damaged and (coder is None or coder.eof)

    def _add(self, coder: _Coder, part: bytes) -> None:
        more = bool(part)
        while more:
            room = DECODED_LIMIT_BYTES - len(self.data)
            if room <= 0:
                self.problem = f"more than {DECODED_LIMIT_BYTES >> 20} MiB after decompression"
                return
            try:
                self.data += coder.decode(part, room)
            except _DamagedError as error:
                self.damaged = True
                self.problem = f"the compressed body is damaged ({error})"
                return
            part = b""
            more = coder.pending


def _coder(coding: str) -> _Coder | None:
    match coding:
        case "gzip" | "x-gzip":
            return _Zlib(bare=False)
        case "deflate":
            return _Zlib(bare=True)
        case "br":
            return _Brotli()
    return None


class _Zlib:
    def __init__(self, *, bare: bool) -> None:
        self._inflate = zlib.decompressobj(_WRAPPED)
        self._rest = b""
        self._whole = False
        """One member is; further ones may follow."""
        self._seen = b"" if bare else None
        """What came before the first byte was decoded, where it may still turn out to be bare; None once it can't."""

    @property
    def pending(self) -> bool:
        return bool(self._rest)

    @property
    def eof(self) -> bool:
        return self._inflate.eof or self._whole

    def decode(self, part: bytes, room: int) -> bytes:
        part = self._rest + part
        try:
            data = self._inflate.decompress(part, room)
        except zlib.error as error:
            if self._whole:
                self._rest = b""
                return b""
            if self._seen is None:
                raise _DamagedError(str(error)) from None
            part, self._seen = self._seen + part, None
            self._inflate = zlib.decompressobj(_BARE)
            try:
                data = self._inflate.decompress(part, room)
            except zlib.error:
                raise _DamagedError(str(error)) from None
        if self._seen is not None:
            self._seen = None if data else self._seen + part
        self._rest = self._inflate.unconsumed_tail
        if self._inflate.eof:
            self._whole = True
            if further := self._inflate.unused_data:  # gzip files may be joined
                self._rest, self._inflate = further, zlib.decompressobj(_WRAPPED)
        return data


class _Brotli:
    def __init__(self) -> None:
        import brotli

        self._coder = brotli.Decompressor()
        self._error = brotli.error
        self.pending = False

    @property
    def eof(self) -> bool:
        return bool(self._coder.is_finished())

    def decode(self, part: bytes, room: int) -> bytes:
        self.pending = False
        if self.eof:
            return b""
        try:
            data = bytes(self._coder.process(part, output_buffer_limit=min(room, _BROTLI_BYTES)))
        except self._error as error:
            raise _DamagedError(str(error)) from None
        self.pending = bool(
            data
        )  # whether it would take more input does not tell whether there is more output
        return data

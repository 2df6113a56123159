"""Content codings undone, bounded: gzip, deflate, br and zstd. Pure.

Rules:
- `deflate` is what zlib wraps (RFC 9110, 8.4.1.2); servers that send it bare are read too, as browsers do.
- A body that is cut is no damaged one: what came of it is there.
- Behind the end of br, deflate or gzip browsers leave out whatever comes (Chromium, Firefox), and so does this: it is no
  damage. Behind a zstd frame they take another frame, and nothing else.
- gzip files may be joined (RFC 1952, 2.2), and many clients read all members, so they are read here: browsers stop behind
  the first, so how much came of the others is told.
- Time goes with the size of body and output, however many members or frames they are cut into.
"""

import functools
import zlib
from collections.abc import Iterable
from typing import Final, Protocol

from sseproof.rundir.text import printable

DECODED_LIMIT_BYTES: Final = 4 * 1024 * 1024
"""A bomb makes a thousand bytes of each; what a look received is 4 MiB at most."""
MEMBERS_LIMIT: Final = 20_000
"""As many as events are looked at; each takes some microseconds."""
_BROTLI_BYTES: Final = 65_536
"""Asked for at a time: up to twice as many come."""
_ZSTD_WINDOW_LOG: Final = 23
"""8 MiB: as much as browsers take (RFC 9659), and as a check may cost."""
_WINDOW_BYTES: Final = 1_024
"""Of a gzip or zstd body looked at in one go: what is left behind a member or frame is copied."""
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

    @property
    def members(self) -> int:
        """How many whole ones followed each other, where the coding has such."""

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
        self.further_bytes = 0
        """Of `data`, what came of further gzip members: browsers have left it out."""
        self.members = 1
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
        if coder is not None:
            self.members = coder.members
        self.whole = not self.damaged and (coder is None or coder.eof)

    def _add(self, coder: _Coder, part: bytes) -> None:
        more = bool(part)
        while more:
            room = DECODED_LIMIT_BYTES - len(self.data)
            if room <= 0:
                self.problem = f"more than {DECODED_LIMIT_BYTES >> 20} MiB after decompression"
                return
            if coder.members >= MEMBERS_LIMIT:
                self.problem = f"more than {MEMBERS_LIMIT:,} compressed members"
                return
            further = isinstance(coder, _Zlib) and coder.members > 0
            try:
                decoded = coder.decode(part, room)
            except _DamagedError as error:
                self.damaged = True
                self.problem = f"the compressed body is damaged ({error})"
                return
            self.data += decoded
            self.further_bytes += len(decoded) if further else 0
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
        case "zstd":
            return _Zstd()
    return None


class _Input:
    """What is still to be decoded, a window at a time."""

    def __init__(self) -> None:
        self._data = b""
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def add(self, part: bytes) -> None:
        if part:
            self._data, self._at = self._data[self._at :] + part, 0

    def window(self) -> bytes:
        return self._data[self._at : self._at + _WINDOW_BYTES]

    def take(self, size: int) -> None:
        self._at += size

    def clear(self) -> None:
        self._data, self._at = b"", 0


class _Zlib:
    def __init__(self, *, bare: bool) -> None:
        self._inflate = zlib.decompressobj(_WRAPPED)
        self._input = _Input()
        self._joined = not bare
        self.members = 0
        self._seen = b"" if bare else None
        """What came before the first byte was decoded, where it may still turn out to be bare; None once it can't."""

    @property
    def pending(self) -> bool:
        return bool(self._input)

    @property
    def eof(self) -> bool:
        return self._inflate.eof or self.members > 0

    def decode(self, part: bytes, room: int) -> bytes:
        self._input.add(part)
        if self._inflate.eof and not self._joined:
            self._input.clear()
        if self._inflate.eof and self._input:
            self._inflate = zlib.decompressobj(_WRAPPED)
        window = self._input.window()
        try:
            data = self._inflate.decompress(window, room)
        except zlib.error as error:
            if self.members:
                self._input.clear()
                return b""
            data = self._bare(window, room, error)
        if self._seen is not None:
            self._seen = None if data else self._seen + window
        left = len(self._inflate.unconsumed_tail) + len(self._inflate.unused_data)
        self._input.take(max(0, len(window) - left))
        self.members += self._inflate.eof
        return data

    def _bare(self, window: bytes, room: int, error: zlib.error) -> bytes:
        if self._seen is None:
            raise _DamagedError(str(error)) from None
        self._inflate = zlib.decompressobj(_BARE)
        seen, self._seen = self._seen, None
        try:
            return self._inflate.decompress(seen, room) + self._inflate.decompress(window, room)
        except zlib.error:
            raise _DamagedError(str(error)) from None


class _Brotli:
    members = 0

    def __init__(self) -> None:
        import brotli

        self._new = brotli.Decompressor
        self._coder = brotli.Decompressor()
        self._error = brotli.error
        self._fed = bytearray()
        self._before = 0
        """Of it, what came before the last part."""
        self._given_bytes = 0
        self._over = False
        self.pending = False

    @property
    def eof(self) -> bool:
        return self._over or bool(self._coder.is_finished())

    def decode(self, part: bytes, room: int) -> bytes:
        self.pending = False
        if self.eof:
            return b""
        if part:
            self._before = len(self._fed)
            self._fed += part
        try:
            data = bytes(self._coder.process(part, output_buffer_limit=min(room, _BROTLI_BYTES)))
        except self._error as error:
            return self._last(room, str(error))
        # Whether it would take more input does not tell whether there is more output.
        self.pending = bool(data)
        self._given_bytes += len(data)
        return data

    def _last(self, room: int, error: str) -> bytes:
        """What is left of the output where the body ends within the last part: the library calls what lies behind an error."""
        low, high = self._before, len(self._fed)
        limit = self._given_bytes + room
        while low + 1 < high:
            middle = (low + high) // 2
            low, high = (middle, high) if self._whole(middle, limit) is None else (low, middle)
        whole = self._whole(high, limit)
        if not whole:
            raise _DamagedError(error)
        self._over = True
        return whole[self._given_bytes :]

    def _whole(self, size: int, limit: int) -> bytes | None:
        """What so many bytes decode to: None as long as it is not whole, empty where it is none."""
        coder = self._new()
        out = bytearray()
        part = bytes(self._fed[:size])
        try:
            while data := coder.process(part, output_buffer_limit=_BROTLI_BYTES):
                out += data
                part = b""
                if len(out) > limit:
                    return None
            return bytes(out) if coder.is_finished() else None
        except self._error:
            return b""


class _Zstd:
    def __init__(self) -> None:
        try:
            from compression import zstd  # type: ignore[import-not-found]  # from 3.14 on
        except ImportError:
            # Of a namespace package mypy finds no member by `from`.
            import backports.zstd as zstd  # noqa: PLR0402

        bounded: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
        self._new = functools.partial(zstd.ZstdDecompressor, options=bounded)
        self._error = zstd.ZstdError
        self._coder = self._new()
        self._input = _Input()
        self.members = 0

    @property
    def pending(self) -> bool:
        return bool(self._input) or not (self._coder.needs_input or self._coder.eof)

    @property
    def eof(self) -> bool:
        return bool(self._coder.eof)

    def decode(self, part: bytes, room: int) -> bytes:
        self._input.add(part)
        if self._coder.eof and self._input:
            self._coder = self._new()
        window = self._input.window()
        try:
            data = bytes(self._coder.decompress(window, room))
        except self._error as error:
            raise _DamagedError(printable(str(error), 80)) from None
        self._input.take(len(window) - len(self._coder.unused_data))
        self.members += self._coder.eof
        return data

"""Content codings undone, as far as the standard library can: gzip and deflate, bounded. Pure."""

import zlib
from collections.abc import Iterable
from typing import Final

DECODED_LIMIT_BYTES: Final = 4 * 1024 * 1024
"""A bomb makes a thousand bytes of each; what a look received is 4 MiB at most."""
KNOWN_CODINGS: Final = frozenset({"gzip", "x-gzip", "deflate"})


class Decoded:
    """A body that comes in parts: `data` is what they decode to, `sizes` how long it was after each part."""

    def __init__(self, coding: str, parts: Iterable[bytes]) -> None:
        """`coding` is the Content-Encoding, empty for none; raises nothing."""
        self.data = bytearray()
        self.sizes: list[int] = []
        self.problem = ""
        """Why the rest is missing: an unknown coding, damage, or the limit."""
        coding = coding.strip().lower()
        self.coding = "" if coding == "identity" else coding
        inflate = zlib.decompressobj(47) if self.coding in KNOWN_CODINGS else None
        if self.coding and inflate is None:
            self.problem = f"Content-Encoding {self.coding} can't be read here"
        for part in parts:
            if not self.problem:
                if inflate is None:
                    self.data += part
                else:
                    inflate = self._inflated(inflate, part)
            self.sizes.append(len(self.data))
        self.whole = inflate is None or inflate.eof

    def _inflated(self, inflate: "zlib._Decompress", part: bytes) -> "zlib._Decompress":
        while part:
            room = DECODED_LIMIT_BYTES - len(self.data)
            if room <= 0:
                self.problem = f"more than {DECODED_LIMIT_BYTES >> 20} MiB after decompression"
                break
            try:
                self.data += inflate.decompress(part, room)
            except zlib.error as error:
                self.problem = f"the compressed body is damaged ({error})"
                break
            part = inflate.unconsumed_tail
            if inflate.eof:
                part = inflate.unused_data  # a further member: gzip files may be joined
                if part:
                    inflate = zlib.decompressobj(47)
        return inflate

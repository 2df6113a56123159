"""The file of a capture: one JSON document, the bytes in base64 (design.md "Run directory": newer versions are refused)."""

from pathlib import Path

import msgspec

from sseproof.rundir.capture import SCHEMA, Capture
from sseproof.rundir.errors import UsageError
from sseproof.rundir.files import checked_version, write_bytes
from sseproof.rundir.rows import Header


def write_capture(path: Path, capture: Capture) -> None:
    """Writes it whole. Raises RigError when it can't be written."""
    write_bytes(path, msgspec.json.encode(capture) + b"\n")


def read_capture(path: Path) -> Capture:
    """Reads it. Raises UsageError, in a sentence, when it is missing, damaged, foreign or of a newer version."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{path} can't be read: {error.strerror}; name a file that `sseproof check` kept."
        ) from None
    try:
        head = msgspec.json.decode(content, type=Header)
        checked_version(path, head.schema, head.version, SCHEMA)
        return msgspec.json.decode(content, type=Capture)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not a whole capture of `sseproof check` ({error}).") from None

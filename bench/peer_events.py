"""What the peers of the reference server write: byte for byte its own deltas, with the texts at hand."""

import json
from typing import Final

from sseproof.reference_server.script import Script, spec_for

SEED: Final = 1
"""Of the script: with it every stream of every server has the same texts."""
KEY: Final = "0123456789ab"
"""What the ids start with, as long as the reference server's."""
_KEPT: Final = 4_096


def texts() -> list[str]:
    """The first deltas' texts; whoever is through begins again."""
    script = Script(spec_for("endless", SEED))
    return [script.text(number) for number in range(2, _KEPT + 2)]


def data_of(text: str) -> str:
    """One line of JSON, characters as they are."""
    return json.dumps({"text": text}, ensure_ascii=False, separators=(",", ":"))

"""sseproof proves or refutes what a Server-Sent Events service promises.

Public names are looked up when first used, so that importing the package costs nothing:
`Parser`, `Message`, `Comment`, `Retry`, `Defect` (bytes to events), `SSEUser` (Locust), `StreamRecord` (one row).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sseproof.loadtests.sse import Comment, Defect, Message, Parser, Retry
    from sseproof.loadtests.users import SSEUser
    from sseproof.rundir.rows import StreamRecord

__all__ = ["Comment", "Defect", "Message", "Parser", "Retry", "SSEUser", "StreamRecord"]

_HOMES = {
    "Comment": "sseproof.loadtests.sse",
    "Defect": "sseproof.loadtests.sse",
    "Message": "sseproof.loadtests.sse",
    "Parser": "sseproof.loadtests.sse",
    "Retry": "sseproof.loadtests.sse",
    "SSEUser": "sseproof.loadtests.users",
    "StreamRecord": "sseproof.rundir.rows",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'sseproof' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return __all__

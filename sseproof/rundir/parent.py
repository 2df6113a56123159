"""What the front door and the processes it starts agree on: how a child knows its parent and says what broke."""

import os
from typing import Final

PARENT_VARIABLE: Final = "SSEPROOF_PARENT"
"""Environment variable with the process id of whoever started us; absent when nobody of ours did."""
RIG_ERROR_MARK: Final = "sseproof rig error: "
"""A child that breaks says why on standard error behind this mark."""
WORKER_LOST_MARK: Final = "sseproof worker lost: "
WORKER_BACK_MARK: Final = "sseproof worker back: "
"""A master names a worker on another machine behind these marks when it loses sight of it, and when it sees it again."""


def orphaned() -> bool:
    """Whether the process that started us is gone; a death signal does not cover the moment before exec."""
    parent = os.environ.get(PARENT_VARIABLE)
    return parent is not None and parent != str(os.getppid())

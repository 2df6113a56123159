"""The generator: makes load and records what happened. It judges nothing."""

from pathlib import Path
from typing import Final

LOCUSTFILE: Final = Path(__file__).resolve().parent / "locustfile.py"
"""Our own Locust users."""

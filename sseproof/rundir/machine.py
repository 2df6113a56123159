"""Versions and facts of this machine for run.json: what explains a figure, and nothing that says whose it is."""

import os
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path


def versions() -> dict[str, str]:
    """Versions that belong into run.json."""
    return {
        "sseproof": version_of("sseproof"),
        "python": platform.python_version(),
        "locust": version_of("locust"),
        "gevent": version_of("gevent"),
        "kernel": f"{platform.system()} {platform.release()}",
    }


def host_facts() -> dict[str, str]:
    """Facts of this machine that explain a figure; its name and paths are nobody's business."""
    facts = {"cores": str(os.cpu_count() or 1), "machine": platform.machine()}
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        facts["memory_mib"] = str(pages * size // (1 << 20))
    except (OSError, ValueError):
        pass
    return facts


def user_cache(environ: Mapping[str, str]) -> Path:
    """The user's folder for what we can make again: builds, calibrations."""
    if environ.get("XDG_CACHE_HOME"):
        base = Path(environ["XDG_CACHE_HOME"])
    else:
        home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
        base = home / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    return base / "sseproof"


def version_of(package: str) -> str:
    """A distribution's version, `unknown` when it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"

"""Whether the fault engine can do what a scenario asks of it, told before anything else happens.

Rules (design.md decision 8):
- A stock Toxiproxy lacks the toxic that reads event streams: what it can't do is refused with all such faults named.
- A server that was named is known before the run; one that would be found or built has that toxic, unless nothing can be
  built and a stock one is taken, which is seen when it is.
"""

from collections.abc import Sequence

from sseproof.chaos.faults import Fault, kind_of
from sseproof.chaos.install import engine_name, find, has_own_toxic
from sseproof.chaos.plan import GroupSpec
from sseproof.chaos.toxics import OwnBuildIfTimed, needs_own_build
from sseproof.rundir.errors import UsageError


def check_engine(source: object, groups: Sequence[GroupSpec], version: str, where: object) -> None:
    """Raises UsageError when a server that says this version lacks what the faults of a file need."""
    kinds = dict.fromkeys(_named(spec.fault) for spec in groups if needs_own_build(spec.fault))
    if kinds and not has_own_toxic(version):
        raise UsageError(
            f"{source}: the Toxiproxy {where} ({engine_name(version)}) can't do {', '.join(kinds)}: leave "
            "toxiproxy out, so that sseproof takes a build of its own (sseproof setup makes it), or leave those faults out."
        )


def _named(fault: Fault) -> str:
    timed = isinstance(fault, OwnBuildIfTimed)
    return f"{kind_of(fault)} with when" if timed else kind_of(fault)


def check_named_engine(source: object, groups: Sequence[GroupSpec], named: str | None, *, ask: bool) -> None:
    """As `check_engine` for a server that was named, if one was; one with a URL is asked only if wanted.

    Raises RigError when it does not answer.
    """
    if named is None or not any(needs_own_build(spec.fault) for spec in groups):
        return
    found = find(named)
    if found.url is None:
        check_engine(source, groups, found.version, found.path)
    elif ask:
        from sseproof.chaos.toxiproxy import Client

        check_engine(source, groups, Client.from_url(found.url).version(), found.url)

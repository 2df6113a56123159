"""Everything a check may ask: the capture's answers, read, by probe."""

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

from sseproof.reports.endpoint.hops import Chain, chain_of
from sseproof.reports.endpoint.model import Outcome
from sseproof.reports.endpoint.seen import Seen
from sseproof.reports.endpoint.spoken import Spoken, spoken
from sseproof.rundir.capture import Capture, Probed, ProbeName

NO_STREAM = "no event stream came"
UNREAD = "nobody can read the body (H07)"


class Case:
    """One capture under examination."""

    def __init__(self, capture: Capture) -> None:
        self.capture = capture
        self._seen: dict[int, Seen] = {}
        self._spoken: dict[int, Spoken] = {}

    def all(self, name: ProbeName) -> list[Seen]:
        """Every answer to probes of this name, in their order."""
        return [self.read(each) for each in self.capture.probes if each.probe == name]

    def one(self, name: ProbeName, number: int = 1) -> Seen | None:
        """The answer to this probe, None when it was not made."""
        return next((each for each in self.all(name) if each.probed.number == number), None)

    def read(self, probed: Probed) -> Seen:
        """One answer, read; each only once."""
        key = id(probed)
        if key not in self._seen:
            self._seen[key] = Seen(probed)
        return self._seen[key]

    @cached_property
    def main(self) -> Seen:
        """P0, behind its redirects."""
        return self.all("stream")[-1]

    @cached_property
    def redirects(self) -> list[Seen]:
        """The answers that led to it."""
        return [each for each in self.all("stream") if each.probed.redirected]

    @cached_property
    def chain(self) -> Chain:
        """Who stands between."""
        return chain_of(self.main.get)

    @property
    def spoken(self) -> Spoken:
        """What the main answer's events mean."""
        return self.spoken_in(self.main)

    def spoken_in(self, seen: Seen) -> Spoken:
        """What an answer's events mean."""
        key = id(seen.probed)
        if key not in self._spoken:
            self._spoken[key] = spoken(seen, self.capture.asked)
        return self._spoken[key]

    @property
    def answered(self) -> bool:
        """Anything like HTTP came back."""
        return self.main.head is not None

    def skipped(self, name: ProbeName) -> str:
        """Why a probe was not made."""
        return self.capture.skipped.get(name, "it was not asked for")


class Check(NamedTuple):
    """One check: its id, what it looks at in a few words, and how it is decided."""

    id: str
    name: str
    decide: Callable[[Case], Outcome]

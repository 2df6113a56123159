"""What a server that has drained leaves to the one started after it, in one file: its streams, its topics, its witness.

Rules:
- The file is written whole, under another name first, for its owner alone; it is removed by who has read it, so that no
  server continues what another one continues already.
- Timelines go on while no server is there: instants are kept as wall-clock nanoseconds and come back on the new loop's
  clock.
- Texts are not kept: a script is rebuilt from its spec, planted defects from the stream's name (misbehave.py). So live
  answers end with their server: whoever comes back for one is told that its id is unknown.
"""

import contextlib
import os
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from sseproof.reference_server.feed import FeedAdmitter, Topic
from sseproof.reference_server.script import Script
from sseproof.reference_server.streams import Admitter, Stream, StreamName
from sseproof.reference_server.witness import KeptRow, Witness
from sseproof.rundir.clock import NS_PER_S
from sseproof.rundir.errors import RigError
from sseproof.rundir.rows import ScriptSpec

VERSION: Final = 1
LARGEST_BYTES: Final = 512 * 1024 * 1024
"""Several times what the tables of streams and rows can hold."""


class KeptStream(Struct, frozen=True):
    """A stream that can be continued; see streams.Stream."""

    key: str
    truth_id: str
    run: str
    owner: str | None
    spec: ScriptSpec
    started_ns: int
    left_ns: int
    connections: int
    replayed: int


class KeptTopic(Struct, frozen=True):
    """A topic; see feed.Topic."""

    key: str
    spec: ScriptSpec
    started_ns: int


class Handover(Struct, frozen=True):
    """The file."""

    version: int
    seed: int
    unnamed: tuple[int, int]
    """Streams and subscribers without a name so far: the next ones must have other names."""
    streams: list[KeptStream]
    topics: list[KeptTopic]
    rows: list[KeptRow]
    dropped: dict[str, int]


class Handing:
    """Both ends of it, for one server; `offset_ns` is the wall clock at the 0 of the event loop's."""

    def __init__(
        self,
        path: Path,
        *,
        seed: int,
        answers: Admitter,
        feeds: FeedAdmitter,
        witness: Witness,
        offset_ns: int,
    ) -> None:
        self._path = path
        self._seed = seed
        self._answers = answers
        self._feeds = feeds
        self._witness = witness
        self._offset_ns = offset_ns

    def write(self) -> None:
        """Raises RigError when it can't be written."""
        rows, dropped = self._witness.kept()
        handover = Handover(
            version=VERSION,
            seed=self._seed,
            unnamed=(self._answers.unnamed, self._feeds.unnamed),
            streams=[self._stream(each) for each in self._answers.table],
            topics=[
                KeptTopic(each.key, each.script.spec, self._wall_ns(each.started))
                for each in self._feeds.topics.values()
            ],
            rows=rows,
            dropped=dropped,
        )
        beside = self._path.with_name(f"{self._path.name}.new")
        try:
            with contextlib.suppress(FileNotFoundError):
                beside.unlink()
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb") as file:
                file.write(msgspec.json.encode(handover))
            beside.replace(self._path)
        except OSError as error:
            raise RigError(f"The handover {self._path} can't be written: {error.strerror}.") from error

    def read(self) -> None:
        """Takes over what is there. Raises RigError when it can't be read, or none could be written there at the end.

        Who learns that only after the drain has lost the streams.
        """
        folder = self._path.parent
        if not os.access(folder, os.W_OK | os.X_OK):
            why = "is not writable" if folder.is_dir() else "is no folder"
            raise RigError(f"The handover {self._path} can't be written: {folder} {why}.")
        try:
            if self._path.stat().st_size > LARGEST_BYTES:
                raise RigError(f"The handover {self._path} is larger than any of ours: remove it.")
            handover = msgspec.json.decode(self._path.read_bytes(), type=Handover)
            if handover.version != VERSION or handover.seed != self._seed:
                raise RigError(
                    f"The handover {self._path} is of a server with another seed or version: remove it."
                )
            for kept in handover.streams:
                self._answers.table.add(self._restored(kept))
            for topic in handover.topics:
                made = Topic(topic.key, Script(topic.spec), self._loop_s(topic.started_ns))
                self._feeds.topics[topic.key] = made
        except FileNotFoundError:
            return
        except OSError as error:
            raise RigError(f"The handover {self._path} can't be read: {error.strerror}.") from error
        except ValueError as error:  # msgspec's too
            raise RigError(f"The handover {self._path} can't be read: {error}; remove it.") from error
        self._answers.unnamed, self._feeds.unnamed = handover.unnamed
        self._witness.take_over(handover.rows, handover.dropped)

    def remove(self) -> None:
        """Removes the file, once its streams are served here. Raises RigError when it stays."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise RigError(f"The handover {self._path} can't be removed: {error.strerror}.") from error

    def _stream(self, stream: Stream) -> KeptStream:
        assert isinstance(stream.script, Script)  # live answers are in a table of their own
        return KeptStream(
            key=stream.key,
            truth_id=stream.name.truth_id,
            run=stream.name.run,
            owner=stream.owner,
            spec=stream.script.spec,
            started_ns=self._wall_ns(stream.started),
            left_ns=self._wall_ns(stream.left),
            connections=stream.connections,
            replayed=stream.replayed,
        )

    def _restored(self, kept: KeptStream) -> Stream:
        name = StreamName(kept.truth_id, kept.run)
        stream = self._answers.made(kept.key, name, kept.spec, kept.owner)
        stream.started = self._loop_s(kept.started_ns)
        stream.left = self._loop_s(kept.left_ns)
        stream.connections = kept.connections
        stream.replayed = kept.replayed
        return stream

    def _wall_ns(self, loop_s: float) -> int:
        return self._offset_ns + round(loop_s * NS_PER_S)

    def _loop_s(self, wall_ns: int) -> float:
        return (wall_ns - self._offset_ns) / NS_PER_S

"""The master's side of a run: who takes part, when the load begins and ends, rows and clocks of workers elsewhere.

Rules (design.md decisions 5, 6, 7):
- Only workers that joined the run get users, whoever else connects to Locust's port. The load begins when all of them are
  ready, at one instant; Locust's own count of workers is not asked.
- Only when every worker that is still there has drained does the master quit: Locust's own stop time-out loses what is in
  flight. A worker elsewhere has drained when the last of its rows is in the run directory.
- A worker elsewhere that is gone is said to whoever started this process, by a mark on standard error.
"""

# locust comes first: gevent must patch before anything imports ssl (RecursionError otherwise).
from locust.dispatch import UsersDispatcher
from locust.runners import STATE_MISSING

# isort: split
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import gevent
import gevent.event
from msgspec import Struct

from sseproof.loadtests.joining import (
    BATCH,
    END,
    ENOUGH,
    JOIN,
    PING,
    PONG,
    READY,
    REFUSED,
    TAKEN,
    TROUBLE,
    WELCOME,
    Batch,
    Join,
    Note,
    Ping,
    Taken,
    Welcome,
    join_proof,
    packed,
    proven,
    unpacked,
    welcome_proof,
)
from sseproof.loadtests.settings import Load, Target
from sseproof.loadtests.shards import BadRowsError, Inbox
from sseproof.rundir.clock import now_ns
from sseproof.rundir.errors import RigError, SuiteError
from sseproof.rundir.files import ENOUGH_NAME, PLAN_NAME
from sseproof.rundir.machine import version_of
from sseproof.rundir.parent import WORKER_BACK_MARK, WORKER_LOST_MARK
from sseproof.rundir.rows import GeneratorRow, Plan
from sseproof.rundir.text import printable
from sseproof.rundir.units import from_raw

BEGIN_MESSAGE: Final = "sseproof-begin"
BEGIN_MARGIN_NS: Final = 500_000_000
"""From the master's word to the start instant: every worker has it by then."""
JOIN_WAIT_S: Final = 60.0
"""For workers of this machine to import Locust and join."""
REMOTE_WAIT_S: Final = 600.0
"""For people to start workers on other machines."""
END_WAIT_S: Final = 10.0
"""After an interrupt, for workers elsewhere to end their streams and send the rows."""
LOOK_EVERY_S: Final = 0.1
ANSWER_AGAIN_S: Final = 30.0
"""A worker that asks again got no answer, unless that is large."""


class _Member(Struct):
    """A worker that takes part."""

    node: str
    """Its name in Locust's book."""
    worker: int
    remote: bool
    ready: bool = False
    drained: bool = False
    gone: bool = False
    answer_after: float = 0.0
    """When another question of its is answered, on the monotonic clock."""
    evicted: bool = False
    """It sent what no worker sends, or said that it can't go on."""


class _Dispatcher(UsersDispatcher):
    """Locust's, for those who take part alone."""

    def __init__(
        self, worker_nodes: list[Any], user_classes: list[Any], takes_part: Callable[[str], bool]
    ) -> None:
        self._takes_part = takes_part
        super().__init__(worker_nodes, user_classes)

    def add_worker(self, worker_node: Any) -> None:
        """Somebody connected, or is back."""
        if self._takes_part(worker_node.id):
            super().add_worker(worker_node)

    def remove_worker(self, worker_node: Any) -> None:
        """Somebody left."""
        if self._takes_part(worker_node.id):
            super().remove_worker(worker_node)


class Desk:
    """One master's workers, from the first that asks to the last that drained."""

    def __init__(
        self,
        environment: Any,
        directory: Path,
        plan: Plan,
        token: str,
        *,
        broken: Callable[[SuiteError], None],
        before_quit: Callable[[], None],
    ) -> None:
        """`broken` ends the process with a sentence; `before_quit` is called when the run ends as it should."""
        self._environment = environment
        self._runner = environment.runner
        self._directory = directory
        self._plan = plan
        self._token = token
        self._broken = broken
        self._before_quit = before_quit
        self._inbox = Inbox(directory, plan.run)
        self._members: dict[str, _Member] = {}
        self._begun = False
        self._enough = False
        self._all_ready = gevent.event.Event()
        self._wait_s = REMOTE_WAIT_S if plan.remote_workers else JOIN_WAIT_S
        self._deadline = time.monotonic() + self._wait_s
        for name, listener in (
            (JOIN, self._on_join),
            (READY, self._on_ready),
            (PING, self._on_ping),
            (BATCH, self._on_batch),
            (TROUBLE, self._on_trouble),
        ):
            self._runner.register_message(name, listener)
        environment.dispatcher_class = self._dispatcher
        environment.events.test_start.add_listener(self._say_when)
        environment.events.quitting.add_listener(self._end_remote)
        gevent.spawn(self._watch)

    # --- joining ---

    def _on_join(self, environment: Any, msg: Any, **_: object) -> None:
        del environment
        join = unpacked(msg.data, Join)
        if join is None:
            return
        node = str(msg.node_id)
        refusal = self._refusal(node, join)
        if refusal:
            self._say(node, REFUSED, Note(sentence=refusal))
            return
        member = self._members.get(node)
        if member is None:
            worker = self._free_number() if join.worker is None else join.worker
            member = _Member(node, worker, remote=join.worker is None, ready=join.worker is not None)
            self._members[node] = member
            if member.remote:
                host = printable(node.rpartition("_")[0], 100)
                print(f"sseproof: worker {worker} joined from {host}", file=sys.stderr, flush=True)
            self._count_ready()
        if time.monotonic() < member.answer_after:
            return  # a plan with a large file may still be on its way
        member.answer_after = time.monotonic() + ANSWER_AGAIN_S
        welcome = Welcome(run=self._plan.run, worker=member.worker, proof="")
        if member.remote:
            try:
                welcome.plan, welcome.files = self._documents()
            except OSError as error:
                self._broken(RigError(f"A file that the plan names can't be read any more: {error}."))
                return
        welcome.proof = welcome_proof(self._token, join.nonce, welcome)
        self._say(node, WELCOME, welcome)

    def _refusal(self, node: str, join: Join) -> str:
        """Why this worker can't take part; empty when it can."""
        if not proven(join.proof, join_proof(self._token, node, join.nonce)):
            return (
                "its run takes only workers that know its token; "
                "set SSEPROOF_TOKEN to what `sseproof run` said when it began to wait."
            )
        if node in self._members:
            return ""
        if join.worker is not None:
            taken = any(member.worker == join.worker for member in self._members.values())
            return f"there is a worker {join.worker} already." if taken else ""
        if join.version != version_of("sseproof"):
            mine, theirs = version_of("sseproof"), printable(join.version, 40)
            return f"it is sseproof {theirs}, the master {mine}; install the same on all machines."
        if join.locustfile_sha256 != self._plan.locustfile_sha256:
            if self._plan.locustfile_sha256 is None:
                return "it has a locustfile of its own and the run has none; start it without."
            return (
                f"the run's users come from {Path(self._plan.locustfile or '').name}, and this worker has another file or "
                "none; copy it to the worker's machine and start it with --locustfile FILE."
            )
        if self._begun or self._free_number() < 0:
            return f"the run has all its {self._plan.workers} workers."
        return ""

    def _free_number(self) -> int:
        """The next number of a worker elsewhere, -1 when they are all taken."""
        taken = {member.worker for member in self._members.values()}
        first = self._plan.workers - self._plan.remote_workers
        return next((number for number in range(first, self._plan.workers) if number not in taken), -1)

    def _documents(self) -> tuple[bytes, dict[str, bytes]]:
        """The plan, and the contents of the files it names. Raises OSError."""
        variant = self._plan.variants[0]
        target, load = from_raw(variant.target, Target), from_raw(variant.load, Load)
        named = {"payloads": load.payloads, "ca": target.ca}
        files = {key: Path(place).read_bytes() for key, place in named.items() if place is not None}
        return (self._directory / PLAN_NAME).read_bytes(), files

    def _on_ready(self, environment: Any, msg: Any, **_: object) -> None:
        del environment
        if member := self._member(msg, unpacked(msg.data, Note)):
            member.ready = True
            self._count_ready()

    def _count_ready(self) -> None:
        """`workers` counts for this master: those of other variants have masters of their own."""
        if sum(member.ready for member in self._members.values()) >= self._plan.workers:
            self._all_ready.set()

    def _member(self, msg: Any, told: Note | Batch | None) -> _Member | None:
        """Who sent a message of this run; None for strangers, other runs, and those who have no part any more."""
        member = self._members.get(str(msg.node_id))
        if member is None or told is None or told.run != self._plan.run or member.evicted:
            return None
        return member

    def _say(self, node: str, name: str, message: Any) -> None:
        self._runner.send_message(name, packed(message), client_id=node)

    # --- the load ---

    def _dispatcher(self, worker_nodes: Sequence[Any], user_classes: list[Any]) -> _Dispatcher:
        """What Locust asks for when a load begins, and again when it took a dead worker from its book."""
        del worker_nodes  # those that had connected then
        self._all_ready.wait()
        nodes = [
            each
            for each in self._runner.clients.all
            if each.state != STATE_MISSING and self.takes_part(each.id)
        ]
        if not nodes:
            self._broken(
                RigError("Every worker was gone before the load began; see what they say where they run.")
            )
        return _Dispatcher(nodes, user_classes, self.takes_part)

    def takes_part(self, node: str) -> bool:
        """Whether a process of this name in Locust's book is a worker of the run."""
        member = self._members.get(node)
        return member is not None and not member.evicted

    def _say_when(self, **_: object) -> None:
        """One start instant for all workers; Locust sends its own order to begin after this."""
        self._begun = True
        start_ns = now_ns() + BEGIN_MARGIN_NS
        for node in self._members:
            self._runner.send_message(
                BEGIN_MESSAGE, {"run": self._plan.run, "start_ns": start_ns}, client_id=node
            )

    def drained(self, msg: Any) -> None:
        """A worker says that nothing of it is left."""
        if member := self._member(msg, unpacked(msg.data, Note)):
            member.drained = True

    def _watch(self) -> None:
        while True:
            gevent.sleep(LOOK_EVERY_S)
            self._look_for_the_lost()
            if not self._all_ready.is_set() and time.monotonic() > self._deadline:
                ready = sum(member.ready for member in self._members.values())
                self._broken(
                    RigError(
                        f"{ready} of {self._plan.workers} workers were ready within {self._wait_s:.0f} s: "
                        "see what the others say where they run."
                    )
                )
                return
            self._look_for_enough()
            there = [member for member in self._members.values() if not member.gone]
            if self._begun and all(member.drained for member in there):
                self._before_quit()
                self._runner.quit()
                return

    def _look_for_enough(self) -> None:
        """Tells every worker when whoever watches the run wants no further stream."""
        if self._begun and not self._enough and (self._directory / ENOUGH_NAME).exists():
            self._enough = True
            for member in self._members.values():
                self._say(member.node, ENOUGH, Note(run=self._plan.run))

    def _look_for_the_lost(self) -> None:
        for member in list(self._members.values()):
            client = self._runner.clients.get(member.node)
            gone = member.evicted or client is None or client.state == STATE_MISSING
            if gone == member.gone:
                continue
            member.gone = gone
            if member.remote and not self._begun and gone and not member.evicted:
                del self._members[member.node]  # another may have its number
                self._inbox.forget(member.worker)
            elif member.remote and not member.drained:
                mark = WORKER_LOST_MARK if gone else WORKER_BACK_MARK
                print(f"{mark}{member.worker}", file=sys.stderr, flush=True)

    def _end_remote(self, **_: object) -> None:
        """The process was told to end: workers elsewhere end their streams, and their rows are waited for."""
        waited = [member for member in self._members.values() if member.remote and not member.drained]
        for member in waited:
            self._say(member.node, END, Note(run=self._plan.run, sentence="interrupted"))
        deadline = time.monotonic() + END_WAIT_S
        while any(not (member.drained or member.gone) for member in waited) and time.monotonic() < deadline:
            gevent.sleep(LOOK_EVERY_S)

    # --- workers elsewhere ---

    def _on_ping(self, environment: Any, msg: Any, **_: object) -> None:
        master_ns = now_ns()
        del environment
        ping = unpacked(msg.data, Ping)
        node = str(msg.node_id)
        if ping is not None and node in self._members:
            self._say(node, PONG, Ping(sent_ns=ping.sent_ns, master_ns=master_ns))

    def _on_batch(self, environment: Any, msg: Any, **_: object) -> None:
        del environment
        batch = unpacked(msg.data, Batch)
        member = self._member(msg, batch)
        if member is None or batch is None or not member.remote:
            return
        try:
            number = self._inbox.take(member.worker, self._plan.variants[0].name, batch.number, batch.rows)
        except BadRowsError as error:
            self._evict(member, f"It sent what no worker of this run writes: {error}.")
            self._say(member.node, REFUSED, Note(sentence=f"{error}."))
        except RigError as error:
            self._broken(error)
        else:
            self._say(member.node, TAKEN, Taken(run=self._plan.run, number=number))

    def _on_trouble(self, environment: Any, msg: Any, **_: object) -> None:
        del environment
        note = unpacked(msg.data, Note)
        member = self._member(msg, note)
        if member is None or note is None:
            return
        if self._begun:
            self._evict(member, note.sentence)
        else:
            self._broken(
                RigError(f"Worker {member.worker} can't take part: {printable(note.sentence, 1_000)}")
            )

    def _evict(self, member: _Member, sentence: str) -> None:
        """It has no part any more; the report names why."""
        member.evicted = True
        row = GeneratorRow(
            at_ns=now_ns(),
            worker=member.worker,
            variant=self._plan.variants[0].name,
            rig_error=printable(sentence, 1_000),
        )
        try:
            self._inbox.tell(row)
        except RigError as error:
            self._broken(error)

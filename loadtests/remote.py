"""A worker's way into a run and, on another machine, what it does beside its load: rows to the master, round trips.

Rules (design.md "Run directory", decision 7):
- Every worker asks to join. One of the master's machine was given its number and the plan's path; one on another machine
  is given both, with the contents of the files that the plan names, and takes them only from a master that knows the token.
- A worker elsewhere says that it is ready when the master has its first row, which tells how far its clock is ahead; the
  load begins when all are ready. It sends rows twice a second and has drained when the last of them is acknowledged.
- Its shard goes away when the master has every row of it, unless a folder was named for it.
"""

# locust comes first: gevent must patch before anything imports ssl (RecursionError otherwise).
from locust.exception import RPCError

# isort: split
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

import gevent
import gevent.event
import gevent.lock
from msgspec import structs

from sseproof.loadtests.joining import (
    BATCH,
    DRAINED,
    END,
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
    checked_files,
    join_proof,
    new_nonce,
    packed,
    proven,
    unpacked,
    welcome_proof,
)
from sseproof.loadtests.offset import OffsetEstimate
from sseproof.loadtests.settings import Load, Target
from sseproof.loadtests.shards import SHIPPED, Outbox
from sseproof.rundir.clock import now_ns
from sseproof.rundir.errors import EXIT_RIG, EXIT_USAGE, RigError, SuiteError, UsageError
from sseproof.rundir.files import PLAN_NAME, create_with_header, read_document, write_bytes
from sseproof.rundir.layout import OUT_VARIABLE
from sseproof.rundir.machine import version_of
from sseproof.rundir.rows import Plan
from sseproof.rundir.text import printable
from sseproof.rundir.units import from_raw, to_raw

SHARD_PREFIX: Final = "sseproof-worker-"
ASK_EVERY_S: Final = 2.0
SHIP_EVERY_S: Final = 0.5
PING_EVERY_S: Final = 0.5
FIRST_PINGS: Final = 8
"""Before the load begins; the tightest counts."""
RESEND_S: Final = 5.0
"""A batch that was not acknowledged for so long goes out again."""


class Run(Protocol):
    """What this module needs of a worker's run."""

    def tick(self, *, with_open: bool) -> None:
        """Writes what the worker measured of itself."""

    def stop(self, reason: str) -> None:
        """Ends every open stream."""


class Membership:
    """Asks the master for a part of its run until it answers."""

    def __init__(
        self, environment: Any, token: str, *, worker: int | None = None, digest: str | None = None
    ) -> None:
        """`digest` is of a user's own locustfile."""
        self._runner = environment.runner
        self._token = token
        self._nonce = new_nonce()
        self._worker = worker
        self._digest = digest
        self._answered = gevent.event.Event()
        self._runner.register_message(WELCOME, self._on_welcome)
        self._runner.register_message(REFUSED, self._on_refused)
        gevent.spawn(self._ask)

    def _ask(self) -> None:
        node = str(self._runner.client_id)
        join = Join(
            version=version_of("sseproof"),
            nonce=self._nonce,
            proof=join_proof(self._token, node, self._nonce) if self._token else "",
            worker=self._worker,
            locustfile_sha256=self._digest,
        )
        while not self._answered.is_set():
            self._send(JOIN, join)
            self._answered.wait(ASK_EVERY_S)

    def _send(self, name: str, message: Any) -> bool:
        """Whether Locust took it: its connection may be away for a while."""
        try:
            self._runner.send_message(name, packed(message))
        except RPCError:
            return False
        return True

    def _on_welcome(self, environment: Any, msg: Any, **_: object) -> None:
        del environment
        welcome = unpacked(msg.data, Welcome)
        if welcome is None or self._answered.is_set():
            return
        # Without a token there is nothing to prove it by: a plan from anybody would be obeyed.
        if not self._token or not proven(welcome.proof, welcome_proof(self._token, self._nonce, welcome)):
            leave(
                "The master that answered does not know this worker's token: check HOST:PORT and SSEPROOF_TOKEN."
            )
        self._answered.set()
        self._welcomed(welcome)

    def _welcomed(self, welcome: Welcome) -> None:
        """The master takes this worker; one of its own machine knows all else."""

    def _on_refused(self, environment: Any, msg: Any, **_: object) -> None:
        del environment
        note = unpacked(msg.data, Note)
        if note is not None:
            leave(f"The master takes no part from this worker: {printable(note.sentence, 1_000)}")


class RemoteWorker(Membership):
    """The part of a process on another machine than the master's."""

    def __init__(
        self,
        environment: Any,
        token: str,
        adopt: Callable[[Path, Plan, int, OffsetEstimate], Run],
        *,
        digest: str | None = None,
    ) -> None:
        """`adopt` makes the run of a shard, plan and number, and raises SuiteError when this machine can't run it."""
        self._adopt = adopt
        self._run: Run | None = None
        self._number = 0
        self._id = ""
        self._estimate = OffsetEstimate()
        self._pongs = 0
        self._ponged = gevent.event.Event()
        self._batches = 0
        self._taken = 0
        self._took = gevent.event.Event()
        self._shipping = gevent.lock.Semaphore()
        self._shard: Path | None = None
        self._outbox: Outbox | None = None
        self.begun = False
        """Whether the load has begun here, and will end by itself."""
        super().__init__(environment, token, digest=digest)
        self._runner.register_message(PONG, self._on_pong)
        self._runner.register_message(TAKEN, self._on_taken)
        self._runner.register_message(END, self._on_end)

    # --- joining ---

    @property
    def joined(self) -> bool:
        """Whether this worker has a part of a run; a bare master has none to give."""
        return self._run is not None

    def _welcomed(self, welcome: Welcome) -> None:
        self._id, self._number = welcome.run, welcome.worker
        try:
            self._shard = _new_shard(welcome)
            plan = _plan_of(self._shard, welcome)
            self._run = self._adopt(self._shard, plan, welcome.worker, self._estimate)
            self._outbox = Outbox(self._shard)
        except SuiteError as error:
            self.trouble(str(error))
            leave(str(error), error.exit_code)
        print(
            f"sseproof: this is worker {welcome.worker} of the run {welcome.run}", file=sys.stderr, flush=True
        )
        gevent.spawn(self._guarded, self._get_ready)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except SuiteError as error:
            self.trouble(str(error))
            leave(str(error), error.exit_code)

    def _get_ready(self) -> None:
        assert self._run is not None
        while self._pongs < FIRST_PINGS:
            self._ping()
            self._ponged.wait(PING_EVERY_S)
            self._ponged.clear()
        self._run.tick(with_open=False)
        self.flush()
        gevent.spawn(self._guarded, self._keep_shipping)
        while True:
            if not self.begun:
                self._send(READY, Note(run=self._id))  # again and again: the connection may break in between
            gevent.sleep(PING_EVERY_S)
            self._ping()

    # --- the clock ---

    def _ping(self) -> None:
        self._send(PING, Ping(sent_ns=now_ns()))

    def _on_pong(self, environment: Any, msg: Any, **_: object) -> None:
        received_ns = now_ns()
        del environment
        pong = unpacked(msg.data, Ping)
        if pong is not None:
            self._estimate.add(pong.sent_ns, pong.master_ns, received_ns)
            self._pongs += 1
            self._ponged.set()

    # --- the rows ---

    def _keep_shipping(self) -> None:
        while True:
            gevent.sleep(SHIP_EVERY_S)
            self.flush()

    def flush(self) -> None:
        """Sends rows until the master has acknowledged all there are; blocks the greenlet while it can't be reached."""
        assert self._outbox is not None
        with self._shipping:
            while rows := self._outbox.batch():
                self._batches += 1
                batch = Batch(run=self._id, number=self._batches, rows=rows)
                while self._taken < batch.number:
                    self._took.clear()
                    self._send(BATCH, batch)
                    self._took.wait(RESEND_S)
                self._outbox.taken()

    def _on_taken(self, environment: Any, msg: Any, **_: object) -> None:
        del environment
        taken = unpacked(msg.data, Taken)
        if taken is not None and taken.run == self._id and taken.number <= self._batches:
            self._taken = max(self._taken, taken.number)
            self._took.set()

    # --- the end ---

    def _on_end(self, environment: Any, msg: Any, **_: object) -> None:
        del environment
        note = unpacked(msg.data, Note)
        if note is None or note.run != self._id or self._run is None:
            return
        if self.begun:
            gevent.spawn(self._run.stop, note.sentence)  # whoever waits for the drain sends the rest
        else:
            self.say_drained()

    def say_drained(self) -> None:
        """Nothing of this worker is left to come: says so until the master lets it go."""
        gevent.spawn(self._keep_saying, DRAINED, Note(run=self._id))

    def _keep_saying(self, name: str, message: Note) -> None:
        while True:
            self._send(name, message)
            gevent.sleep(ASK_EVERY_S)

    def trouble(self, sentence: str) -> None:
        """Tells the master why this worker can't go on; waits a moment for the message to leave."""
        self._send(TROUBLE, Note(run=self._id, sentence=sentence))
        gevent.sleep(0.5)

    def over(self, environment: Any) -> None:
        """The process ends: the shard goes, unless it holds what nobody else has, or was asked for."""
        shard, outbox = self._shard, self._outbox
        self._shard = None
        if shard is None or outbox is None:
            return
        if outbox.behind_bytes:
            environment.process_exit_code = EXIT_RIG
            print(
                f"sseproof: the master does not have every row of this worker; {shard} does: sseproof judge {shard}",
                file=sys.stderr,
                flush=True,
            )
        elif os.environ.get(OUT_VARIABLE):
            print(f"sseproof: the master has every row; a copy is in {shard}", file=sys.stderr, flush=True)
        else:
            shutil.rmtree(shard, ignore_errors=True)
            print("sseproof: the master has every row of this worker", file=sys.stderr, flush=True)


def leave(sentence: str, code: int = EXIT_USAGE) -> None:
    """Ends this process with a sentence: Locust's own way out would report an exit as if a test had ended."""
    print(f"sseproof: {sentence}", file=sys.stderr, flush=True)
    os._exit(code)


def _new_shard(welcome: Welcome) -> Path:
    """The folder of this worker's rows, with the plan and the header of every file.

    Raises RigError when it can't be made.
    """
    run = printable(welcome.run, 100).replace("/", "_")
    name = f"{SHARD_PREFIX}{run}-{welcome.worker}"
    try:
        out = os.environ.get(OUT_VARIABLE)
        if out:
            shard = Path(out) / name
            shard.mkdir(parents=True)
        else:
            shard = Path(tempfile.mkdtemp(prefix=f"{name}-"))
        for file in SHIPPED:
            create_with_header(shard / file.name, file.schema, welcome.run)
    except OSError as error:
        raise RigError(
            f"The folder for this worker's rows can't be made ({error.strerror}): name another with {OUT_VARIABLE}."
        ) from error
    write_bytes(shard / PLAN_NAME, welcome.plan)
    return shard


def _plan_of(shard: Path, welcome: Welcome) -> Plan:
    """The plan, with the files that it names in the shard instead of on the master's machine.

    Raises UsageError when it can't be read here.
    """
    plan = read_document(shard / PLAN_NAME, Plan, "plan")
    if plan.run != welcome.run or not 0 <= welcome.worker < plan.workers or len(plan.variants) != 1:
        raise UsageError("The master sent the plan of another run.")
    variant = plan.variants[0]
    target, load = from_raw(variant.target, Target), from_raw(variant.load, Load)
    if not checked_files(welcome.files, {"payloads": variant.payloads_sha256}):
        raise UsageError("The payloads that came are not those of the plan.")
    if load.payloads is not None:
        place = shard / f"payloads{Path(load.payloads).suffix.lower()}"
        write_bytes(place, welcome.files["payloads"])
        variant.load = to_raw(structs.replace(load, payloads=str(place)))
    if target.ca is not None:
        place = shard / "ca.pem"
        write_bytes(place, welcome.files.get("ca", b""))
        variant.target = to_raw(structs.replace(target, ca=str(place)))
    return plan

"""Every row of a run directory, schema 1 (design.md "Run directory").

Rules:
- Instants are CLOCK_REALTIME nanoseconds with an error bracket; None means "did not happen".
- Fields that only later work fills are nullable now, so that schema 1 lasts; a missing field reads as its default.
- Text that came from a target is made printable and bounded before it gets here (`text.printable`).
- Sections that belong to one package (target, load, client, faults) travel as raw JSON: their owner decodes them.
"""

from typing import Final, Literal, get_args

from msgspec import Raw, Struct

SCHEMA_VERSION: Final = 1
SCHEMA_PREFIX: Final = "sseproof/"

_GRID_MS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 150, 200, 250, 300, 400, 500, 750)
_GRID_S = (1, 1.5, 2, 3, 5, 10, 20, 30, 60)
GAP_GRID_NS: Final = tuple(round(ms * 1e6) for ms in _GRID_MS) + tuple(round(s * 1e9) for s in _GRID_S)
"""Default edges of gap histograms; a plan adds every threshold that a claim names."""

STALE_AFTER_NS: Final = 500_000_000
"""From this age of its newest event on a stream is stale: the wait that a reader of running text notices."""

AttemptEnd = Literal[
    "refused",
    "dns",
    "tls",
    "connect-timeout",
    "status",
    "content-type",
    "no-content",
    "headers-timeout",
    "first-event-timeout",
    "idle-timeout",
    "total-timeout",
    "fin",
    "eof",
    "rst",
    "protocol",
    "too-big",
    "terminal",
    "inband-error",
    "stopped",
]
Outcome = Literal[
    "complete",
    "complete-limited",
    "held",
    "damaged",
    "throttled",
    "error-http",
    "error-inband",
    "declined",
    "truncated",
    "cut",
    "stalled",
    "unreachable",
    "unfinished",
    "dropped",
]
StreamKind = Literal["answer", "subscription"]
BrowserClient = Literal["sseconsumer", "eventsource", "eventsource-default"]
"""What reads the streams in a page: our consumer over fetch; the browser's own EventSource; the same from a service that names
no reconnection time."""
AdmissionEnd = Literal["duration", "numbers", "requests", "users", "shape", "stopped", "decided"]
"""Why a worker starts no further stream: its time is over; the last of its numbers was taken; `max_requests` is spent; its
users, or their load shape, ended by themselves; it was told to stop; the claims were decided (`--until-decided`)."""
FaultSide = Literal["client", "service"]

ATTEMPT_ENDS: Final[tuple[AttemptEnd, ...]] = get_args(AttemptEnd)
OUTCOMES: Final[tuple[Outcome, ...]] = get_args(Outcome)
SUCCESSES: Final[frozenset[Outcome]] = frozenset({"complete", "complete-limited", "held"})


class Instant(Struct, array_like=True, frozen=True, gc=False):  # numbers alone; a stream has twenty of them
    """A moment and how far the truth can lie to either side: in [ns - before_ns, ns + after_ns]."""

    ns: int
    before_ns: int = 0
    after_ns: int = 0

    @property
    def lo_ns(self) -> int:
        """The earliest the moment can have been."""
        return self.ns - self.before_ns

    @property
    def hi_ns(self) -> int:
        """The latest the moment can have been."""
        return self.ns + self.after_ns


class Header(Struct, frozen=True):
    """The first row of every JSONL file: what it holds, in which version, for which run."""

    schema: str
    version: int
    run: str = ""


class Row(Struct, omit_defaults=True):
    """Base of all rows: defaults are left out on disk. Keyword only is said by each class: msgspec does not inherit it."""


class Attempt(Row, kw_only=True):
    """One connection of a stream."""

    number: int
    """1 is the first; a stream that reconnects has more."""
    address: str
    """host:port that was dialled (a proxy's when there is one)."""
    local_port: int | None = None
    started: Instant
    """When connecting began."""
    connected: Instant | None = None
    secured: Instant | None = None
    """End of the TLS handshake."""
    sent: Instant | None = None
    """The request handed to the kernel, after connect and TLS."""
    headers: Instant | None = None
    first_byte: Instant | None = None
    """First byte of the body."""
    first_event: Instant | None = None
    first_token: Instant | None = None
    last_event: Instant | None = None
    ended: Instant
    end: AttemptEnd
    status: int | None = None
    redirects: int = 0
    retry_after_ms: int | None = None
    last_event_id: str | None = None
    """The Last-Event-ID header that was sent, None when none was."""
    gzip: bool = False
    received_bytes: int = 0
    """Everything off the socket, headers and framing (and TLS records) included."""
    body_bytes: int = 0
    """Bytes of the event stream, after framing and decompression."""
    events: int = 0
    new_events: int = 0
    """Events this stream had not received before."""
    reads: int = 0
    split_events: int = 0
    """Reads that ended inside an event: the evidence that slicing acted."""
    split_chars: int = 0
    """Reads that ended inside a multi-byte character."""
    coalesced_reads: int = 0
    """Reads that held more than one event: their earlier events have a wider bracket."""
    unstamped_reads: int = 0
    """Reads without a kernel stamp."""
    read_lag_max_ns: int = 0
    detail: str = ""


class Gaps(Row, kw_only=True):
    """Intervals of one stream, as counts between the plan's `gap_edges_ns`, at both ends of the error bracket.

    Bucket i counts intervals in (edge[i-1], edge[i]]; the last bucket is above every edge. Trailing zeros are left out.
    """

    count: int = 0
    longest_lo_ns: int = 0
    longest_hi_ns: int = 0
    sum_ns: int = 0
    lo: list[int] = []
    hi: list[int] = []


class StreamRecord(Row, kw_only=True):
    """One logical stream, written when it ends; instants are those of the first attempt that had them."""

    stream: int
    worker: int = 0
    name: str = ""
    """The endpoint's name in Locust's table."""
    variant: str | None = None
    group: str | None = None
    phase: str | None = None
    """The planned phase that its start lies in, by the plan's clock alone; a report goes by when faults really acted."""
    warmup: bool = False
    kind: StreamKind = "answer"
    intended: Instant | None = None
    """The planned start of an open-loop schedule; None in closed loop."""
    dispatched: Instant
    sent: Instant | None = None
    headers: Instant | None = None
    first_byte: Instant | None = None
    first_event: Instant | None = None
    first_token: Instant | None = None
    last_token: Instant | None = None
    last_event: Instant | None = None
    ended: Instant
    outcome: Outcome
    end: AttemptEnd
    status: int | None = None
    attempts: list[Attempt] = []
    attempts_total: int = 0
    """Equal to the number of attempts unless their list was capped."""
    breaks: int = 0
    events: int = 0
    """Events received on all attempts, doubled ones and heartbeats included."""
    tokens: int = 0
    """Content-bearing events, doubled ones left out."""
    heartbeats: int = 0
    """Comments and heartbeat events."""
    body_bytes: int = 0
    ids: list[tuple[int, int]] = []
    """Ranges of sequence numbers received, first and last inclusive, ascending."""
    topic: str | None = None
    """Streams of one topic get the same numbered events, and witness each other's losses."""
    ids_capped: bool = False
    """More ranges than are kept: lost and doubled stay right, the ranges are a prefix."""
    gaps: Gaps | None = None
    heartbeat_gaps: Gaps | None = None
    """Silence before each heartbeat of a connection (comments count as such): from the event or heartbeat before it. The
    silence that ends in an idle time-out is one more, of at least its length."""
    ages: Gaps | None = None
    """Receive instant minus the send time inside the event, where the scenario names one (`sent_at`)."""
    behind: Gaps | None = None
    """Of a topic's subscriber: how much later it received events than the first subscriber in the same worker; what it
    received first is not in it."""
    stale_ns: int | None = None
    """Time in which the newest event was older than STALE_AFTER_NS, from the first token to the end, breaks included; None
    without a token, and where a long silence came to an end while we were too late to see it."""
    lost: int | None = None
    """Numbers below the highest received that never came; None without a sequence, and for subscribers of a topic, whose
    numbers may have holes."""
    doubled: int | None = None
    reordered: int | None = None
    defects: dict[str, int] = {}
    """Kinds of wrong bytes and how often each was met."""
    fffd: int = 0
    """U+FFFD characters in the text handed to the user."""
    text_chars: int = 0
    text_bytes: int = 0
    text_sha256: str = ""
    truth_id: str | None = None
    """The id sent to our own reference server, by which its witness rows are found."""
    proxy_queue_ns: int | None = None
    """Time queued in our own Toxiproxy, where it is known."""
    payload: int | None = None
    cpu_ns: int | None = None
    detail: str = ""


class BreakRow(Row, kw_only=True):
    """One disconnect and what followed, written when it is over."""

    stream: int
    number: int
    """1 is the stream's first break."""
    worker: int = 0
    variant: str | None = None
    group: str | None = None
    phase: str | None = None
    attempt: int
    """The attempt that broke."""
    seen: Instant
    """When the client knew."""
    end: AttemptEnd
    status: int | None = None
    waits_ns: list[int] = []
    """Waits before each further attempt, as they were asked for."""
    attempts: int = 0
    """Further attempts made."""
    connected: Instant | None = None
    sent: Instant | None = None
    first_new: Instant | None = None
    """First event not received before; None if it never came."""
    lost: int | None = None
    doubled: int | None = None
    resumed: bool = False
    """The successful attempt sent Last-Event-ID."""
    gave_up: str | None = None
    server_retry_ms: int | None = None
    proxy_queue_ns: int | None = None


class StartRow(Row, kw_only=True):
    """A stream was dispatched; a start without a StreamRecord is `unfinished`."""

    stream: int
    worker: int = 0
    name: str = ""
    variant: str | None = None
    group: str | None = None
    phase: str | None = None
    """As in its StreamRecord."""
    warmup: bool = False
    intended: Instant | None = None
    dispatched: Instant | None = None
    """None for a drop: it was never dispatched."""
    dropped: bool = False


class BrowserRow(Row, kw_only=True):
    """How a browser drew its page while one client read its streams, and how well its clock tells time."""

    variant: str
    at_ns: int
    user_agent: str = ""
    """Printable; what the browser says of itself."""
    resolution_ns: int
    """One step of the page's clock."""
    offset_error_ns: int | None = None
    """The widest of the brackets in which its clock was known to lie against ours."""
    isolated: bool = False
    """Cross-origin isolated: browsers give such pages a finer clock."""
    hidden: bool = False
    """It was not in front at some time: browsers slow such pages down."""
    length_ns: int
    frames: int
    frame_gap_p50_ns: int | None = None
    frame_gap_p95_ns: int | None = None
    frame_gap_max_ns: int | None = None
    long_tasks: int | None = None
    """Of more than 50 ms; None where the browser does not tell."""
    long_tasks_ns: int | None = None
    """Their length together."""
    timer_lag_max_ns: int = 0
    """The most that a timer of 10 ms was late: as long the page's code could not run."""


class OpenRow(Row, kw_only=True):
    """The streams one worker had open, every 10 s."""

    at_ns: int
    worker: int
    streams: list[int] = []
    variant: str | None = None


class MarkRow(Row, kw_only=True):
    """An outside event that somebody told us of."""

    at_ns: int
    text: str
    source: str = ""


FaultStep = Literal["intent", "applied", "heal-intent", "healed", "verified", "fired", "failed"]


class FaultRow(Row, kw_only=True):
    """One step of one fault; intent rows are on disk before the call is made."""

    at_ns: int
    fault: str
    """The fault's id in the plan."""
    step: FaultStep
    kind: str = ""
    window: int | None = None
    """Which time of a repeated fault, 1 the first; None for a fault that stands the whole run."""
    group: str | None = None
    variant: str | None = None
    proxies: list[str] = []
    call_sent_ns: int | None = None
    """Of a failed one: when the server was last well."""
    call_answered_ns: int | None = None
    """Of a failed one: when it was known not to be."""
    echo: Raw = Raw(b"null")
    """The toxics as the server echoed them."""
    fired: int | None = None
    """Our toxic's own count of firings."""
    ended_connections: bool = False
    """Healing it in the middle of the load took its proxies away and made them anew: whoever was there, or came then, met us."""
    ok: bool | None = None
    detail: str = ""


class ScriptSpec(Struct, kw_only=True, frozen=True):
    """The parameters from which the reference server's script, its text included, is rebuilt exactly."""

    kind: str
    seed: int
    events: int
    """Content-bearing events meant; 0 is an endless feed."""
    first_token_ms: float
    interval_ms: float


class LiveEnd(Struct, kw_only=True, frozen=True):
    """How a live answer, one that no script stands behind, ended when it was written to its end."""

    last: int | None = None
    """The number of done; None when an error ended it."""
    text_sha256: str | None = None
    """Of the whole answer's text in UTF-8."""
    said: str = ""
    """The model's finish reason, or the code of the error."""


class WitnessRow(Row, kw_only=True):
    """What the reference server meant and wrote on one connection."""

    run: str
    truth_id: str
    """The client's id of the logical stream."""
    connection: int
    """1 is the first connection of this logical stream."""
    profile: str
    path: str = ""
    script: ScriptSpec | None = None
    """None when no stream was served (204, an error before the stream), and for a live answer: nobody knew it before."""
    live: LiveEnd | None = None
    """None for a scripted answer, and for a live one that this connection did not see the end of."""
    status: int = 200
    meant_first: int | None = None
    """First number this connection was to send (after resume)."""
    meant_last: int | None = None
    """Last number of the script; None for an endless feed."""
    written: list[tuple[int, int]] = []
    """Ranges of numbers handed to the transport, in the order written: a repeat starts a new range."""
    written_text_chars: int = 0
    """Characters of script text handed to the transport on this connection, by which streams without ids are compared."""
    written_bytes: int = 0
    accepted: Instant
    first_write: Instant | None = None
    first_token_write: Instant | None = None
    last_write: Instant | None = None
    ended: Instant | None = None
    end: str = ""
    """done, error, client-gone, cut, truncate, stall, slow-reader, taken-over, finished (204), unknown-id, total-limit,
    idle-limit, drain, shutdown."""
    misbehaved: list[str] = []
    """Planted defects that acted on this connection."""
    last_event_id: str | None = None
    accept: str | None = None
    accept_encoding: str | None = None
    user_agent: str | None = None


class GeneratorRow(Row, kw_only=True):
    """One second of one worker, as it measured itself."""

    at_ns: int
    worker: int
    variant: str | None = None
    pid: int = 0
    interval_ns: int = 0
    open_streams: int = 0
    started: int = 0
    ended: int = 0
    dropped: int = 0
    reads: int = 0
    events: int = 0
    coalesced_reads: int = 0
    unstamped_reads: int = 0
    read_lag_p50_ns: int | None = None
    read_lag_p99_ns: int | None = None
    read_lag_max_ns: int | None = None
    dispatch_lag_p99_ns: int | None = None
    dispatch_lag_max_ns: int | None = None
    loop_lag_max_ns: int | None = None
    """Lateness of a 10 ms timer."""
    cpu_share: float | None = None
    """Of one core."""
    run_queue_share: float | None = None
    """Time this process waited for a core, as a share of the interval."""
    pressure_share: float | None = None
    """Time in which any process of the machine waited for a core, as a share of the interval; None where not told."""
    steal_share: float | None = None
    """Of the machine's processor time, what a hypervisor gave to others; None where not told."""
    rss_bytes: int | None = None
    pending_bytes: int = 0
    """Unfinished events held in memory."""
    out_of_range: int = 0
    """Values of series that their histograms can't hold: below 0, or above 19.5 hours."""
    clock_step_ns: int = 0
    master_offset_ns: int | None = None
    """How far the clock of a worker on another machine is ahead of the master's; None on the master's machine."""
    master_offset_error_ns: int | None = None
    """How far the truth can lie to either side of it."""
    admission_end: AdmissionEnd | None = None
    """None while further streams may start."""
    rig_error: str | None = None
    """Something of ours that bent or ended a measurement, named in the report."""


class AddressPlan(Row, kw_only=True):
    """Where the streams of one group connect to."""

    host: str
    port: int
    group: str | None = None
    proxy: str | None = None
    attempts: Literal["any", "first", "later"] = "any"
    """Which attempts of a stream dial it: a fault on the first connection only has its reconnections elsewhere."""
    cut_after_bytes: int | None = None
    queue_ns: int = 0
    """The longest a connection may wait there for our own proxy to dial the service."""
    """This proxy ends every connection after so many bytes of the answer, headers and framing included."""


class PreflightResult(Row, kw_only=True):
    """What one stream before the run found out; it is printed and never judged."""

    ok: bool
    problem: str = ""
    """One of the attempt ends when `ok` is False."""
    sentence: str = ""
    status: int | None = None
    content_type: str = ""
    server: str = ""
    addresses: list[str] = []
    """IP addresses the name resolved to."""
    connect_ns: int | None = None
    ttft_ns: int | None = None
    length_ns: int | None = None
    """How long the stream lasted; None when it was still open after the look."""
    looked_ns: int | None = None
    """From sending the request to the end of the stream or of the look."""
    events: int = 0
    kind: StreamKind | None = None
    terminal: str | None = None
    """Terminal marker that was seen, in scenario words: event:done, data:[DONE]."""
    sequence: str | None = None
    text: str | None = None
    dialect: str = "plain"
    """What the events were recognised as: a name of `loadtests.dialects.NAMES`; plain where the scenario describes them."""
    service: str = ""
    """The same in words; empty for events that follow no known convention."""
    witness_path: str | None = None
    """Set when the target is our own reference server."""
    profile: str | None = None
    """The reference server's profile."""


class BrowserPlan(Row, kw_only=True):
    """A variant whose users are the pages of a browser."""

    name: str
    """The browser's short name: chromium, mobile-safari, firefox-2."""
    version: str = ""
    client: BrowserClient
    started_by_us: bool = False
    """Opened by the run itself, without a window; else by somebody at a desk."""
    at_once: int
    """Streams that a page has open at a time: HTTP/1.1 gives it six connections to one place."""


class VariantPlan(Row, kw_only=True):
    """One side of a run; a run without variants has exactly one, unnamed."""

    name: str | None = None
    judged: bool = True
    target: Raw
    """loadtests.settings.Target"""
    load: Raw
    """loadtests.settings.Load"""
    client: Raw
    """loadtests.settings.Client"""
    server: str | None = None
    """Profile of a reference server that the run started for this variant."""
    hop: str | None = None
    """The proxy that the run put in front of the service."""
    fault_side: FaultSide = "client"
    """On which side of the hop the faults sit: a client meets those on the service's side as the hop passes them on."""
    identity_groups: list[str] = []
    """Groups whose streams ask for no compression whatever the target says: slices of gzip cut no character."""
    addresses: list[AddressPlan] = []
    preflight: PreflightResult | None = None
    master_port: int | None = None
    master_host: str = "127.0.0.1"
    """Where Locust's master listens for its workers."""
    replay_ns: list[int] = []
    """Recorded starts that an open loop repeats, in ns since the first."""
    payloads_sha256: str | None = None
    """Digest of the payload file, as it was read."""
    browser: BrowserPlan | None = None
    """None where the users are Locust's."""


class PhasePlan(Row, kw_only=True):
    """A part of the run; phases follow one another from the begin of load, and the last one lasts until its end."""

    name: str
    start_ms: int
    end_ms: int | None = None
    """None is the end of the load, whenever that comes."""
    groups: list[str] = []
    """Whose faults act in it by a timetable; a fault that stands the whole run is in no phase's list."""


class PlannedClaim(Row, kw_only=True):
    """A claim as it will be judged; its text is normalised, its n fixed before the run where the plan fixes it."""

    text: str
    unit: str = ""
    planned_n: int | None = None


class AbortPlan(Row, kw_only=True):
    """When the run would give up, and what it would stop then."""

    when: str
    stop: Literal["faults", "load"]


class LookPlan(Row, kw_only=True):
    """One of the moments, registered before the run, at which a claim may be decided (`--until-decided`)."""

    streams: int | None = None
    """When every stream of a variant with a lower number has ended, and by these alone; None is the planned end of the run."""
    error_share: float
    """Which part of a claim's error may be spent here; those of all looks add up to 1."""


class Plan(Row, kw_only=True, omit_defaults=False):  # schema and version are defaults, and must be on disk
    """plan.json: everything decided before the first judged connection."""

    schema: str = SCHEMA_PREFIX + "plan"
    version: int = SCHEMA_VERSION
    run: str
    """The run's id, also what our own server's witness is asked for."""
    scenario: str
    seed: int
    created_ns: int
    workers: int = 1
    """Of each variant, on all machines."""
    remote_workers: int = 0
    """Of them, those that join from elsewhere; their numbers are the last ones."""
    variants: list[VariantPlan] = []
    claims: list[PlannedClaim] = []
    gap_edges_ns: list[int] = []
    faults: Raw = Raw(b"null")
    """chaos.plan.FaultPlan; null in a run without faults."""
    groups: Raw = Raw(b"null")
    """rundir.groups.GroupRule: the seeded rule that gives every stream number its group."""
    phases: list[PhasePlan] = []
    """In their order; none in a run without phases."""
    abort: AbortPlan | None = None
    looks: list[LookPlan] = []
    """Ascending, the end last; empty in a run that is judged once, when it is over."""
    on_unknown: Literal["fail", "warn"] = "fail"
    locustfile: str | None = None
    locustfile_sha256: str | None = None
    """Digest of the user's own locustfile; a worker on another machine must have the same."""
    notes: list[str] = []
    """What could not be measured on this machine, and what would make it possible."""


class Aborted(AbortPlan, kw_only=True):
    """That it gave up."""

    at_ns: int
    """When it was decided, before the first call that heals."""
    load_ns: int
    """Since the load had begun."""
    n: int
    """Streams that had ended in the last `over_ns`."""
    k: int
    """Good ones among them."""
    over_ns: int


class RunInfo(Row, kw_only=True, omit_defaults=False):  # as Plan
    """run.json: what ran where, and how it ended; rewritten once, at the end."""

    schema: str = SCHEMA_PREFIX + "run"
    version: int = SCHEMA_VERSION
    run: str
    started_ns: int
    ended_ns: int | None = None
    """None in a directory whose run was killed."""
    how: Literal["running", "finished", "interrupted", "terminated", "failed"] = "running"
    problem: str = ""
    """The rig error in one sentence when `how` is failed."""
    labels: dict[str, str] = {}
    versions: dict[str, str] = {}
    host: dict[str, str] = {}
    command: list[str] = []
    """The command that repeats the run, secrets left out."""
    aborted: Aborted | None = None
    """None where no condition was met, or none was given."""
    workers_lost: list[int] = []
    pid: int | None = None
    """Of the process that makes the run and ends it."""
    lines: dict[str, int] = {}
    """By schema, how many lines each file of rows had at the end, its header included; more may come. Empty without an end."""

"""What a browser's page posts, as structs with limits (pure).

Rules:
- Everything here comes from whoever found the address: lengths and numbers are bounded, unknown fields are refused, and
  no text becomes a path, a name or a command. `variant` and `stream` only choose among what was planned.
- Instants are the page's own, in ms since 1970 as `performance.timeOrigin + performance.now()`; `Exchange` says how they
  lie to our clock.
"""

import re
from collections.abc import Iterable
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

BODY_LIMIT_BYTES: Final = 4 * 1024 * 1024
"""The record of one answer: 10,000 events of some hundred bytes."""
MOST_EVENTS: Final = 20_000
MOST_ATTEMPTS: Final = 2_000
"""An EventSource that gets nowhere tries three times a second until the answer's time is over."""
MOST_EXCHANGES: Final = 64
LARGEST_DATA_CHARS: Final = 256 * 1024
LATEST_MS: Final = 1e13
"""The year 2286."""

InstantMs = Annotated[float, Meta(ge=0, le=LATEST_MS)]
Count = Annotated[int, Meta(ge=0, le=1 << 40)]
LengthMs = Annotated[float, Meta(ge=0, le=1e9)]
Number = Annotated[int, Meta(ge=0, le=10_000_000)]
Name = Annotated[str, Meta(max_length=64)]
Key = Annotated[str, Meta(max_length=64)]

PageEnd = Literal[
    "terminal",
    "broken",
    "ended",
    "refused",
    "status",
    "content-type",
    "no-content",
    "idle-timeout",
    "total-timeout",
    "too-big",
    "inband-error",
    "given-up",
]
"""How a connection ended, as far as a page can know: `broken` under the answer, `ended` by its framing without the terminal
event, `refused` without any answer; the others as in `rundir.rows.AttemptEnd`. `given-up`: our own page ended it."""


class Exchange(Struct, array_like=True, frozen=True, gc=False):
    """One question for the time: sent and received by the page's clock, answered by ours, in µs since 1970."""

    sent_ms: InstantMs
    ours_us: Annotated[float, Meta(ge=0, le=1e16)]
    received_ms: InstantMs


class PageEvent(Struct, array_like=True, frozen=True, gc=False):
    """One event as the page's code got it."""

    at_ms: InstantMs
    type: Annotated[str, Meta(max_length=256)]
    id: Annotated[str, Meta(max_length=1024)]
    """The last event id that it was handed out with."""
    data: Annotated[str, Meta(max_length=LARGEST_DATA_CHARS)]


class PageAttempt(Struct, kw_only=True, forbid_unknown_fields=True):
    """One connection."""

    started_ms: InstantMs
    """When it was asked for; a browser that reconnects by itself says only when the one before had ended."""
    opened_ms: InstantMs | None = None
    """When the page learned that the answer is an event stream."""
    ended_ms: InstantMs
    end: PageEnd
    status: Annotated[int, Meta(ge=0, le=999)] | None = None
    wait_ms: LengthMs | None = None
    """The wait before the next one that the client asked for; None where the browser does not tell."""
    detail: Annotated[str, Meta(max_length=400)] = ""
    events: Annotated[list[PageEvent], Meta(max_length=MOST_EVENTS)] = []


class Post(Struct, kw_only=True, forbid_unknown_fields=True):
    """What every post carries."""

    key: Key
    page: Key
    """Which of the pages that joined, as `Joined` named it; empty before."""


class Join(Post, kw_only=True):
    """A page is there."""

    user_agent: Annotated[str, Meta(max_length=512)]
    resolution_ms: LengthMs
    """The smallest step its clock was seen to make."""
    isolated: bool = False
    """Cross-origin isolated: browsers give such pages a finer clock."""
    long_tasks: bool = False
    """It can see long tasks."""


class Start(Post, kw_only=True):
    """A stream is about to be asked for."""

    variant: Name
    stream: Number


class Stream(Post, kw_only=True):
    """A stream is over."""

    variant: Name
    stream: Number
    exchanges: Annotated[list[Exchange], Meta(min_length=1, max_length=MOST_EXCHANGES)]
    attempts: Annotated[list[PageAttempt], Meta(min_length=1, max_length=MOST_ATTEMPTS)]


class Rendering(Post, kw_only=True):
    """How a page was drawn while one client ran its streams."""

    variant: Name
    length_ms: LengthMs
    frames: Count
    frame_gap_p50_ms: LengthMs | None = None
    frame_gap_p95_ms: LengthMs | None = None
    frame_gap_max_ms: LengthMs | None = None
    long_tasks: Count | None = None
    """None where the browser does not tell."""
    long_tasks_ms: LengthMs | None = None
    timer_lag_max_ms: LengthMs = 0.0
    """The most that a timer of 10 ms was late: how long the page's code could not run."""
    hidden: bool = False
    """The page was not in front at some time: browsers slow such pages down."""


class Question(Post, kw_only=True):
    """Asks what there is to do."""

    again: bool = False
    """It has its work, and says that it is there: thousands of addresses every two seconds would be work of their own."""


class Done(Post, kw_only=True):
    """A page has run all that it was given, or gives up with a reason."""

    problem: Annotated[str, Meta(max_length=400)] = ""


class Joined(Struct, kw_only=True):
    """The answer to `Join`."""

    page: str


class Job(Struct, kw_only=True):
    """The streams of one client in one page."""

    variant: str
    client: str
    at_once: int
    total_ms: float
    terminal: str
    """As a scenario says it: `event:TYPE`, `data:TEXT`; empty for none."""
    types: list[str]
    """Event types that EventSource has to be told to listen for."""
    streams: list[tuple[int, str]]
    """Number and address."""


class Work(Struct, kw_only=True):
    """The answer to `Question`."""

    state: Literal["wait", "run", "over"]
    jobs: list[Job] = []


class Clock(Struct, kw_only=True):
    """Our clock, in µs since 1970."""

    us: float


_ORDER: Final = (
    # What calls itself by several names comes before those whose name it borrows.
    ("edge", re.compile(r"\bEdg(?:e|A|iOS)?/([\d.]+)")),
    ("opera", re.compile(r"\bOPR/([\d.]+)")),
    ("samsung", re.compile(r"\bSamsungBrowser/([\d.]+)")),
    ("firefox", re.compile(r"\b(?:Firefox|FxiOS)/([\d.]+)")),
    ("chromium", re.compile(r"\b(?:HeadlessChrome|Chrome|Chromium|CriOS)/([\d.]+)")),
    ("safari", re.compile(r"\bVersion/([\d.]+).*\bSafari/")),
)
NAME: Final = re.compile(rf"(?:mobile-)?(?:{'|'.join(name for name, _ in _ORDER)}|other)(?:-[1-9][0-9]*)?")
"""What `browser_of` and `unique` call browsers."""
_MOBILE: Final = re.compile(r"\b(?:Mobile|Android|iPhone|iPad)\b")


def browser_of(user_agent: str) -> tuple[str, str]:
    """A browser's short name (`mobile-` before it on phones and tablets) and version, by what it says of itself."""
    for name, pattern in _ORDER:
        if (found := pattern.search(user_agent)) is not None:
            mobile = "mobile-" if _MOBILE.search(user_agent) else ""
            return f"{mobile}{name}", found[1][:32]
    return "other", ""


def unique(name: str, taken: Iterable[str]) -> str:
    """The name, with a number behind it where somebody has it already."""
    known = set(taken)
    return next(
        each for each in (name, *(f"{name}-{number}" for number in range(2, 1_000))) if each not in known
    )

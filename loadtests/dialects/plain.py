"""The plain dialect: any service, described in the scenario's words, and what one stream shows of them.

Conventions, in this order:
- the event that `terminal` names is the end; without one nothing is (`guess` finds it on the preflight stream);
- types `ping`, `heartbeat`, `keepalive`, `keep-alive` are heartbeats;
- type `error` is an error sent inside a stream that was opened well;
- types `hello`, `open`, `ready`, `connected`, `retry`, `progress` and events with empty data carry nothing to read;
- everything else is a token. Where `text` names a JSON field, an event without it (or with "" or null there) is not.

Types are compared byte for byte, as everywhere in the format (F06). What a target sends is never an exception: broken
JSON is a token with the raw data as its text, and `malformed` says so.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Self

import msgspec
from msgspec import Struct

from sseproof.loadtests.dialects.content import (
    DECODE_ERRORS,
    DIGITS,
    Path,
    as_number,
    as_text,
    decode_json,
    number_at_end,
    walk,
)
from sseproof.loadtests.dialects.meaning import HEARTBEAT_TYPES, TERMINAL_DATA, Meaning, MeaningKind, Run
from sseproof.loadtests.sse import Message
from sseproof.rundir.rows import StreamKind

ERROR_TYPES: Final = frozenset({"error"})
OTHER_TYPES: Final = frozenset({"hello", "open", "ready", "connected", "retry", "progress"})
TERMINAL_TYPES: Final = frozenset({"done", "end", "close", "complete"})
"""Types that are taken for the end when the last event of a preflight stream has one."""
TEXT_FIELDS: Final = ("text", "content", "delta", "token", "message", "choices.0.delta.content")
"""JSON fields that are taken for the text of tokens, the likeliest first."""


class Plain:
    """Any service, described in the scenario's words (`loadtests.settings.Target`); dialect and reader in one."""

    limited: bool = False
    declined: bool = False
    resumable: Final = True
    resumes_by_get: Final = False
    accept: Final = None

    def __init__(
        self,
        terminal: str | None = None,
        sequence: str | None = None,
        sent_at: str | None = None,
        text: str | None = None,
    ) -> None:
        """None stands for: no terminal marker, no sequence, no send time, the whole data is the text.

        Raises ValueError, in a sentence, for words that mean nothing.
        """
        terminal_type, self._terminal_data = _terminal(terminal)
        self._kinds = dict(_KINDS)
        if terminal_type is not None:
            self._kinds[terminal_type] = "terminal"
        self.may_end = terminal in {None, "none"}
        self._by_id = sequence == "id"
        self._sequence = (
            None if sequence in {None, "none", "id"} else _path("sequence", sequence, "id", "none")
        )
        self._sent_at = None if sent_at in {None, "none"} else _path("sent_at", sent_at, "none")
        self._text = None if text in {None, "data"} else _path("text", text, "data")
        self._reads_json = self._sequence is not None or self._sent_at is not None
        self._pick = _picker(self._text, self._sequence, self._sent_at)
        looks_inside = self._text is not None or self._reads_json
        # Numbers inside the data are rarer than ids, and of many forms.
        self._quick = self._pick if looks_inside and self._sequence is None else None
        self._pick_run = None if self._sequence is not None else _run_picker(self._text, self._sent_at)
        self.reads_runs = self._pick_run is not None or not looks_inside

    def reader(self) -> Self:
        """Itself: nothing of a stream has to be remembered."""
        return self

    def read(self, message: Message) -> Meaning:
        """The meaning of one event; never raises.

        Called for each event. A token out of an object of fields is decided here, without `_read_json`, `_meaning` and
        the functions that take any value: a call costs as much as what it would do. All else goes the general way,
        which gives the same.
        """
        data = message.data
        kind = self._kinds.get(message.type) if data != self._terminal_data else "terminal"
        if kind == "heartbeat":
            return Meaning("heartbeat")
        sequence = None
        if self._by_id and message.has_id:
            sequence = number_at_end(message.last_event_id)
        if kind is None and self._quick is not None:
            try:
                picked = self._quick(data)
            except DECODE_ERRORS:
                return self._read_any(data, "token", sequence) if data else Meaning("other", "", sequence)
            said = data if self._text is None else picked.text
            if type(said) is str and said:
                sent_at = picked.sent_at
                if sent_at is not None and not (type(sent_at) is int and _LEAST_NS <= sent_at < _BEYOND_NS):
                    sent_at = _as_instant_ns(sent_at)
                return Meaning("token", said, sequence, sent_at)
            return self._meaning("token", data, sequence, picked)
        if kind is None:
            if not data:
                return Meaning("other", "", sequence)
            if self._text is None and not self._reads_json:
                return Meaning("token", data, sequence)
            return self._read_json(data, "token", sequence)
        if self._reads_json and data:
            return self._read_json(data, kind, sequence)
        return Meaning(kind, "", sequence)

    def read_run(self, blocks: Sequence[tuple[str, str, str, str]]) -> Run | None:
        """The meaning of several events as `Parser.run` gives them; None if they are not tokens all, or for any doubt."""
        ids, types, datas, _ = zip(*blocks, strict=True)
        if not (self.reads_runs and self._kinds.keys().isdisjoint(types)):
            return None
        if self._terminal_data in datas or "" in datas:
            return None
        sequences = None
        if self._by_id and ids[0]:
            found_numbers = list(map(number_at_end, ids))
            sequences = [number for number in found_numbers if number is not None]
            if len(sequences) < len(ids):
                return None
        if self._pick_run is None:
            return Run(datas, sequences)
        # Lines that begin and end as objects can't be parts of one object that is longer than a line: between two of
        # them there would be a comma.
        text = "\n".join(datas)
        seams = len(datas) - 1
        if text[0] != "{" or text[-1] != "}" or text.count("}\n{") != seams:
            return None
        try:
            found = self._pick_run(text)
        except DECODE_ERRORS:
            return None
        if len(found) != len(datas):
            return None
        texts = datas if self._text is None else [each.text for each in found]
        if "" in texts:
            return None
        if self._sent_at is None:
            return Run(texts, sequences)
        sent_at = [each.sent_at for each in found]
        if min(sent_at) < _LEAST_NS or max(sent_at) >= _BEYOND_NS:
            return None
        return Run(texts, sequences, sent_at)

    def _read_json(self, data: str, kind: MeaningKind, sequence: int | None) -> Meaning:
        """An event whose data has to be looked into."""
        if self._pick is not None:
            try:
                picked = self._pick(data)
            except DECODE_ERRORS:
                pass  # no JSON object: the general way says what it is
            else:
                return self._meaning(kind, data, sequence, picked)
        return self._read_any(data, kind, sequence)

    def _read_any(self, data: str, kind: MeaningKind, sequence: int | None) -> Meaning:
        """An event whose data may be anything."""
        try:
            content = decode_json(data)
        except DECODE_ERRORS:
            # Only of a token JSON is expected: "[DONE]" and an error's prose are not malformed.
            token = kind == "token"
            return Meaning(kind, data if token else "", sequence, malformed=token)
        paths = (self._text, self._sequence, self._sent_at)
        found = _Found(*(None if path is None else walk(content, path) for path in paths))
        return self._meaning(kind, data, sequence, found)

    def _meaning(self, kind: MeaningKind, data: str, sequence: int | None, found: "_Found") -> Meaning:
        """From the values that were found at the three paths."""
        said = ""
        if kind == "token":
            said = data if self._text is None else as_text(found.text)
            if not said:
                kind = "other"
        if self._sequence is not None:
            sequence = as_number(found.sequence)
        return Meaning(kind, said, sequence, _as_instant_ns(found.sent_at))


class Guess(Struct, frozen=True, kw_only=True):
    """What one preflight stream looks like, in scenario words; None = not seen."""

    terminal: str | None = None
    sequence: str | None = None
    text: str | None = None
    kind: StreamKind | None = None
    """`answer` where a terminal marker was seen; a stream without one may be either."""


def guess(messages: Sequence[Message]) -> Guess:
    """Reads the conventions off the events of one stream.

    Cautious, because a wrong guess would accuse a healthy service: a marker must stand last and only there, and a
    sequence needs two numbered events at least that differ by one and in nothing else.
    """
    terminal = _guess_terminal(messages)
    plain = Plain(terminal)
    tokens = [message.data for message in messages if plain.read(message).kind == "token"]
    return Guess(
        terminal=terminal,
        sequence=_guess_sequence(messages),
        text=_guess_text(tokens),
        kind="answer" if terminal else None,
    )


_KINDS: Final[dict[str, MeaningKind]] = {
    **dict.fromkeys(HEARTBEAT_TYPES, "heartbeat"),
    **dict.fromkeys(ERROR_TYPES, "error"),
    **dict.fromkeys(OTHER_TYPES, "other"),
}

_LEAST_NS: Final = 10**16
"""Instants from here on are nanoseconds."""
_BEYOND_NS: Final = 10**19
_INSTANT_IDS: Final = range(10**9, 10**11)
"""Ids of this size are taken for seconds since 1970: a clock that ticks once an event is not a sequence."""


class _Found(Struct, gc=False):
    """What stands at the three paths of one event's data; None for a path that is not asked for."""

    text: object = None
    sequence: object = None
    sent_at: object = None


def _terminal(word: str | None) -> tuple[str | None, str | None]:
    """The type and the data that end a stream, at most one of them not None."""
    if word is None or word == "none":
        return None, None
    what, colon, value = word.partition(":")
    if colon and value and what == "event":
        return value, None
    if colon and value and what == "data":
        return None, value
    raise ValueError(f"terminal = {word!r} is not understood: write event:TYPE, data:TEXT or none")


def _path(key: str, word: str | None, *others: str) -> Path:
    what, _, field = (word or "").partition(":")
    path = tuple(field.split("."))
    if what != "json" or not all(path):
        choices = " or ".join([*others, "json:FIELD (json:a.b.0.c for a nested one)"])
        raise ValueError(f"{key} = {word!r} is not understood: write {choices}")
    return path


def _picker(text: Path | None, sequence: Path | None, sent_at: Path | None) -> Callable[[str], Any] | None:
    """Decodes just the wanted top-level fields, in half the time of a whole object; None when a path goes deeper.

    What it gives has the attributes of `_Found`.
    """
    paths = {"text": text, "sequence": sequence, "sent_at": sent_at}
    if any(path is not None and len(path) > 1 for path in paths.values()):
        return None
    wanted = {name: path[0] for name, path in paths.items() if path is not None}
    if len(set(wanted.values())) < len(wanted):
        return None  # two of them want the same field
    fields = [(name, Any, None) for name in wanted]
    absent = dict.fromkeys(paths.keys() - wanted.keys())
    try:
        picked = msgspec.defstruct("Picked", fields, rename=wanted, namespace=absent, gc=False)
    except ValueError:
        return None  # a key with quotes or the like
    return msgspec.json.Decoder(picked).decode


def _run_picker(text: Path | None, sent_at: Path | None) -> Callable[[str], list[Any]] | None:
    """Decodes the wanted top-level fields of one object a line; None when a path goes deeper or nothing is wanted.

    Stricter than `_picker`: the text is a string, the instant a whole number.
    """
    paths = {"text": (text, str, ""), "sent_at": (sent_at, int, 0)}
    wanted = {name: each for name, each in paths.items() if each[0] is not None}
    if not wanted or any(len(path or ()) > 1 for path, _, _ in wanted.values()) or text == sent_at:
        return None
    fields = [(name, kind, default) for name, (_, kind, default) in wanted.items()]
    rename = {name: path[0] for name, (path, _, _) in wanted.items() if path is not None}
    try:
        picked = msgspec.defstruct("PickedRun", fields, rename=rename, gc=False)
    except ValueError:
        return None  # a key with quotes or the like
    return msgspec.json.Decoder(picked).decode_lines


def _as_instant_ns(value: object) -> int | None:
    """An instant in s, ms, µs or ns since 1970, told apart by size (each unit for the years 1973 to 5138)."""
    if type(value) is int and _LEAST_NS <= value < _BEYOND_NS:
        return value  # the loop below gives the same, at the cost of a microsecond an event
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    for limit, factor in ((10**11, 10**9), (10**14, 10**6), (10**17, 10**3), (10**19, 1)):
        if limit // 1000 <= value < limit:
            whole = int(value)  # apart from the fraction, so that a float's own rounding is all there is
            return whole * factor + round((value - whole) * factor)
    return None


def _guess_terminal(messages: Sequence[Message]) -> str | None:
    if not messages:
        return None
    last = messages[-1]
    before = messages[:-1]
    if last.data == TERMINAL_DATA and all(message.data != TERMINAL_DATA for message in before):
        return f"data:{TERMINAL_DATA}"
    if last.type in TERMINAL_TYPES and all(message.type != last.type for message in before):
        return f"event:{last.type}"
    return None


def _guess_sequence(messages: Sequence[Message]) -> str | None:
    ids = [
        message.last_event_id
        for message in messages
        if message.has_id and message.type not in HEARTBEAT_TYPES
    ]
    numbers = [number_at_end(each) for each in ids]
    stems = {each.rstrip(DIGITS) for each in ids}
    if len(ids) < 2 or len(stems) > 1 or numbers[0] is None or numbers[0] in _INSTANT_IDS:
        return None
    return "id" if numbers == list(range(numbers[0], numbers[0] + len(numbers))) else None


def _guess_text(tokens: Sequence[str]) -> str | None:
    """The first known field that is a string in some token, where every token is a JSON object."""
    contents: list[object] = []
    for token in tokens:
        try:
            contents.append(decode_json(token))
        except DECODE_ERRORS:
            return None
        if not isinstance(contents[-1], dict):
            return None
    for field in TEXT_FIELDS:
        path = tuple(field.split("."))
        if any(isinstance(walk(content, path), str) for content in contents):
            return f"json:{field}"
    return None

"""W01 to W18: the bytes of the stream against the standard, and against what clients make of them (checks.md 5.3 "Wire lint").

Rules: what was cut off by the end of our look accuses nobody; every complaint shows the bytes and their offset in the body.
"""

import itertools
import re
from typing import Final

import msgspec

from sseproof.loadtests.dialects import TERMINAL_DATA, TERMINAL_TYPES
from sseproof.loadtests.sse import Defect, DefectKind, Message
from sseproof.reports.endpoint.case import NO_STREAM, UNREAD, Case, Check
from sseproof.reports.endpoint.lines import Block, Field
from sseproof.reports.endpoint.model import (
    Evidence,
    Outcome,
    bytes_at,
    escaped,
    failed,
    not_applicable,
    passed,
    unknown,
    warned,
)
from sseproof.reports.endpoint.resume import numbered
from sseproof.reports.endpoint.seen import Seen
from sseproof.reports.words import count_of, digits
from sseproof.rundir.text import printable

SHOWN: Final = 3
"""Places of one kind that are shown."""
EVENT_SIZES: Final = (
    (1 << 20, "httpx2's and mcp's defaults fail"),
    (512 << 10, "aiohttp's line reading fails"),
    (128 << 10, "old aiohttp fails"),
    (64 << 10, "some clients' line buffers are that small"),
)
LONGEST_ID_CHARS: Final = 128
STORM_MS: Final = 100
LONG_RETRY_MS: Final = 60_000
JSON_SHARE: Final = 0.5
"""From this share of JSON objects and arrays on the stream is meant to be JSON."""
WRITTEN_OUT: Final = b"\\n\\n"
"""A blank line, as somebody wrote it who meant one."""
INSIDE_SHARE: Final = 0.1
LEAST_BURSTS: Final = 5
TWICE_SHARE: Final = 0.5
LEAST_NUMBERED: Final = 20
GAPS_SHARE: Final = 0.1
_GLUED: Final = re.compile(r"\S\s*\bdata: ?[{\[\"]")
_FIELD_START: Final = re.compile(rb"(?:data|event|id): ")
_SEPARATORS: Final = re.compile(rb"\xe2\x80[\xa8\xa9]|\xc2\x85|[\x0b\x0c\x1c-\x1e]")
_REPLACED: Final = re.compile(rb"\xef\xbf\xbd|\\u[fF]{3}[dD]")
_TWICE: Final = re.compile(rb"\xc3[\x83-\x9f]\xc2[\x80-\xbf]")
"""A character of two bytes, each of them encoded again: U+00C3 to U+00DF, then U+0080 to U+00BF."""
_NOT_ASCII: Final = re.compile(rb"[\xc2-\xf4]")
LEAST_TWICE: Final = 3
TWICE_ENCODED_SHARE: Final = 0.8
"""Of all characters beyond ASCII: no language writes its own so."""
LEAST_OPEN: Final = 5
"""So many data lines that came by themselves, in one block that never ends, are more than one event."""
_CHUNK_SIZE: Final = re.compile(rb"[0-9a-fA-F]{1,8}")
_STYLES: Final = {b"\n": "LF", b"\r\n": "CR LF", b"\r": "CR"}


def _places(seen: Seen, defects: list[Defect], what: str) -> list[Evidence]:
    return [bytes_at(seen.body, each.offset, what) for each in defects[:SHOWN]]


def _of(seen: Seen, *kinds: DefectKind) -> list[Defect]:
    return [each for each in seen.defects if each.kind in kinds]


def _stream(case: Case) -> Outcome | None:
    if not case.main.readable:
        return not_applicable(NO_STREAM)
    if case.main.damaged and not case.main.body:
        return not_applicable(UNREAD)
    if case.main.decoded.problem and not case.main.body:
        return unknown(f"The body can't be read: {case.main.decoded.problem}.", "Offer identity only.")
    return None


def _utf8(case: Case) -> Outcome:
    seen = case.main
    if (closed := _stream(case)) is not None:
        return closed
    if not seen.body:
        return unknown("No byte of the body came.", "Give it more time with --look.")
    bad = _of(seen, "invalid-utf8", "unterminated-character")
    if not bad:
        return _well_formed(seen)
    count = sum(each.count for each in bad)
    return failed(
        f"{count_of(count, 'ill-formed sequence')}, the first at byte {bad[0].offset:,}.",
        "Encode once, as UTF-8, and never cut a text by bytes.",
        *_places(seen, bad, "ill-formed UTF-8"),
    )


def _well_formed(seen: Seen) -> Outcome:
    """What was broken before it was encoded is well-formed, and broken."""
    lost = list(_REPLACED.finditer(seen.body))
    if lost:
        return warned(
            f"Well-formed, with {count_of(len(lost), 'replacement character')} (U+FFFD): text was lost before it was encoded.",
            "Decode whole characters only: not each read by itself (Node: setEncoding or TextDecoder with stream).",
            *(bytes_at(seen.body, each.start(), "U+FFFD", size=len(each[0])) for each in lost[:SHOWN]),
        )
    twice = list(_TWICE.finditer(seen.body))
    foreign = len(_NOT_ASCII.findall(seen.body))
    if len(twice) >= LEAST_TWICE and 2 * len(twice) >= TWICE_ENCODED_SHARE * foreign:
        return warned(
            f"Well-formed, and encoded twice by its looks: {count_of(len(twice), 'place')} such as "
            f"{escaped(twice[0][0])!r} for {_once(twice[0][0])!r}.",
            "Encode once: somebody reads UTF-8 as Latin-1 on the way.",
            bytes_at(seen.body, twice[0].start(), "the first", size=len(twice[0][0])),
        )
    return passed(f"{len(seen.body):,} bytes of well-formed UTF-8.")


def _once(data: bytes) -> str:
    return printable(data.decode("utf-8", "replace").encode("latin-1", "replace").decode("utf-8", "replace"))


def _bom(case: Case) -> Outcome:
    seen = case.main
    if (closed := _stream(case)) is not None:
        return closed
    later = [each.offset for each in _of(seen, "interior-bom")]
    if seen.body[3:6] == b"\xef\xbb\xbf" and seen.lines.bom:
        later.insert(0, 3)
    if later:
        return failed(
            f"A byte order mark in the stream, at byte {later[0]:,}: the field behind it is lost.",
            "Write UTF-8 without a byte order mark.",
            bytes_at(seen.body, later[0], "byte order mark", size=3),
        )
    if seen.lines.bom:
        return warned("The stream begins with a byte order mark.", "Write UTF-8 without a byte order mark.")
    return passed("No byte order mark.")


def _line_ends(case: Case) -> Outcome:
    seen = case.main
    if (closed := _stream(case)) is not None:
        return closed
    endings = seen.lines.endings
    if not endings:
        return not_applicable("no line ended")
    counts = ", ".join(f"{_STYLES[style]} {count:,}" for style, count in sorted(endings.items()))
    # A look that ends between CR and LF.
    single = {
        style
        for style in endings
        if not (style == b"\r" and endings[style] == 1 and seen.body.endswith(b"\r"))
    }
    if len(single) > 1:
        rare = min(single, key=lambda style: endings[style])
        at = seen.lines.first_ending[rare]
        return warned(
            f"Lines end in different ways ({counts}).",
            "Use LF throughout.",
            bytes_at(seen.body, at, f"the first {_STYLES[rare]}", size=len(rare)),
        )
    if endings.keys() == {b"\r"}:
        return warned(f"Lines end with CR alone ({counts}): many clients wait for ever.", "Use LF.")
    return passed(f"Line ends: {counts}.")


def _separators(case: Case) -> Outcome:
    seen = case.main
    if (closed := _stream(case)) is not None:
        return closed
    match = _SEPARATORS.search(seen.body)
    if match is None:
        return passed("No other separators in the values.")
    count = sum(1 for _ in _SEPARATORS.finditer(seen.body))
    return warned(
        f"{count_of(count, 'character')} at which some clients wrongly end a line (U+2028, U+2029, U+0085, VT, FF).",
        "Escape them in JSON (\\u2028).",
        bytes_at(seen.body, match.start(), "the first", size=len(match[0])),
    )


def _final_blank(case: Case) -> Outcome:
    seen = case.main
    if (closed := _stream(case)) is not None:
        return closed
    blocks = seen.lines.blocks
    spaces = [field for block in blocks for field in block.fields if only_spaces(field)]
    if spaces:
        return failed(
            f"{count_of(len(spaces), 'line')} of spaces where an event should end: only an empty line ends one.",
            "End every event with an empty line, without spaces in it.",
            *(_line(seen, field) for field in spaces[:SHOWN]),
        )
    lines = blocks[-1].named(b"data") if blocks and not blocks[-1].closed else []
    ends = {field.end + 1 for field in lines} | {field.end + 2 for field in lines}
    if not seen.messages and sum(burst.end in ends for burst in seen.bursts) >= LEAST_OPEN:
        return failed(
            f"{len(lines)} data lines, and no empty line behind any of them: clients deliver no event at all.",
            "End every event with a blank line: two line ends behind its data.",
            bytes_at(seen.body, lines[0].end, "the first ends here", size=24),
        )
    if not seen.ended_by_server:
        return not_applicable("the stream did not end by itself")
    if seen.lines.cut or seen.decoded.problem:
        return not_applicable("the end of the stream was not looked at")
    if not blocks or blocks[-1].closed or not blocks[-1].fields:
        return passed("The last block is ended by a blank line.")
    block = blocks[-1]
    if not any(field.known for field in block.fields):
        return not_applicable("what is left at the end is no event")
    fix = "End every event with a blank line."
    if WRITTEN_OUT in seen.body[block.at : block.end]:
        fix = "Write line ends, not a backslash and an n: \\n\\n stands in the stream as four characters."
    lost = "the last event is lost" if block.named(b"data") else "the last block is lost"
    return failed(
        f"The stream ends inside a block, at byte {block.at:,}: {lost} for conforming clients.",
        fix,
        bytes_at(seen.body, block.at, "the block left open", size=48),
    )


def only_spaces(field: Field) -> bool:
    """A line that looks blank, and is a field without a name."""
    return not field.colon and not field.name.strip()


def raw_newlines(block: Block) -> list[Field]:
    """Lines of a block that are the rest of a payload: no field could have been meant."""
    return [
        field
        for field in block.fields
        if not (field.known or field.looks_like_a_field or field.variant or only_spaces(field))
    ]


def _names(case: Case) -> Outcome:
    seen = case.main
    if (closed := _stream(case)) is not None:
        return closed
    datas = [field for block in seen.lines.blocks for field in block.named(b"data")]
    variants: list[Field] = []
    strange: list[Field] = []
    for block in seen.lines.blocks:
        if not block.closed:
            continue  # it may have been cut
        for field in block.fields:
            if field.known or field.name.startswith(b"\xef\xbb\xbf") or only_spaces(field):
                continue
            if field.variant:
                variants.append(field)
            elif field.looks_like_a_field:
                strange.append(field)
    twice = [field for field in datas if _FIELD_START.match(seen.body, field.value_at, field.end)]
    if datas and len(twice) / len(datas) > TWICE_SHARE:
        return failed(
            f"{len(twice)} of {len(datas)} data lines hold a field again (`data: data: `): the events were wrapped twice.",
            "Give the library the payload alone: it writes `data: ` itself.",
            *(_line(seen, field) for field in twice[:SHOWN]),
        )
    if variants:
        return failed(
            f"{count_of(len(variants), 'field name')} in a form that clients ignore, such as {escaped(variants[0].name)!r}.",
            "Write data, event, id and retry in lower case, without a space before the colon.",
            *(_line(seen, field) for field in variants[:SHOWN]),
        )
    glued = [comment for comment in seen.comments if _GLUED.search(comment.text)]
    if glued:
        return warned(
            f"{count_of(len(glued), 'comment')} with a data field behind the text, in the same line: to clients all of it is "
            "comment, and the event is lost.",
            "End a comment with a line end, too: `: ping`, then an empty line.",
            *(
                Evidence(
                    text="the comment ends here", offset=each.end, excerpt=printable(f":{each.text}", 80)
                )
                for each in glued[:SHOWN]
            ),
        )
    if strange:
        names = ", ".join(sorted({escaped(field.name) for field in strange})[:5])
        return warned(
            f"Unknown fields, which clients ignore: {printable(names, 100)}.",
            "Put it into the data, or into a comment.",
            *(_line(seen, field) for field in strange[:SHOWN]),
        )
    return passed("Only fields that the standard knows.")


def _line(seen: Seen, field: Field) -> Evidence:
    return Evidence(
        text="the line", offset=field.at, excerpt=escaped(seen.body[field.at : min(field.end, field.at + 60)])
    )


def _lost_space(case: Case) -> Outcome:
    seen = case.main
    if (closed := _stream(case)) is not None:
        return closed
    datas = [
        field
        for block in seen.lines.blocks
        for field in block.named(b"data")
        if field.colon
        and field.end > field.value_at
        and seen.body[field.value_at : field.end] != TERMINAL_DATA.encode()
    ]
    spaced = [field for field in datas if field.spaced]
    bare = [field for field in datas if not field.spaced]
    if not datas:
        return not_applicable("no data line has a value")
    if not bare:
        return passed("Every value stands behind one space.")
    if not spaced:
        return passed("No value has a space before it; one that begins with a space would lose it.")
    if _json_stream(seen):
        return passed("Spaces before the values differ; they hold JSON, which does not mind.")
    return failed(
        f"{count_of(len(spaced), 'value')} of {len(datas)} stand behind a space, the others do not: "
        "clients take the space away, and with it the text's own.",
        "Always write `data: ` with its space.",
        _line(seen, bare[0]),
        _line(seen, spaced[0]),
    )


def _without_data(case: Case) -> Outcome:
    seen = case.main
    if (closed := _stream(case)) is not None:
        return closed
    mute = [
        block for block in seen.lines.blocks if block.closed and block.fields and not block.named(b"data")
    ]
    named = [block for block in mute if any(field.end > field.value_at for field in block.named(b"event"))]
    if named:
        return warned(
            f"{count_of(len(named), 'block')} with an event name and no data: never delivered in browsers.",
            "Add a data line, be it {}.",
            bytes_at(seen.body, named[0].at, "the first", size=32),
        )
    if mute:
        return passed(
            f"{count_of(len(mute), 'block')} without data (ids or retry), and none with an event name."
        )
    return passed("Every block has data.")


def _empty_data(case: Case) -> Outcome:
    seen = case.main
    if (closed := _stream(case)) is not None:
        return closed
    empty = [message for message in seen.messages if not message.data]
    untyped = [message for message in empty if message.type == "message"]
    if untyped and case.spoken.name != "mcp":
        return warned(
            f"{count_of(len(untyped), 'event')} with empty data: clients that read JSON stumble.",
            "Use a comment for a heartbeat.",
        )
    return passed(
        f"{count_of(len(empty), 'event')} with empty data." if empty else "No event with empty data."
    )


def _size(case: Case) -> Outcome:
    seen = case.main
    if (closed := _stream(case)) is not None:
        return closed
    blocks = [block for block in seen.lines.blocks if block.named(b"data")]
    if not blocks:
        return not_applicable("no event came")
    sizes = sorted(block.end - block.at for block in blocks)
    largest = max(blocks, key=lambda block: block.end - block.at)
    text = f"p50 {_bytes(sizes[(len(sizes) - 1) // 2])}, largest {_bytes(sizes[-1])}"
    for limit, consequence in EVENT_SIZES:
        if sizes[-1] > limit:
            return warned(
                f"Events: {text}; above {_bytes(limit)} {consequence}.",
                "Split it, or send a reference.",
                Evidence(text="the largest event", offset=largest.at),
            )
    return passed(f"Events: {text}.")


def _bytes(size: int) -> str:
    if size < 1024:
        return f"{size} bytes"
    return f"{digits(size / 1024)} KiB" if size < 1 << 20 else f"{digits(size / (1 << 20))} MiB"


def is_json(text: str) -> bool:
    """Whether this is a JSON text."""
    try:
        msgspec.json.decode(text.encode("utf-8", "surrogatepass"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _json_stream(seen: Seen) -> bool:
    """Whether the events are meant to hold JSON: most begin like an object or an array."""
    datas = _json_candidates(seen)
    alike = sum(1 for message in datas if message.data.lstrip()[:1] in {"{", "["})
    return bool(datas) and alike / len(datas) > JSON_SHARE


def _json_candidates(seen: Seen) -> list[Message]:
    return [
        message
        for message in seen.messages
        if message.data and message.data != TERMINAL_DATA and message.type not in TERMINAL_TYPES
    ]


def _json(case: Case) -> Outcome:
    seen = case.main
    if (closed := _stream(case)) is not None:
        return closed
    if not _json_stream(seen):
        return not_applicable("the events hold no JSON")
    candidates = _json_candidates(seen)
    bad = [message for message in candidates if not is_json(message.data)]
    if not bad:
        return passed(f"{count_of(len(candidates), 'event')}, each one JSON text.")
    meant = [message for message in bad if message.data.lstrip()[:1] in {"{", "["}]
    if not meant:
        return warned(
            f"{len(bad)} of {len(candidates)} events {'holds' if len(bad) == 1 else 'hold'} other text than JSON.",
            "One JSON text an event, so that clients need not guess.",
            *(
                Evidence(text="its data", offset=each.end, excerpt=printable(each.data, 80))
                for each in bad[:SHOWN]
            ),
        )
    bad = meant
    return failed(
        f"{len(bad)} of {len(candidates)} events {'holds' if len(bad) == 1 else 'hold'} no whole JSON text, "
        f"the first one ends at byte {bad[0].end:,}.",
        _json_fix(bad[0].data),
        *(
            Evidence(text="its data", offset=each.end, excerpt=printable(each.data, 80))
            for each in bad[:SHOWN]
        ),
    )


def _json_fix(data: str) -> str:
    """What was done instead of writing JSON, where it shows."""
    if "[object " in data:
        return "Write JSON.stringify(payload): [object Object] is how JavaScript prints one."
    if "&quot;" in data:
        return "Do not escape HTML in it: the client of a stream reads JSON."
    if re.search(r":\s*(?:NaN|-?Infinity)\b", data):
        return "JSON has no NaN or Infinity: write null."
    if re.match(r"[{\[]\s*'", data.lstrip()):
        return "Write json.dumps(payload): this is how Python prints it."
    return "One JSON text an event."


def _newlines(case: Case) -> Outcome:
    seen = case.main
    if (closed := _stream(case)) is not None:
        return closed
    if seen.lines.foreign:
        return not_applicable("there is no field at all (H02)")
    ended = seen.ended_by_server and not seen.lines.cut
    blocks = [block for block in seen.lines.blocks if block.closed or ended]
    found = [field for block in blocks for field in raw_newlines(block)]
    if not found:
        return passed("No line that belongs to no field.")
    what, fix = _raw_kind(seen, found)
    return failed(
        f"{count_of(len(found), 'line')} without a field: {what}.",
        fix,
        *(_line(seen, field) for field in found[:SHOWN]),
    )


def _raw_kind(seen: Seen, found: list[Field]) -> tuple[str, str]:
    """What lines without a field are by their looks, and the fix."""
    lines = [seen.body[field.at : min(field.end, field.at + 64)] for field in found]
    sizes = sum(
        _CHUNK_SIZE.fullmatch(line) is not None and seen.body[field.end : field.end + 2] == b"\r\n"
        for line, field in zip(lines, found, strict=True)
    )
    if sizes >= LEAST_OPEN and sizes > len(lines) / 2:
        return (
            "the sizes of chunks, as the stream was framed twice",
            "Write the events alone: the HTTP server makes chunks of them.",
        )
    if any(line.startswith(b"HTTP/1.") for line in lines):
        return (
            "the head of an answer inside the answer",
            "Look for a process that writes a whole answer into the stream.",
        )
    fix = "Begin every line of a payload with `data: `, or escape the line break in JSON (\\n)."
    if any(line.lstrip().startswith(b"<") for line in lines):
        return (
            "HTML, of a payload with a line break in it, or of an error page that was written into the stream",
            f"{fix[:-1]}; keep error pages and warnings out of it.",
        )
    return "the rest of a payload with a line break in it, and lost", fix


def _retry(case: Case) -> Outcome:
    seen = case.main
    if (closed := _stream(case)) is not None:
        return closed
    bad = _of(seen, "bad-retry", "huge-retry")
    if bad:
        return failed(
            "A retry field that is no number of milliseconds, or beyond a day: clients ignore it.",
            "Send retry: 1000 to 5000, once.",
            *_places(seen, bad, "the line"),
        )
    if not seen.retries:
        return passed("No retry: clients wait their own time, about 3 s.")
    least = min(each.ms for each in seen.retries)
    most = max(each.ms for each in seen.retries)
    if least < STORM_MS:
        return warned(f"A retry of {least} ms: all clients come back at once.", "Send retry: 1000 to 5000.")
    if most > LONG_RETRY_MS:
        return warned(
            f"A retry of {most} ms: more than a minute without the stream.", "Send retry: 1000 to 5000."
        )
    return passed(f"A retry of {seen.retries[-1].ms} ms.")


def _ids(case: Case) -> Outcome:
    seen = case.main
    if (closed := _stream(case)) is not None:
        return closed
    nul = _of(seen, "nul-in-id")
    fix = "A short ASCII token."
    if nul:
        return failed("An id with a NUL: clients ignore it.", fix, *_places(seen, nul, "the line"))
    odd = _of(seen, "id-not-sendable", "id-spaces")
    if odd:
        return warned(
            "An id with control characters or spaces at its ends: it does not come back as it was sent.",
            fix,
            *_places(seen, odd, "the line"),
        )
    strange = next((each for each in seen.ids if not each.isascii() or len(each) > LONGEST_ID_CHARS), None)
    if strange is not None:
        what = "longer than 128 characters" if len(strange) > LONGEST_ID_CHARS else "not ASCII"
        return warned(
            f"An id that is {what}: not every client sends it back.",
            fix,
            Evidence(text=printable(strange, 60)),
        )
    if not seen.messages:
        return not_applicable("no event came")
    if not seen.ids:
        return passed("No ids: the stream can't be resumed.")
    return passed(f"{len(seen.ids)} of {len(seen.messages)} events have an id.")


def _id_order(case: Case) -> Outcome:
    seen = case.main
    if (closed := _stream(case)) is not None:
        return closed
    ids = seen.ids
    if len(ids) < 2:
        return not_applicable("fewer than two events have an id")
    seen_ids: set[str] = set()
    for each in ids:
        if each in seen_ids:
            return warned(f"The id {printable(each, 60)} comes twice.", "Unique, increasing ids.")
        seen_ids.add(each)
    split = [found for each in ids if (found := numbered(each)) is not None]
    numbers, heads = [number for _, number in split], {stem for stem, _ in split}
    if len(numbers) == len(ids) and len(heads) == 1:
        for before, after in itertools.pairwise(numbers):
            if after < before:
                return warned(f"Ids go back: {before}, then {after}.", "Unique, increasing ids.")
        gaps = [(before, after) for before, after in itertools.pairwise(numbers) if after != before + 1]
        # Ids that seldom go up by one are numbered over more than this stream, and a gap says nothing.
        if gaps and len(numbers) > LEAST_NUMBERED and len(gaps) / (len(numbers) - 1) <= GAPS_SHARE:
            return warned(
                f"Ids go up by one but {count_of(len(gaps), 'time')}, the first: {gaps[0][0]}, then {gaps[0][1]}: "
                "what is between them may be lost.",
                "Look for events that are dropped on their way; number only what this stream is sent.",
            )
        return passed(f"{len(ids)} ids, each greater than the one before.")
    return passed(f"{len(ids)} ids, each different.")


def _reserved(case: Case) -> Outcome:
    seen = case.main
    if (closed := _stream(case)) is not None:
        return closed
    names = sorted({message.type for message in seen.messages} & {"error", "open"})
    if names:
        return warned(
            f"Events named {' and '.join(names)}: they collide with EventSource's own signals.",
            "Rename them.",
        )
    return passed("No event is named error or open.")


def _granularity(case: Case) -> Outcome:
    seen = case.main
    if (closed := _stream(case)) is not None:
        return closed
    if not any(block.closed for block in seen.lines.blocks) and not seen.comments:
        return not_applicable("no event ended")
    bursts = [burst for burst in seen.bursts[:-1] if not burst.void]
    if len(bursts) < LEAST_BURSTS:
        return not_applicable(f"{count_of(len(seen.bursts), 'burst')}: too few to tell")
    inside = [burst for burst in bursts if not burst.between_events]
    text = f"{len(inside)} of {len(bursts)} bursts end inside an event"
    if len(inside) / len(bursts) <= INSIDE_SHARE:
        return passed(f"{text}.")
    return warned(
        f"{text}.",
        "Flush once an event, with one write.",
        bytes_at(seen.body, inside[0].end, "the first of them ends here", size=0),
    )


def _after_end(case: Case) -> Outcome:
    seen = case.main
    if (closed := _stream(case)) is not None:
        return closed
    at = terminal_index(case)
    if at is None:
        return not_applicable("no terminal marker was seen")
    later = seen.messages[at + 1 :]
    if not later:
        return passed("Nothing follows the terminal marker.")
    return warned(
        f"{count_of(len(later), 'event')} after the terminal marker: clients have closed by then.",
        "Close after the marker.",
        bytes_at(seen.body, seen.messages[at].end, "behind the marker", size=32),
    )


def terminal_index(case: Case) -> int | None:
    """The first event that ends the stream by its dialect; None when none does, or none is known."""
    found = case.spoken.review.terminal
    if found is not None or case.spoken.terminal not in {None, "none"}:
        return found
    datas = [message.data for message in case.main.messages]
    return datas.index(TERMINAL_DATA) if TERMINAL_DATA in datas else None


WIRE: Final = (
    Check("W01", "UTF-8", _utf8),
    Check("W02", "byte order mark", _bom),
    Check("W03", "line ends", _line_ends),
    Check("W04", "other separators", _separators),
    Check("W05", "last blank line", _final_blank),
    Check("W06", "field names", _names),
    Check("W07", "lost space", _lost_space),
    Check("W08", "blocks without data", _without_data),
    Check("W09", "empty data", _empty_data),
    Check("W10", "event size", _size),
    Check("W11", "JSON", _json),
    Check("W12", "raw line breaks", _newlines),
    Check("W13", "retry", _retry),
    Check("W14", "ids", _ids),
    Check("W15", "order of ids", _id_order),
    Check("W16", "reserved names", _reserved),
    Check("W17", "write granularity", _granularity),
    Check("W18", "after the end", _after_end),
)

"""The misbehaving animals: each has one defect, with the id under which it must be found, and the verdict."""

import gzip
from collections.abc import Sequence
from typing import Final

from tests.loadtests.rawserver import LAST_CHUNK, Connection, chunk
from tests.zoo.endpoints import (
    TOKENS,
    USUAL,
    Endpoint,
    answering,
    done,
    groups_of,
    gzipped,
    is_fresh,
    is_get,
    pieces_of,
    response,
    says,
    stamped,
    takes_gzip,
    token,
    tokens,
    when,
)
from tests.zoo.models import anthropic, chat, responses

PAGE: Final = b"<!doctype html><title>Log in</title>"
TRACE: Final = (
    b'Traceback (most recent call last):\n  File "/srv/app/chat.py", line 12, in answer\nKeyError: 3\n'
)


def body(*changed: bytes, at: int = 5) -> Sequence[bytes]:
    """The usual events with these in the place of one of them."""
    return [*USUAL[:at], *changed, *USUAL[at + 1 :]]


def plain(text: str, number: int, separator: str = " ") -> bytes:
    return f"id: s-{number}\ndata:{separator}{text}\n\n".encode()


def texts(**separators: str) -> Sequence[bytes]:
    """Events of plain text, each behind the space that its number is given."""
    return [
        *(
            plain(f"word{number}", number, separators.get(f"n{number}", " "))
            for number in range(1, TOKENS + 1)
        ),
        done(TOKENS + 1),
    ]


def nameless(events: Sequence[bytes]) -> list[bytes]:
    """Without their ids."""
    return [event.partition(b"\n")[2] for event in events]


def by_members(endpoint: Endpoint, connection: Connection) -> None:
    """Each event compressed by itself: browsers read the first."""
    connection.send(endpoint.head(Content_Encoding="gzip"))
    for event in endpoint.events:
        endpoint.send(connection, gzip.compress(event))
        endpoint.pause(connection, endpoint.pace_s)
    endpoint.end(connection)


def redirect(to: str, count: int) -> object:
    """So many redirects before the stream: /stream, /stream1, …"""

    def answer(endpoint: Endpoint, connection: Connection) -> bool:
        path = connection.request_line.split()[1]
        number = int(path.removeprefix("/stream") or 0)
        if number >= count:
            return False
        location = to.format(port=connection.server.port, next=number + 1)
        says(response("302 Found", b"", Location=location))(endpoint, connection)
        return True

    return answer


def slow_first(endpoint: Endpoint, connection: Connection) -> bool:
    """Only the first request waits: the others would take the same time again."""
    if connection.number > 1:
        return False
    endpoint.pause(connection, 5.6)
    connection.send(endpoint.head())
    endpoint.pause(connection, 0.1)
    endpoint.send_all(connection, endpoint.events)
    endpoint.end(connection)
    return True


def withheld(endpoint: Endpoint, connection: Connection) -> bool:
    if not is_get(connection) or connection.number > 1:
        return False
    endpoint.pause(connection, 1.4)
    connection.send(endpoint.head() + chunk(endpoint.events[0]))
    endpoint.pause(connection, endpoint.pace_s)
    endpoint.send_all(connection, endpoint.events[1:])
    endpoint.end(connection)
    return True


def stalls(endpoint: Endpoint, connection: Connection) -> bool:
    if not is_get(connection) or connection.number > 1:
        return False
    connection.send(endpoint.head())
    endpoint.send_all(connection, endpoint.events[:12])
    endpoint.pause(connection, 1.3)
    endpoint.send_all(connection, endpoint.events[12:])
    endpoint.end(connection)
    return True


def breaks_the_framing(endpoint: Endpoint, connection: Connection) -> bool:
    if not is_fresh(connection):
        return False
    connection.send(endpoint.head())
    endpoint.send_all(connection, endpoint.events[:8])
    connection.send(b"debug: worker 3\r\n")
    connection.until_gone()
    return True


def all_at_once(endpoint: Endpoint, connection: Connection) -> bool:
    if not is_fresh(connection):
        return False
    connection.send(endpoint.head())
    endpoint.pause(connection, 1.0)
    connection.send(chunk(b"".join(endpoint.events)) + LAST_CHUNK)
    connection.until_gone()
    return True


def first_flush(events: Sequence[bytes]) -> Sequence[bytes]:
    return [b"".join(events[:8]), *events[8:]]


def half_events(events: Sequence[bytes]) -> Sequence[bytes]:
    """Every write ends inside an event, and there is one event a write."""
    whole = b"".join(events)
    size = len(events[0])
    return [whole[: size // 2], *(whole[at : at + size] for at in range(size // 2, len(whole), size))]


def timer(endpoint: Endpoint, connection: Connection) -> bool:
    if not is_fresh(connection):
        return False
    stamped(endpoint, connection, [0.04] * 160, lambda made_s: (made_s // 0.3 + 1) * 0.3)
    return True


def one_behind(endpoint: Endpoint, connection: Connection) -> bool:
    """Every event waits for the next one, for a time that varies by more than a busy machine's waking up does."""
    if not is_fresh(connection):
        return False
    distances = [0.02, 0.3, 0.12, 0.25, 0.06] * 6
    moments = [sum(distances[: number + 1]) for number in range(30)]
    following = dict(zip(moments, [*moments[1:], moments[-1] + 0.07], strict=True))
    stamped(
        endpoint,
        connection,
        distances,
        lambda made_s: following[min(following, key=lambda at: abs(at - made_s))],
    )
    return True


def head_fails(endpoint: Endpoint, connection: Connection) -> bool:
    if not connection.request_line.startswith("HEAD "):
        return False
    connection.send(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")
    connection.until_gone()
    return True


def loses_one(endpoint: Endpoint, connection: Connection) -> bool:
    """Every resumed stream begins one event too late."""
    last = connection.header("last-event-id")
    rest = [] if last is None else list(endpoint.rest(last))
    if not is_get(connection) or len(rest) < 3:
        return False
    connection.send(endpoint.head())
    endpoint.send_all(connection, rest[1:])
    endpoint.end(connection)
    return True


def four_places(endpoint: Endpoint, connection: Connection) -> bool:
    """Of all who come after OPTIONS, the last of what is always asked, four are served."""
    del endpoint
    before = [each.number for each in connection.server.connections if each.head.startswith(b"OPTIONS ")]
    if not before or connection.number <= before[0] + 4:
        return False
    connection.until_gone()
    return True


def unknown_id(connection: Connection) -> bool:
    return is_get(connection) and not (connection.header("last-event-id") or "s-").startswith("s-")


def other_path(connection: Connection) -> bool:
    return is_get(connection) and "sseproof-no-such-path" in connection.request_line


def asks_for_anything(connection: Connection) -> bool:
    return is_get(connection) and connection.header("accept") == "*/*"


BIG: Final = "x" * 70_000
HUGE: Final = "x" * 600_000
NDJSON: Final = b'{"response":"a"}\n{"response":"b"}\n{"done":true}\n'

HANDSHAKE: Final = [
    Endpoint(name="500 with a stack trace", expected={"H01": "fail", "S01": "fail"}, answer=answering(response("500 Internal Server Error", TRACE, Content_Type="text/plain"))),
    Endpoint(name="404", expected={"H01": "fail"}, answer=answering(response("404 Not Found", b'{"error":"no such path"}', Content_Type="application/json"))),
    Endpoint(name="a path in the error's text", expected={"H01": "fail", "S01": "warn"}, answer=answering(response("503 Service Unavailable", b"can't open /srv/app/data/model.bin", Content_Type="text/plain"))),
    Endpoint(name="204 at once", expected={"H01": "warn"}, answer=answering(b"HTTP/1.1 204 No Content\r\n\r\n", "GET", "HEAD")),
    Endpoint(name="JSON lines", expected={"H02": "fail"}, answer=answering(response("200 OK", NDJSON, Content_Type="application/x-ndjson"))),
    Endpoint(name="a JSON array", expected={"H02": "fail"}, answer=answering(response("200 OK", b'[{"candidates":[]},\n{"candidates":[]}]', Content_Type="application/json"))),
    Endpoint(name="one JSON document", expected={"H02": "fail"}, answer=answering(response("200 OK", b'{"choices":[]}', Content_Type="application/json"))),
    Endpoint(name="a login page", expected={"H02": "fail"}, answer=answering(response("200 OK", PAGE, Content_Type="text/html"))),
    Endpoint(name="AWS frames", expected={"H02": "fail"}, answer=answering(response("200 OK", b"\0\0\0\x7b\0\0\0\x3e\x0d:message-type\x07\0\5event", Content_Type="application/vnd.amazon.eventstream"))),
    Endpoint(name="SSE called text/plain", expected={"H02": "fail"}, headers={"Content-Type": "text/plain"}),
    Endpoint(name="JSON lines called SSE", expected={"H02": "fail"}, events=[f'{{"response":"w{number}"}}\n'.encode() for number in range(TOKENS)]),
    Endpoint(name="bare text called SSE", expected={"H02": "fail"}, events=[f"word {number}\n".encode() for number in range(TOKENS)]),
    Endpoint(name="another charset", expected={"H03": "warn"}, headers={"Content-Type": "text/event-stream; charset=windows-1252"}),
    Endpoint(name="may be cached", expected={"H04": "fail"}, headers={"Cache-Control": "public, max-age=60, no-transform"}),
    Endpoint(name="out of a cache, by Age", expected={"H04": "fail"}, headers={"Age": "31"}),
    Endpoint(name="out of a cache, by X-Cache", expected={"H04": "fail"}, headers={"X-Cache": "HIT from edge"}),
    Endpoint(name="nothing said about caches", expected={"H04": "warn", "H05": "warn"}, headers={"Cache-Control": None}),
    Endpoint(name="nginx and no X-Accel-Buffering", expected={"H06": "warn"}, headers={"X-Accel-Buffering": None, "Server": "nginx/1.24.0"}),
    Endpoint(name="compressed though nobody asked", expected={"H07": "fail"}, answer=when(is_fresh, gzipped(flush=True))),
    Endpoint(name="compressed when offered, and held back", expected={"H07": "fail", "B06": "fail"}, answer=when(takes_gzip, gzipped(flush=False))),
    Endpoint(name="each event compressed by itself", expected={"H07": "fail"}, answer=when(takes_gzip, by_members)),
    Endpoint(name="two lengths", expected={"H08": "fail"}, headers={"Content-Length": "99"}),
    Endpoint(name="two types", expected={"H02": "fail"}, headers={"Content-Type": "text/event-stream\r\nContent-Type: text/html"}),
    Endpoint(name="201 with the stream", expected={"H01": "fail"}, answer=answering(response("201 Created", b"data: 1\n\n", Content_Type="text/event-stream"))),
    Endpoint(name="a Content-Length", expected={"H08": "fail"}, framing="length", events=chat(), resumes="never"),
    Endpoint(name="HTTP/1.0", expected={"H09": "warn"}, version="1.0", framing="close"),
    Endpoint(name="ends by closing", expected={"H09": "warn"}, framing="close"),
    Endpoint(name="HTTP/1.1 alone over TLS", expected={"H10": "warn"}, tls="private"),
    Endpoint(name="an authority that nobody knows", expected={"H18": "warn"}, tls="unknown"),
    Endpoint(name="three redirects", expected={"H11": "warn"}, answer=redirect("/stream{next}", 3)),
    Endpoint(name="redirects for ever", expected={"H11": "fail", "H01": "fail"}, answer=redirect("/stream{next}", 99)),
    Endpoint(name="redirects a credential to another origin", expected={"H11": "fail"}, answer=redirect("http://localhost:{port}/stream{next}", 1), asks={"headers": {"Authorization": "Bearer zoo-credential"}}),
    Endpoint(name="406 for any type", expected={"H12": "fail"}, answer=when(asks_for_anything, says(response("406 Not Acceptable", b"")))),
    Endpoint(name="HEAD fails", expected={"H13": "warn"}, answer=head_fails),
    Endpoint(name="any origin with credentials", expected={"H14": "fail"}, headers={"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Credentials": "true"}),
    Endpoint(name="a token in the address", expected={"H15": "warn"}, path="/stream?access_token=zoo-token-12345"),
    Endpoint(name="a page for a bad request", expected={"H17": "fail"}, answer=when(other_path, says(response("200 OK", PAGE, Content_Type="text/html"))), asks={"bad_request": True}),
]  # fmt: skip

TIMING: Final = [
    Endpoint(name="headers after 5.6 s", expected={"T01": "fail"}, answer=slow_first),
    Endpoint(name="headers wait for the first event", expected={"T02": "fail"}, answer=withheld),
    Endpoint(name="closed inside the framing", expected={"T08": "fail"}, ending="fin"),
    Endpoint(name="reset", expected={"T08": "fail"}, ending="rst"),
    Endpoint(name="a line of the log in the framing", expected={"T08": "fail"}, answer=breaks_the_framing),
    Endpoint(name="ping as data", expected={"T05": "warn"}, events=body(b"data: ping\n\n", token(6))),
    Endpoint(name="closes a watched stream", expected={"T06": "fail"}, events=tokens(), asks={"idle_s": 3.0}),
    Endpoint(name="a stall", expected={"T09": "warn"}, events=[*tokens(48), done(49)], answer=stalls),
]  # fmt: skip

RESUME: Final = [
    Endpoint(name="the id is ignored", expected={"R01": "fail", "R03": "warn"}, resumes="never"),
    Endpoint(name="begins at now", expected={"R01": "fail"}, resumes="now"),
    Endpoint(name="the event comes again", expected={"R01": "warn"}, resumes="repeats"),
    Endpoint(name="500 for an unknown id", expected={"R02": "fail"}, answer=when(unknown_id, says(response("500 Oops", b"")))),
    Endpoint(name="an empty stream behind the end", expected={"R03": "fail"}, resumes="empty-end"),
    Endpoint(name="an event lost with each cut", expected={"R05": "fail", "R01": "fail"}, answer=loses_one, asks={"resume": True}),
    Endpoint(name="four streams at once", expected={"K01": "fail"}, answer=four_places, asks={"parallel": True}),
]  # fmt: skip

WIRE: Final = [
    Endpoint(name="ill-formed UTF-8", expected={"W01": "fail"}, events=body(token(6).replace(b"6 ", b"\xff\xfe "))),
    Endpoint(name="a text cut by bytes", expected={"W01": "fail"}, events=[*USUAL[:5], b'id: s-6\ndata: {"text":"gr\xc3"}\n\n', b'id: s-7\ndata: {"text":"\xbcn"}\n\n', *USUAL[7:]]),
    Endpoint(name="a byte order mark first", expected={"W02": "warn"}, events=[b"\xef\xbb\xbf" + USUAL[0], *USUAL[1:]]),
    Endpoint(name="a byte order mark later", expected={"W02": "fail"}, events=body(b"\xef\xbb\xbf" + token(6))),
    Endpoint(name="mixed line ends", expected={"W03": "warn"}, events=body(token(6).replace(b"\n", b"\r\n"))),
    Endpoint(name="CR alone", expected={"W03": "warn"}, events=[event.replace(b"\n", b"\r") for event in USUAL]),
    Endpoint(name="U+2028", expected={"W04": "warn"}, events=body(token(6, "a\u2028b"))),
    Endpoint(name="no last blank line", expected={"W05": "fail"}, events=[*nameless(USUAL[:-2]), nameless(USUAL[-2:-1])[0][:-1]]),
    Endpoint(name="line ends written out", expected={"W05": "fail"}, events=[f'data: {{"n":{number}}}\\n\\n'.encode() for number in range(TOKENS)]),
    Endpoint(name="no empty lines, without an end", expected={"W05": "fail"}, events=[event.replace(b"\n\n", b"\n") for event in USUAL], ending="open", asks={"look_s": 1.5}),
    Endpoint(name="empty lines of spaces", expected={"W05": "fail"}, events=[event[:-1] + b" \n" for event in USUAL]),
    Endpoint(name="framed twice", expected={"W12": "fail"}, events=[chunk(event) for event in USUAL]),
    Endpoint(name="an error page amid the stream", expected={"W12": "fail"}, events=[*nameless(USUAL[:9]), b"<html><h1>502 Bad Gateway</h1></html>\n\n"], resumes="never"),
    Endpoint(name="a comment that runs into an event", expected={"W06": "warn"}, events=[*nameless(USUAL[:5]), b": ping " + nameless(USUAL[5:6])[0], *nameless(USUAL[6:])]),
    Endpoint(name="replacement characters", expected={"W01": "warn"}, events=body(token(6, "gr\ufffd\ufffdn"))),
    Endpoint(name="encoded twice", expected={"W01": "warn"}, events=[event.decode("latin-1").encode() for event in USUAL]),
    Endpoint(name="wrapped twice", expected={"W06": "fail"}, events=[f'data: data: {{"n":{number}}}\n\n'.encode() for number in range(TOKENS)]),
    Endpoint(name="Data: in capitals", expected={"W06": "fail"}, events=body(token(6).replace(b"data:", b"Data:"))),
    Endpoint(name="a space before the colon", expected={"W06": "fail"}, events=body(token(6).replace(b"data:", b"data :"))),
    Endpoint(name="an unknown field", expected={"W06": "warn"}, events=body(b"trace: 7\n" + token(6))),
    Endpoint(name="the lost space", expected={"W07": "fail"}, events=texts(n5="", n9="", n11="")),
    Endpoint(name="an event without data", expected={"W08": "warn"}, events=body(token(6), b"event: tick\n\n")),
    Endpoint(name="empty data", expected={"W09": "warn"}, events=body(token(6), b"data:\n\n")),
    Endpoint(name="an event of 70 KB", expected={"W10": "warn"}, events=body(token(6, BIG))),
    Endpoint(name="an event of 600 KB", expected={"W10": "warn"}, events=body(token(6, HUGE))),
    Endpoint(name="half a JSON text", expected={"W11": "fail"}, events=body(b'id: s-6\ndata: {"text":"wor\n\n')),
    Endpoint(name="a raw line break", expected={"W12": "fail"}, events=[*texts()[:5], b"id: s-6\ndata: first line\nsecond line\n\n", *texts()[6:]]),
    Endpoint(name="retry with a unit", expected={"W13": "fail"}, events=[b"retry: 3s\n" + USUAL[0], *USUAL[1:]]),
    Endpoint(name="retry: 0", expected={"W13": "warn"}, events=[b"retry: 0\n" + USUAL[0], *USUAL[1:]]),
    Endpoint(name="a NUL in an id", expected={"W14": "fail"}, events=body(token(6, own="s\0-6"))),
    Endpoint(name="an id that is not ASCII", expected={"W14": "warn"}, events=body(token(6, own="ş-6"))),
    Endpoint(name="an id twice", expected={"W15": "warn"}, events=body(token(6, own="s-5"))),
    Endpoint(name="ids go back", expected={"W15": "warn"}, events=[*USUAL[:5], USUAL[6], USUAL[5], *USUAL[7:]]),
    Endpoint(name="an event named open", expected={"W16": "warn"}, events=[b'id: s-0\nevent: open\ndata: {"text":"hi"}\n\n', *USUAL]),
    Endpoint(name="writes of half events", expected={"W17": "warn"}, writes=half_events, events=[*tokens(29), done(30)]),
    Endpoint(name="more after the end", expected={"W18": "warn"}, events=[*chat(), b'data: {"choices":[]}\n\n'], resumes="never"),
]  # fmt: skip

BUFFERING: Final = [
    Endpoint(name="all at once", expected={"B01": "fail"}, answer=all_at_once),
    Endpoint(name="the edge holds back, the origin does not", expected={"B08": "fail", "B01": "fail"}, answer=all_at_once, origin=Endpoint(name="its origin")),
    Endpoint(name="a buffer of 4096 bytes", expected={"B02": "fail"}, writes=pieces_of(4096), pace_s=0.04, events=[*(token(n, f"{n} " + "lorem ipsum " * 10) for n in range(1, 700)), done(700)]),
    Endpoint(name="a flush timer, with the sender's clock", expected={"B03": "warn"}, answer=timer, events=[*tokens(160), done(161)], pace_s=0.005),
    Endpoint(name="groups at even distances", expected={"B04": "warn"}, writes=groups_of(4), pace_s=0.5, events=[*tokens(179), done(180)], asks={"method": "POST", "look_s": 30.0}),
    Endpoint(name="every event waits for the next", expected={"B05": "fail"}, answer=one_behind),
    Endpoint(name="a first flush of eight", expected={"B07": "warn"}, writes=first_flush, body_s=0.7, events=[*tokens(36), done(37)]),
]  # fmt: skip

DIALECT: Final = [
    Endpoint(name="no end of a chat", expected={"D02": "fail"}, events=chat()[:4], resumes="never"),
    Endpoint(name="a chat without [DONE]", expected={"D02": "warn"}, events=chat()[:-1], resumes="never"),
    Endpoint(name="no message_stop", expected={"D02": "fail"}, events=anthropic()[:-1], resumes="never"),
    Endpoint(name="an error inside a chat", expected={"D03": "fail"}, events=[*chat()[:3], b'data: {"error":{"message":"overloaded","type":"server_error","code":"overloaded"}}\n\n'], resumes="never"),
    Endpoint(name="overloaded inside a message", expected={"D03": "fail"}, events=[*anthropic()[:4], b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'], resumes="never"),
    Endpoint(name="a key in an error's text", expected={"D03": "fail", "S01": "fail"}, events=[*chat()[:3], b'data: {"error":{"message":"bad key sk-zoo0123456789abcdefghij","type":"auth","code":"invalid_api_key"}}\n\n'], resumes="never"),
    Endpoint(name="a block that was not started", expected={"D04": "fail"}, events=[event for event in anthropic() if b"content_block_start" not in event], resumes="never"),
    Endpoint(name="a number is missing", expected={"D05": "fail"}, events=[*responses()[:1], *responses()[2:]], resumes="never"),
    Endpoint(name="a number comes twice", expected={"D05": "fail"}, events=[*responses()[:2], responses()[1], *responses()[2:]], resumes="never"),
    Endpoint(name="the deltas are not the text", expected={"D06": "fail"}, events=[event.replace(b'"text":"Hello there', b'"text":"Hallo there') for event in responses()], resumes="never"),
    Endpoint(name="heartbeats as chat events", expected={"D08": "warn"}, events=[*chat()[:3], b'data: {"type":"ping"}\n\n', *chat()[3:]], resumes="never"),
]  # fmt: skip

DEFECTS: Final = [*HANDSHAKE, *TIMING, *RESUME, *WIRE, *BUFFERING, *DIALECT]

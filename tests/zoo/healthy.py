"""Healthy animals that look odd: whatever else is said of them, no check may fail."""

from collections.abc import Sequence
from typing import Final

from tests.loadtests.rawserver import Connection, chunk
from tests.zoo.endpoints import (
    TOKENS,
    USUAL,
    Endpoint,
    done,
    groups_of,
    gzipped,
    is_get,
    response,
    says,
    takes_gzip,
    token,
    tokens,
    when,
)
from tests.zoo.models import anthropic, chat, gemini, mcp, responses


def comments_first(endpoint: Endpoint, connection: Connection) -> bool:
    """A stream that has nothing to say for a while, and says so."""
    if not is_get(connection) or connection.number > 1:
        return False
    connection.send(endpoint.head())
    for _ in range(8):
        endpoint.send(connection, b": still here\n\n")
        endpoint.pause(connection, 0.25)
    endpoint.send_all(connection, endpoint.events)
    endpoint.end(connection)
    return True


def thinks(endpoint: Endpoint, connection: Connection) -> bool:
    if not is_get(connection) or connection.number > 1:
        return False
    connection.send(endpoint.head())
    endpoint.send(connection, b": ok\n\n")
    endpoint.pause(connection, 4.0)
    endpoint.send_all(connection, endpoint.events)
    endpoint.end(connection)
    return True


def looks_for_news(events: Sequence[bytes]) -> Sequence[bytes]:
    """A service that looks every 100 ms whether there is something to send: three events, or nothing this time."""
    groups = iter(groups_of(3)(events))
    return [
        write for number, group in enumerate(groups) for write in ([group, b""] if number % 3 else [group])
    ]


def inside_characters(events: Sequence[bytes]) -> Sequence[bytes]:
    """Each write ends inside an ö, the next one begins with the rest of it, at once."""
    writes: list[bytes] = []
    for event in events:
        at = event.find("ö".encode())
        writes += [event] if at < 0 else [event[: at + 1], event[at + 1 :]]
    return writes


def split_at_once(endpoint: Endpoint, connection: Connection) -> bool:
    """Two writes an event, the second as soon as the first is sent."""
    if not is_get(connection) or connection.header("last-event-id"):
        return False
    connection.send(endpoint.head())
    for event in endpoint.events:
        for part in inside_characters([event]):
            connection.send(chunk(part))
        endpoint.pause(connection, endpoint.pace_s)
    endpoint.end(connection)
    return True


def early_hints(endpoint: Endpoint, connection: Connection) -> bool:
    if not is_get(connection):
        return False
    connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
    endpoint.stream(connection, connection.header("last-event-id"))
    return True


def odd_chunks(endpoint: Endpoint, connection: Connection) -> bool:
    """Extensions, upper-case sizes with leading zeros, and trailers: all of it legal."""
    if not is_get(connection) or connection.header("last-event-id"):
        return False
    connection.send(endpoint.head())
    for event in endpoint.events:
        connection.send(b"00%X;note=zoo\r\n%b\r\n" % (len(event), event))
        endpoint.pause(connection, endpoint.pace_s)
    connection.send(b"0\r\nX-Checksum: none\r\n\r\n")
    connection.until_gone()
    return True


def moved(endpoint: Endpoint, connection: Connection) -> bool:
    if connection.request_line.split()[1] != "/stream":
        return False
    says(response("308 Permanent Redirect", b"", Location="/v2/stream"))(endpoint, connection)
    return True


def trickle(events: Sequence[bytes]) -> Sequence[bytes]:
    """Bytes in pieces of seven: a slow link that cuts anywhere."""
    whole = b"".join(events)
    return [whole[at : at + 7] for at in range(0, len(whole), 7)]


def mcp_server(endpoint: Endpoint, connection: Connection) -> bool:
    """POST begins a stream, GET with Last-Event-ID takes it up again, and nothing else is served."""
    posted = connection.request_line.startswith("POST ")
    both = connection.header("accept") == "application/json, text/event-stream"
    if posted == (connection.header("last-event-id") is None) and (both or not posted):
        return False
    says(response("405 Method Not Allowed", b""))(endpoint, connection)
    return True


MULTILINE: Final = [
    *(
        f"id: s-{number}\ndata: line {number}\ndata:\ndata: another\n\n".encode()
        for number in range(1, TOKENS + 1)
    ),
    done(TOKENS + 1),
]
LARGE: Final = [
    *tokens(3),
    *(token(number, f"{number}" + "lorem " * 34_000) for number in range(4, 8)),
    *tokens(12)[7:],
    done(13),
]
MIXED_KINDS: Final = [
    b"retry: 2000\n\n",
    *(
        event
        for number in range(1, 9)
        for event in (token(number), b": beat\n\n", b'event: ping\ndata: {"n":1}\n\n')
    ),
    done(9),
]

ONE_LINE_BEATS: Final = [
    b'event: put\ndata: {"flags":{}}\n\n',
    *(
        part
        for number in range(12)
        for part in (b":\n", f'event: patch\ndata: {{"v":{number}}}\n\n'.encode())
    ),
    b"event: done\ndata: {}\n\n",
]
"""As LaunchDarkly does it: a heartbeat has no blank line of its own."""

HEALTHY: Final = [
    Endpoint(name="the usual"),
    Endpoint(name="CR LF", events=[event.replace(b"\n", b"\r\n") for event in USUAL]),
    Endpoint(name="comments alone for 2 s", answer=comments_first),
    Endpoint(name="grouped tokens, at uneven distances", writes=groups_of(5), events=[*tokens(49), done(50)], pace_s=0.06),
    Endpoint(name="writes cut inside characters", answer=split_at_once),
    Endpoint(name="groups at ticks of the service's own", writes=looks_for_news, pace_s=0.1, events=[*tokens(77), done(78)]),
    Endpoint(name="events of 200 KB", events=LARGE),
    Endpoint(name="4 s of thinking", answer=thinks),
    Endpoint(name="a jittery link", through="jitter"),
    Endpoint(name="a link that cuts anywhere", writes=trickle, pace_s=0.001, events=[*tokens(8), done(9)]),
    Endpoint(name="an endless feed", ending="open", events=tokens(400), pace_s=0.05, asks={"look_s": 2.0}),
    Endpoint(name="three events", events=[token(1), token(2), done(3)]),
    Endpoint(name="texts of several lines", events=MULTILINE),
    Endpoint(name="heartbeats of two kinds, a retry, a ping", events=MIXED_KINDS),
    Endpoint(name="heartbeats of one line", events=ONE_LINE_BEATS, resumes="never"),
    Endpoint(name="a router's comments before a chat", events=[b": OPENROUTER PROCESSING\n\n"] * 3 + chat(), resumes="never"),
    Endpoint(name="no ids", events=[event.split(b"\n", 1)[1] for event in USUAL]),
    Endpoint(name="compressed when offered, flushed each event", answer=when(takes_gzip, gzipped(flush=True))),
    Endpoint(name="103 before 200", answer=early_hints),
    Endpoint(name="chunk extensions and trailers", answer=odd_chunks),
    Endpoint(name="other cases in the head", headers={"Content-Type": None, "content-type": "TEXT/Event-Stream;charset=UTF-8"}),
    Endpoint(name="one redirect", answer=moved),
    Endpoint(name="OpenAI chat completions", events=chat(), resumes="never"),
    Endpoint(name="OpenAI Responses", events=responses(), resumes="never"),
    Endpoint(name="Anthropic messages", events=anthropic(), resumes="never"),
    Endpoint(name="Gemini", events=gemini(), resumes="never"),
    Endpoint(name="MCP, a stream to listen to", events=mcp()),
    Endpoint(name="MCP, asked by POST, resumed by GET", events=mcp(), answer=mcp_server, asks={"method": "POST", "body": '{"jsonrpc":"2.0","id":1,"method":"tools/call"}', "dialect": "mcp"}),
    Endpoint(name="MCP of a version that can't resume", events=mcp(), resumes="never", asks={"method": "POST", "body": '{"jsonrpc":"2.0","id":1,"method":"tools/call"}', "dialect": "mcp", "headers": {"MCP-Protocol-Version": "2026-07-28"}, "resume": True}),
]  # fmt: skip

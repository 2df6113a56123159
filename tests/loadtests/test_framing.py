"""HTTP/1.1 answers read with offsets: whole, byte by byte, and broken."""

import ssl
import sys
import time
import zlib

import brotli
import pytest
import trustme

from sseproof.loadtests.certificate import certificate_names
from sseproof.loadtests.content import DECODED_LIMIT_BYTES, MEMBERS_LIMIT, Decoded
from sseproof.loadtests.framing import HEAD_LIMIT_BYTES, ResponseReader, is_event_stream

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

WHOLE = {
    "chunked": (CHUNKED + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", b"abcde", "chunked", True, ""),
    "trailers": (CHUNKED + b"1\r\na\r\n0\r\nX: y\r\n\r\n", b"a", "chunked", True, ""),
    "bare line feeds": (CHUNKED.replace(b"\r", b"") + b"1\na\n0\n\n", b"a", "chunked", True, ""),
    "length": (HEAD + b"Content-Length: 4\r\n\r\nabcdef", b"abcd", "length", True, ""),
    "length 0": (HEAD + b"Content-Length: 0\r\n\r\n", b"", "length", True, ""),
    "close": (HEAD + b"\r\nabc", b"abc", "close", False, ""),
    "interim": (
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + CHUNKED + b"0\r\n\r\n",
        b"",
        "chunked",
        True,
        "",
    ),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b"", "none", True, ""),
    "unfinished": (CHUNKED + b"5\r\nab", b"ab", "chunked", False, ""),
    "a chunk without a size": (
        CHUNKED + b"1\r\na\r\nhello\r\n",
        b"a",
        "chunked",
        False,
        "begin with its size",
    ),
    "a signed size": (CHUNKED + b"+1\r\na\r\n", b"", "chunked", False, "begin with its size"),
    "a chunk too long": (CHUNKED + b"1\r\nabc\r\n", b"a", "chunked", False, "longer than it says"),
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n", b"", "none", False, "does not begin with HTTP/"),
    "HTTP/2": (b"\0\0\x12\x04\0\0\0\0\0\0", b"", "none", False, "HTTP/2 frames"),
    "no status": (b"HTTP/1.1 OK\r\n\r\n", b"", "none", False, "status line"),
    "a length in words": (HEAD + b"Content-Length: many\r\n\r\n", b"", "none", False, "not a number"),
    "an endless head": (HEAD + b"X: " + b"y" * HEAD_LIMIT_BYTES, b"", "none", False, "longer than 64 KiB"),
    "an endless chunk line": (CHUNKED + b"1;" + b"y" * 2_000, b"", "chunked", False, "does not end"),
    "long interim answers": (
        (b"HTTP/1.1 103 Early Hints\r\nLink: " + b"y" * 20_000 + b"\r\n\r\n") * 4 + CHUNKED,
        b"",
        "none",
        False,
        "longer than 64 KiB",
    ),
    "endless interim": (b"HTTP/1.1 100 Continue\r\n\r\n" * 30, b"", "none", False, "after the other"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_cuts_change_nothing(name: str) -> None:
    data, body, framing, complete, broken = WHOLE[name]
    for step in (len(data), 1, 3) if len(data) < 10_000 else (len(data), 4_096):
        reader = ResponseReader()
        for at in range(0, len(data), step):
            reader.feed(data[at : at + step])
        assert (reader.body(), reader.framing, reader.complete) == (body, framing, complete)
        assert broken in reader.broken
        assert bool(reader.broken) == bool(broken)
        assert reader.received == data


def test_body_offsets_follow_the_received_bytes() -> None:
    data = CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    reader = ResponseReader()
    reader.feed(data)
    wanted = 0
    spans = {
        *range(data.index(b"abc"), data.index(b"abc") + 3),
        *range(data.index(b"de\r"), data.index(b"de\r") + 2),
    }
    for received in range(len(data) + 1):
        assert reader.body_offset(received) == wanted
        wanted += received in spans


def test_closing_completes_only_what_ends_so() -> None:
    reader = ResponseReader()
    reader.feed(HEAD + b"\r\nabc")
    reader.close()
    assert reader.complete
    reader = ResponseReader()
    reader.feed(CHUNKED + b"5\r\nab")
    reader.close()
    assert not reader.complete


def test_an_answer_to_head_has_no_body_and_what_follows_is_nobodys() -> None:
    reader = ResponseReader("HEAD")
    reader.feed(HEAD + b"Content-Length: 4\r\n\r\n")
    assert reader.complete
    reader = ResponseReader()
    reader.feed(HEAD + b"Content-Length: 2\r\n\r\nabcde")
    assert reader.trailing_bytes == 3


def test_headers_are_joined_and_folded() -> None:
    reader = ResponseReader()
    reader.feed(b"HTTP/1.1 200 OK\r\nA: 1\r\na: 2\r\nB: x\r\n  y\r\n\r\n")
    assert reader.head is not None
    assert (reader.head.get("a"), reader.head.get("b"), reader.head.get("c")) == ("1, 2", "x y", None)


def test_the_type_is_compared_by_its_essence() -> None:
    assert is_event_stream("TEXT/Event-Stream;charset=x")
    assert not is_event_stream("text/event-streamx")


def test_content_codings() -> None:
    squeeze = zlib.compressobj(wbits=31)
    parts = [
        squeeze.compress(b"abc") + squeeze.flush(zlib.Z_SYNC_FLUSH),
        squeeze.compress(b"de") + squeeze.flush(),
    ]
    decoded = Decoded("gzip", parts)
    assert (bytes(decoded.data), decoded.sizes, decoded.problem, decoded.whole) == (
        b"abcde",
        [3, 5],
        "",
        True,
    )
    assert Decoded("identity", [b"ab"]).coding == ""
    unknown = Decoded("gzip, br", [b"ab"])
    assert (unknown.problem, unknown.damaged) == ("Content-Encoding gzip, br can't be read here", False)
    hostile = Decoded("\u202e\x1b[2J" + "x" * 9_000, [b"ab"]).problem
    assert hostile.isprintable()
    assert len(hostile) < 120


TEXT = 'data: {"text": "نجاح 100٪"}\n\n'.encode() * 9


def coded(coding: str, data: bytes) -> bytes:
    if coding == "br":
        return bytes(brotli.compress(data))
    if coding == "zstd":
        return zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1})
    squeeze = zlib.compressobj(wbits={"gzip": 31, "deflate": 15, "bare deflate": -15}[coding])
    return squeeze.compress(data) + squeeze.flush()


@pytest.mark.parametrize("coding", ["gzip", "deflate", "bare deflate", "br", "zstd"])
def test_each_coding_comes_in_any_parts_bounded_and_says_what_is_damaged(coding: str) -> None:
    name = coding.rsplit(maxsplit=1)[-1]
    whole = coded(coding, TEXT)
    for step in (1, 2, 7, len(whole)):
        decoded = Decoded(name, [whole[at : at + step] for at in range(0, len(whole), step)])
        assert (bytes(decoded.data), decoded.problem, decoded.whole) == (TEXT, "", True)
    cut = Decoded(name, [whole[:-4]])
    assert (cut.problem, cut.damaged, cut.whole) == ("", False, False)
    assert TEXT.startswith(cut.data)
    for parts in ([whole, b"behind", b"it"], [whole + b"behind", b"it"], [whole[:9], whole[9:] + b"\0" * 99]):
        behind = Decoded(name, parts)
        assert bytes(behind.data) == TEXT
        # As Chromium and Firefox do: they take what lies behind a zstd frame for another one, else leave it out.
        assert (behind.damaged, behind.whole) == ((True, False) if coding == "zstd" else (False, True))
    for bad in (b"\xff" * 90, whole[:12] + b"\xff" * 90 + whole[102:]):
        if coding == "bare deflate" and bad.startswith(whole[:4]):
            continue  # which has no check sum
        damaged = Decoded(name, [bad, whole])
        assert damaged.damaged
        assert damaged.problem.startswith("the compressed body is damaged (")
    joined = Decoded(name, [whole[:5], whole[5:] + whole + whole])
    many, further = {"gzip": (3, 2), "zstd": (3, 0)}.get(coding, (1, 0))
    assert (bytes(joined.data), joined.further_bytes) == (TEXT * many, len(TEXT) * further)
    bomb = Decoded(name, [coded(coding, bytes(2 * DECODED_LIMIT_BYTES))])
    assert (bomb.problem, bomb.damaged) == ("more than 4 MiB after decompression", False)
    assert DECODED_LIMIT_BYTES <= len(bomb.data) <= DECODED_LIMIT_BYTES + 131_072


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_body_of_many_members_takes_time_by_its_size_and_is_bounded(coding: str) -> None:
    member = coded(coding, b"a")

    def spent_s(count: int) -> float:
        whole = member * count
        began_s = time.process_time()
        assert len(Decoded(coding, [whole]).data) == count
        return time.process_time() - began_s

    few, many = (min(spent_s(count) for _ in range(3)) for count in (1_000, 19_000))
    assert many < 5 * 19 * few  # with a copy of the rest for each member it is 240 times
    endless = Decoded(coding, [member * (MEMBERS_LIMIT + 9)])
    assert (len(endless.data), endless.problem) == (MEMBERS_LIMIT, "more than 20,000 compressed members")


def test_a_zstd_window_that_browsers_refuse_is_refused() -> None:
    """RFC 9659: 8 MiB; the frame itself may ask for gigabytes."""
    for log, damaged in ((23, False), (24, True)):
        options = {zstd.CompressionParameter.window_log: log, zstd.CompressionParameter.content_size_flag: 0}
        packer = zstd.ZstdCompressor(options=options)
        whole = packer.compress(TEXT, packer.FLUSH_BLOCK) + packer.flush()
        decoded = Decoded("zstd", [whole])
        assert (decoded.damaged, bytes(decoded.data)) == (damaged, b"" if damaged else TEXT)


def test_a_certificate_names_subject_and_issuer() -> None:
    authority = trustme.CA(organization_name="Corp Ängström", organization_unit_name="u")
    leaf = authority.issue_cert("chat.example", common_name="chat.example")
    der = ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())
    names = certificate_names(der)
    assert "Corp Ängström" in names.issuer
    assert "chat.example" in names.subject
    assert names.not_after.endswith("Z")
    for size in range(0, len(der), 7):
        certificate_names(der[:size])  # cut anywhere: no names, no error

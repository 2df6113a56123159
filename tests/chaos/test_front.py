"""The port before several proxies: who is drawn where, and that what passes is what came, ends included."""

import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from sseproof.chaos.front import WAITING_BYTES, Front
from sseproof.chaos.processes import PortLease
from sseproof.rundir.errors import RigError, UsageError
from sseproof.rundir.groups import GroupRule, GroupShare, group_of
from sseproof.rundir.rows import AddressPlan
from tests.chaos.wire import REQUEST, Upstream, at_once, connect, fetch, listen_to

RULE = GroupRule(seed=3, block=10, shares=(GroupShare("a", 3), GroupShare("b", 7)))
ABORT = struct.pack("ii", 1, 0)


def place(upstream: Upstream | int, group: str) -> AddressPlan:
    port = upstream if isinstance(upstream, int) else int(upstream.place.rpartition(":")[2])
    return AddressPlan(host="127.0.0.1", port=port, group=group)


@pytest.fixture
def port() -> Iterator[int]:
    with PortLease(1) as lease:
        yield lease.ports[0]


def one(port: int, upstream: Upstream | int) -> Front:
    return Front(
        "127.0.0.1", port, GroupRule(seed=1, block=1, shares=(GroupShare("a", 1),)), [place(upstream, "a")]
    )


def test_the_seed_draws_each_connection_by_its_number(port: int) -> None:
    with Upstream(at_once(b"from a")) as a, Upstream(at_once(b"from b")) as b:
        front = Front("127.0.0.1", port, RULE, [place(a, "a"), place(b, "b")])
        heard = [fetch(port).data for _ in range(20)]
        front.close()
    assert heard == [b"from " + group_of(RULE, number).encode() for number in range(20)]
    assert front.counts == Counter(a=6, b=14)
    with pytest.raises(ConnectionRefusedError):
        connect(port)


def test_a_group_of_several_proxies_takes_them_in_turn(port: int) -> None:
    rule = GroupRule(seed=1, block=1, shares=(GroupShare("a", 1),))
    with Upstream(at_once(b"1")) as one_, Upstream(at_once(b"2")) as two:
        front = Front("127.0.0.1", port, rule, [place(one_, "a"), place(two, "a")])
        assert [fetch(port).data for _ in range(4)] == [b"1", b"2", b"1", b"2"]
        front.close()


def test_much_passes_whole_both_ways_and_no_more_waits_than_may(port: int) -> None:
    """The client reads nothing until the service can write no more; then everything is there."""
    whole = bytes(range(256)) * 80_000
    sent = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.settimeout(1)
        left = memoryview(whole)
        while left:
            try:
                left = left[connection.send(left) :]
            except TimeoutError:
                sent.set()  # everything between the two is full
                connection.settimeout(20)

    with Upstream(serve) as upstream:
        front = one(port, upstream)
        client = connect(port)
        client.sendall(REQUEST)
        assert sent.wait(20), "20 MB never fitted in between"
        waiting = [len(each.data.waiting) for each in front._selector.get_map().values() if each.data]
        assert 0 < max(waiting) < 2 * WAITING_BYTES
        got = bytearray()
        while data := client.recv(1 << 20):
            got += data
        assert bytes(got) == whole
        client.close()
        front.close()


@pytest.mark.parametrize("count", [0, 900, 200_000])
def test_a_reset_comes_behind_what_was_before_it(port: int, count: int) -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(b"x" * count)
        while _unsent(connection):
            pass
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)

    with Upstream(serve) as upstream:
        front = one(port, upstream)
        for _ in range(5):
            heard = fetch(port)
            assert (len(heard.data), heard.end) == (count, "rst")
        front.close()


def test_a_reset_waits_for_a_client_that_reads_late(port: int) -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(b"x" * 200_000)
        while _unsent(connection):
            pass
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)

    with Upstream(serve) as upstream, socket.socket() as client:
        front = one(port, upstream)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.settimeout(20)
        client.connect(("127.0.0.1", port))
        client.sendall(REQUEST)
        while not front._resetting:
            assert client.recv(1, socket.MSG_PEEK)
        heard = listen_to(client, b"")
        assert (len(heard.data), heard.end) == (200_000, "rst")
        front.close()


def _unsent(connection: socket.socket) -> int:
    """Bytes that the other side has not acknowledged."""
    import fcntl
    import termios

    return int(struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, b"\0" * 4))[0])


def test_a_client_that_resets_is_a_reset_to_the_service(port: int) -> None:
    ended: list[str] = []
    over = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"first")
        try:
            ended.append("fin" if not connection.recv(1) else "data")
        except ConnectionResetError:
            ended.append("rst")
        over.set()

    with Upstream(serve) as upstream:
        front = one(port, upstream)
        client = connect(port)
        client.sendall(REQUEST)
        assert client.recv(5) == b"first"
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        client.close()
        assert over.wait(20)
        front.close()
    assert ended == ["rst"]


def test_a_client_that_has_said_all_still_hears_the_answer(port: int) -> None:
    def serve(connection: socket.socket) -> None:
        assert connection.recv(1) == b""
        connection.sendall(b"late answer")

    with Upstream(serve) as upstream:
        front = one(port, upstream)
        client = connect(port)
        client.sendall(REQUEST)
        client.shutdown(socket.SHUT_WR)
        got = b""
        while data := client.recv(100):
            got += data
        client.close()
        front.close()
    assert got == b"late answer"


def first_byte(port: int) -> bytes:
    """None after a FIN. A reset may come before connect() itself is over."""
    with connect(port) as client:
        client.sendall(REQUEST)
        return client.recv(1)


def test_nobody_behind_is_a_reset_at_once(port: int) -> None:
    with PortLease(1) as lease:
        front = one(port, lease.ports[0])
        for _ in range(5):
            with pytest.raises(ConnectionResetError):
                first_byte(port)
        front.close()


def test_a_port_that_somebody_has_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(RigError, match=rf"Port {number} of 127\.0\.0\.1 can't be had"):
            one(number, 1)


def test_an_address_that_is_not_of_this_machine_is_the_plan_s() -> None:
    with pytest.raises(UsageError, match=r"of 192\.0\.2\.7 can't be had"):
        Front("192.0.2.7", 0, RULE, [])
    with pytest.raises(UsageError, match=r"of 192\.0\.2\.7 can't be had .* an address of this machine"):
        PortLease.of([9000], "192.0.2.7")

"""A worker on another machine with something odd about it, for tests: `python odd_worker.py ODD[,ODD] LOCUST_OPTION…`.

- `ahead=MS`: its clock is ahead. No namespace covers CLOCK_REALTIME, so every reading that a worker takes of it is shifted
  before anything of ours is imported: time.time, time.time_ns and the kernel's receive stamps, which are on that clock too.
- `twice`: each batch of rows goes out twice, as after an acknowledgement that got lost.
"""

# locust comes first: gevent must patch before anything imports ssl.
import locust.main

# isort: split
import struct
import sys
import time

NS_PER_S = 1_000_000_000


def run_ahead(ms: int) -> None:
    ahead_ns = ms * 1_000_000
    true_time, true_time_ns = time.time, time.time_ns
    time.time = lambda: true_time() + ahead_ns / NS_PER_S
    time.time_ns = lambda: true_time_ns() + ahead_ns
    from sseproof.loadtests import kernel_stamps

    timespec = struct.Struct("qq").unpack_from

    def ahead_stamp(content: bytes) -> tuple[int, int]:
        seconds, nanoseconds = timespec(content)
        return divmod(seconds * NS_PER_S + nanoseconds + ahead_ns, NS_PER_S)

    kernel_stamps.unpack_stamp = ahead_stamp


def send_twice() -> None:
    from sseproof.loadtests import remote

    once = remote.Membership._send

    def send(self: remote.Membership, name: str, message: object) -> bool:
        if name == remote.BATCH:
            once(self, name, message)
        return once(self, name, message)

    remote.Membership._send = send


def main() -> None:
    odd = dict(each.partition("=")[::2] for each in sys.argv.pop(1).split(","))
    assert set(odd) <= {"ahead", "twice"}, odd
    if "ahead" in odd:
        run_ahead(int(odd["ahead"]))
    if "twice" in odd:
        send_twice()
    locust.main.main()


if __name__ == "__main__":
    main()

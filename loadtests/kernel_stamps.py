"""Kernel receive stamps (SO_TIMESTAMPING, Linux): asked for on a socket, read off an ancillary message.

Rules (design.md decision 3, measurement.md 2.3):
- A read's stamp is the arrival of the last byte that the read returned, on CLOCK_REALTIME.
- The first packets after the option is first used on a machine can come unstamped: one stamped socket stays open.
"""

import _socket
import struct
import sys
from typing import Final

SO_TIMESTAMPING: Final = 37
STAMP_FLAGS: Final = (1 << 3) | (1 << 4)
"""RX_SOFTWARE makes the stamp, SOFTWARE reports it."""
STAMPING: Final = sys.platform.startswith("linux")
ANCILLARY_BYTES: Final = 128
unpack_stamp: Final = struct.Struct("qq").unpack_from
"""Seconds and nanoseconds of the first timespec of the ancillary message."""
unpack_stamps: Final = struct.Struct("qq32x").iter_unpack
"""The same of several messages one behind the other, each of STAMP_BYTES: three timespecs."""
STAMP_BYTES: Final = 48

_warm: list[int] = []


def warm_stamps() -> None:
    """Opens the process's one idle stamped socket; harmless when it is open. It lasts as long as the process."""
    if _warm or not STAMPING:
        return
    warm = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    stamp_socket(warm)
    _warm.append(warm.detach())


def stamp_socket(sock: _socket.socket) -> None:
    """Asks the kernel for a receive stamp with every read, where there is such a thing."""
    if STAMPING:
        sock.setsockopt(_socket.SOL_SOCKET, SO_TIMESTAMPING, STAMP_FLAGS)

"""TCP_INFO: the figures of one connection that the engine looks at (struct tcp_info, include/uapi/linux/tcp.h)."""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

_SIZE = 156
_FIELDS = struct.Struct("=B4xBBx16xI40xI48xQQIIIII")
"""The fields of TcpInfo, in its order."""

OPTION_TIMESTAMPS = 1
OPTION_SACK = 2
OPTION_WINDOW_SCALE = 4
OPTION_MICROSECONDS = 64


class TcpInfo(NamedTuple):
    """A connection's figures at one moment."""

    state: int
    options: int
    """TCPI_OPT_* bits: what was negotiated."""
    wscale: int
    """Low four bits: the peer's (snd_wscale); high four: ours."""
    unacked: int
    """Segments sent and not acknowledged."""
    rtt: int
    """Smoothed round trip in microseconds; 0 before the first measurement."""
    bytes_acked: int
    bytes_received: int
    segs_out: int
    segs_in: int
    notsent: int
    """Bytes in the send queue that were never sent."""
    min_rtt: int
    data_segs_in: int

    @property
    def counters(self) -> tuple[int, int]:
        """What changes when anything new is acknowledged or received."""
        return self.bytes_acked, self.bytes_received


def read(connection: socket.socket) -> TcpInfo:
    """Read the figures of `connection`; OSError when it is no TCP socket."""
    return TcpInfo(*_FIELDS.unpack_from(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE)))

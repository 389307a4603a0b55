"""Our own TCP segments without data: the acknowledgements that announce a window, and probes that must be answered.

Sent through raw sockets with a header of our own, so that source address, sequence numbers and window are exactly
those of the connection. They pass the namespace's output hooks like any segment of the kernel.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from typing import NamedTuple

from podferry import errors
from podferry.tcp import four_tuple

_ACK = 0x10
_TCP = struct.Struct("!HHIIBBHHH")
_TIMESTAMPS = struct.Struct("!BBBBII")
_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_IPV6_HDRINCL = 36
_TTL = 64


class Segment(NamedTuple):
    """An acknowledgement without data (RFC 9293, section 3.1)."""

    four_tuple: four_tuple.FourTuple
    seq: int
    ack: int
    window: int
    """As it stands in the header: already scaled, at most 65535."""
    ts_val: int | None
    """None: the connection carries no timestamps."""
    ts_ecr: int = 0
    """0: no timestamp to echo, as in the kernel's own segments until the peer's first arrives after a rebuild."""


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of `data`, whose length is even and which is not all zero."""
    return 0xFFFF - (int.from_bytes(data) % 0xFFFF or 0xFFFF)


def encode(segment: Segment) -> bytes:
    """Return the IP packet of `segment`."""
    local, local_port, peer, peer_port = segment.four_tuple.wire
    options = b"" if segment.ts_val is None else _TIMESTAMPS.pack(1, 1, 8, 10, segment.ts_val, segment.ts_ecr)
    length = _TCP.size + len(options)
    fields = (local_port, peer_port, segment.seq, segment.ack, length << 2, _ACK, segment.window)
    total = checksum(local + peer + struct.pack("!HH", socket.IPPROTO_TCP, length) + _TCP.pack(*fields, 0, 0) + options)
    tcp = _TCP.pack(*fields, total, 0) + options
    if len(local) == 4:  # the kernel fills in total length, id and header checksum
        return _IPV4.pack(0x45, 0, 20 + length, 0, 0x4000, _TTL, socket.IPPROTO_TCP, 0, local, peer) + tcp
    return _IPV6.pack(6 << 28, length, socket.IPPROTO_TCP, _TTL, local, peer) + tcp


class Sender:
    """Raw sockets of one network namespace; made in a thread that stands in it."""

    def __init__(self) -> None:
        try:
            self._ipv4 = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        except OSError as error:
            raise errors.Permanent(f"cannot open a raw socket: {error}", reason="NoRawSocket") from error
        self._ipv6: socket.socket | None = None
        with contextlib.suppress(OSError):  # a kernel without IPv6 has no IPv6 connections either
            self._ipv6 = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
            self._ipv6.setsockopt(socket.IPPROTO_IPV6, _IPV6_HDRINCL, 1)

    def send(self, segment: Segment) -> None:
        """Send one segment; a full queue or a missing route loses it, as the network might.

        Whoever needs an effect repeats until it shows.
        """
        peer = segment.four_tuple.wire.peer
        try:
            if len(peer) == 4:
                self._ipv4.sendto(encode(segment), (socket.inet_ntoa(peer), 0))
            elif self._ipv6 is not None:
                self._ipv6.sendto(encode(segment), (socket.inet_ntop(socket.AF_INET6, peer), 0))
        except OSError as error:
            if error.errno in {errno.EBADF, errno.EINVAL, errno.EMSGSIZE}:
                raise errors.Permanent(f"cannot send {segment}: {error}", reason="SegmentRefused") from error

    def close(self) -> None:
        """Close the sockets."""
        self._ipv4.close()
        if self._ipv6 is not None:
            self._ipv6.close()

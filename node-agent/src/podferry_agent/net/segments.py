"""Our own TCP segments without data: the acknowledgements that announce a window, and probes that must be answered.

Sent through raw sockets with headers of our own, so that source address, sequence numbers and window are exactly those
of the connection. They pass the namespace's output hooks like any segment of the kernel.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct

from podferry import errors
from podferry.tcp import four_tuple

ACK, FIN = 0x10, 0x01
_TCP = struct.Struct("!HHIIBBHHH")
_TCP_TIMESTAMPS = struct.Struct("!HHIIBBHHHIII")
_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_IPV6_HDRINCL = 36
_TTL = 64
_TIMESTAMPS = 0x0101080A
"""Two NOPs, then kind and length of the timestamps option (RFC 7323, appendix A)."""


def word_sum(data: bytes) -> int:
    """Return the ones' complement sum (RFC 1071) of `data`, whose length is even, up to multiples of 0xFFFF."""
    return int.from_bytes(data) % 0xFFFF


def checksum(total: int) -> int:
    """Return the Internet checksum for a sum of 16-bit words that is not zero."""
    return 0xFFFF - (total % 0xFFFF or 0xFFFF)


class Flow:
    """Makes the segments of one connection; what is the same in all of them is computed once."""

    __slots__ = ("_family", "_header", "_ports", "_sum", "_timestamps", "address")

    def __init__(self, where: four_tuple.FourTuple, *, timestamps: bool) -> None:
        """Prepare for segments from `where.local` to `where.peer`."""
        local, local_port, peer, peer_port = where.wire
        self._family = socket.AF_INET if len(peer) == 4 else socket.AF_INET6
        self._timestamps = timestamps
        self._ports = local_port, peer_port
        length = _TCP_TIMESTAMPS.size if timestamps else _TCP.size
        self._sum = word_sum(local + peer) + socket.IPPROTO_TCP + length + local_port + peer_port + (length << 10)
        if self._family == socket.AF_INET:  # the kernel fills in total length, id and header checksum
            self._header = _IPV4.pack(0x45, 0, 0, 0, 0x4000, _TTL, socket.IPPROTO_TCP, 0, local, peer)
        else:
            self._header = _IPV6.pack(6 << 28, length, socket.IPPROTO_TCP, _TTL, local, peer)
        if timestamps:
            self._sum += word_sum(_TIMESTAMPS.to_bytes(4))
        self.address = (socket.inet_ntop(self._family, peer), 0)

    @property
    def ipv6(self) -> bool:
        """Whether its packets are IPv6."""
        return self._family == socket.AF_INET6

    def segment(self, seq: int, ack: int, window: int, ts_val: int, flags: int = ACK) -> bytes:
        """Return an IP packet with a segment without data (RFC 9293, section 3.1).

        `window` stands in the header as given: scaled already, at most 65535. TSecr is 0, "none", as in the kernel's
        own segments until the peer's first arrives after a rebuild; without timestamps `ts_val` is ignored.
        """
        total = self._sum + flags + (seq >> 16) + (seq & 0xFFFF) + (ack >> 16) + (ack & 0xFFFF) + window
        ports = self._ports
        if self._timestamps:
            total = checksum(total + (ts_val >> 16) + (ts_val & 0xFFFF))
            tcp = _TCP_TIMESTAMPS.pack(*ports, seq, ack, 0x80, flags, window, total, 0, _TIMESTAMPS, ts_val, 0)
        else:
            tcp = _TCP.pack(*ports, seq, ack, 0x50, flags, window, checksum(total), 0)
        return self._header + tcp


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

    def send(self, flow: Flow, packet: bytes) -> None:
        """Send one packet of `flow`; a full queue or a missing route loses it, as the network might.

        Whoever needs an effect repeats until it shows.
        """
        try:
            if not flow.ipv6:
                self._ipv4.sendto(packet, flow.address)
            elif self._ipv6 is not None:
                self._ipv6.sendto(packet, flow.address)
        except OSError as error:
            if error.errno in {errno.EBADF, errno.EINVAL, errno.EMSGSIZE}:
                raise errors.Permanent(f"cannot send to {flow.address}: {error}", reason="SegmentRefused") from error

    def close(self) -> None:
        """Close the sockets."""
        self._ipv4.close()
        if self._ipv6 is not None:
            self._ipv6.close()

"""The four-tuple: what names a connection on the wire, for IPv4 and IPv6 alike."""

from __future__ import annotations

import ipaddress
import socket
from typing import NamedTuple

_MAPPED = bytes(10) + b"\xff\xff"
_LOOPBACK = bytes(15) + b"\x01"


def unmapped(address: bytes) -> bytes:
    """Return the 4 bytes inside an IPv4-mapped IPv6 address, any other address unchanged."""
    return address[12:] if len(address) == 16 and address.startswith(_MAPPED) else address


def endpoint(address: bytes, port: int) -> str:
    """Return "10.0.0.1:80" or "[fd00::1]:80"."""
    ip = ipaddress.ip_address(unmapped(address))
    return f"{ip}:{port}" if ip.version == 4 else f"[{ip}]:{port}"


class FourTuple(NamedTuple):
    """Local and peer address and port, as the socket has them.

    Addresses are 4 or 16 bytes in network order, both alike. An IPv6 socket that talks IPv4 has mapped addresses here
    (its own view); `wire` is what its packets carry.
    """

    local: bytes
    local_port: int
    peer: bytes
    peer_port: int

    @property
    def family(self) -> int:
        """The socket's family: AF_INET or AF_INET6."""
        return socket.AF_INET if len(self.local) == 4 else socket.AF_INET6

    @property
    def wire(self) -> FourTuple:
        """The four-tuple in the packets: mapped addresses become IPv4 addresses."""
        return FourTuple(unmapped(self.local), self.local_port, unmapped(self.peer), self.peer_port)

    @property
    def loopback(self) -> bool:
        """Whether the connection never leaves its network namespace."""
        peer = unmapped(self.peer)
        return self.peer == self.local or (peer[0] == 127 if len(peer) == 4 else peer == _LOOPBACK)

    def __str__(self) -> str:
        return f"{endpoint(self.local, self.local_port)} {endpoint(self.peer, self.peer_port)}"

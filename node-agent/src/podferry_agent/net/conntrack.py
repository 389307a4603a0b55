"""Connection tracking on the node: forget what it knows of flows that have moved (nfnetlink_conntrack).

An entry from an earlier stay of the pod on this node has old windows and would call the first segments invalid. Entries
with address translation are kept: without them a flow through a Service would lose its way.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

from podferry import errors
from podferry.tcp import four_tuple

_NETLINK_NETFILTER = 12
_DELETE = 1 << 8 | 2
"""NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE."""
_GET = 1 << 8 | 1
_REQUEST_ACK = 0x1 | 0x4
_HEADER = struct.Struct("=IHHII")
_NLMSG_ERROR = 2
_NESTED = 0x8000
_TUPLE_ORIGINAL, _TUPLE_REPLY = 1, 2


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _tuple(kind: int, flow: four_tuple.FourTuple) -> bytes:
    first = 1 if len(flow.local) == 4 else 3
    addresses = _attribute(first, flow.local) + _attribute(first + 1, flow.peer)
    protocol = (
        _attribute(1, bytes([socket.IPPROTO_TCP]))
        + _attribute(2, struct.pack("!H", flow.local_port))
        + _attribute(3, struct.pack("!H", flow.peer_port))
    )
    return _attribute(kind | _NESTED, _attribute(1 | _NESTED, addresses) + _attribute(2 | _NESTED, protocol))


def _message(kind: int, flow: four_tuple.FourTuple) -> bytes:
    family = socket.AF_INET if len(flow.local) == 4 else socket.AF_INET6
    body = struct.pack("=BBH", family, 0, 0) + _tuple(_TUPLE_ORIGINAL, flow)
    return _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST_ACK, 1, 0) + body


class Conntrack:
    """The connection tracking of the network namespace of the thread that makes this object."""

    def __init__(self) -> None:
        self._netlink: socket.socket | None = None
        try:
            self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
        except OSError as error:
            if error.errno != errno.EPROTONOSUPPORT:  # else: a kernel without nfnetlink tracks nothing
                raise errors.Permanent(f"cannot reach conntrack: {error}", reason="NoConntrack") from error

    def forget(self, flow: four_tuple.FourTuple) -> bool:
        """Delete the entry of `flow` if it carries no address translation; tell whether there was one.

        Raises:
            Permanent: the kernel refused for another reason than having no such entry or no connection tracking.
        """
        if self._netlink is None:
            return False
        wire = flow.wire
        mirrored = four_tuple.FourTuple(wire.peer, wire.peer_port, wire.local, wire.local_port)
        # An entry is free of translation if its reply tuple mirrors its original one, and that is the flow as seen by
        # whoever began it.
        return any(_forget(self._netlink, original, reply) for original, reply in ((wire, mirrored), (mirrored, wire)))

    def close(self) -> None:
        """Close the socket."""
        if self._netlink is not None:
            self._netlink.close()


def _forget(netlink: socket.socket, original: four_tuple.FourTuple, reply: four_tuple.FourTuple) -> bool:
    entry = _call(netlink, _message(_GET, original))
    if entry is None or _tuple_of(entry, _TUPLE_ORIGINAL) != _payload(original):
        return False
    if _tuple_of(entry, _TUPLE_REPLY) != _payload(reply):
        return False
    return _call(netlink, _message(_DELETE, original)) is not None


def _call(netlink: socket.socket, message: bytes) -> bytes | None:
    """Send one request; return the entry in the reply (empty for a bare success), None when there is none."""
    netlink.send(message)
    entry = b""
    while True:
        reply = netlink.recv(1 << 16)
        position = 0
        while position < len(reply):
            length, kind = _HEADER.unpack_from(reply, position)[:2]
            body = reply[position + _HEADER.size : position + length]
            position += (length + 3) & ~3
            if kind != _NLMSG_ERROR:
                entry = body[4:]
                continue
            number = -struct.unpack_from("=i", body)[0]
            if number in {errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP}:
                return None
            if number:
                raise errors.Permanent(f"conntrack: {os.strerror(number)}", reason="ConntrackRefused")
            return entry


def _attributes(data: bytes) -> dict[int, bytes]:
    found, position = {}, 0
    while position + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, position)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[position + 4 : position + length]
        position += (length + 3) & ~3
    return found


def _payload(flow: four_tuple.FourTuple) -> tuple[bytes, ...]:
    return flow.local, struct.pack("!H", flow.local_port), flow.peer, struct.pack("!H", flow.peer_port)


def _tuple_of(entry: bytes, kind: int) -> tuple[bytes, ...]:
    inside = _attributes(_attributes(entry).get(kind, b""))
    addresses, protocol = _attributes(inside.get(1, b"")), _attributes(inside.get(2, b""))
    local, peer = addresses.get(1) or addresses.get(3, b""), addresses.get(2) or addresses.get(4, b"")
    return local, protocol.get(2, b""), peer, protocol.get(3, b"")

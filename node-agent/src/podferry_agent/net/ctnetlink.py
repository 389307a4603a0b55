"""Connection tracking's entries as messages (nfnetlink_conntrack.h): encode, decode, get, delete, create.

An entry has two tuples: how the flow looks to whoever began it, and how answers look. They mirror each other unless
addresses are translated.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import NamedTuple

from podferry.tcp import four_tuple
from podferry_agent.net import netlink

_NEW, _GET, _DELETE = (1 << 8 | message for message in range(3))
"""NFNL_SUBSYS_CTNETLINK with IPCTNL_MSG_CT_*."""
_GENERIC = struct.Struct("=BBH")
"""struct nfgenmsg."""
_ORIGINAL, _REPLY, _STATUS, _PROTOCOL_INFO, _SOURCE_NAT, _TIMEOUT, _MARK, _DESTINATION_NAT = 1, 2, 3, 4, 6, 7, 8, 13
"""CTA_*: attributes of an entry."""
_IP, _PROTOCOL = 1, 2
"""CTA_TUPLE_*."""
_NAT_PORTS, _NAT_ADDRESS = 3, {4: (1, 2), 16: (4, 5)}
"""CTA_NAT_PROTO; CTA_NAT_V4_* and CTA_NAT_V6_*: lowest and highest address, by length."""
_TCP, _TCP_STATE, _TCP_FLAGS, _ESTABLISHED = 1, 1, (4, 5), 3
"""CTA_PROTOINFO_TCP and what is in it; TCP_CONNTRACK_ESTABLISHED."""
_LIBERAL = b"\x08\x08"
"""struct nf_ct_tcp_flags: IP_CT_TCP_FLAG_BE_LIBERAL, and the mask that sets it."""
_ALIVE = 2 | 4 | 8
"""IPS_SEEN_REPLY, IPS_ASSURED, IPS_CONFIRMED."""
_ABSENT = {errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP}
"""No such entry; no connection tracking for this family."""


class Entry(NamedTuple):
    """One entry; tuples run from their `local` to their `peer`."""

    original: four_tuple.FourTuple
    reply: four_tuple.FourTuple
    mark: int = 0
    timeout: int = 0
    """Seconds left."""

    @property
    def translated(self) -> bool:
        """Whether the flow's addresses or ports are translated here."""
        return self.original != mirrored(self.reply)


def mirrored(flow: four_tuple.FourTuple) -> four_tuple.FourTuple:
    """Return the same flow as its other end sees it."""
    return four_tuple.FourTuple(flow.peer, flow.peer_port, flow.local, flow.local_port)


def find(tracking: netlink.Netlink, flow: four_tuple.FourTuple) -> Entry | None:
    """Return the entry that has `flow` as its original or its reply tuple; OSError when the kernel cannot tell."""
    try:
        (found,) = tracking.call(_GET, _header(flow) + _tuple(flow, _ORIGINAL))
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise
    known = netlink.attributes(found[_GENERIC.size :])
    numbers = (int.from_bytes(known.get(kind, b"")) for kind in (_MARK, _TIMEOUT))
    return Entry(_read(known.get(_ORIGINAL, b"")), _read(known.get(_REPLY, b"")), *numbers)


def delete(tracking: netlink.Netlink, original: four_tuple.FourTuple) -> bool:
    """Delete the entry with this original tuple; tell whether there was one."""
    try:
        tracking.call(_DELETE, _header(original) + _tuple(original, _ORIGINAL))
    except OSError as error:
        if error.errno in _ABSENT:
            return False
        raise
    return True


def create(tracking: netlink.Netlink, entry: Entry) -> None:
    """Create the entry of an established TCP flow; its windows are not checked, since nobody has seen them."""
    original, reply = entry.original, entry.reply
    flags = b"".join(netlink.attribute(kind, _LIBERAL) for kind in _TCP_FLAGS)
    tcp = netlink.attribute(_TCP | netlink.NESTED, netlink.attribute(_TCP_STATE, bytes([_ESTABLISHED])) + flags)
    request = (
        _header(original)
        + _tuple(original, _ORIGINAL)
        + _tuple(mirrored(original), _REPLY)  # what translation makes of it is computed by the kernel
        + netlink.attribute(_STATUS, _ALIVE.to_bytes(4))
        + netlink.attribute(_TIMEOUT, entry.timeout.to_bytes(4))
        + netlink.attribute(_PROTOCOL_INFO | netlink.NESTED, tcp)
    )
    if entry.mark:
        request += netlink.attribute(_MARK, entry.mark.to_bytes(4))
    if (reply.local, reply.local_port) != (original.peer, original.peer_port):
        request += _translation(_DESTINATION_NAT, reply.local, reply.local_port)
    if (reply.peer, reply.peer_port) != (original.local, original.local_port):
        request += _translation(_SOURCE_NAT, reply.peer, reply.peer_port)
    tracking.call(_NEW, request, netlink.CREATE | netlink.EXCLUSIVE)


def _header(flow: four_tuple.FourTuple) -> bytes:
    return _GENERIC.pack(flow.family, 0, 0)


def _tuple(flow: four_tuple.FourTuple, kind: int) -> bytes:
    first = 1 if len(flow.local) == 4 else 3
    addresses = netlink.attribute(first, flow.local) + netlink.attribute(first + 1, flow.peer)
    protocol = (
        netlink.attribute(1, bytes([socket.IPPROTO_TCP]))
        + netlink.attribute(2, flow.local_port.to_bytes(2))
        + netlink.attribute(3, flow.peer_port.to_bytes(2))
    )
    inside = netlink.attribute(_IP | netlink.NESTED, addresses) + netlink.attribute(
        _PROTOCOL | netlink.NESTED, protocol
    )
    return netlink.attribute(kind | netlink.NESTED, inside)


def _translation(kind: int, address: bytes, port: int) -> bytes:
    ends = b"".join(netlink.attribute(end, address) for end in _NAT_ADDRESS[len(address)])
    ports = b"".join(netlink.attribute(end, port.to_bytes(2)) for end in (1, 2))
    return netlink.attribute(kind | netlink.NESTED, ends + netlink.attribute(_NAT_PORTS | netlink.NESTED, ports))


def _read(nested: bytes) -> four_tuple.FourTuple:
    inside = netlink.attributes(nested)
    addresses, protocol = (netlink.attributes(inside.get(kind, b"")) for kind in (_IP, _PROTOCOL))
    return four_tuple.FourTuple(
        addresses.get(1) or addresses.get(3, b""),
        int.from_bytes(protocol.get(2, b"")),
        addresses.get(2) or addresses.get(4, b""),
        int.from_bytes(protocol.get(3, b"")),
    )

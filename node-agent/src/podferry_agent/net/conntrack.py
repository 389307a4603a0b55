"""Connection tracking on the node: forget what it knows of flows that have moved (nfnetlink_conntrack).

An entry from an earlier stay of the pod on this node has old windows and would call the first segments invalid. Entries
with address translation are kept: without them a flow through a Service would lose its way.
"""

from __future__ import annotations

import errno
import socket
import struct

from podferry import errors
from podferry.tcp import four_tuple
from podferry_agent.net import netlink

_GET, _DELETE = 1 << 8 | 1, 1 << 8 | 2
"""NFNL_SUBSYS_CTNETLINK with IPCTNL_MSG_CT_GET, IPCTNL_MSG_CT_DELETE."""
_GENERIC = struct.Struct("=BBH")
"""struct nfgenmsg."""
_ORIGINAL, _REPLY = 1, 2
_IP, _PROTOCOL = 1, 2
_ABSENT = {errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP}
"""No such entry; no connection tracking for this family."""


class Conntrack:
    """The connection tracking of the network namespace of the thread that makes this object."""

    def __init__(self) -> None:
        self._netlink: netlink.Netlink | None = None
        try:
            self._netlink = netlink.Netlink(netlink.NETFILTER)
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
        try:
            return any(
                _forget(self._netlink, original, reply) for original, reply in ((wire, mirrored), (mirrored, wire))
            )
        except OSError as error:
            raise errors.Permanent(f"conntrack: {error}", reason="ConntrackRefused") from error

    def close(self) -> None:
        """Close the socket."""
        if self._netlink is not None:
            self._netlink.close()


def _forget(tracking: netlink.Netlink, original: four_tuple.FourTuple, reply: four_tuple.FourTuple) -> bool:
    request = _GENERIC.pack(original.family, 0, 0) + _tuple(original)
    try:
        (entry,) = tracking.call(_GET, request)
        known = netlink.attributes(entry[_GENERIC.size :])
        if _read(known.get(_ORIGINAL, b"")) != original or _read(known.get(_REPLY, b"")) != reply:
            return False
        tracking.call(_DELETE, request)
    except OSError as error:
        if error.errno in _ABSENT:
            return False
        raise
    return True


def _tuple(flow: four_tuple.FourTuple) -> bytes:
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
    return netlink.attribute(_ORIGINAL | netlink.NESTED, inside)


def _read(nested: bytes) -> four_tuple.FourTuple:
    inside = netlink.attributes(nested)
    addresses, protocol = (netlink.attributes(inside.get(kind, b"")) for kind in (_IP, _PROTOCOL))
    return four_tuple.FourTuple(
        addresses.get(1) or addresses.get(3, b""),
        int.from_bytes(protocol.get(2, b"")),
        addresses.get(2) or addresses.get(4, b""),
        int.from_bytes(protocol.get(3, b"")),
    )

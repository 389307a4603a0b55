"""Connection tracking on a node: forget flows that have moved, or send them to where they have moved to.

An entry from an earlier stay of the pod on this node has old windows and would call the first segments invalid. Entries
with address translation are kept: without them a flow through a Service would lose its way.

A flow whose pod has a new address is redirected by its entry on the nodes of its peers. The peer, and whatever Service
it came through, keep what they know; the kernel's own translation rewrites both directions, checksums and the ICMP
errors of the flow, at the cost of any tracked packet, and the entry goes when the flow ends.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from podferry import errors
from podferry.tcp import four_tuple
from podferry_agent.net import ctnetlink, netlink

_ESTABLISHED_TIMEOUT = Path("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established")
_DEFAULT_TIMEOUT = 432000
"""Seconds: the kernel's default, five days."""


class Conntrack:
    """The connection tracking of the network namespace of the thread that makes this object."""

    def __init__(self) -> None:
        self._netlink: netlink.Netlink | None = None
        try:
            self._netlink = netlink.Netlink(netlink.NETFILTER)
        except OSError as error:
            if error.errno != errno.EPROTONOSUPPORT:  # else: a kernel without nfnetlink tracks nothing
                raise errors.Permanent(f"cannot reach conntrack: {error}", reason="NoConntrack") from error
        self._timeout = _established_timeout()

    def forget(self, flow: four_tuple.FourTuple) -> bool:
        """Delete the entry of `flow` if it carries no address translation; tell whether there was one.

        Raises:
            Permanent: the kernel refused for another reason than having no such entry or no connection tracking.
        """
        if self._netlink is None:
            return False
        with _translated():
            for original in (flow.wire, ctnetlink.mirrored(flow.wire)):
                entry = ctnetlink.find(self._netlink, original)
                if entry is not None and not entry.translated and entry.original == original:
                    return ctnetlink.delete(self._netlink, original)
        return False

    def redirect(self, flow: four_tuple.FourTuple, address: bytes) -> None:
        """Let a flow that its pod knew as `flow` go on with the pod at `address`; its peers see no difference.

        A flow that was redirected before, or that goes through a Service, is one translation afterwards, not two. A
        chain of type nat must stand in the namespace: without one the kernel translates nothing.

        Raises:
            Permanent: the kernel refused, or tracks no connections.
        """
        if self._netlink is None:
            raise errors.Permanent("this kernel tracks no connections", reason="NoConntrack")
        old, outward = flow.wire, ctnetlink.mirrored(flow.wire)
        new = old._replace(local=four_tuple.unmapped(address))
        with _translated():
            entry = ctnetlink.find(self._netlink, old)
            if entry is not None:
                ctnetlink.delete(self._netlink, entry.original)
            # An entry that answers as `old` was begun by the peer, perhaps to a Service. Else the pod began the flow,
            # or this node has not seen it: then it is translated as if begun by the peer, which comes to the same.
            begun = entry if entry is not None and entry.reply == old else ctnetlink.Entry(outward, old)
            ctnetlink.create(self._netlink, begun._replace(reply=new, timeout=self._timeout))

    def close(self) -> None:
        """Close the socket."""
        if self._netlink is not None:
            self._netlink.close()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise errors.Permanent(f"conntrack: {error}", reason="ConntrackRefused") from error


def _established_timeout() -> int:
    try:
        return int(_ESTABLISHED_TIMEOUT.read_text())
    except OSError:
        return _DEFAULT_TIMEOUT

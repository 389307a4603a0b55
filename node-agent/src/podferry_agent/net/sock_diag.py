"""sock_diag: all TCP sockets of a network namespace as its kernel lists them (sock_diag(7)).

Sockets that are neither bound nor connected are not in the list.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from podferry import errors
from podferry.tcp import four_tuple, state
from podferry_agent.net import netlink

_SOCK_DIAG_BY_FAMILY = 20
_ALL_STATES = 0xFFFFFFFF
_REQUEST = struct.Struct("=BBBBI48x")
"""inet_diag_req_v2: family, protocol, extensions, padding, states, id."""
_MESSAGE = struct.Struct("=BBBB2s2s16s16sIIIIIIII")
"""inet_diag_msg: family, state, timer, retransmits, ports, addresses, interface, cookie, expires, queues, uid, inode"""


class Listed(NamedTuple):
    """One socket in the list."""

    state: state.State
    four_tuple: four_tuple.FourTuple
    inode: int
    """0 when no file stands for it: not accepted yet, or closed."""
    receive_queue: int
    """Bytes to read; of a listener: connections to accept."""


def tcp_sockets() -> list[Listed]:
    """Return every TCP socket of the calling thread's network namespace, IPv4 and IPv6.

    Raises:
        Permanent: the kernel cannot list them.
    """
    try:
        diag = netlink.Netlink(netlink.SOCK_DIAG)
        try:
            return [listed for family in (socket.AF_INET, socket.AF_INET6) for listed in _dump(diag, family)]
        finally:
            diag.close()
    except OSError as error:
        raise errors.Permanent(f"cannot list TCP sockets: {error}", reason="NoSockDiag") from error


def _dump(diag: netlink.Netlink, family: int) -> Iterator[Listed]:
    size = 4 if family == socket.AF_INET else 16
    for message in diag.dump(_SOCK_DIAG_BY_FAMILY, _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _ALL_STATES)):
        _, number, _, _, local_port, peer_port, local, peer, *_, receive_queue, _, _, inode = _MESSAGE.unpack_from(
            message
        )
        where = four_tuple.FourTuple(local[:size], int.from_bytes(local_port), peer[:size], int.from_bytes(peer_port))
        yield Listed(state.State(number), where, inode, receive_queue)

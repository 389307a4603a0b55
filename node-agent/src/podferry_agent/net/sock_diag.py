"""sock_diag: all TCP sockets of a network namespace as its kernel lists them (sock_diag(7)).

Parsed here rather than with a netlink library because a pod with thousands of connections is listed while it stands
frozen. Sockets that are neither bound nor connected are not in the list.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from podferry import errors
from podferry.tcp import four_tuple, state

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST_DUMP = 0x1 | 0x300
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_ALL_STATES = 0xFFFFFFFF
_HEADER = struct.Struct("=IHHII")
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
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as netlink:
            return [listed for family in (socket.AF_INET, socket.AF_INET6) for listed in _dump(netlink, family)]
    except OSError as error:
        raise errors.Permanent(f"cannot list TCP sockets: {error}", reason="NoSockDiag") from error


def _dump(netlink: socket.socket, family: int) -> Iterator[Listed]:
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _ALL_STATES)
    netlink.send(_HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST_DUMP, 1, 0) + request)
    size = 4 if family == socket.AF_INET else 16
    while True:
        reply = netlink.recv(1 << 18)
        position = 0
        while position < len(reply):
            length, kind = _HEADER.unpack_from(reply, position)[:2]
            body = position + _HEADER.size
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                number = -struct.unpack_from("=i", reply, body)[0]
                raise OSError(number, os.strerror(number))
            fields = _MESSAGE.unpack_from(reply, body)
            _, number, _, _, local_port, peer_port, local, peer, *_, receive_queue, _, _, inode = fields
            yield Listed(
                state.State(number),
                four_tuple.FourTuple(local[:size], int.from_bytes(local_port), peer[:size], int.from_bytes(peer_port)),
                inode,
                receive_queue,
            )
            position += (length + 3) & ~3

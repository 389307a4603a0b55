"""Netlink, as little of it as the agent needs (netlink(7)): requests, dumps, attributes.

Written here rather than taken from a library because opening a pod's network lies in the dark time of a migration: a
request of this module takes some 20 µs, setting up the usual library 50 ms.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

ROUTE, SOCK_DIAG, NETFILTER = 0, 4, 12
NESTED = 0x8000
CREATE, EXCLUSIVE = 0x400, 0x200
"""Flags of a request."""
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_NUMBER = struct.Struct("=i")
_LARGEST = 1 << 18


class Netlink:
    """A netlink socket of the network namespace of the thread that makes it. All errors are OSError."""

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)

    def dump(self, kind: int, body: bytes) -> Iterator[bytes]:
        """Yield the bodies of the messages that answer a dump request."""
        return self._exchange(kind, _REQUEST | _DUMP, body)

    def call(self, kind: int, body: bytes, flags: int = 0) -> list[bytes]:
        """Send one request; return the bodies of the messages in its answer when it has succeeded."""
        return list(self._exchange(kind, _REQUEST | _ACK | flags, body))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _exchange(self, kind: int, flags: int, body: bytes) -> Iterator[bytes]:
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body)
        while True:
            reply = self._socket.recv(_LARGEST)
            position = 0
            while position < len(reply):
                length, answer = _HEADER.unpack_from(reply, position)[:2]
                if length < _HEADER.size:
                    raise OSError(errno.EBADMSG, "malformed netlink message")
                content = reply[position + _HEADER.size : position + length]
                position += (length + 3) & ~3
                if answer == _DONE:
                    return
                if answer == _ERROR:
                    number = -_NUMBER.unpack_from(content)[0]
                    if number:
                        raise OSError(number, os.strerror(number))
                    return
                yield content


def attribute(kind: int, value: bytes) -> bytes:
    """Return one attribute, padded."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """Return kind → value of a row of attributes; flags in the kind are dropped, of a repeated one the last counts."""
    found, position = {}, 0
    while position + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, position)
        if length < _ATTRIBUTE.size:
            break
        found[kind & 0x3FFF] = data[position + _ATTRIBUTE.size : position + length]
        position += (length + 3) & ~3
    return found

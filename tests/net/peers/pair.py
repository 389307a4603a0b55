"""Both ends of a connection within one pod, in two lives as in `server`.

    python -m tests.net.peers.pair STATE first|second

The first life leaves data unread in both directions and stops; the second reads it, and what it sends itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

from tests.net.peers import stream

LISTENER, CLIENT, ACCEPTED = 10, 11, 12
PORT = 7000
SIZE = 30_000


def place(one: socket.socket, fd: int) -> socket.socket:
    """Move a socket to a descriptor."""
    os.dup2(one.fileno(), fd)
    one.close()
    return socket.socket(fileno=fd)


def first() -> tuple[socket.socket, socket.socket]:
    """Make the pair."""
    listener = place(socket.create_server(("127.0.0.1", PORT)), LISTENER)
    client = place(socket.create_connection(("127.0.0.1", PORT)), CLIENT)
    accepted = place(listener.accept()[0], ACCEPTED)
    listener.detach()
    client.sendall(stream.piece(0, SIZE))
    accepted.sendall(stream.piece(7, SIZE))
    return client, accepted


def second() -> tuple[socket.socket, socket.socket]:
    """Have what CRIU leaves of it."""
    place(socket.create_server(("127.0.0.1", PORT)), LISTENER).detach()
    ends = [place(socket.socket(), fd) for fd in (CLIENT, ACCEPTED)]
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
    return ends[0], ends[1]


def check(end: socket.socket, start: int, size: int) -> None:
    """Read and compare."""
    data = end.recv(size, socket.MSG_WAITALL)
    assert len(data) == size
    assert stream.matches(start, data)


def main() -> None:
    client, accepted = first() if sys.argv[2] == "first" else second()
    Path(sys.argv[1]).touch()
    print("ready", flush=True)  # noqa: T201
    os.kill(os.getpid(), signal.SIGSTOP)
    client.settimeout(10)
    accepted.settimeout(10)
    client.sendall(stream.piece(SIZE, SIZE))
    check(accepted, 0, 2 * SIZE)
    check(client, 7, SIZE)
    print("all there", flush=True)  # noqa: T201
    signal.pause()


if __name__ == "__main__":
    main()

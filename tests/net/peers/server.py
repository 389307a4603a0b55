"""The server that is moved, in two lives that share one memory.

    python -m tests.net.peers.server STATE ADDRESS first MODE COUNT    listens, accepts COUNT connections, serves
    python -m tests.net.peers.server STATE ADDRESS second              stands in for the restored process

The second life has what CRIU's restore with tcp-close leaves: the listener, and at every descriptor of a connection a
closed, shut-down socket that is already in the edge-triggered epoll set. It takes its memory from the file STATE. Each
life stops itself (SIGSTOP) on SIGUSR1, between two turns of its loop; the second begins stopped.

MODE: echo sends back what comes, source sends without end, sink only reads, deaf never reads, duplex is source and
sink; paced is echo and feed is sink, for a client that sends a little every few milliseconds, answered or not.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import signal
import socket
import struct
import sys
from pathlib import Path

from tests.net.peers import stream

RECORD = struct.Struct("=QQQQ")
"""Per descriptor: connection number + 1, bytes received, bytes sent, mode."""
LIMIT = 16384
MODES = ("echo", "source", "sink", "deaf", "duplex", "paced", "feed")
LISTENER = 10
HELLO = struct.Struct("!I")


class Server:
    def __init__(self, state: Path, address: str, port: int = 8000) -> None:
        with state.open("a+b") as file:
            file.truncate(LIMIT * RECORD.size)
            self.memory = mmap.mmap(file.fileno(), LIMIT * RECORD.size)
        self.epoll = select.epoll()
        self.connections: dict[int, socket.socket] = {}
        self.family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.socket(self.family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(4096)
        listener.setblocking(False)
        os.dup2(listener.fileno(), LISTENER)
        listener.close()
        self.listener = socket.socket(fileno=LISTENER)
        self.epoll.register(LISTENER, select.EPOLLIN)
        self.stopping = False
        signal.signal(signal.SIGUSR1, self.stop)

    def stop(self, *_: object) -> None:
        self.stopping = True

    def accept(self, mode: int) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except BlockingIOError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            hello = connection.recv(HELLO.size, socket.MSG_WAITALL)
            (number,) = HELLO.unpack(hello)
            self.add(connection)
            self.record(connection.fileno(), number + 1, 0, 0, mode)
            connection.send(b"!")

    def add(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.connections[connection.fileno()] = connection
        self.epoll.register(connection.fileno(), select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET)

    def record(self, fd: int, *values: int) -> None:
        RECORD.pack_into(self.memory, fd * RECORD.size, *values)

    def adopt(self) -> None:
        """Become the second life: the same descriptors, as CRIU leaves them."""
        for fd in range(LIMIT):
            if RECORD.unpack_from(self.memory, fd * RECORD.size)[0]:
                fresh = socket.socket(self.family, socket.SOCK_STREAM)
                if fresh.fileno() != fd:
                    os.dup2(fresh.fileno(), fd)
                    fresh.close()
                    fresh = socket.socket(fileno=fd)
                with contextlib.suppress(OSError):
                    fresh.shutdown(socket.SHUT_RDWR)
                self.add(fresh)

    def serve(self, mode: int) -> None:
        while True:
            if self.stopping:
                self.stopping = False
                os.kill(os.getpid(), signal.SIGSTOP)
            try:
                ready = self.epoll.poll(0.2)
            except InterruptedError:
                continue
            for fd, events in ready:
                if fd == LISTENER:
                    self.accept(mode)
                elif fd in self.connections:
                    self.turn(fd, events)

    def turn(self, fd: int, events: int) -> None:
        number = RECORD.unpack_from(self.memory, fd * RECORD.size)[0]
        try:
            for _ in range(8):
                if self.stopping or not self.move(fd):
                    break
        except (ConnectionResetError, ConnectionAbortedError):
            self.record(fd, 0, 0, 0, 0)
            self.connections.pop(fd).close()
            return
        except OSError as error:
            self.fail(f"connection {number - 1}: {error} events {events:#x}")
        if fd in self.connections:
            self.epoll.modify(fd, select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET)

    def move(self, fd: int) -> bool:
        """Receive and send once; tell whether anything moved."""
        connection = self.connections[fd]
        number, received, sent, mode = RECORD.unpack_from(self.memory, fd * RECORD.size)
        start, name, moved = stream.origin(number - 1), MODES[mode], False
        if name not in {"source", "deaf"}:
            with contextlib.suppress(BlockingIOError):
                data = connection.recv(1 << 16)
                if not data:
                    self.end(fd)
                    return False
                if not stream.matches(start + received, data):
                    self.fail(f"connection {number - 1}: wrong bytes at {received}")
                received, moved = received + len(data), True
        owed = received - sent
        room = {"echo": owed, "paced": owed, "source": 1 << 16, "duplex": 1 << 16}.get(name, 0)
        if room:
            with contextlib.suppress(BlockingIOError):
                sent += connection.send(stream.piece(start + sent, min(room, 1 << 16)))
                moved = True
        self.record(fd, number, received, sent, mode)
        return moved

    def end(self, fd: int) -> None:
        """Send what is still owed after the peer has finished, then close."""
        connection = self.connections.pop(fd)
        number, received, sent, mode = RECORD.unpack_from(self.memory, fd * RECORD.size)
        connection.setblocking(True)
        while MODES[mode] in {"echo", "paced"} and sent < received:
            sent += connection.send(stream.piece(stream.origin(number - 1) + sent, min(received - sent, 1 << 16)))
        self.record(fd, 0, 0, 0, 0)
        connection.close()

    def fail(self, message: str) -> None:
        print(message, flush=True)  # noqa: T201
        os._exit(1)


def main() -> None:
    state, address, life, *rest = sys.argv[1:]
    server = Server(Path(state), address)
    mode = 0
    if life == "first":
        mode, count = MODES.index(rest[0]), int(rest[1])
        while len(server.connections) < count:
            server.epoll.poll(0.2)
            server.accept(mode)
    else:
        server.adopt()
        print("ready", flush=True)  # noqa: T201
        os.kill(os.getpid(), signal.SIGSTOP)
        signal.signal(signal.SIGUSR1, server.stop)
    print("serving", flush=True)  # noqa: T201
    server.serve(mode)


if __name__ == "__main__":
    main()

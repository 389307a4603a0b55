"""The client that must notice nothing: N connections, every byte checked, the longest pause measured.

    python -m tests.net.peers.client ADDRESS MODE COUNT

MODE is the server's. Says "connected"; on SIGTERM finishes (echo: reads what is owed) and prints one line of JSON.
"""

from __future__ import annotations

import json
import math
import selectors
import signal
import socket
import sys
import time

from tests.net.peers import server, stream

MESSAGE = 512
PACE = 0.004
"""Seconds between two messages of a paced client."""
PACED = {"paced": MESSAGE, "feed": 16}
"""Size of those messages: of feed so little that reading it all is no reason to announce a larger window."""


class Connection:
    def __init__(self, number: int, address: str, port: int = 8000) -> None:
        self.number, self.start = number, stream.origin(number)
        self.socket = socket.create_connection((address, port), timeout=20)
        self.socket.sendall(server.HELLO.pack(number))
        assert self.socket.recv(1) == b"!"
        self.socket.setblocking(False)
        self.sent = self.received = 0
        self.last = self.pause_at = time.monotonic()
        self.pause = 0.0

    def moved(self) -> None:
        now = time.monotonic()
        if now - self.last > self.pause:
            self.pause, self.pause_at = now - self.last, self.last
        self.last = now

    def receive(self) -> None:
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError("end of stream")
        if not stream.matches(self.start + self.received, data):
            raise ValueError(f"wrong bytes at {self.received}")
        self.received += len(data)
        self.moved()

    def send(self, size: int) -> None:
        self.sent += self.socket.send(stream.piece(self.start + self.sent, size))
        self.moved()


class Client:
    def __init__(self, address: str, mode: str, count: int) -> None:
        self.mode = mode
        self.selector = selectors.DefaultSelector()
        self.errors: list[str] = []
        self.connections = [Connection(number, address) for number in range(count)]
        for connection in self.connections:
            self.selector.register(connection.socket, self.interest(), connection)
        self.ending = False
        signal.signal(signal.SIGTERM, self.end)

    def interest(self) -> int:
        return {
            "echo": selectors.EVENT_READ,
            "paced": selectors.EVENT_READ,
            "feed": selectors.EVENT_READ,
            "source": selectors.EVENT_READ,
            "sink": selectors.EVENT_WRITE,
            "deaf": selectors.EVENT_WRITE,
            "duplex": selectors.EVENT_READ | selectors.EVENT_WRITE,
        }[self.mode]

    def end(self, *_: object) -> None:
        self.ending = True

    def turn(self, connection: Connection, events: int) -> None:
        try:
            if events & selectors.EVENT_READ:
                connection.receive()
            if self.mode == "echo":
                if connection.received == connection.sent and not self.ending:
                    connection.send(MESSAGE)
            elif events & selectors.EVENT_WRITE:
                connection.send(PACED.get(self.mode, 1 << 16))
        except BlockingIOError:
            pass
        except (OSError, ValueError) as error:
            self.errors.append(f"connection {connection.number}: {type(error).__name__}: {error}")
            self.selector.unregister(connection.socket)

    def run(self) -> None:
        if self.mode == "echo":
            for connection in self.connections:
                connection.send(MESSAGE)
        deadline, due, paced = math.inf, 0.0, self.mode in PACED
        while True:
            if self.ending and deadline == math.inf:
                deadline = time.monotonic() + 5
            owed = (
                self.mode in {"echo", "paced"}
                and any(c.received < c.sent for c in self.connections)
                and not self.errors
            )
            if deadline < math.inf and (not owed or time.monotonic() > deadline):
                break
            for key, events in self.selector.select(0.1 if not paced or self.ending else PACE):
                self.turn(key.data, events)
            if paced and not self.ending and time.monotonic() >= due:
                due = time.monotonic() + PACE
                for connection in self.connections:
                    self.turn(connection, selectors.EVENT_WRITE)

    def report(self) -> dict[str, object]:
        now = time.monotonic()
        return {
            "errors": self.errors,
            "sent": [c.sent for c in self.connections],
            "received": [c.received for c in self.connections],
            "pause": max(c.pause for c in self.connections),
            "pause_at": max(self.connections, key=lambda c: c.pause).pause_at,
            "silent": max(now - c.last for c in self.connections),
        }


def main() -> None:
    address, mode, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    client = Client(address, mode, count)
    print("connected", flush=True)  # noqa: T201
    client.run()
    print(json.dumps(client.report()), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()

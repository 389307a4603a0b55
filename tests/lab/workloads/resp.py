"""Conversations with a Redis server whose every reply byte is known beforehand.

Each connection owns a counter and `KEYS` keys. Its commands are numbered; number n is `INCR counter`, `SET key value`
with a value that only n can have, and `GET` of a key written long before. Since nobody else touches these keys, each
reply is fully determined, so the replies are one predictable stream of bytes, and the end reads all of memory back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.lab.workloads import driver, frames

PORT = 6379
KEYS = 64


def command(*words: bytes) -> bytes:
    """Return one command in the Redis serialization protocol (RESP2)."""
    return b"*%d\r\n" % len(words) + b"".join(bulk(word) for word in words)


def bulk(word: bytes) -> bytes:
    """Return one bulk string in RESP2."""
    return b"$%d\r\n%s\r\n" % (len(word), word)


@dataclass(slots=True)
class Pipelined:
    """Numbered, pipelined commands of one connection; `size` is a value's bytes, `window` the commands in flight."""

    stream: int
    size: int = 200
    window: int = 8
    name: str = ""
    watches_sending: bool = False
    verified: int = 0
    """Reply bytes that were what they had to be."""
    _number: int = 0
    _values: dict[int, bytes] = field(default_factory=dict)
    _owed: bytearray = field(default_factory=bytearray)
    _replies: list[int] = field(default_factory=list)
    """Where, counted from the beginning, each owed round of replies ends."""
    _owed_total: int = 0

    def __post_init__(self) -> None:
        self.name = f"redis {self.stream}"

    @property
    def settled(self) -> bool:
        """Whether every reply has come; Redis drops what it still owes to a closed connection."""
        return not self._owed

    def opening(self) -> bytes:
        """Return nothing: the client of a Redis server speaks in commands at once."""
        return b""

    def offer(self) -> bytes:
        """Return the next round of three commands, unless `window` rounds are in flight."""
        if len(self._replies) >= self.window:
            return b""
        number, slot = self._number, self._number % KEYS
        self._number += 1
        self._values[slot] = value = frames.pattern(self.stream, number, self.size)
        old = (slot + 1) % KEYS if (slot + 1) % KEYS in self._values else 0
        self._owe(b":%d\r\n+OK\r\n%s" % (self._number, bulk(self._values[old])))
        return (
            command(b"INCR", self._key("n")) + command(b"SET", self._key(slot), value) + command(b"GET", self._key(old))
        )

    def read_back(self) -> bytes:
        """Return the commands that read all of this connection's memory."""
        self._owe(b"$%d\r\n%d\r\n" % (len(str(self._number)), self._number) if self._number else b"$-1\r\n")
        for slot in sorted(self._values):
            self._owe(bulk(self._values[slot]))
        return command(b"GET", self._key("n")) + b"".join(
            command(b"GET", self._key(slot)) for slot in sorted(self._values)
        )

    def feed(self, data: bytes) -> None:
        """Hold the reply bytes against what is owed."""
        if not self._owed.startswith(data):
            wrong = next((i for i, (a, b) in enumerate(zip(data, self._owed, strict=False)) if a != b), len(self._owed))
            text = data[wrong : wrong + 40]
            raise frames.Corrupt("changed", self.verified + wrong, f"{text!r} is not what {self.name} is owed")
        del self._owed[: len(data)]
        self.verified += len(data)
        while self._replies and self._replies[0] <= self.verified:
            self._replies.pop(0)

    def finish(self) -> None:
        """Nothing has to be said."""

    def end(self) -> None:
        """Verify that no reply is owed."""
        if self._owed:
            raise frames.Corrupt("lost", self.verified, f"{len(self._owed)} bytes of replies are still owed")

    def _owe(self, reply: bytes) -> None:
        self._owed += reply
        self._owed_total += len(reply)
        self._replies.append(self._owed_total)

    def _key(self, what: int | str) -> bytes:
        return f"podferry:{self.stream}:{what}".encode()


def run_id(address: tuple[str, int], timeout: float = 20.0) -> str:
    """Return the identity of the server's process.

    Raises:
        OSError: it does not answer within `timeout` seconds.
    """
    with driver.connect(address, timeout) as sock, sock.makefile("rb") as lines:
        sock.settimeout(timeout)
        sock.sendall(command(b"INFO", b"server"))
        for line in lines:
            name, found, value = line.strip().partition(b":")
            if found and name == b"run_id":
                return value.decode()
    raise ConnectionError("the server closed before it had answered")


def read_back(address: tuple[str, int], conversation: Pipelined, timeout: float = 20.0) -> None:
    """Read all that `conversation` has written, on a new connection, and compare.

    Raises:
        OSError: the server does not answer within `timeout` seconds.
        frames.Corrupt: memory is not what was written.
    """
    with driver.connect(address, timeout) as sock:
        sock.settimeout(timeout)
        sock.sendall(conversation.read_back())
        while not conversation.settled:
            data = sock.recv(driver.BATCH)
            if not data:
                conversation.end()
            conversation.feed(data)

"""What a client saw, as data: written as JSON by the client's process, read by whoever started it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Gap:
    """The longest time without progress on a connection; `begin` and `end` are CLOCK_REALTIME seconds."""

    seconds: float = 0.0
    begin: float = 0.0
    end: float = 0.0


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a connection is not clean.

    `kind` is one of reset, timeout, closed (by the server, too early), network, stalled (answers never came); lost,
    repeated, changed, misaligned (found in the content); mismatch (the two ends' counters differ).
    """

    kind: str
    message: str
    at: float = 0.0


@dataclass(slots=True)
class Connection:
    """One connection: `sent` and `received` in bytes; `compared`, the bytes that both ends agree on."""

    name: str
    local: str
    peer: str
    sent: int = 0
    received: int = 0
    compared: int = 0
    gap: Gap = field(default_factory=Gap)
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """Bytes over all connections in one interval that began at `at` (CLOCK_REALTIME seconds)."""

    at: float
    sent: int
    received: int


@dataclass(slots=True)
class Result:
    """A client's whole run. `problems` are findings that belong to no single connection."""

    mode: str
    started: float
    finished: float
    connections: list[Connection]
    series: list[Sample]
    instance: str = ""
    problems: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[Connection]:
        """The connections that are not clean."""
        return [connection for connection in self.connections if connection.failure is not None]

    @property
    def clean(self) -> bool:
        """Whether there was at least one connection and nothing at all went wrong."""
        return bool(self.connections) and not self.failed and not self.problems

    @property
    def compared(self) -> int:
        """Bytes that both ends agree on, over all connections."""
        return sum(connection.compared for connection in self.connections)

    @property
    def longest(self) -> Gap:
        """The longest gap of any connection."""
        return max((connection.gap for connection in self.connections), key=lambda gap: gap.seconds, default=Gap())

    def dumps(self) -> str:
        """Return the result as JSON."""
        return json.dumps(dataclasses.asdict(self))

    def summary(self) -> str:
        """Return one line for a log or an assertion's message."""
        verdict = "clean" if self.clean else "NOT CLEAN"
        reasons = [f"{one.name}: {one.failure.kind}: {one.failure.message}" for one in self.failed if one.failure]
        findings = "".join(f"; {text}" for text in [*self.problems, *reasons][:5])
        return (
            f"{verdict}: {self.mode}, {len(self.connections)} connections, {self.compared} bytes compared on both "
            f"ends, longest gap {self.longest.seconds:.3f} s{findings}"
        )


def loads(text: str) -> Result:
    """Return the result that `Result.dumps` wrote."""
    raw: dict[str, Any] = json.loads(text)
    raw["series"] = [Sample(**one) for one in raw["series"]]
    raw["connections"] = [
        Connection(
            **{
                **one,
                "gap": Gap(**one["gap"]),
                "failure": None if one["failure"] is None else Failure(**one["failure"]),
            }
        )
        for one in raw["connections"]
    ]
    return Result(**raw)


@dataclass(frozen=True, slots=True)
class Progress:
    """A glance at a running client: `quiet` is the seconds since the connection that waits longest made progress."""

    connections: int
    failed: int
    sent: int
    received: int
    quiet: float
    longest: float

    def dumps(self) -> str:
        """Return the glance as JSON."""
        return json.dumps(dataclasses.asdict(self))


def glance(text: str) -> Progress:
    """Return the progress that `Progress.dumps` wrote."""
    return Progress(**json.loads(text))

"""The source's half of the engine in a process of its own, to be killed at any moment.

    python -m tests.net.peers.engine NETNS HOST PID STAGE

Goes on to STAGE (of STAGES), says "there", and waits to be killed.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.support import move

from podferry_agent.connections import backend, source

STAGES = ("hold", "collect", "early", "flush", "lock", "batches")


def advance(engine: source.Source, pid: int, stage: str) -> None:
    """Go through the stages up to `stage`."""

    def flush() -> tuple[str, ...]:
        engine.flush()
        return engine.drained(time.monotonic() + 2)

    steps: dict[str, Callable[[], object]] = {
        "hold": engine.hold,
        "collect": lambda: engine.collect({"app": [pid]}),
        "early": lambda: list(engine.early_batches()),
        "flush": flush,
        "lock": engine.lock,
        "batches": lambda: list(engine.batches()),
    }
    for name in STAGES[: STAGES.index(stage) + 1]:
        steps[name]()


def main() -> None:
    netns, host, pid, stage = sys.argv[1:]
    with backend.RepairBackend(Path(host)).open(Path(netns), move.NAME) as engine:
        advance(engine, int(pid), stage)
        print("there", flush=True)  # noqa: T201
        signal.pause()


if __name__ == "__main__":
    main()

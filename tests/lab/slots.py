"""How many labs run at once on one host: two emulated nodes take two cores, and more labs make each other time out."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from typing import IO

from tests.lab import state

PATIENCE = 240.0
"""Seconds after which a lab starts although no slot is free: slow is better than never."""

log = logging.getLogger(__name__)


def count() -> int:
    """Return the number of slots: one per two cores, or what PODFERRY_LAB_SLOTS says."""
    return int(os.environ.get("PODFERRY_LAB_SLOTS") or 0) or max(1, (os.cpu_count() or 1) // 2)


def take(patience: float = PATIENCE) -> IO[str] | None:
    """Wait for a slot and return it; closing it, or the end of this process, frees it. None: patience ran out.

    A process that has one already does not wait: it would wait for itself.
    """
    state.root().mkdir(mode=0o700, parents=True, exist_ok=True)
    deadline = time.monotonic() + patience
    told = False
    while True:
        for number in range(count()):
            slot = (state.root() / f"slot-{number}").open("a+")
            if _lock(slot):
                return slot
            slot.close()
        if time.monotonic() > deadline:
            log.warning("another lab still runs on this host: both will be slow")
            return None
        if not told:
            log.warning("waiting up to %.0f s for another lab on this host to end", patience)
            told = True
        time.sleep(0.5)


def _lock(slot: IO[str]) -> bool:
    """Take a slot; the file's content is the pid of who has it."""
    try:
        fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        slot.seek(0)
        return slot.read() == str(os.getpid())
    slot.truncate(0)
    slot.write(str(os.getpid()))
    slot.flush()
    return True

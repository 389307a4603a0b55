"""Points at which the test suite makes a part fail, an enum from the first day; the suite walks all of it.

The code under test calls `faults.reach(point)` on the `Faults` that its composition root gave it. In production that
object is empty and the call is one dictionary look-up.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping

from podferry import errors


class FaultPoint(enum.StrEnum):
    """A place where something can be made to go wrong, named STEP_WHERE."""

    FREEZE_DONE = "freeze-done"
    SAVE_DONE = "save-done"
    SEND_STARTED = "send-started"
    TARGET_RESTORING = "target-restoring"
    TARGET_RESTORED = "target-restored"
    FLUSH_DONE = "flush-done"
    CUT_LOCKED = "cut-locked"
    CUT_SNAPSHOT_SENT = "cut-snapshot-sent"
    TARGET_REBUILT = "target-rebuilt"
    COMMIT_BEFORE_JOURNAL = "commit-before-journal"
    COMMIT_AFTER_JOURNAL = "commit-after-journal"
    TARGET_RESUMING = "target-resuming"
    TARGET_RESUMED = "target-resumed"


class Faults:
    """The armed fault points of one process: point → what to do on reaching it (raise, sleep, or end the process)."""

    def __init__(self, armed: Mapping[FaultPoint, Callable[[], None]] | None = None) -> None:
        self._armed = dict(armed or {})

    def reach(self, point: FaultPoint) -> None:
        """Run what is armed at `point`, once; nothing in production."""
        action = self._armed.pop(point, None)
        if action is not None:
            action()


def fail(point: FaultPoint) -> Callable[[], None]:
    """Return an action that raises, as a broken tool at `point` would."""

    def action() -> None:
        raise errors.Permanent(f"injected at {point}", reason="FaultInjected")

    return action

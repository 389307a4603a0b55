"""The one table of steps: what follows what, who leads, what undoes it, and where the point of no return lies.

Operator and agents both walk it. A step is *derived from what is observed*; the table says which moves are legal, and
anything else is refused. Numbers in `paper` are the steps of the paper behind this project.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Step(enum.StrEnum):
    """One step of a migration, in order. Values stand in status, in the journal and in metrics: a public contract."""

    REQUESTED = "Requested"
    PREFLIGHT = "Preflight"
    PREPARE = "Prepare"
    FREEZE = "Freeze"
    SAVE = "Save"
    SEND = "Send"
    RESTORE = "Restore"
    FLUSH = "Flush"
    CUT = "Cut"
    COMMIT = "Commit"
    RESUME = "Resume"
    CLEANUP = "Cleanup"
    DONE = "Done"


class Lead(enum.Enum):
    """Who leads a step; the others answer."""

    OPERATOR = "operator"
    SOURCE = "source agent"
    TARGET = "target agent"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table."""

    step: Step
    lead: Lead
    does: str
    undo: str
    """What takes the step back; empty where there is nothing to undo, or no way back any more."""
    paper: tuple[int, ...] = ()


TABLE: tuple[Row, ...] = (
    Row(Step.REQUESTED, Lead.OPERATOR, "a ServiceMigration is validated and accepted", "", (1, 2)),
    Row(Step.PREFLIGHT, Lead.OPERATOR, "both agents say whether the pod can move", ""),
    Row(Step.PREPARE, Lead.OPERATOR, "the target pod waits in its runtime hook", "delete the target pod", (6,)),
    Row(Step.FREEZE, Lead.SOURCE, "new connections are held, all containers frozen", "thaw, admit connections", (3,)),
    Row(Step.SAVE, Lead.SOURCE, "processes are saved; sockets stay alive in the kernel", "wipe the images", (4,)),
    Row(Step.SEND, Lead.SOURCE, "image sets stream to the target and are verified", "wipe the images", (5, 7)),
    Row(
        Step.RESTORE, Lead.TARGET, "tasks stand restored and stopped in the target pod", "kill the restored tree", (7,)
    ),
    Row(Step.FLUSH, Lead.SOURCE, "peers see a zero window until nothing is in flight", "reopen the windows"),
    Row(Step.CUT, Lead.SOURCE, "flows locked, connections rebuilt on the target", "discard, unlock, reopen", (5, 8)),
    Row(Step.COMMIT, Lead.SOURCE, "the verified set is committed in the source's journal", ""),
    Row(Step.RESUME, Lead.TARGET, "traffic follows, windows open, tasks run", "", (9,)),
    Row(Step.CLEANUP, Lead.OPERATOR, "the source pod goes behind its lock; endpoints verified", "", (4,)),
    Row(Step.DONE, Lead.OPERATOR, "nothing is left to do", ""),
)

ORDER: dict[Step, int] = {row.step: number for number, row in enumerate(TABLE)}

POINT_OF_NO_RETURN = Step.COMMIT
"""Before it every fault is undone; from it on every path finishes."""


def row(step: Step) -> Row:
    """Return the table's row for `step`."""
    return TABLE[ORDER[step]]


def committed(step: Step) -> bool:
    """Tell whether a migration that reached `step` can only be finished."""
    return ORDER[step] >= ORDER[POINT_OF_NO_RETURN]


def legal(before: Step, after: Step, lead: Lead | None = None) -> bool:
    """Tell whether a migration may move from `before` to `after`: one forward, never back.

    With `lead`, as that part sees it: it may pass over the steps that others lead, never over one of its own. Undoing
    is no move: a migration that is rolled back keeps the step that it failed in, and gets an outcome.
    """
    passed = TABLE[ORDER[before] + 1 : ORDER[after]]
    return ORDER[after] > ORDER[before] and all(lead is not None and row.lead is not lead for row in passed)

"""A migration as its source runs it: hold, freeze, save, send, restore, flush, cut, commit, and everything back.

The source leads. Every step pushes its undo before it does anything; until the journal says "committed" a fault, an
abort, a lost session or an exceeded freeze budget unwinds them all and the pod runs as before. From that line on
there is no way back: whatever happens, even to this process, the target is told to commit until it has resumed.

Journal of a source, in order: started (the order), freezing (what must be thawed and unlocked), committed, finished
(the last report).
"""

from __future__ import annotations

import base64
import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from podferry import clock as clocks
from podferry import errors, faults, ids
from podferry.steps import Step
from podferry.wire import agent_pb2
from podferry_agent.connections import source as engine
from podferry_agent.migration import journal as journals
from podferry_agent.migration import progress as progresses
from podferry_agent.migration import session as sessions
from podferry_agent.migration import undo
from podferry_agent.process import checkpoint, images
from podferry_agent.runtime import pods

log = logging.getLogger(__name__)

ACCEPT_QUEUE_SECONDS = 0.5
"""How long a running application may take to accept what its kernel has accepted already, before it is frozen."""

RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Pauses between attempts to reach the target after Commit; the last repeats."""


class Connections(Protocol):
    """The engine's entry points: `connections.source` for real, a fake kernel in tests."""

    def open(self, netns: Path, name: str) -> contextlib.AbstractContextManager[engine.Source]:
        """Stand in a network namespace with the engine's source half."""

    def recover(self, netns: Path, name: str, pids: list[int]) -> None:
        """Undo what an earlier life of the agent may have done to the connections of these processes."""


class Freezer(Protocol):
    """`process.freezer`."""

    def freeze(self, cgroups: Sequence[Path], deadline: float) -> None:
        """Freeze all at once; return when every task stands still."""

    def thaw(self, cgroups: Sequence[Path]) -> None:
        """Let all run again; frozen or not."""

    def pids(self, cgroup: Path) -> list[int]:
        """Return the processes in one."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What the composition root gives to every source migration; all that touches the machine is in here."""

    pods: pods.PodView
    freezer: Freezer
    checkpointer: checkpoint.Checkpointer
    connections: Connections
    sessions: sessions.SessionFactory
    clock: clocks.Clock
    faults: faults.Faults
    images: Path
    """Directory on tmpfs below which the image sets of each migration are written."""


class SourceMigration:
    """One migration away from this node. `run` is the body of its thread; the other methods may be called from any."""

    def __init__(
        self, order: agent_pb2.StartRequest, journal: journals.Journal, progress: progresses.Progress, tools: Tools
    ) -> None:
        self.order, self.progress = order, progress
        self._journal, self._tools = journal, tools
        self._name = ids.object_name(order.migration_id)
        self._directory = tools.images / self._name
        self._undo = undo.UndoStack()
        self._session = tools.sessions(order)
        self._decision = threading.Lock()
        self._abort: str | None = None
        self._frozen_at = 0

    # --- from other threads

    def abort(self, message: str) -> None:
        """Make an uncommitted migration roll back; it is done when the report has an outcome.

        Raises:
            Permanent: it is committed (reason AlreadyCommitted).
        """
        with self._decision:
            if self._journal.has("committed"):
                raise errors.Permanent("the migration is committed and can only be finished", reason="AlreadyCommitted")
            if self._abort is None:
                self._abort = message
        self._session.cancel()

    def remove(self) -> None:
        """Forget the migration."""
        self._journal.remove()

    # --- the forward way

    def run(self) -> None:
        """Run the migration to an outcome, or take up one that an earlier life of the agent left."""
        try:
            if not self._journal.has("started"):
                self._journal.record("started", order=base64.b64encode(self.order.SerializeToString()).decode())
                self._forward()
            elif not self._journal.has("committed"):
                self._recover()
                raise errors.RolledBack("the source agent was restarted before Commit", reason="AgentRestarted")
            else:
                self._finish(self._redo())
        except Exception as error:
            self._roll_back(error)

    def _forward(self) -> None:
        with self._tools.connections.open(self._pod.netns, self._name) as connections:
            deadline = self._freeze(connections)
            self._send(deadline)
            self._restore(deadline)
            self._flush(connections, deadline)
            self._finish(self._cut(connections, deadline))

    @property
    def _pod(self) -> pods.Pod:
        return self._tools.pods.find(self.order.source_pod.uid)

    def _freeze(self, connections: engine.Source) -> float:
        self._session.open(resume=False)
        self._check()
        pod = self._pod
        names = [container.name for container in pod.containers]
        if sorted(names) != sorted(self.order.containers):
            message = f"the pod runs {names}, the order names {list(self.order.containers)}"
            raise errors.Permanent(message, reason="PodChanged")
        cgroups = [container.cgroup for container in pod.containers]
        self.progress.enter(Step.FREEZE)
        self._journal.record("freezing", netns=str(pod.netns), cgroups=[str(cgroup) for cgroup in cgroups])
        self._undo.push("wipe the images", self._wipe)
        self._undo.push("thaw the containers", lambda: self._tools.freezer.thaw(cgroups))
        self._undo.push(
            "reopen the connections", connections.undo
        )  # runs before the thaw: tasks never meet a socket in repair
        connections.hold()
        if (
            not connections.accept_queues_empty(time.monotonic() + ACCEPT_QUEUE_SECONDS)
            and not self.order.close_unmovable
        ):
            raise errors.RolledBack("the application leaves connections unaccepted", reason="UnacceptedConnections")
        deadline = time.monotonic() + self.order.freeze_budget_seconds
        self._frozen_at = self._tools.clock.monotonic()
        self._tools.freezer.freeze(cgroups, deadline)
        self._reach(faults.FaultPoint.FREEZE_DONE)
        return deadline

    def _send(self, deadline: float) -> None:
        self.progress.enter(Step.SAVE)
        pod = self._pod
        for container in pod.containers:
            saved = self._tools.checkpointer.save(
                pod,
                container,
                self._directory / container.name,
                first=container is pod.containers[0],
                deadline=deadline,
            )
            self.progress.update(lambda report, saved=saved: _add(report, "memory_bytes", saved.memory_bytes))
            self._check()
        self._reach(faults.FaultPoint.SAVE_DONE)
        self.progress.enter(Step.SEND)
        total = sum(images.size(self._directory / container.name) for container in pod.containers)
        self.progress.update(lambda report: setattr(report, "image_bytes", total))
        self._reach(faults.FaultPoint.SEND_STARTED)
        for container in pod.containers:
            self._session.send_images(container.name, self._directory / container.name, self._count_sent, deadline)

    def _count_sent(self, sent: int) -> None:
        self.progress.update(lambda report: _add(report, "image_bytes_sent", sent))

    def _restore(self, deadline: float) -> None:
        self.progress.enter(Step.RESTORE)
        self._session.restore(deadline)
        self._check()

    def _flush(self, connections: engine.Source, deadline: float) -> None:
        self.progress.enter(Step.FLUSH)
        count = connections.collect({c.name: self._tools.freezer.pids(c.cgroup) for c in self._pod.containers})
        if self.order.flush:
            connections.flush()
        self._session.prepare(count, deadline)
        if self.order.flush:
            connections.drained(deadline)
        self._reach(faults.FaultPoint.FLUSH_DONE)

    def _cut(self, connections: engine.Source, deadline: float) -> agent_pb2.Resumed:
        self.progress.enter(Step.CUT)
        locked_at = self._tools.clock.monotonic()
        connections.lock()
        self._reach(faults.FaultPoint.CUT_LOCKED)
        count, digest = self._session.rebuild(self._sent(connections.batches()), deadline)
        if (count, digest) != (connections.count, connections.digest):
            raise errors.RolledBack(
                f"{connections.count} connections sent, {count} rebuilt", reason="RebuildIncomplete"
            )
        self.progress.enter(Step.COMMIT)
        self._reach(faults.FaultPoint.COMMIT_BEFORE_JOURNAL)
        self._commit(deadline)
        self._reach(faults.FaultPoint.COMMIT_AFTER_JOURNAL)
        connections.detach()
        self.progress.enter(Step.RESUME)
        resumed = self._deliver()
        now = self._tools.clock.monotonic()
        dead = (now - locked_at) / 1e9 - resumed.since_unlock_seconds
        freeze = (now - self._frozen_at) / 1e9 - resumed.since_release_seconds
        self.progress.update(lambda report: _measured(report, dead, freeze))
        return resumed

    def _sent(self, batches: Iterator[bytes]) -> Iterator[bytes]:
        yield from batches
        self._reach(faults.FaultPoint.CUT_SNAPSHOT_SENT)

    def _commit(self, deadline: float) -> None:
        """Decide: behind this line in the journal there is no way back."""
        with self._decision:
            self._check(deadline)
            self._journal.record("committed", durable=True)

        def change(report: agent_pb2.Report) -> None:
            report.committed = True

        self.progress.update(change)

    # --- after the decision

    def _deliver(self) -> agent_pb2.Resumed:
        """Tell the target until it has resumed; the stream that carried the cut is as good as any, but may be gone."""
        attempt = 0
        while True:
            try:
                if attempt:
                    self._session.open(resume=True)
                return self._session.commit()
            except errors.PodferryError as error:
                log.warning("%s: committed, target not resumed yet: %s", self._name, error)
                self.progress.update(lambda report, error=error: setattr(report, "message", str(error)))
                time.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
                attempt += 1

    def _redo(self) -> agent_pb2.Resumed:
        """Take up a committed migration after a restart; the containers stay frozen behind the lock."""
        self.progress.restore(Step.RESUME)
        self.progress.update(lambda report: setattr(report, "committed", True))
        facts = self._journal.facts("freezing") or {}
        if Path(facts["netns"]).exists():
            with self._tools.connections.open(Path(facts["netns"]), self._name) as connections:
                connections.detach()
        self._session.open(resume=True)
        return self._deliver()

    def _finish(self, resumed: agent_pb2.Resumed) -> None:
        del resumed
        try:
            self.progress.audit(self._session.audit())
        except errors.PodferryError as error:
            log.warning("%s: resumed, but its audit was lost: %s", self._name, error)
        self.progress.enter(Step.CLEANUP)
        self._wipe()
        self._end(agent_pb2.SUCCEEDED, "Resumed", "the pod runs on the target; its source waits frozen to be deleted")

    # --- the way back

    def _roll_back(self, error: Exception) -> None:
        if self._journal.has(
            "committed"
        ):  # a fault in our own book-keeping: the decision stands, the journal remembers it
            log.exception("%s: failed after Commit; a restart takes it up again", self._name)
            self._end(agent_pb2.INCONSISTENT, "FailedAfterCommit", str(error))
            return
        log.warning("%s: rolling back in %s: %s", self._name, self.progress.step, error, exc_info=error)
        known = (
            error if isinstance(error, errors.PodferryError) else errors.RolledBack(f"{type(error).__name__}: {error}")
        )
        reason, message = ("Aborted", self._abort) if self._abort is not None else (known.reason, known.message)
        failures = self._undo.unwind()
        self._session.rollback(reason, message)
        if failures:
            self._end(agent_pb2.INCONSISTENT, "UndoFailed", f"{message}; not undone: {'; '.join(failures)}")
        else:
            self._end(agent_pb2.ROLLED_BACK, reason, message)

    def _recover(self) -> None:
        """Put the undo of everything that an earlier life may have done on the stack; `_roll_back` unwinds it."""
        facts = self._journal.facts("freezing")
        self._undo.push("wipe the images", self._wipe)
        if facts is None:
            return
        self.progress.restore(Step.FREEZE)
        cgroups = [Path(cgroup) for cgroup in facts["cgroups"] if Path(cgroup).exists()]
        self._undo.push("thaw the containers", lambda: self._tools.freezer.thaw(cgroups))
        if Path(facts["netns"]).exists():
            pids = [pid for cgroup in cgroups for pid in self._tools.freezer.pids(cgroup)]
            netns = Path(facts["netns"])
            self._undo.push("reopen the connections", lambda: self._tools.connections.recover(netns, self._name, pids))

    def _end(self, outcome: agent_pb2.Outcome, reason: str, message: str) -> None:
        self.progress.finish(outcome, reason, message)
        if outcome != agent_pb2.INCONSISTENT:
            self._journal.record(
                "finished", report=base64.b64encode(self.progress.snapshot().SerializeToString()).decode()
            )
        self._session.cancel()

    def _wipe(self) -> None:
        images.wipe(self._directory)

    def _check(self, deadline: float | None = None) -> None:
        if self._abort is not None:
            raise errors.RolledBack(self._abort, reason="Aborted")
        if deadline is not None and time.monotonic() > deadline:
            budget = self.order.freeze_budget_seconds
            raise errors.RolledBack(f"frozen for more than {budget:g} s", reason="FreezeBudgetExceeded")

    def _reach(self, point: faults.FaultPoint) -> None:
        self._tools.faults.reach(point)
        self._check()


def _add(report: agent_pb2.Report, field: str, value: int) -> None:
    setattr(report, field, getattr(report, field) + value)


def _measured(report: agent_pb2.Report, dead: float, freeze: float) -> None:
    report.connections.dead_seconds = max(0.0, dead)
    report.freeze_seconds = freeze

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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from podferry import clock as clocks
from podferry import errors, faults, ids
from podferry.steps import Step
from podferry.tcp import inventory
from podferry.wire import agent_pb2
from podferry_agent.connections import backend
from podferry_agent.connections import source as engine
from podferry_agent.migration import audits, host, undo
from podferry_agent.migration import journal as journals
from podferry_agent.migration import progress as progresses
from podferry_agent.migration import session as sessions
from podferry_agent.process import checkpoint, images
from podferry_agent.runtime import pods

log = logging.getLogger(__name__)

ACCEPT_QUEUE_SECONDS = 0.5
"""How long a running application may take to accept what its kernel has accepted already, before it is frozen."""

DRAIN_SECONDS = 1.0
"""How long a flush may wait for what is in flight; data dropped at the lock after it is retransmitted, not lost."""

RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Pauses between attempts to reach the target after Commit; the last repeats."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What the composition root gives to every source migration; all that touches the machine is in here."""

    pods: pods.PodView
    freezer: host.Freezer
    checkpointer: checkpoint.Checkpointer
    connections: backend.Backend
    sessions: sessions.SessionFactory
    clock: clocks.Clock
    faults: faults.Faults
    audits: audits.AuditFiles
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
        self.session = tools.sessions(order)
        self._resources = contextlib.ExitStack()
        self._decision = threading.Lock()
        self._abort: str | None = None
        self._frozen_at = self._locked_at = 0
        self._connections: engine.Source | None = None
        self._moving: tuple[str, ...] = ()

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
        self.session.cancel()

    def remove(self) -> None:
        """Forget the migration."""
        self._journal.remove()

    # --- the way forward

    def run(self) -> None:
        """Run the migration to an outcome, or take up one that an earlier life of the agent left."""
        try:
            if not self._journal.has("committed"):
                self._decide()
            self._finish()
        except Exception as error:
            self._roll_back(error)
        finally:
            self._resources.close()

    def _decide(self) -> None:
        """Go as far as the decision to commit; whatever raises on the way is undone."""
        if self._journal.has("started"):
            self._recover()
            raise errors.RolledBack("the source agent was restarted before Commit", reason="AgentRestarted")
        self._journal.record("started", order=base64.b64encode(self.order.SerializeToString()).decode())
        pod = self._tools.pods.find(self.order.source_pod.uid).ordered(self.order.containers)
        connections = self._stand(pod.netns)
        self.session.open(resume=False)
        self._check()
        deadline = self._freeze(pod, connections)
        self._save(pod, deadline)
        self._send(pod, deadline)
        self._restore(deadline)
        self._flush(pod, connections, deadline)
        self._cut(connections, deadline)

    def _freeze(self, pod: pods.Pod, connections: engine.Source) -> float:
        """Freeze; return when the budget ends (monotonic seconds)."""
        cgroups = [container.cgroup for container in pod.containers]
        self.progress.enter(Step.FREEZE)
        self._journal.record("freezing", netns=str(pod.netns), cgroups=[str(cgroup) for cgroup in cgroups])
        self._undo.push("wipe the images", self._wipe)
        self._undo.push("thaw the containers", lambda: self._tools.freezer.thaw(cgroups))
        # Undone before the thaw, so that no task meets a socket in repair mode.
        self._undo.push("reopen the connections", connections.undo)
        connections.hold()
        accepted = connections.accept_queues_empty(time.monotonic() + ACCEPT_QUEUE_SECONDS)
        if not accepted and not self.order.close_unmovable:
            raise errors.RolledBack("the application leaves connections unaccepted", reason="UnacceptedConnections")
        deadline = time.monotonic() + self.order.freeze_budget_seconds
        self._frozen_at = self._tools.clock.monotonic()
        self._tools.freezer.freeze(cgroups, deadline)
        self._reach(faults.FaultPoint.FREEZE_DONE)
        return deadline

    def _save(self, pod: pods.Pod, deadline: float) -> None:
        self.progress.enter(Step.SAVE)
        for container in pod.containers:
            directory = self._directory / container.name
            saved = self._tools.checkpointer.save(pod, container, directory, deadline=deadline)
            self.progress.add(memory_bytes=saved.memory_bytes)
            self._check()
        self._reach(faults.FaultPoint.SAVE_DONE)

    def _send(self, pod: pods.Pod, deadline: float) -> None:
        self.progress.enter(Step.SEND)
        total = sum(images.size(self._directory / container.name) for container in pod.containers)
        self.progress.set(image_bytes=total)
        self._reach(faults.FaultPoint.SEND_STARTED)
        for container in pod.containers:
            self.session.send_images(container.name, self._directory / container.name, self._sent_images, deadline)

    def _sent_images(self, size: int) -> None:
        self.progress.add(image_bytes_sent=size)

    def _restore(self, deadline: float) -> None:
        self.progress.enter(Step.RESTORE)
        self.session.restore(deadline)
        self._check()

    def _flush(self, pod: pods.Pod, connections: engine.Source, deadline: float) -> None:
        self.progress.enter(Step.FLUSH)
        count = connections.collect({c.name: self._tools.freezer.pids(c.cgroup) for c in pod.containers})
        if connections.unmovable and not self.order.close_unmovable:
            named = "; ".join(f"{one.socket} of {one.process}: {one.message}" for one in connections.unmovable)
            raise errors.RolledBack(f"sockets cannot move: {named}", reason="UnmovableConnections")
        self.session.prepare(count, deadline)
        self.session.send(connections.early_batches(), deadline)
        if self.order.flush:
            connections.flush()
            self._moving = connections.drained(min(deadline, time.monotonic() + DRAIN_SECONDS))
            if self._moving:
                log.warning("%s: still in flight at the bound: %s", self._name, ", ".join(self._moving))
        self._reach(faults.FaultPoint.FLUSH_DONE)

    def _cut(self, connections: engine.Source, deadline: float) -> None:
        self.progress.enter(Step.CUT)
        self._locked_at = self._tools.clock.monotonic()
        connections.lock()
        self._reach(faults.FaultPoint.CUT_LOCKED)
        count, digest = self.session.rebuild(self._sent(connections.batches()), deadline)
        if (count, digest) != (connections.count, connections.digest):
            message = f"{connections.count} connections sent, {count} rebuilt"
            raise errors.RolledBack(message, reason="RebuildIncomplete")
        self.progress.enter(Step.COMMIT)
        self._reach(faults.FaultPoint.COMMIT_BEFORE_JOURNAL)
        with self._decision:
            self._check(deadline)
            closed = _closed(connections.unmovable)
            self._journal.record("committed", durable=True, closed=closed, moving=self._moving)

    def _sent(self, batches: Iterator[bytes]) -> Iterator[bytes]:
        yield from batches
        self._reach(faults.FaultPoint.CUT_SNAPSHOT_SENT)

    # --- after the decision

    def _finish(self) -> None:
        """Make the target resume, whatever it takes; the containers stay frozen behind the lock."""
        if self.progress.step is None:
            self.progress.restore(Step.COMMIT)
        self.progress.set(committed=True)
        self.progress.enter(Step.RESUME)
        self._insist(self._resume)
        self.progress.enter(Step.CLEANUP)
        self._insist(lambda _: self._wipe())
        self._end(agent_pb2.SUCCEEDED, "Resumed", "the pod runs on the target; its source waits frozen to be deleted")

    def _resume(self, attempt: int) -> None:
        self._tools.faults.reach(faults.FaultPoint.COMMIT_AFTER_JOURNAL)
        self._detach()
        if attempt or not self._locked_at:  # the stream that carried the cut is gone, or another life's
            self.session.open(resume=True)
        resumed = self.session.commit()
        if self._locked_at:
            now = self._tools.clock.monotonic()
            dead = (now - self._locked_at) / 1e9 - resumed.since_unlock_seconds
            freeze = (now - self._frozen_at) / 1e9 - resumed.since_release_seconds
            self.progress.update(lambda report: _measured(report, dead, freeze))
        facts = self._journal.facts("committed") or {}
        kept = self.session.audit()
        for one in kept:
            still = self.order.flush and f"{one.local} {one.peer}" not in facts["moving"]
            one.flushed = still and one.fate == "kept"
        fates = [*kept, *(agent_pb2.ConnectionAudit(**one) for one in facts["closed"])]
        self.progress.audit(fates)
        self._tools.audits.write(self.order.migration_id, fates)

    def _stand(self, netns: Path) -> engine.Source:
        """Stand in the pod's network; left only when there is an outcome, since undoing needs what is held there."""
        if self._connections is None:
            self._connections = self._resources.enter_context(self._tools.connections.open(netns, self._name))
        return self._connections

    def _detach(self) -> None:
        netns = Path((self._journal.facts("freezing") or {})["netns"])
        if netns.exists():
            self._stand(netns).detach()

    def _insist(self, action: Callable[[int], object]) -> None:
        """Call `action` with the number of the attempt until it does not raise."""
        attempt = 0
        while True:
            try:
                action(attempt)
            except Exception as error:
                log.warning("%s: committed, not finished yet: %s", self._name, error, exc_info=error)
                self.progress.set(message=errors.tail(str(error)))
                time.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
                attempt += 1
            else:
                return

    # --- the way back

    def _roll_back(self, error: Exception) -> None:
        log.warning("%s: rolling back in %s: %s", self._name, self.progress.step, error, exc_info=error)
        known = (
            error if isinstance(error, errors.PodferryError) else errors.RolledBack(f"{type(error).__name__}: {error}")
        )
        reason, message = ("Aborted", self._abort) if self._abort is not None else (known.reason, known.message)
        if reason == "DeadlineExceeded":
            reason, message = "FreezeBudgetExceeded", f"{self._over_budget}: {message}"
        failures = self._undo.unwind()
        self.session.rollback(reason, message)
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
        netns = Path(facts["netns"])
        cgroups = [Path(cgroup) for cgroup in facts["cgroups"] if Path(cgroup).exists()]
        self._undo.push("thaw the containers", lambda: self._tools.freezer.thaw(cgroups))
        if netns.exists():
            pids = [pid for cgroup in cgroups for pid in self._tools.freezer.pids(cgroup)]
            self._undo.push("reopen the connections", lambda: self._tools.connections.recover(netns, self._name, pids))

    def _end(self, outcome: agent_pb2.Outcome, reason: str, message: str) -> None:
        self.progress.finish(outcome, reason, message)
        if outcome != agent_pb2.INCONSISTENT:
            report = self.progress.snapshot().SerializeToString()
            self._journal.record("finished", report=base64.b64encode(report).decode())
        self.session.cancel()

    def _wipe(self) -> None:
        images.wipe(self._directory)

    def _check(self, deadline: float | None = None) -> None:
        if self._abort is not None:
            raise errors.RolledBack(self._abort, reason="Aborted")
        if deadline is not None and time.monotonic() > deadline:
            raise errors.RolledBack(self._over_budget, reason="FreezeBudgetExceeded")

    @property
    def _over_budget(self) -> str:
        return f"frozen for more than {self.order.freeze_budget_seconds:g} s"

    def _reach(self, point: faults.FaultPoint) -> None:
        self._tools.faults.reach(point)
        self._check()


def _closed(unmovable: Sequence[inventory.Unmovable]) -> list[dict[str, str]]:
    """Return the fate of the sockets that stay behind and are given up, as fields of a ConnectionAudit."""
    audits = []
    for one in unmovable:
        _, state, local, peer = one.socket.split()
        audits.append({"local": local, "peer": peer, "state": state, "fate": f"closed: {one.reason}: {one.message}"})
    return audits


def _measured(report: agent_pb2.Report, dead: float, freeze: float) -> None:
    report.connections.dead_seconds = max(0.0, dead)
    report.freeze_seconds = freeze

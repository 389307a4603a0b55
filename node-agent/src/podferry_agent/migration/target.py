"""A migration as its target runs it: wait, store, restore, rebuild, and on Commit resume.

The source leads; each method answers one of its messages (see agent.proto) in the thread of its session. Until
`rebuild` returns, the target undoes everything by itself when the session ends. From then on it is *in doubt*: the
source may have committed, so the target keeps the restored, stopped tasks behind the lock until the source (or, for a
source that rolled back, the operator) says which. After Commit it only goes forward, also in the next life of the
agent.

Journal of a target, in order: admitted (the order), restoring, restored (pids and network namespace), in-doubt,
committed, finished (the last report).
"""

from __future__ import annotations

import base64
import contextlib
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from podferry import clock as clocks
from podferry import errors, faults, ids
from podferry.steps import Step
from podferry.wire import agent_pb2
from podferry_agent.connections import backend
from podferry_agent.connections import target as engine
from podferry_agent.migration import host, undo
from podferry_agent.migration import journal as journals
from podferry_agent.migration import progress as progresses
from podferry_agent.process import images
from podferry_agent.runtime import hooks, pods

log = logging.getLogger(__name__)

WAKE_SECONDS = 10.0
"""How long window updates are repeated to a peer that does not answer; it has its own persist timer besides."""

KILL_SECONDS = 10.0
"""How long a killed container may take to be gone."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What the composition root gives to every target migration."""

    pods: pods.PodView
    hooks: hooks.Hooks
    freezer: host.Freezer
    tasks: host.Tasks
    connections: backend.Backend
    clock: clocks.Clock
    faults: faults.Faults
    images: Path
    """Directory on tmpfs below which received image sets and connection snapshots are kept."""


class TargetMigration:
    """One migration to this node."""

    def __init__(
        self, order: agent_pb2.AdmitRequest, journal: journals.Journal, progress: progresses.Progress, tools: Tools
    ) -> None:
        self.order, self.progress = order, progress
        self._journal, self._tools = journal, tools
        self._name = ids.object_name(order.migration_id)
        self._directory = tools.images / self._name
        self._undo = undo.UndoStack()
        self._lock = threading.RLock()
        self._resources = contextlib.ExitStack()
        self._connections: engine.Target | None = None

    # --- ordered by operator

    def admit(self) -> None:
        """Expect the migration: from now on the hook of the target pod's containers waits for it."""
        if not self._journal.has("admitted"):
            self._journal.record("admitted", order=base64.b64encode(self.order.SerializeToString()).decode())
            self.progress.enter(Step.PREPARE)
        self._undo.push(
            "give the waiting hook up", lambda: self._tools.hooks.abort(self.order.migration_id, "rolled back")
        )
        self._tools.hooks.expect(
            self.order.migration_id, self.order.target_pod.uid, list(self.order.containers), self._hook_waits
        )

    def renew(self, order: agent_pb2.AdmitRequest) -> None:
        """Take a new token and expiry for the same order, as long as no session has begun.

        Raises:
            Permanent: it would change anything else, or a session was opened already (reason OrderChanged).
        """
        with self._lock:
            fixed = ("source_node", "target_pod", "source_pod", "containers")
            if any(getattr(order, field) != getattr(self.order, field) for field in fixed):
                raise errors.Permanent("another order stands under this id", reason="OrderChanged")
            if self.progress.step != Step.PREPARE or self.progress.finished:
                raise errors.Permanent("the migration is under way", reason="OrderChanged")
            self.order = order
            self._journal.record("admitted", order=base64.b64encode(order.SerializeToString()).decode())

    def abort(self, reason: str, message: str) -> None:
        """Undo a migration that is not committed; only who knows that the source has not committed may call this.

        Raises:
            Permanent: it is committed (reason AlreadyCommitted).
        """
        with self._lock:
            if self._journal.has("committed"):
                raise errors.Permanent("the migration is committed and can only be finished", reason="AlreadyCommitted")
            if not self.progress.finished:
                self._roll_back(reason, message)

    def remove(self) -> None:
        """Forget the migration and what its hook still remembers."""
        self._tools.hooks.forget(self.order.migration_id)
        self._journal.remove()

    # --- led by the source

    def ready(self, timeout: float) -> None:
        """Wait until the first container's hook stands; Transient when it does not in time."""
        if not self._tools.hooks.waiting(self.order.migration_id, timeout):
            raise errors.Transient("the target pod's first container has not been created yet", reason="TargetNotReady")

    def receiver(self, manifest: agent_pb2.Manifest) -> images.Receiver:
        """Begin to receive the image set of one container."""
        if manifest.container not in self.order.containers:
            raise errors.InvalidInput("manifest.container", f"not ordered: {manifest.container!r}")
        self._undo.push("wipe the images", self._wipe)
        return images.Receiver(self._directory / manifest.container, manifest)

    def restore(self, deadline: float) -> list[agent_pb2.RestoredContainer]:
        """Let all containers be restored; their tasks stand stopped, their connections not yet rebuilt."""
        self.progress.enter(Step.RESTORE)
        self._journal.record("restoring")
        self._tools.faults.reach(faults.FaultPoint.TARGET_RESTORING)
        self._undo.push("kill the restored tree", self._kill)
        sets = {name: self._directory / name for name in self.order.containers}
        pids = self._tools.hooks.restore(self.order.migration_id, sets, deadline)
        tasks = self._tools.tasks
        cgroups = {name: str(tasks.cgroup(pid)) for name, pid in pids.items()}
        self._journal.record("restored", netns=str(tasks.netns(next(iter(pids.values())))), cgroups=cgroups)
        self._tools.faults.reach(faults.FaultPoint.TARGET_RESTORED)
        return [agent_pb2.RestoredContainer(name=name, pid=pid) for name, pid in pids.items()]

    def prepare(self) -> None:
        """Lock the flows and find the sockets that wait to be rebuilt."""
        self._enter()
        self._rebuilder.lock()
        self._rebuilder.find(self._pids())

    def rebuild(self, batch: bytes) -> None:
        """Rebuild one batch of connections in place; it is kept so that a next life can resume them."""
        with (self._directory / "connections").open("ab") as kept:
            kept.write(len(batch).to_bytes(4, "big") + batch)
        self._rebuilder.rebuild(batch)

    def rebuilt(self) -> tuple[int, bytes]:
        """Verify the whole set; from the answer on this target is in doubt."""
        self._rebuilder.verify()
        self._tools.faults.reach(faults.FaultPoint.TARGET_REBUILT)
        with self._lock:
            if self.progress.finished:
                raise errors.RolledBack(self.progress.snapshot().message, reason=self.progress.snapshot().reason)
            self._journal.record("in-doubt", count=self._rebuilder.count)
        return self._rebuilder.count, self._rebuilder.digest

    def commit(self) -> agent_pb2.Resumed:
        """Resume: network, windows, tasks. Idempotent; a second call repeats only what is not done yet."""
        with self._lock:
            if self.progress.finished:
                return finished(self.progress.snapshot())
            if not self._journal.has("in-doubt"):
                raise errors.Inconsistent("told to commit what was never rebuilt here", reason="CommitWithoutRebuild")
            if not self._journal.has("committed"):
                self._journal.record("committed", durable=True)
                order = self.order
                self._tools.hooks.commit(order.migration_id, order.target_pod.uid, list(order.containers))
                self.progress.set(committed=True)
                self.progress.enter(Step.RESUME)
            self._tools.faults.reach(faults.FaultPoint.TARGET_RESUMING)
            self._enter()
            self._rebuilder.resume()
            unlocked = time.monotonic()
            self._tools.tasks.resume(list(self._cgroups().values()))
            released = time.monotonic()
            self._tools.faults.reach(faults.FaultPoint.TARGET_RESUMED)
        now = time.monotonic()
        return agent_pb2.Resumed(since_unlock_seconds=now - unlocked, since_release_seconds=now - released)

    def audit(self) -> list[agent_pb2.ConnectionAudit]:
        """Repeat window updates until every peer has answered, then report each connection's fate and finish."""
        with self._lock:
            if not self.progress.finished:
                audits = [audit.to_wire() for audit in self._rebuilder.wake(time.monotonic() + WAKE_SECONDS)]
                self.progress.audit(audits)
                self._wipe()
                self._leave()
                self._end(agent_pb2.SUCCEEDED, "Resumed", "the pod runs here")
            return list(self.progress.snapshot().audit)

    def failed(self, error: errors.PodferryError) -> None:
        """Take a failed message or the end of the session: undo, unless it is in doubt or committed."""
        with self._lock:
            if not self.progress.finished and not self._journal.has("in-doubt"):
                self._roll_back(error.reason, error.message)

    # --- recovery

    def recover(self) -> None:
        """Take up what an earlier life of the agent left: undo it, or wait in doubt, or resume."""
        if self._journal.has("committed"):
            self.progress.restore(Step.RESUME)
            self.progress.set(committed=True)
            self.commit()
            self.audit()
        elif self._journal.has("in-doubt"):
            self.progress.restore(Step.CUT)
        else:
            self._undo.push("wipe the images", self._wipe)
            if self._journal.has("restoring"):
                self._undo.push("kill the restored tree", self._kill)
            self._undo.push(
                "give the hook up", lambda: self._tools.hooks.abort(self.order.migration_id, "agent restarted")
            )
            self._roll_back("AgentRestarted", "the target agent was restarted before Commit")

    # --- plumbing

    def _hook_waits(self) -> None:
        self.progress.set(hook_waiting=True)

    def _enter(self) -> None:
        """Stand in the pod's network namespace with the engine, rebuilt from the kept batches after a restart."""
        if self._connections is not None:
            return
        facts = self._journal.facts("restored") or {}
        opened = self._tools.connections.open_target(Path(facts["netns"]), self._name)
        self._connections = self._resources.enter_context(opened)
        self._undo.push("discard the connections", self._connections.discard)
        if self._journal.has("in-doubt"):
            self._rebuilder.find(self._pids())
            self._connections.recover(_batches(self._directory / "connections"))

    @property
    def _rebuilder(self) -> engine.Target:
        if self._connections is None:
            raise errors.Permanent("connections were sent before Prepare", reason="ProtocolError")
        return self._connections

    def _leave(self) -> None:
        self._resources.close()
        self._connections = None

    def _cgroups(self) -> dict[str, Path]:
        facts = self._journal.facts("restored") or {"cgroups": {}}
        return {name: Path(cgroup) for name, cgroup in facts["cgroups"].items()}

    def _pids(self) -> dict[str, Sequence[int]]:
        return {name: self._tools.freezer.pids(cgroup) for name, cgroup in self._cgroups().items()}

    def _kill(self) -> None:
        cgroups = list(self._cgroups().values())
        if not cgroups:  # killed in the middle of restoring: what the kubelet started is all there is
            with contextlib.suppress(errors.Permanent):
                pod = self._tools.pods.find(self.order.target_pod.uid)
                cgroups = [container.cgroup for container in pod.containers]
        for cgroup in cgroups:
            self._tools.tasks.kill(cgroup, time.monotonic() + KILL_SECONDS)

    def _wipe(self) -> None:
        images.wipe(self._directory)

    def _roll_back(self, reason: str, message: str) -> None:
        log.warning("%s: rolling back in %s: %s: %s", self._name, self.progress.step, reason, message)
        failures = self._undo.unwind()
        self._leave()
        if failures:
            self._end(agent_pb2.INCONSISTENT, "UndoFailed", f"{message}; not undone: {'; '.join(failures)}")
        else:
            self._end(agent_pb2.ROLLED_BACK, reason, message)

    def _end(self, outcome: agent_pb2.Outcome, reason: str, message: str) -> None:
        self.progress.finish(outcome, reason, message)
        if outcome != agent_pb2.INCONSISTENT:
            self._journal.record(
                "finished", report=base64.b64encode(self.progress.snapshot().SerializeToString()).decode()
            )


def finished(report: agent_pb2.Report) -> agent_pb2.Resumed:
    """Answer a commit of a migration that has its outcome: the source was cut off before it heard of it.

    Raises:
        Inconsistent: it did not end by resuming.
    """
    if report.outcome != agent_pb2.SUCCEEDED:
        raise errors.Inconsistent(f"told to commit what ended as {report.reason}", reason="CommitAfterRollback")
    return agent_pb2.Resumed()


def _batches(path: Path) -> list[bytes]:
    data, batches = path.read_bytes(), []
    while data:
        size = int.from_bytes(data[:4], "big")
        batches.append(data[4 : 4 + size])
        data = data[4 + size :]
    return batches

"""All migrations that this agent knows, by id and role; what the operator's calls act upon."""

from __future__ import annotations

import base64
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from podferry import errors, ids
from podferry.wire import agent_pb2
from podferry_agent.migration import journal as journals
from podferry_agent.migration import orders, progress, source, target

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Finished:
    """A migration of an earlier life of the agent: its order and its last report are left, and nothing to be done."""

    order: agent_pb2.AdmitRequest
    journal: journals.Journal
    progress: progress.Progress

    def abort(self, *_: str) -> None:
        """Do nothing: it has its outcome."""

    def failed(self, _: errors.PodferryError) -> None:
        """Do nothing: it has its outcome."""

    def commit(self) -> agent_pb2.Resumed:
        """Answer a source that was cut off before it heard that the target resumed."""
        return target.finished(self.progress.snapshot())

    def audit(self) -> list[agent_pb2.ConnectionAudit]:
        """Return what was found then."""
        return list(self.progress.snapshot().audit)

    def remove(self) -> None:
        """Forget it."""
        self.journal.remove()


class Migrations:
    """The migrations of this node. Safe to call from any thread."""

    def __init__(self, journal: journals.Journals, source_tools: source.Tools, target_tools: target.Tools) -> None:
        self._journals, self._source_tools, self._target_tools = journal, source_tools, target_tools
        self._lock = threading.Lock()
        self._sources: dict[str, source.SourceMigration | Finished] = {}
        self._targets: dict[str, target.TargetMigration | Finished] = {}

    def start(self, order: agent_pb2.StartRequest) -> agent_pb2.Report:
        """Run a migration away from this node in a thread of its own; a second start returns the first one's report."""
        orders.start(order)
        with self._lock:
            known = self._sources.get(order.migration_id)
            if known is None:
                moving = [known for known in self.sources() if not known.progress.finished]
                if any(other.order.source_pod.uid == order.source_pod.uid for other in moving):
                    raise errors.Permanent("another migration moves this pod", reason="PodBusy")
                known = self._start(order, self._journals.open(order.migration_id, "source"))
        return known.progress.snapshot()

    def admit(self, order: agent_pb2.AdmitRequest) -> agent_pb2.Report:
        """Expect a migration to this node; repeating the call renews token and expiry until a session is open."""
        orders.admit(order, self._target_tools.clock)
        with self._lock:
            known = self._targets.get(order.migration_id)
            if known is None:
                report = self._progress(order.migration_id, agent_pb2.TARGET)
                journal = self._journals.open(order.migration_id, "target")
                known = target.TargetMigration(order, journal, report, self._target_tools)
                self._targets[order.migration_id] = known
                known.admit()
            elif isinstance(known, target.TargetMigration):
                known.renew(order)
        return known.progress.snapshot()

    def target(self, opening: agent_pb2.Open, names: set[str]) -> target.TargetMigration | Finished:
        """Return the migration that a peer opens a session for, if it is the one that the operator ordered.

        Raises:
            Permanent: NotAuthorised or OrderExpired.
        """
        known = self._targets.get(opening.migration_id)
        if known is None:
            raise errors.Permanent("no such order for this peer", reason="NotAuthorised")
        orders.peer(known.order, opening, names, self._target_tools.clock)
        return known

    def sources(self) -> list[source.SourceMigration]:
        """Return the migrations away from this node that this life of the agent runs or ran."""
        return [known for known in self._sources.values() if isinstance(known, source.SourceMigration)]

    def watch(self, migration_id: str) -> progress.Progress:
        """Return what to watch: a node is source or target of a migration, never both.

        Raises:
            Permanent: reason NotFound.
        """
        known = self._sources.get(migration_id) or self._targets.get(migration_id)
        if known is None:
            raise errors.Permanent(f"no migration {migration_id} here", reason="NotFound")
        return known.progress

    def abort(self, migration_id: str, message: str) -> agent_pb2.Report:
        """Undo a migration that is not committed."""
        reports = self.watch(migration_id)
        if (moving := self._sources.get(migration_id)) is not None:
            moving.abort(message)
        if (coming := self._targets.get(migration_id)) is not None:
            coming.abort("Aborted", message)
        return reports.snapshot()

    def forget(self, migration_id: str) -> None:
        """Drop everything about a migration that has an outcome.

        Raises:
            Permanent: it is still running (reason StillRunning).
        """
        ids.migration_id(migration_id)
        with self._lock:
            for known in (self._sources, self._targets):
                if (migration := known.get(migration_id)) is not None:
                    if not migration.progress.finished:
                        raise errors.Permanent("the migration has no outcome yet", reason="StillRunning")
                    migration.remove()
                    del known[migration_id]

    def recover(self) -> Iterator[str]:
        """Take up what an earlier life of the agent left; yields a line for each migration, for the log."""
        for journal in self._journals.all():
            finished = journal.facts("finished")
            role = agent_pb2.SOURCE if journal.role == "source" else agent_pb2.TARGET
            if finished is not None:
                report = self._progress(journal.migration_id, role)
                last = agent_pb2.Report.FromString(base64.b64decode(finished["report"]))
                report.update(partial(_copy, last))
                admitted = journal.facts("admitted")
                order = agent_pb2.AdmitRequest.FromString(base64.b64decode(admitted["order"] if admitted else ""))
                done = Finished(order, journal, report)
                if role == agent_pb2.SOURCE:
                    self._sources[journal.migration_id] = done
                else:
                    self._targets[journal.migration_id] = done
                yield f"{journal.migration_id}: {journal.role}, finished"
            elif (started := journal.facts("started")) is not None:
                self._start(agent_pb2.StartRequest.FromString(base64.b64decode(started["order"])), journal)
                yield f"{journal.migration_id}: source, {'finishing' if journal.has('committed') else 'rolling back'}"
            elif (admitted := journal.facts("admitted")) is not None:
                order = agent_pb2.AdmitRequest.FromString(base64.b64decode(admitted["order"]))
                report = self._progress(order.migration_id, role)
                coming = target.TargetMigration(order, journal, report, self._target_tools)
                self._targets[order.migration_id] = coming
                threading.Thread(target=coming.recover, name=ids.object_name(order.migration_id), daemon=True).start()
                yield f"{journal.migration_id}: target, {'resuming' if journal.has('committed') else 'not committed'}"
            else:
                journal.remove()

    def _start(self, order: agent_pb2.StartRequest, journal: journals.Journal) -> source.SourceMigration:
        report = self._progress(order.migration_id, agent_pb2.SOURCE)
        migration = source.SourceMigration(order, journal, report, self._source_tools)
        self._sources[order.migration_id] = migration
        threading.Thread(target=migration.run, name=ids.object_name(order.migration_id), daemon=True).start()
        return migration

    def _progress(self, migration_id: str, role: agent_pb2.Role) -> progress.Progress:
        return progress.Progress(migration_id, role, self._source_tools.clock)


def _copy(last: agent_pb2.Report, current: agent_pb2.Report) -> None:
    current.CopyFrom(last)

"""The report of one migration: written by its own thread, read by any number of watchers.

Reports are whole states (see agent.proto): a watcher that misses some loses nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from podferry import clock as clocks
from podferry import errors, steps
from podferry.wire import agent_pb2

AUDIT_LIMIT = 100
"""Most connections named one by one in a report, so that it fits into a Kubernetes status."""


class Progress:
    """The current report of a migration in one role, with its step timings."""

    def __init__(self, migration_id: str, role: agent_pb2.Role, clock: clocks.Clock) -> None:
        self._clock = clock
        self._lead = steps.Lead.SOURCE if role == agent_pb2.SOURCE else steps.Lead.TARGET
        self._changed = threading.Condition()
        self._report = agent_pb2.Report(migration_id=migration_id, role=role)
        self._version = 0

    @property
    def step(self) -> steps.Step | None:
        """Return the step that was entered last."""
        return steps.Step(self._report.step) if self._report.step else None

    @property
    def finished(self) -> bool:
        """Tell whether an outcome is set."""
        return self._report.outcome != agent_pb2.RUNNING

    def enter(self, step: steps.Step) -> None:
        """Begin `step`, ending the one before it.

        Raises:
            Inconsistent: the table of steps knows no such move.
        """
        if self.step is not None and not steps.legal(self.step, step, self._lead):
            raise errors.Inconsistent(f"no step leads from {self.step} to {step}", reason="IllegalStep")
        self.restore(step)

    def restore(self, step: steps.Step) -> None:
        """Stand in `step` without having come from the one before: a restarted agent goes on where the journal ends."""
        now = self._clock.wall()

        def change(report: agent_pb2.Report) -> None:
            _end(report, now)
            report.step = step
            report.timings.add(step=step, started_unix_ns=now)

        self.update(change)

    def finish(self, outcome: agent_pb2.Outcome, reason: str, message: str) -> None:
        """Set the outcome; the report changes no more."""
        now = self._clock.wall()

        def change(report: agent_pb2.Report) -> None:
            _end(report, now)
            report.outcome, report.reason, report.message = outcome, reason, errors.tail(message)

        self.update(change)

    def update(self, change: Callable[[agent_pb2.Report], object]) -> None:
        """Change the report under the lock and wake all watchers."""
        with self._changed:
            change(self._report)
            self._version += 1
            self._changed.notify_all()

    def set(self, **fields: float | str) -> None:
        """Set fields of the report by name."""

        def change(report: agent_pb2.Report) -> None:
            for field, value in fields.items():
                setattr(report, field, value)

        self.update(change)

    def add(self, **fields: int) -> None:
        """Add to counters of the report by name."""

        def change(report: agent_pb2.Report) -> None:
            for field, more in fields.items():
                setattr(report, field, getattr(report, field) + more)

        self.update(change)

    def audit(self, audits: list[agent_pb2.ConnectionAudit]) -> None:
        """Enter each connection's fate: all in the totals, the first AUDIT_LIMIT by name."""

        def change(report: agent_pb2.Report) -> None:
            totals = report.connections
            totals.total = len(audits)
            totals.kept = sum(1 for audit in audits if audit.fate == "kept")
            totals.closed = totals.total - totals.kept
            totals.flushed = sum(audit.flushed for audit in audits)
            totals.bytes_queued = sum(audit.bytes_queued for audit in audits)
            del report.audit[:]
            report.audit.extend(audits[:AUDIT_LIMIT])

        self.update(change)

    def snapshot(self) -> agent_pb2.Report:
        """Return a copy of the report."""
        with self._changed:
            return self._copy()

    def watch(self, active: Callable[[], bool], poll: float = 1.0) -> Iterator[agent_pb2.Report]:
        """Yield the report now and after each change, until one with an outcome, or until `active` says no.

        `active` is asked at least every `poll` seconds.
        """
        seen = -1

        def news() -> bool:
            return self._version != seen

        while True:
            with self._changed:
                changed = self._changed.wait_for(news, timeout=poll)
                report, seen = self._copy(), self._version
            if changed:
                yield report
            if report.outcome != agent_pb2.RUNNING or not active():
                return

    def _copy(self) -> agent_pb2.Report:
        copy = agent_pb2.Report()
        copy.CopyFrom(self._report)
        return copy


def _end(report: agent_pb2.Report, now: int) -> None:
    if report.timings and not report.timings[-1].finished_unix_ns:
        report.timings[-1].finished_unix_ns = now

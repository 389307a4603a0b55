"""A fake node agent: the real protocol over real mutual TLS, scripted by tests, with nothing behind it.

It keeps what a real agent keeps in its journal across `stop` and `start`, and refuses what a real one refuses:
strangers, migrations that it does not know, an abort after Commit. Source and target of a migration find each other
through the `peers` that they were given.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, cast

import grpc

from podferry import ids, steps
from podferry.steps import Step
from podferry.wire import agent_pb2, agent_pb2_grpc

SOURCE_STEPS = (Step.FREEZE, Step.SAVE, Step.SEND, Step.RESTORE, Step.FLUSH, Step.CUT, Step.COMMIT, Step.RESUME)
GATE_SECONDS = 60.0
"""How long a held step waits for its release; longer than any test may take."""


@dataclass(slots=True)
class Script:
    """What a fake agent pretends."""

    capabilities: dict[str, Any] = field(default_factory=dict)
    """Fields of the node's Capabilities that differ from a capable node's."""
    inspection: agent_pb2.Inspection = field(
        default_factory=lambda: agent_pb2.Inspection(containers=["main"], memory_bytes=12 << 20, connections=3)
    )
    fail_at: Step | None = None
    """As source: fail in this step, and roll back if it is before Commit."""
    hold_at: set[Step] = field(default_factory=set)
    """As source: wait at the beginning of each of these steps until `FakeAgent.release`."""
    step_seconds: float = 0.01


@dataclass(slots=True)
class Entry:
    """One migration as its agent knows it."""

    report: agent_pb2.Report
    order: agent_pb2.AdmitRequest | agent_pb2.StartRequest
    aborted: str = ""
    version: int = 0


class Refusal(Exception):
    """A call ends with this status."""

    def __init__(self, code: grpc.StatusCode, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message


class FakeAgent(agent_pb2_grpc.AgentServicer):
    """The agent of one node. `calls` lists what the operator asked, in order."""

    def __init__(self, node: str, address: str, port: int, tls_dir: Path, peers: dict[str, FakeAgent]) -> None:
        self.node, self.address, self.port = node, address, port
        self.script = Script()
        self.calls: list[str] = []
        self.entries: dict[str, Entry] = {}
        self.hooks: set[str] = set()
        """UIDs of the pods whose hook waits on this node; see `hook_arrived`."""
        self._tls_dir, self._peers = tls_dir, peers
        peers[node] = self
        self._changed = threading.Condition()
        self._server: grpc.Server | None = None

    # --- for tests

    def start(self) -> None:
        """Serve, after a `stop` with the same memory."""
        server = grpc.server(futures.ThreadPoolExecutor(32), options=[("grpc.so_reuseport", 0)])
        agent_pb2_grpc.add_AgentServicer_to_server(self, server)
        ca, certificate, key = ((self._tls_dir / name).read_bytes() for name in ("ca.crt", "tls.crt", "tls.key"))
        credentials = grpc.ssl_server_credentials([(key, certificate)], ca, require_client_auth=True)
        server.add_secure_port(f"{self.address}:{self.port}", credentials)
        server.start()
        self._server = server

    def stop(self) -> None:
        """Stop answering; migrations under way go on."""
        if self._server is not None:
            self._server.stop(0).wait(5)
            self._server = None

    def lose_memory(self) -> None:
        """Forget every migration, as a node that was installed anew."""
        with self._changed:
            self.entries.clear()
            self._changed.notify_all()

    def hook_arrived(self, pod_uid: str) -> None:
        """The runtime created the first container of the pod: its hook waits if the migration is ordered."""
        with self._changed:
            self.hooks.add(pod_uid)
            for entry in self.entries.values():
                if isinstance(entry.order, agent_pb2.AdmitRequest) and entry.order.target_pod.uid == pod_uid:
                    self._set(entry, hook_waiting=True)

    def resumed(self, pod_uid: str) -> bool:
        """Tell whether the processes of the pod run here."""
        with self._changed:
            return any(
                entry.report.outcome == agent_pb2.SUCCEEDED
                for entry in self.entries.values()
                if isinstance(entry.order, agent_pb2.AdmitRequest) and entry.order.target_pod.uid == pod_uid
            )

    def wait_for(self, step: Step, seconds: float = 20.0) -> None:
        """Wait until some migration of this source is in `step`; AssertionError when none comes there in time."""
        with self._changed:
            there = self._changed.wait_for(
                lambda: any(entry.report.step == step for entry in self.entries.values()), seconds
            )
        assert there, f"agent {self.node}: no migration came to {step} within {seconds} s"  # noqa: S101

    def release(self, *held: Step) -> None:
        """Let migrations go on from these steps, from all when none is named."""
        with self._changed:
            self.script.hold_at -= set(held) or set(Step)
            self._changed.notify_all()

    # --- the service

    def Probe(self, request: agent_pb2.ProbeRequest, context: grpc.ServicerContext) -> agent_pb2.Capabilities:  # noqa: N802
        """Answer as the script says."""
        self._note("Probe", context)
        capable: dict[str, Any] = {
            "node": self.node,
            "version": "fake",
            "kernel": "6.1.0",
            "criu": "3.17.1",
            "runtime": "runc 1.1.5",
            "backends": ["repair"],
            "cpu_features": ["avx", "sse4_2"],
            "machine": "x86_64",
            "memory_available_bytes": 1 << 30,
            "clock_unix_ns": time.time_ns(),
        }
        return agent_pb2.Capabilities(**(capable | self.script.capabilities))

    def Inspect(self, request: agent_pb2.InspectRequest, context: grpc.ServicerContext) -> agent_pb2.Inspection:  # noqa: N802
        """Answer as the script says."""
        self._note("Inspect", context)
        return self.script.inspection

    def Admit(self, request: agent_pb2.AdmitRequest, context: grpc.ServicerContext) -> agent_pb2.Report:  # noqa: N802
        """Take the order of a target, or a new token for it."""
        self._note("Admit", context)
        with self._changed:
            entry = self.entries.get(request.migration_id)
            if entry is None:
                report = agent_pb2.Report(
                    migration_id=request.migration_id, role=agent_pb2.TARGET, step=Step.PREPARE.value
                )
                entry = self.entries[request.migration_id] = Entry(report, request)
            elif entry.report.step != Step.PREPARE or entry.report.outcome != agent_pb2.RUNNING:
                self._refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "OrderChanged", "the migration is under way")
            entry.order = request
            self._set(entry, hook_waiting=request.target_pod.uid in self.hooks)
            return _copy(entry.report)

    def Start(self, request: agent_pb2.StartRequest, context: grpc.ServicerContext) -> agent_pb2.Report:  # noqa: N802
        """Run the script in a thread; a second call changes nothing."""
        self._note("Start", context)
        with self._changed:
            entry = self.entries.get(request.migration_id)
            if entry is None:
                report = agent_pb2.Report(migration_id=request.migration_id, role=agent_pb2.SOURCE)
                entry = self.entries[request.migration_id] = Entry(report, request)
                threading.Thread(target=self._run, args=(entry, request), daemon=True).start()
            return _copy(entry.report)

    def Watch(self, request: agent_pb2.MigrationRef, context: grpc.ServicerContext) -> Iterator[agent_pb2.Report]:  # noqa: N802
        """Stream the report until it has an outcome."""
        self._operator_only(context)
        seen = -1
        while context.is_active():
            with self._changed:
                entry = self._entry(request.migration_id, context)
                if entry.version == seen:
                    self._changed.wait(0.2)
                    continue
                seen, report = entry.version, _copy(entry.report)
            yield report
            if report.outcome != agent_pb2.RUNNING:
                return

    def Abort(self, request: agent_pb2.AbortRequest, context: grpc.ServicerContext) -> agent_pb2.Report:  # noqa: N802
        """Undo, unless it is committed."""
        self._note("Abort", context)
        with self._changed:
            entry = self._entry(request.migration_id, context)
            if entry.report.committed:
                self._refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "AlreadyCommitted", "it is committed")
            entry.aborted = request.message or "aborted"
            self._changed.notify_all()
            if entry.report.role == agent_pb2.TARGET and entry.report.outcome == agent_pb2.RUNNING:
                self._set(entry, outcome=agent_pb2.ROLLED_BACK, reason="Aborted", message=entry.aborted)
            return _copy(entry.report)

    def Forget(self, request: agent_pb2.MigrationRef, context: grpc.ServicerContext) -> agent_pb2.ForgetReply:  # noqa: N802
        """Drop a finished migration; one that is not known is forgotten already."""
        self._note("Forget", context)
        with self._changed:
            entry = self.entries.get(request.migration_id)
            if entry is not None and entry.report.outcome == agent_pb2.RUNNING:
                self._refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "StillRunning", "it has no outcome yet")
            self.entries.pop(request.migration_id, None)
        return agent_pb2.ForgetReply()

    # --- a pretended migration

    def _run(self, entry: Entry, order: agent_pb2.StartRequest) -> None:
        target = self._peers[order.target_node]
        try:
            self._admitted(target, order)
            for step in SOURCE_STEPS:
                self._enter(entry, step)
                self._gate(entry, step)
                if step is Step.COMMIT:
                    self._commit(entry, target, order)
        except Refusal as refusal:
            self._end(entry, outcome=agent_pb2.ROLLED_BACK, reason=refusal.reason, message=refusal.message)
            return
        target._end(
            target.entries[order.migration_id],
            outcome=agent_pb2.SUCCEEDED,
            reason="Resumed",
            step=Step.RESUME.value,
            committed=True,
        )
        frozen = (time.time_ns() - entry.report.timings[0].started_unix_ns) / 1e9
        totals = agent_pb2.ConnectionTotals(
            total=3, kept=3, bytes_queued=17, dead_seconds=sum(_took(entry.report, step) for step in SOURCE_STEPS[-3:])
        )
        audit = [
            agent_pb2.ConnectionAudit(local="10.0.0.1:80", peer=f"10.0.0.9:{port}", state="ESTABLISHED", fate="kept")
            for port in range(4000, 4003)
        ]
        with self._changed:
            entry.report.connections.CopyFrom(totals)
            entry.report.audit.extend(audit)
        self._end(
            entry,
            outcome=agent_pb2.SUCCEEDED,
            reason="Resumed",
            freeze_seconds=frozen,
            memory_bytes=12 << 20,
            image_bytes=13 << 20,
            image_bytes_sent=13 << 20,
        )

    def _admitted(self, target: FakeAgent, order: agent_pb2.StartRequest) -> None:
        with target._changed:
            theirs = target.entries.get(order.migration_id)
            if theirs is None or theirs.order.token != order.token:
                raise Refusal(grpc.StatusCode.PERMISSION_DENIED, "NotAuthorised", "no such order for this peer")
            if not theirs.report.hook_waiting:
                raise Refusal(grpc.StatusCode.UNAVAILABLE, "TargetNotReady", "the hook does not wait")
            target._set(theirs, step=Step.RESTORE.value)

    def _gate(self, entry: Entry, step: Step) -> None:
        if step is self.script.fail_at and not entry.report.committed:
            raise Refusal(grpc.StatusCode.ABORTED, "FaultInjected", f"injected in {step}")
        with self._changed:
            self._changed.wait_for(
                lambda: step not in self.script.hold_at or bool(entry.aborted and not entry.report.committed),
                GATE_SECONDS,
            )
            if entry.aborted and not entry.report.committed:
                raise Refusal(grpc.StatusCode.ABORTED, "Aborted", entry.aborted)
        time.sleep(self.script.step_seconds)

    def _commit(self, entry: Entry, target: FakeAgent, order: agent_pb2.StartRequest) -> None:
        theirs = target.entries.get(order.migration_id)
        if theirs is None or theirs.report.outcome != agent_pb2.RUNNING:
            raise Refusal(grpc.StatusCode.ABORTED, "TargetLost", "the target gave up")
        with self._changed:
            if entry.aborted:
                raise Refusal(grpc.StatusCode.ABORTED, "Aborted", entry.aborted)
            self._set(entry, committed=True)

    def _enter(self, entry: Entry, step: Step) -> None:
        now = time.time_ns()
        with self._changed:
            if entry.report.timings:
                entry.report.timings[-1].finished_unix_ns = now
            entry.report.timings.add(step=step.value, started_unix_ns=now)
            self._set(entry, step=step.value)

    def _end(self, entry: Entry, **fields: object) -> None:
        with self._changed:
            if entry.report.timings and not entry.report.timings[-1].finished_unix_ns:
                entry.report.timings[-1].finished_unix_ns = time.time_ns()
            self._set(entry, **fields)

    # --- helpers

    def _set(self, entry: Entry, **fields: object) -> None:
        with self._changed:
            for name, value in fields.items():
                setattr(entry.report, name, value)
            entry.version += 1
            self._changed.notify_all()

    def _entry(self, migration_id: str, context: grpc.ServicerContext) -> Entry:
        entry = self.entries.get(migration_id)
        if entry is None:
            self._refuse(context, grpc.StatusCode.NOT_FOUND, "NotFound", f"no migration {migration_id} here")
        return entry

    def _note(self, call: str, context: grpc.ServicerContext) -> None:
        self._operator_only(context)
        self.calls.append(call)

    def _operator_only(self, context: grpc.ServicerContext) -> None:
        names = cast(Sequence[bytes], context.auth_context().get("x509_subject_alternative_name", []))
        if ids.OPERATOR_SERVER_NAME.encode() not in names:
            self._refuse(context, grpc.StatusCode.PERMISSION_DENIED, "NotAuthorised", "only the operator may ask")

    def _refuse(self, context: grpc.ServicerContext, code: grpc.StatusCode, reason: str, message: str) -> NoReturn:
        context.set_trailing_metadata((("podferry-reason", reason),))
        context.abort(code, message)
        raise AssertionError("abort does not return")


def _copy(report: agent_pb2.Report) -> agent_pb2.Report:
    copy = agent_pb2.Report()
    copy.CopyFrom(report)
    return copy


def _took(report: agent_pb2.Report, step: steps.Step) -> float:
    for timing in report.timings:
        if timing.step == step:
            return ((timing.finished_unix_ns or time.time_ns()) - timing.started_unix_ns) / 1e9
    return 0.0

"""The Agent service: what the operator may ask. Every call checks who calls, acts on the registry, answers a report."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import grpc

from podferry import errors, ids
from podferry.wire import agent_pb2, agent_pb2_grpc
from podferry_agent.migration import inspection, orders, registry
from podferry_agent.rpc import status, tls


class AgentService(agent_pb2_grpc.AgentServicer):
    """Serves the operator."""

    def __init__(
        self,
        migrations: registry.Migrations,
        probe: Callable[[], agent_pb2.Capabilities],
        inspector: inspection.Inspector,
    ) -> None:
        self._migrations, self._probe, self._inspector = migrations, probe, inspector

    def Probe(self, request: agent_pb2.ProbeRequest, context: grpc.ServicerContext) -> agent_pb2.Capabilities:  # noqa: N802
        """Say what this node can do."""
        with status.answered(context):
            tls.require_operator(context)
            return self._probe()

    def Inspect(self, request: agent_pb2.InspectRequest, context: grpc.ServicerContext) -> agent_pb2.Inspection:  # noqa: N802
        """Say whether a pod can move."""
        with status.answered(context):
            tls.require_operator(context)
            orders.pod_ref(request.pod, "pod")
            return self._inspector.inspect(request.pod.uid)

    def Admit(self, request: agent_pb2.AdmitRequest, context: grpc.ServicerContext) -> agent_pb2.Report:  # noqa: N802
        """Expect a migration to this node."""
        with status.answered(context):
            tls.require_operator(context)
            return self._migrations.admit(request)

    def Start(self, request: agent_pb2.StartRequest, context: grpc.ServicerContext) -> agent_pb2.Report:  # noqa: N802
        """Run a migration away from this node."""
        with status.answered(context):
            tls.require_operator(context)
            return self._migrations.start(request)

    def Watch(self, request: agent_pb2.MigrationRef, context: grpc.ServicerContext) -> Iterator[agent_pb2.Report]:  # noqa: N802
        """Stream the migration's report until it has an outcome."""
        with status.answered(context):
            tls.require_operator(context)
            yield from self._migrations.watch(ids.migration_id(request.migration_id)).watch(context.is_active)

    def Abort(self, request: agent_pb2.AbortRequest, context: grpc.ServicerContext) -> agent_pb2.Report:  # noqa: N802
        """Undo a migration that is not committed."""
        with status.answered(context):
            tls.require_operator(context)
            return self._migrations.abort(ids.migration_id(request.migration_id), errors.tail(request.message))

    def Forget(self, request: agent_pb2.MigrationRef, context: grpc.ServicerContext) -> agent_pb2.ForgetReply:  # noqa: N802
        """Drop what is kept about a finished migration."""
        with status.answered(context):
            tls.require_operator(context)
            self._migrations.forget(request.migration_id)
            return agent_pb2.ForgetReply()

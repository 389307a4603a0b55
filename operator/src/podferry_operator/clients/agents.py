"""The node agents: mTLS gRPC with deadlines and keepalive, statuses as podferry.errors.

One channel per agent, kept as long as its address. An agent is known by its certificate's name
(podferry.ids.agent_server_name), never by its address.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import grpc.aio

from podferry import errors, ids
from podferry.wire import agent_pb2, agent_pb2_grpc

T = TypeVar("T")

REASON_KEY = "podferry-reason"
"""Trailing metadata that carries the reason word of an error."""

CALL_SECONDS = 5.0
"""Deadline of a call that only asks or notes something down."""

WORK_SECONDS = 30.0
"""Deadline of a call that may look through a whole pod, or undo a migration, before it answers."""

_OPTIONS = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # Not grpc.min_reconnect_backoff_ms: gRPC also takes it for the time that a connection may take, TLS included.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)

_PASSING = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,
}


class UnknownMigration(errors.Permanent):
    """The agent answers that it knows nothing of the migration."""

    reason = "NotFound"


@dataclass(frozen=True, slots=True)
class Credentials:
    """PEM files of mutual TLS, as cert-manager mounts them."""

    ca: bytes
    certificate: bytes
    key: bytes

    @classmethod
    def load(cls, folder: Path) -> Credentials:
        """Read ca.crt, tls.crt and tls.key from `folder`; InvalidInput when one cannot be read."""
        try:
            ca, certificate, key = ((folder / name).read_bytes() for name in ("ca.crt", "tls.crt", "tls.key"))
        except OSError as error:
            raise errors.InvalidInput("--tls-dir", str(error)) from error
        return cls(ca, certificate, key)


class Agent:
    """One node's agent. Every call raises Transient, Permanent, InvalidInput or UnknownMigration."""

    def __init__(self, node: str, channel: grpc.aio.Channel) -> None:
        self.node = node
        self._channel = channel
        self._stub: Any = agent_pb2_grpc.AgentStub(channel)

    async def probe(self) -> agent_pb2.Capabilities:
        """Return what the node can do."""
        return await self._ask(self._stub.Probe(agent_pb2.ProbeRequest(), timeout=CALL_SECONDS))

    async def inspect(self, pod: agent_pb2.PodRef) -> agent_pb2.Inspection:
        """Return what would happen to the pod's sockets."""
        return await self._ask(self._stub.Inspect(agent_pb2.InspectRequest(pod=pod), timeout=WORK_SECONDS))

    async def admit(self, request: agent_pb2.AdmitRequest) -> agent_pb2.Report:
        """Tell the target to expect a migration."""
        return await self._ask(self._stub.Admit(request, timeout=CALL_SECONDS))

    async def start(self, request: agent_pb2.StartRequest) -> agent_pb2.Report:
        """Tell the source to begin."""
        return await self._ask(self._stub.Start(request, timeout=CALL_SECONDS))

    async def abort(self, migration_id: str, message: str) -> agent_pb2.Report:
        """Tell either side to undo what is not committed."""
        request = agent_pb2.AbortRequest(migration_id=migration_id, message=message)
        return await self._ask(self._stub.Abort(request, timeout=WORK_SECONDS))

    async def forget(self, migration_id: str) -> None:
        """Tell either side that the migration is settled."""
        try:
            await self._ask(self._stub.Forget(agent_pb2.MigrationRef(migration_id=migration_id), timeout=CALL_SECONDS))
        except UnknownMigration:
            return

    async def watch(self, migration_id: str) -> AsyncIterator[agent_pb2.Report]:
        """Yield the present report, then each new one until one has an outcome."""
        call = self._stub.Watch(agent_pb2.MigrationRef(migration_id=migration_id))
        try:
            async for report in call:
                yield report
        except grpc.aio.AioRpcError as error:
            raise _translated(error, self.node) from error
        except asyncio.CancelledError as error:
            raise _closed(self.node) from error
        finally:
            call.cancel()

    async def close(self) -> None:
        """End the channel and every call on it."""
        await self._channel.close(None)

    async def _ask(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise _translated(error, self.node) from error
        except asyncio.CancelledError as error:
            raise _closed(self.node) from error


class Agents:
    """The channels to all agents that were asked so far."""

    def __init__(self, tls_dir: Path) -> None:
        self._tls_dir = tls_dir
        self._agents: dict[str, tuple[str, Agent]] = {}

    async def at(self, node: str, endpoint: str) -> Agent:
        """Return the agent of `node`, which answers at `endpoint` (host:port)."""
        known = self._agents.get(node)
        if known is not None and known[0] == endpoint:
            return known[1]
        if known is not None:
            await known[1].close()
        credentials = Credentials.load(self._tls_dir)  # read anew: short-lived certificates are renewed in place
        agent = Agent(node, connect(node, endpoint, credentials))
        self._agents[node] = (endpoint, agent)
        return agent

    async def drop(self, node: str) -> None:
        """Close the channel to an agent that does not answer, so that the next call reads the certificates again."""
        known = self._agents.pop(node, None)
        if known is not None:
            await known[1].close()

    async def close(self) -> None:
        """Close all channels."""
        for node in list(self._agents):
            await self.drop(node)


def connect(node: str, endpoint: str, credentials: Credentials) -> grpc.aio.Channel:
    """Return a channel to `endpoint` that accepts only the agent of `node`."""
    tls = grpc.ssl_channel_credentials(credentials.ca, credentials.key, credentials.certificate)
    options = (*_OPTIONS, ("grpc.ssl_target_name_override", ids.agent_server_name(node)))
    return grpc.aio.secure_channel(endpoint, tls, options=options)


def _closed(node: str) -> BaseException:
    """Tell the end of our own task from the end of a call whose channel another migration closed meanwhile."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        return asyncio.CancelledError()
    return errors.Transient(f"agent of node {node}: the channel was closed", reason="AgentUnreachable")


def _translated(error: grpc.aio.AioRpcError, node: str) -> errors.PodferryError:
    code, detail = error.code(), error.details() or ""
    trailing: dict[str, str | bytes] = dict(cast(Any, error.trailing_metadata() or ()))
    word = trailing.get(REASON_KEY)
    reason = word.decode() if isinstance(word, bytes) else word
    if code is grpc.StatusCode.NOT_FOUND:
        return UnknownMigration(f"agent of node {node}: {detail}", reason=reason)
    if code in _PASSING:
        return errors.Transient(f"agent of node {node}: {detail}", reason=reason or "AgentUnreachable")
    if code is grpc.StatusCode.ABORTED:
        return errors.RolledBack(f"agent of node {node}: {detail}", reason=reason)
    if code is grpc.StatusCode.INVALID_ARGUMENT and ": " in detail:
        field, message = detail.split(": ", 1)
        return errors.InvalidInput(field, f"{message} (agent of node {node})", reason=reason)
    return errors.Permanent(f"agent of node {node}: {detail}", reason=reason or code.name.title().replace("_", ""))

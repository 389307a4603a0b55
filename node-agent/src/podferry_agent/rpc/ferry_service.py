"""The target's end of the agent-to-agent session: checks the opening, then answers message by message.

The messages of one session are handled in one thread, in order. When the stream ends, for whatever reason, the target
migration is told and decides by itself what that means (see migration.target).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import grpc

from podferry import errors
from podferry.wire import agent_pb2, agent_pb2_grpc
from podferry_agent.migration import registry, target
from podferry_agent.rpc import status, tls

log = logging.getLogger(__name__)

READY_SECONDS = 30.0
"""How long an opening waits for the first container's hook; the operator has seen it wait before it ordered the
start.
"""


class FerryService(agent_pb2_grpc.FerryServicer):
    """Serves the agents of other nodes."""

    def __init__(self, migrations: registry.Migrations) -> None:
        self._migrations = migrations

    def Session(  # noqa: N802
        self, request_iterator: Iterator[agent_pb2.FromSource], context: grpc.ServicerContext
    ) -> Iterator[agent_pb2.FromTarget]:
        """Carry one migration (see the ladder in agent.proto)."""
        with status.answered(context):
            opening = next(request_iterator, agent_pb2.FromSource()).open
            migration = self._migrations.target(opening, tls.peer_names(context))
            ended = errors.Transient("the session with the source ended", reason="SessionLost")
            context.add_callback(lambda: migration.failed(ended))
            try:
                yield from _Conversation(migration, opening, request_iterator).answers()
            except errors.PodferryError as error:
                migration.failed(error)
                raise


class _Conversation:
    """One session's messages, turned into calls on the migration."""

    def __init__(
        self, migration: target.TargetMigration, opening: agent_pb2.Open, messages: Iterator[agent_pb2.FromSource]
    ) -> None:
        self._migration, self._opening, self._messages = migration, opening, messages
        self._deadline = time.monotonic() + opening.freeze_budget_seconds

    def answers(self) -> Iterator[agent_pb2.FromTarget]:
        """Yield an answer for each message that is owed one."""
        if not self._opening.resume:
            self._migration.ready(READY_SECONDS)
        yield agent_pb2.FromTarget(ready=agent_pb2.Ready())
        for message in self._messages:
            kind = message.WhichOneof("message")
            if kind == "rollback":
                self._migration.abort(message.rollback.reason, message.rollback.message)
                return
            if kind == "commit":
                yield agent_pb2.FromTarget(resumed=self._migration.commit())
                yield agent_pb2.FromTarget(audited=agent_pb2.Audited(audit=self._migration.audit()))
                return
            answer = self._answer(kind, message)
            if answer is not None:
                yield answer

    def _answer(self, kind: str | None, message: agent_pb2.FromSource) -> agent_pb2.FromTarget | None:
        match kind:
            case "manifest":
                return agent_pb2.FromTarget(stored=self._receive(message.manifest))
            case "restore":
                restored = self._migration.restore(self._deadline)
                return agent_pb2.FromTarget(restored=agent_pb2.Restored(containers=restored))
            case "prepare":
                self._migration.prepare()
                return agent_pb2.FromTarget(prepared=agent_pb2.Prepared())
            case "connections":
                return self._rebuild(message.connections)
            case _:
                raise errors.InvalidInput("message", f"not expected here: {kind}")

    def _rebuild(self, connections: agent_pb2.Connections) -> agent_pb2.FromTarget | None:
        if connections.batch:
            self._migration.rebuild(connections.batch)
        if not connections.last:
            return None
        count, digest = self._migration.rebuilt()
        return agent_pb2.FromTarget(rebuilt=agent_pb2.Rebuilt(count=count, digest=digest))

    def _receive(self, manifest: agent_pb2.Manifest) -> agent_pb2.Stored:
        receiver = self._migration.receiver(manifest)
        while not receiver.complete:
            message = next(self._messages, None)
            if message is None or message.WhichOneof("message") != "chunk":
                raise errors.RolledBack("the image stream ended early", reason="ImagesIncomplete")
            receiver.write(message.chunk.data)
        return agent_pb2.Stored(container=manifest.container, bytes=receiver.finish())

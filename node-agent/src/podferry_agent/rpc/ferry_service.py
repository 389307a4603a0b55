"""The target's end of the agent-to-agent session: checks the opening, then answers message by message.

The messages of one session are handled in one thread, in order. When the stream ends, for whatever reason, the target
migration is told and decides by itself what that means (see migration.target).
"""

from __future__ import annotations

import logging
import threading
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
            # In a thread of its own: callbacks run in the one that serves all calls, and undoing takes time.
            context.add_callback(threading.Thread(target=migration.failed, args=(ended,), daemon=True).start)
            try:
                if opening.resume:
                    yield agent_pb2.FromTarget(ready=agent_pb2.Ready())
                elif isinstance(migration, target.TargetMigration):
                    yield from _Way(migration, opening, request_iterator).answers()
                else:
                    raise errors.Permanent("the migration has its outcome already", reason="AlreadyFinished")
                yield from _end(migration, request_iterator)
            except errors.PodferryError as error:
                migration.failed(error)
                raise


def _end(
    migration: target.TargetMigration | registry.Finished, messages: Iterator[agent_pb2.FromSource]
) -> Iterator[agent_pb2.FromTarget]:
    """Hear the decision, whichever session it comes in, and answer it; without one the stream decides nothing."""
    message = next(messages, agent_pb2.FromSource())
    match message.WhichOneof("message"):
        case "commit":
            yield agent_pb2.FromTarget(resumed=migration.commit())
            yield agent_pb2.FromTarget(audited=agent_pb2.Audited(audit=migration.audit()))
        case "rollback":
            migration.abort(message.rollback.reason, message.rollback.message)
        case None:
            pass
        case kind:
            raise errors.InvalidInput("message", f"not expected after the connections: {kind}")


class _Way:
    """The way to the decision: one session's messages, turned into calls on the migration."""

    def __init__(
        self, migration: target.TargetMigration, opening: agent_pb2.Open, messages: Iterator[agent_pb2.FromSource]
    ) -> None:
        self._migration, self._messages = migration, messages
        self._deadline = time.monotonic() + opening.freeze_budget_seconds

    def answers(self) -> Iterator[agent_pb2.FromTarget]:
        """Yield an answer for each message that is owed one, until all connections are rebuilt."""
        self._migration.ready(READY_SECONDS)
        yield agent_pb2.FromTarget(ready=agent_pb2.Ready())
        for message in self._messages:
            kind = message.WhichOneof("message")
            if kind == "rollback":
                raise errors.RolledBack(message.rollback.message, reason=message.rollback.reason)
            answer = self._answer(kind, message)
            if answer is not None:
                yield answer
            if kind == "connections" and message.connections.last:
                return

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

"""The source's end of the agent-to-agent session over gRPC: `migration.session.Session` as a bidirectional stream.

A sender thread of gRPC's takes messages from a bounded queue, so that a slow link slows the reader of the images and
not the memory of this process; answers are awaited one by one, since the source asks one thing at a time.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc

from podferry import errors, ids
from podferry.wire import agent_pb2, agent_pb2_grpc
from podferry_agent.process import images
from podferry_agent.rpc import status, tls

OPEN_SECONDS = 40.0
"""How long the target may take to stand ready: longer than it waits for its hook (ferry_service.READY_SECONDS)."""

COMMIT_SECONDS = 30.0
"""How long one attempt to commit may take before it is made again on a new stream."""

ROLLBACK_SECONDS = 5.0
"""How long a target may take to undo before the source stops waiting for it; the source itself is undone by then."""

QUEUE_LENGTH = 4
"""Messages of at most 1 MiB between the reader of the images and the network."""


class FerrySession:
    """A session with the agent of the target node; opened again and again on the same object after Commit."""

    def __init__(self, identity: tls.Identity, order: agent_pb2.StartRequest) -> None:
        self._identity, self._order = identity, order
        self._lock = threading.Lock()
        self._cancelled = False
        self._stream: _Stream | None = None

    def open(self, *, resume: bool) -> None:
        """Show the token; return when the target is ready. A resumed session survives an earlier `cancel`."""
        with self._lock:
            if self._cancelled and not resume:
                raise errors.Transient("the session was cancelled", reason="SessionLost")
            self._close()
            name = ids.agent_server_name(self._order.target_node)
            self._stream = _Stream(self._identity.channel(self._order.target_endpoint, name))
        opening = agent_pb2.Open(
            migration_id=self._order.migration_id,
            token=self._order.token,
            resume=resume,
            freeze_budget_seconds=self._order.freeze_budget_seconds,
        )
        self._ask(agent_pb2.FromSource(open=opening), "ready", time.monotonic() + OPEN_SECONDS)

    def send_images(self, container: str, directory: Path, sent: Callable[[int], None], deadline: float) -> int:
        """Stream one container's image set; return its bytes once the target has verified and stored it."""
        manifest = images.manifest(container, directory)
        self._say(agent_pb2.FromSource(manifest=manifest), deadline)
        for data in images.chunks(directory, manifest):
            self._say(agent_pb2.FromSource(chunk=agent_pb2.Chunk(data=data)), deadline)
            sent(len(data))
        return self._answer("stored", deadline).stored.bytes

    def restore(self, deadline: float) -> None:
        """Let the target restore all containers."""
        self._ask(agent_pb2.FromSource(restore=agent_pb2.Restore()), "restored", deadline)

    def prepare(self, connections: int, deadline: float) -> None:
        """Let the target lock its flows and find its waiting sockets."""
        message = agent_pb2.FromSource(prepare=agent_pb2.Prepare(connections=connections))
        self._ask(message, "prepared", deadline)

    def send(self, batches: Iterator[bytes], deadline: float) -> None:
        """Stream what the target may already have of the connections."""
        for batch in batches:
            self._say(agent_pb2.FromSource(connections=agent_pb2.Connections(batch=batch)), deadline)

    def rebuild(self, batches: Iterator[bytes], deadline: float) -> tuple[int, bytes]:
        """Stream the rest; return what the target rebuilt and verified."""
        self.send(batches, deadline)
        last = agent_pb2.FromSource(connections=agent_pb2.Connections(last=True))
        rebuilt = self._ask(last, "rebuilt", deadline).rebuilt
        return rebuilt.count, rebuilt.digest

    def commit(self) -> agent_pb2.Resumed:
        """Tell the target that it is decided."""
        deadline = time.monotonic() + COMMIT_SECONDS
        return self._ask(agent_pb2.FromSource(commit=agent_pb2.Commit()), "resumed", deadline).resumed

    def audit(self) -> list[agent_pb2.ConnectionAudit]:
        """Return each connection's fate."""
        return list(self._answer("audited", time.monotonic() + COMMIT_SECONDS).audited.audit)

    def rollback(self, reason: str, message: str) -> None:
        """Tell the target to undo; a target that cannot be told undoes by itself, or is told by the operator."""
        with contextlib.suppress(errors.PodferryError):
            if self._stream is None or self._stream.lost:
                self.open(resume=True)
            say = agent_pb2.FromSource(rollback=agent_pb2.Rollback(reason=reason, message=message))
            self._say(say, time.monotonic() + 1)
            deadline = time.monotonic() + ROLLBACK_SECONDS
            while True:  # answers to what was asked before may still come; the end of the stream raises
                self._live().answer(deadline)

    def cancel(self) -> None:
        """End the stream at once."""
        with self._lock:
            self._cancelled = True
            self._close()

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()

    def _ask(self, message: agent_pb2.FromSource, expected: str, deadline: float) -> agent_pb2.FromTarget:
        self._say(message, deadline)
        return self._answer(expected, deadline)

    def _say(self, message: agent_pb2.FromSource, deadline: float) -> None:
        self._live().say(message, deadline)

    def _answer(self, expected: str, deadline: float) -> agent_pb2.FromTarget:
        answer = self._live().answer(deadline)
        if answer.WhichOneof("message") != expected:
            raise errors.RolledBack(f"the target answered {answer.WhichOneof('message')}", reason="ProtocolError")
        return answer

    def _live(self) -> _Stream:
        if self._stream is None:
            raise errors.Transient("no session is open", reason="SessionLost")
        return self._stream


class _Stream:
    """One gRPC stream with a queue at each end; what ends it is kept and raised to whoever asks next."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._out: queue.Queue[agent_pb2.FromSource | None] = queue.Queue(QUEUE_LENGTH)
        self._in: queue.Queue[agent_pb2.FromTarget | errors.PodferryError] = queue.Queue()
        self._end: errors.PodferryError | None = None
        self._call = agent_pb2_grpc.FerryStub(channel).Session(iter(self._out.get, None))
        threading.Thread(target=self._read, name="ferry-session", daemon=True).start()

    @property
    def lost(self) -> bool:
        """Tell whether the stream has ended."""
        return self._end is not None

    def say(self, message: agent_pb2.FromSource, deadline: float) -> None:
        """Queue a message; Transient when the stream has ended or does not move before the deadline."""
        while True:
            if self._end is not None:
                raise self._end
            try:
                self._out.put(message, timeout=min(0.1, max(0.0, deadline - time.monotonic())))
            except queue.Full:
                if time.monotonic() >= deadline:
                    raise errors.Transient("the link to the target does not move", reason="DeadlineExceeded") from None
            else:
                return

    def answer(self, deadline: float) -> agent_pb2.FromTarget:
        """Wait for the next message of the target."""
        try:
            answer = self._in.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise errors.Transient("the target did not answer in time", reason="DeadlineExceeded") from None
        if isinstance(answer, errors.PodferryError):
            self._in.put(answer)
            raise answer
        return answer

    def close(self) -> None:
        """Cancel the call, end gRPC's sender and close the channel."""
        self._call.cancel()
        while True:
            try:
                self._out.put_nowait(None)
                break
            except queue.Full:
                with contextlib.suppress(queue.Empty):
                    self._out.get_nowait()
        self._channel.close()

    def _read(self) -> None:
        try:
            for answer in self._call:
                self._in.put(answer)
            self._end = errors.Transient("the target ended the session", reason="SessionLost")
        except grpc.RpcError as error:
            self._end = status.translate(error, "session with the target")
        self._in.put(self._end)

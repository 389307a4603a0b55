"""What the runtime has of one pod: its sandboxes and containers, newest first. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from tests.lab.kubelet import names

from podferry_agent.runtime import cri_pb2

State = Literal["created", "running", "exited", "unknown"]

_STATES: dict[int, State] = {
    cri_pb2.CONTAINER_CREATED: "created",
    cri_pb2.CONTAINER_RUNNING: "running",
    cri_pb2.CONTAINER_EXITED: "exited",
    cri_pb2.CONTAINER_UNKNOWN: "unknown",
}


@dataclass(frozen=True)
class Sandbox:
    """One sandbox of the pod; times are nanoseconds since the epoch."""

    id: str
    attempt: int
    ready: bool
    created_at: int
    ips: tuple[str, ...] = ()


@dataclass(frozen=True)
class Container:
    """One attempt at one container of the pod; times are nanoseconds since the epoch, 0 when it did not happen."""

    id: str
    name: str
    attempt: int
    state: State
    created_at: int
    started_at: int = 0
    finished_at: int = 0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    image: str = ""
    image_id: str = ""

    @property
    def running(self) -> bool:
        """Say whether its process lives, as far as the runtime knows."""
        return self.state == "running"

    @property
    def exited(self) -> bool:
        """Say whether it has ended."""
        return self.state == "exited"


@dataclass(frozen=True)
class Observed:
    """A pod as the runtime has it."""

    sandboxes: tuple[Sandbox, ...] = ()
    containers: tuple[Container, ...] = ()
    runtime: str = field(default="containerd")

    @property
    def sandbox(self) -> Sandbox | None:
        """The newest sandbox."""
        return self.sandboxes[0] if self.sandboxes else None

    @property
    def ips(self) -> tuple[str, ...]:
        """The pod's addresses: those of the newest sandbox while that is ready."""
        return self.sandbox.ips if self.sandbox and self.sandbox.ready else ()

    def attempts(self, name: str) -> list[Container]:
        """Return every attempt at one container, the newest first."""
        return [one for one in self.containers if one.name == name]

    def newest(self, name: str) -> Container | None:
        """Return the newest attempt at one container."""
        return next(iter(self.attempts(name)), None)

    @property
    def running(self) -> list[Container]:
        """The containers whose processes live or may live."""
        return [one for one in self.containers if one.state in {"running", "unknown"}]


def observed(
    sandboxes: Iterable[cri_pb2.PodSandboxStatus], containers: Iterable[cri_pb2.ContainerStatus], runtime: str
) -> Observed:
    """Return the pod that these statuses, in any order, show; `runtime` is the runtime's name."""
    return Observed(
        tuple(sorted(map(_sandbox, sandboxes), key=_age, reverse=True)),
        tuple(sorted(map(_container, containers), key=_age, reverse=True)),
        runtime,
    )


def _age(one: Sandbox | Container) -> tuple[int, int]:
    return one.attempt, one.created_at


def _sandbox(status: cri_pb2.PodSandboxStatus) -> Sandbox:
    first = [status.network.ip] if status.network.ip else []
    return Sandbox(
        id=status.id,
        attempt=status.metadata.attempt,
        ready=status.state == cri_pb2.SANDBOX_READY,
        created_at=status.created_at,
        ips=(*first, *(one.ip for one in status.network.additional_ips)),
    )


def _container(status: cri_pb2.ContainerStatus) -> Container:
    return Container(
        id=status.id,
        name=status.labels.get(names.CONTAINER_NAME, status.metadata.name),
        attempt=int(status.annotations.get(names.CONTAINER_RESTARTS, status.metadata.attempt)),
        state=_STATES[status.state],
        created_at=status.created_at,
        started_at=max(0, status.started_at),
        finished_at=max(0, status.finished_at),
        exit_code=status.exit_code,
        reason=status.reason,
        message=status.message,
        image=status.image.image,
        image_id=status.image_ref,
    )

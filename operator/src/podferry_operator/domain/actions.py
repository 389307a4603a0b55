"""What a plan can order. Each action can be repeated without harm: its effect is what the next observation shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from podferry import steps
from podferry.wire import agent_pb2
from podferry_operator.api import conditions
from podferry_operator.domain import observation

SOON = 0.02
"""Seconds between two looks when the plan itself has just changed something."""


@dataclass(frozen=True, slots=True)
class AddFinalizer:
    """Hold the migration object until everything about it is settled."""


@dataclass(frozen=True, slots=True)
class RemoveFinalizer:
    """Let the migration object go."""


@dataclass(frozen=True, slots=True)
class DeleteMigration:
    """Delete the migration object, its time to live being over."""


@dataclass(frozen=True, slots=True)
class CreatePod:
    """Create the target pod."""

    body: observation.Object


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Delete the pod with this UID, and no other of the same name."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Admit:
    """Tell the target agent to expect the migration; the executor adds a fresh token."""

    request: agent_pb2.AdmitRequest


@dataclass(frozen=True, slots=True)
class Start:
    """Tell the source agent to begin; the executor adds the token that it showed the target."""

    request: agent_pb2.StartRequest


@dataclass(frozen=True, slots=True)
class Abort:
    """Tell an agent to undo."""

    role: observation.Role
    message: str


@dataclass(frozen=True, slots=True)
class Forget:
    """Tell an agent that the migration is settled."""

    role: observation.Role


@dataclass(frozen=True, slots=True)
class CreateSlice:
    """Publish a bridging EndpointSlice."""

    body: observation.Object


@dataclass(frozen=True, slots=True)
class DeleteSlice:
    """Withdraw a bridging EndpointSlice."""

    name: str


@dataclass(frozen=True, slots=True)
class ReplaceSlice:
    """Write a hand-made EndpointSlice back, its resourceVersion unchanged since it was read."""

    body: observation.Object


@dataclass(frozen=True, slots=True)
class ReplaceEndpoints:
    """Write a hand-made Endpoints object back, its resourceVersion unchanged since it was read."""

    body: observation.Object


Action = (
    AddFinalizer
    | RemoveFinalizer
    | DeleteMigration
    | CreatePod
    | DeletePod
    | Admit
    | Start
    | Abort
    | Forget
    | CreateSlice
    | DeleteSlice
    | ReplaceSlice
    | ReplaceEndpoints
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What follows from one observation: first the conditions are published, then the actions run in order."""

    step: steps.Step
    conditions: Sequence[conditions.Condition] = ()
    actions: Sequence[Action] = ()
    wait: float | None = SOON
    """Seconds until the next look unless something wakes the loop earlier; None when nothing is left to look for."""

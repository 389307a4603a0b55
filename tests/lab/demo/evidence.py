"""What the demo found, and the one judgement over it. No I/O here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.lab.workloads import results
from tests.support import migrations

KEPT = "kept"
"""The fate of a connection that moved; anything else says why it did not."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the pod is, asked of the API and of both nodes' containerd."""

    api_node: str
    ready: bool
    source_pod_left: bool
    """Whether the API still has the pod that moved away."""
    running_on: Sequence[str]
    """Nodes whose containerd runs the service's container."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that the verdict rests on."""

    migration: migrations.Migration
    clients: Sequence[results.Result]
    placement: Placement
    told: Mapping[str, Any]
    """The ServiceMigration at its end, as kubectl prints it."""

    @property
    def connections(self) -> list[results.Connection]:
        """All connections of all clients."""
        return [connection for client in self.clients for connection in client.connections]

    @property
    def compared(self) -> int:
        """Bytes that both ends agree on."""
        return sum(client.compared for client in self.clients)

    @property
    def longest(self) -> results.Gap:
        """The longest time that any client waited."""
        return max((client.longest for client in self.clients), key=lambda gap: gap.seconds, default=results.Gap())


def problems(found: Evidence) -> list[str]:
    """Return everything that is not as it has to be; empty means that nobody noticed anything."""
    return [*_migration_problems(found), *_client_problems(found.clients), *_placement_problems(found)]


def _migration_problems(found: Evidence) -> list[str]:
    moved, wrong = found.migration, []
    if moved.succeeded is not True:
        wrong.append(f"the migration did not succeed: {moved.outcome}")
    if moved.kept < len(found.connections):
        wrong.append(f"clients had {len(found.connections)} connections, the migration kept {moved.kept}")
    ours = {connection.local for connection in found.connections}
    # Others, as the kubelet's probes, may have been closing just then.
    wrong += [f"connection {one.peer}: {one.fate}" for one in moved.audit if one.peer in ours and one.fate != KEPT]
    return wrong


def _client_problems(clients: Sequence[results.Result]) -> list[str]:
    wrong = [] if any(client.connections for client in clients) else ["no client was connected"]
    for client in clients:
        wrong += [f"{client.mode} client: {text}" for text in client.problems]
        wrong += [
            f"connection {one.local}: {one.failure.kind}: {one.failure.message}" for one in client.failed if one.failure
        ]
    return wrong


def _placement_problems(found: Evidence) -> list[str]:
    placed, node = found.placement, found.migration.target_node
    wrong = []
    if placed.api_node != node:
        wrong.append(f"the API has the pod on {placed.api_node or 'no node'}, not on {node}")
    if not placed.ready:
        wrong.append("the pod is not Ready")
    if placed.source_pod_left:
        wrong.append("the source pod is still there")
    if list(placed.running_on) != [node]:
        where = ", ".join(placed.running_on) or "no node"
        wrong.append(f"containerd runs the container on {where}, not on {node} alone")
    return wrong

"""What one look at the cluster and the agents showed: the only input of a plan."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from podferry import errors
from podferry.wire import agent_pb2
from podferry_operator.api.migration import Migration

Object = Mapping[str, Any]
"""An object of the API server, as JSON."""


class Role(enum.StrEnum):
    """Which of the two agents."""

    SOURCE = "source"
    TARGET = "target"


@dataclass(frozen=True, slots=True)
class AgentView:
    """What an agent said about the migration when it was asked.

    `report` is None when the agent does not answer (`reachable` False, `message` says how) and when it answers that it
    knows nothing of the migration.
    """

    reachable: bool
    report: agent_pb2.Report | None = None
    message: str = ""
    node_gone: bool = False

    @property
    def unknown(self) -> bool:
        """The agent answers, and knows nothing of the migration."""
        return self.reachable and self.report is None

    @property
    def running(self) -> bool:
        """The agent is at it: neither finished nor undone."""
        return self.outcome == agent_pb2.RUNNING

    @property
    def outcome(self) -> agent_pb2.Outcome | None:
        """How it ended, RUNNING while it has not, None without a report."""
        return None if self.report is None else self.report.outcome

    @property
    def committed(self) -> bool:
        """The agent has the commit in its journal."""
        return self.report is not None and (self.report.committed or self.report.outcome == agent_pb2.SUCCEEDED)


@dataclass(frozen=True, slots=True)
class Preflight:
    """What both agents answered before anything was touched; `failures` has the calls that brought no answer."""

    source: agent_pb2.Capabilities | None = None
    target: agent_pb2.Capabilities | None = None
    inspection: agent_pb2.Inspection | None = None
    failures: tuple[errors.PodferryError, ...] = ()


@dataclass(frozen=True, slots=True)
class Network:
    """The namespace's Services and what stands behind them."""

    services: tuple[Object, ...] = ()
    slices: tuple[Object, ...] = ()
    endpoints: tuple[Object, ...] = ()


@dataclass(frozen=True, slots=True)
class Observation:
    """One look. A field that this stage of the migration has no use for was not looked at and keeps its default."""

    now: float
    """Seconds since the epoch."""
    migration: Migration
    token_held: bool = False
    """This process made the token of the migration's current order."""
    failure: errors.PodferryError | None = None
    """What the last action of this process ended in, None when it went well."""
    source_pod: Object | None = None
    target_pod: Object | None = None
    """The object with the target pod's name, whoever made it."""
    target_node: Object | None = None
    runtime_class: Object | None = None
    claims: Mapping[str, Object] = field(default_factory=dict)
    """The PersistentVolumeClaims that the source pod mounts, by name."""
    rivals: tuple[Migration, ...] = ()
    """The namespace's other migrations that are accepted and unfinished."""
    preflight: Preflight | None = None
    source: AgentView | None = None
    target: AgentView | None = None
    target_endpoint: str = ""
    """host:port of the target's agent, as the source's agent shall dial it."""
    warnings: tuple[Object, ...] = ()
    """Warning events about the target pod, oldest first."""
    network: Network = field(default_factory=Network)

"""What Prometheus can ask the operator; one registry per process, made by the composition root."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import prometheus_client

from podferry import steps
from podferry_operator.api import conditions
from podferry_operator.api.conditions import Status, Type

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Metrics:
    """Counters and histograms of finished migrations."""

    def __init__(self, registry: prometheus_client.CollectorRegistry) -> None:
        self.registry = registry
        self.migrations = prometheus_client.Counter(
            "podferry_migrations", "Finished migrations by result and reason.", ["result", "reason"], registry=registry
        )
        self.freeze = prometheus_client.Histogram(
            "podferry_freeze_seconds", "Time that a pod's processes stood still.", buckets=_SECONDS, registry=registry
        )
        self.dead = prometheus_client.Histogram(
            "podferry_connection_dead_seconds",
            "Time that the connections of a pod were dark.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.steps = prometheus_client.Histogram(
            "podferry_step_seconds", "Time that a step took.", ["step"], buckets=_SECONDS, registry=registry
        )
        self.connections = prometheus_client.Counter(
            "podferry_connections", "Connections of moved pods by outcome.", ["outcome"], registry=registry
        )
        self.loop_failures = prometheus_client.Counter(
            "podferry_loop_failures", "Looks at a migration that ended in an unexpected error.", registry=registry
        )
        for step in steps.Step:
            self.steps.labels(step.value)

    def finished(self, status: Mapping[str, Any]) -> None:
        """Count a migration whose status has just become final."""
        end = conditions.read(status["conditions"])[Type.SUCCEEDED]
        self.migrations.labels("succeeded" if end.status is Status.TRUE else "failed", end.reason).inc()
        for timing in status.get("timings", ()):
            if "seconds" in timing:
                self.steps.labels(timing["step"]).observe(timing["seconds"])
        if "freezeSeconds" in status:
            self.freeze.observe(status["freezeSeconds"])
        connections = status.get("connections", {})
        if status.get("display", {}).get("dead"):
            self.dead.observe(connections["deadTimeMs"] / 1000)
            self.connections.labels("kept").inc(connections["kept"])
            self.connections.labels("closed").inc(connections["closed"])

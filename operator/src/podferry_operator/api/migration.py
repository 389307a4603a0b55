"""One ServiceMigration, read from the object that the API server holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from podferry import ids, steps
from podferry_operator.api import durations, times
from podferry_operator.api.conditions import Condition, Status, Type, read

GROUP = "podferry.dev"
VERSION = "v1alpha1"
KIND = "ServiceMigration"
PLURAL = "servicemigrations"
API_VERSION = f"{GROUP}/{VERSION}"

FINALIZER = "podferry.dev/migration"
"""Held from acceptance until the agents were told to forget: while it is there, the operator has something to do."""


@dataclass(frozen=True, slots=True)
class Spec:
    """The order; durations still as written, since a bad one must become a condition and not an exception."""

    pod_name: str
    target_node: str
    flush: bool = True
    close_unmovable: bool = False
    freeze_budget: str = "30s"
    deadline: str = "10m"
    dry_run: bool = False
    ttl_after_finished: str | None = None


@dataclass(frozen=True, slots=True)
class PodPlace:
    """A pod and where it is, as recorded in status.source and status.target; empty strings where nothing is known."""

    node: str = ""
    pod_name: str = ""
    pod_uid: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class Migration:
    """A ServiceMigration as one read of the API server showed it."""

    namespace: str
    name: str
    uid: str
    spec: Spec
    generation: int = 1
    resource_version: str = ""
    deleting: bool = False
    finalizers: tuple[str, ...] = ()
    status: Mapping[str, Any] = field(default_factory=dict)

    @property
    def conditions(self) -> dict[Type, Condition]:
        """The conditions that were published so far."""
        return read(self.status.get("conditions", ()))

    def condition_is(self, kind: Type, status: Status) -> bool:
        """Tell whether condition `kind` was published with `status`."""
        condition = self.conditions.get(kind)
        return condition is not None and condition.status is status

    def since(self, kind: Type) -> float | None:
        """Return when the status of condition `kind` last changed, in seconds since the epoch."""
        for item in self.status.get("conditions", ()):
            if item["type"] == kind:
                return times.parse(item["lastTransitionTime"])
        return None

    @property
    def accepted(self) -> bool:
        """Whether the order was found to make sense."""
        return self.condition_is(Type.ACCEPTED, Status.TRUE)

    @property
    def committed(self) -> bool:
        """Whether it is on record that there is no way back."""
        return self.condition_is(Type.COMMITTED, Status.TRUE)

    @property
    def finished(self) -> bool:
        """Whether Succeeded is final."""
        succeeded = self.conditions.get(Type.SUCCEEDED)
        return succeeded is not None and succeeded.status is not Status.UNKNOWN

    @property
    def held(self) -> bool:
        """Whether the operator's finalizer is on the object."""
        return FINALIZER in self.finalizers

    @property
    def step(self) -> steps.Step:
        """The step on record."""
        return steps.Step(self.status.get("step", steps.Step.REQUESTED))

    @property
    def source(self) -> PodPlace:
        """status.source."""
        return _place(self.status.get("source", {}))

    @property
    def target(self) -> PodPlace:
        """status.target."""
        return _place(self.status.get("target", {}))

    @property
    def started_at(self) -> float | None:
        """When the operator first saw it, in seconds since the epoch."""
        return _time(self.status.get("startedAt"))

    @property
    def completed_at(self) -> float | None:
        """When it was finished, in seconds since the epoch."""
        return _time(self.status.get("completedAt"))

    @property
    def freeze_budget_seconds(self) -> float:
        """spec.freezeBudget; InvalidInput when it is no duration."""
        return durations.parse(self.spec.freeze_budget, "spec.freezeBudget")

    @property
    def deadline_seconds(self) -> float:
        """spec.deadline; InvalidInput when it is no duration."""
        return durations.parse(self.spec.deadline, "spec.deadline")

    @property
    def ttl_seconds(self) -> float | None:
        """spec.ttlAfterFinished, None for ever; InvalidInput when it is no duration."""
        ttl = self.spec.ttl_after_finished
        return None if ttl is None else durations.parse(ttl, "spec.ttlAfterFinished")


def parse(body: Mapping[str, Any]) -> Migration:
    """Return the migration in `body`, an object of the API server with the CRD's defaults filled in.

    Raises:
        InvalidInput: metadata.uid is no UID.
    """
    metadata, spec = body["metadata"], body["spec"]
    connections = spec.get("connections", {})
    return Migration(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=ids.migration_id(metadata["uid"], "metadata.uid"),
        spec=Spec(
            pod_name=spec["podName"],
            target_node=spec["targetNode"],
            flush=connections.get("flush", "ZeroWindow") == "ZeroWindow",
            close_unmovable=connections.get("onUnmovable", "Abort") == "Close",
            freeze_budget=spec.get("freezeBudget", "30s"),
            deadline=spec.get("deadline", "10m"),
            dry_run=spec.get("dryRun", False),
            ttl_after_finished=spec.get("ttlAfterFinished"),
        ),
        generation=metadata.get("generation", 1),
        resource_version=metadata.get("resourceVersion", ""),
        deleting="deletionTimestamp" in metadata,
        finalizers=tuple(metadata.get("finalizers", ())),
        status=body.get("status", {}),
    )


def _place(value: Mapping[str, Any]) -> PodPlace:
    return PodPlace(value.get("node", ""), value.get("podName", ""), value.get("podUID", ""), value.get("address", ""))


def _time(value: str | None) -> float | None:
    return None if value is None else times.parse(value)

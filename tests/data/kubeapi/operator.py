"""A small kopf operator that probes run: finalizer, status, events, a field handler, resumption."""

from __future__ import annotations

from typing import Any

import kopf

FERRY = ("probe.podferry.dev", "v1", "ferries")


@kopf.on.create(*FERRY)
@kopf.on.resume(*FERRY)
def boarding(body: kopf.Body, patch: kopf.Patch, status: kopf.Status, spec: kopf.Spec, **_: Any) -> None:
    boarded = int(status.get("passengers") or 0)
    patch.status["passengers"] = boarded + int(spec["seats"])
    patch.status["conditions"] = [{"type": "Ready", "status": "True", "reason": "Boarded"}]
    kopf.info(body, reason="Boarded", message=f"{spec['seats']} aboard")


@kopf.on.update(*FERRY, field="spec.seats")
def resized(new: Any, patch: kopf.Patch, **_: Any) -> None:
    patch.status["passengers"] = new


@kopf.on.delete(*FERRY)
def ashore(body: kopf.Body, **_: Any) -> None:
    kopf.event(body, type="Warning", reason="Ashore", message="all left")


@kopf.on.event("v1", "configmaps", annotations={"probe.podferry.dev/watched": kopf.PRESENT})
def noticed(event: kopf.RawEvent, patch: kopf.Patch, **_: Any) -> None:
    if event["type"] != "DELETED":
        patch.metadata.labels["noticed"] = "yes"

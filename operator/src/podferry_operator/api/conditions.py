"""Conditions in metav1.Condition's shape: made, found, and merged so that lastTransitionTime means what it says."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from podferry_operator.api import times


class Type(enum.StrEnum):
    """The conditions of a ServiceMigration, in the order in which they become true."""

    ACCEPTED = "Accepted"
    PREFLIGHT = "Preflight"
    TARGET_READY = "TargetReady"
    COMMITTED = "Committed"
    SUCCEEDED = "Succeeded"


class Status(enum.StrEnum):
    """What a condition can be."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition as someone decides it; when it changed is found out by `merge`."""

    type: Type
    status: Status
    reason: str
    message: str


MESSAGE_LIMIT = 32768
"""Characters that metav1.Condition admits in a message."""


def read(items: Iterable[Mapping[str, Any]]) -> dict[Type, Condition]:
    """Return the conditions of a status by type; unknown types are left out."""
    known = {member.value for member in Type}
    return {
        Type(item["type"]): Condition(Type(item["type"]), Status(item["status"]), item["reason"], item["message"])
        for item in items
        if item["type"] in known
    }


def merge(
    before: Iterable[Mapping[str, Any]], decided: Iterable[Condition], *, now: float, generation: int
) -> list[dict[str, Any]]:
    """Return the list to publish: `decided` over `before`, in `Type`'s order.

    lastTransitionTime changes with the status only, observedGeneration with anything.
    """
    merged = {item["type"]: dict(item) for item in before}
    for condition in decided:
        old = merged.get(condition.type)
        same_status = old is not None and old["status"] == condition.status
        merged[condition.type] = {
            "type": condition.type.value,
            "status": condition.status.value,
            "observedGeneration": generation,
            "lastTransitionTime": old["lastTransitionTime"] if old is not None and same_status else times.text(now),
            "reason": str(condition.reason),
            "message": condition.message[:MESSAGE_LIMIT],
        }
    order = {member.value: number for number, member in enumerate(Type)}
    return sorted(merged.values(), key=lambda item: order.get(item["type"], len(order)))

"""Times as Kubernetes writes them (RFC 3339, UTC), as float seconds since the Unix epoch inside the operator."""

from __future__ import annotations

import datetime


def text(seconds: float) -> str:
    """Return whole seconds, as metav1.Time: "2025-01-31T12:00:00Z"."""
    return _utc(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro(seconds: float) -> str:
    """Return microseconds, as metav1.MicroTime: "2025-01-31T12:00:00.000000Z"."""
    return _utc(seconds).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse(value: str) -> float:
    """Return the seconds in either form."""
    return datetime.datetime.fromisoformat(value).timestamp()


def _utc(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)

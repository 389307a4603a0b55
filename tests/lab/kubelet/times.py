"""Times as the API writes them: RFC 3339, UTC, whole seconds. Pure."""

from __future__ import annotations

import datetime


def text(nanoseconds: int) -> str:
    """Return the API's text for nanoseconds since the epoch."""
    return datetime.datetime.fromtimestamp(nanoseconds // 1_000_000_000, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro(nanoseconds: int) -> str:
    """Return the API's text with microseconds, as leases have it."""
    moment = datetime.datetime.fromtimestamp(nanoseconds // 1000 / 1e6, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

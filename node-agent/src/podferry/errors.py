"""What went wrong, said as what the caller should do about it.

    PodferryError
    ├── Transient        try again after `retry_after` seconds; nothing has changed
    ├── Permanent        trying again cannot help; nothing has changed
    │   └── InvalidInput one named field is wrong
    ├── RolledBack       it failed before Commit and was undone: the world is as it was before
    └── Inconsistent     undoing or finishing failed too: a person must look, `left` says at what

Foreign errors are translated at one seam (the module that calls the foreign thing) and chained with `from`. Every error
carries a `reason`: CamelCase, stable, part of the public contract, the same word that stands in a condition.
"""

from __future__ import annotations

from collections.abc import Sequence

MESSAGE_LIMIT = 2048
"""Longest message kept, in characters: it has to fit a condition and a gRPC status."""


def tail(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """Return the end of `text`, at most `limit` characters, since tools say what went wrong in their last lines."""
    text = text.strip()
    return text if len(text) <= limit else "…" + text[-(limit - 1) :]


class PodferryError(Exception):
    """Root of everything that podferry raises on purpose."""

    reason = "Failed"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.message = tail(message)
        if reason is not None:
            self.reason = reason

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


class Transient(PodferryError):
    """Nothing has changed; the same call may succeed after `retry_after` seconds."""

    reason = "Unavailable"

    def __init__(self, message: str, *, reason: str | None = None, retry_after: float = 1.0) -> None:
        super().__init__(message, reason=reason)
        self.retry_after = retry_after


class Permanent(PodferryError):
    """Nothing has changed, and the same call will fail again."""

    reason = "Refused"


class InvalidInput(Permanent):
    """One named field of what the caller sent is wrong."""

    reason = "Invalid"

    def __init__(self, field: str, message: str, *, reason: str | None = None) -> None:
        super().__init__(f"{field}: {message}", reason=reason)
        self.field = field


class RolledBack(PodferryError):
    """A step before Commit failed and everything done before it was undone."""

    reason = "RolledBack"


class Inconsistent(PodferryError):
    """Neither finished nor undone: `left` lists what a person must look at."""

    reason = "Inconsistent"

    def __init__(self, message: str, *, left: Sequence[str] = (), reason: str | None = None) -> None:
        super().__init__(message if not left else f"{message}; left behind: {', '.join(left)}", reason=reason)
        self.left = tuple(left)

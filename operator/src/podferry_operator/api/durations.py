"""Durations as Kubernetes writes them ("1m30s"), and figures as people read them."""

from __future__ import annotations

import re

from podferry import errors

_WHOLE = re.compile(r"([0-9]+(\.[0-9]+)?(ms|s|m|h))+")
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse(text: str, field: str) -> float:
    """Return the seconds in a duration such as "500ms", "30s" or "1h10m".

    Raises:
        InvalidInput: `text` is no such duration, or not above zero. The CRD's pattern lets the latter pass.
    """
    if not _WHOLE.fullmatch(text):
        raise errors.InvalidInput(field, f"not a duration such as 30s or 1m30s: {text!r}")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
    if seconds <= 0:
        raise errors.InvalidInput(field, f"must be above zero: {text!r}")
    return seconds


def display(seconds: float) -> str:
    """Return `seconds` in three significant digits and the unit that suits: "0.8ms", "412ms", "2.31s", "3m05s"."""
    if seconds < 1:
        return f"{float(f'{seconds * 1000:.3g}'):g}ms"
    if seconds < 60:
        return f"{float(f'{seconds:.3g}'):g}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s"


def size(count: float) -> str:
    """Return a number of bytes in binary units with at most three significant digits: "17B", "12.3MiB"."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1000:
            return f"{float(f'{count:.3g}'):g}{unit}"
        count /= 1024
    return f"{float(f'{count:.3g}'):g}GiB"

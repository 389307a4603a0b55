"""Kubernetes quantities: "250m", "64Mi", "1e3", 2. Pure."""

from __future__ import annotations

import decimal
import math

_SUFFIXES = {
    **{suffix: decimal.Decimal(10) ** power for suffix, power in zip("num", (-9, -6, -3), strict=True)},
    **{suffix: decimal.Decimal(10) ** power for suffix, power in zip("kMGTPE", range(3, 21, 3), strict=True)},
    **{f"{letter}i": decimal.Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
}


def parse(quantity: str | float | None) -> decimal.Decimal:
    """Return the number that a quantity means; None is 0.

    Raises:
        ValueError: it is not a quantity.
    """
    text = str(0 if quantity is None else quantity).strip()
    for suffix in sorted(_SUFFIXES, key=len, reverse=True):
        if text.endswith(suffix):
            return _number(text.removesuffix(suffix)) * _SUFFIXES[suffix]
    return _number(text)


def milli(quantity: str | float | None) -> int:
    """Return thousandths, rounded up: how CPU is counted."""
    return math.ceil(parse(quantity) * 1000)


def whole(quantity: str | float | None) -> int:
    """Return units, rounded up: how bytes are counted."""
    return math.ceil(parse(quantity))


def _number(text: str) -> decimal.Decimal:
    try:
        return decimal.Decimal(text)
    except decimal.InvalidOperation as error:
        raise ValueError(f"not a quantity: {text!r}") from error

"""Figures: a flat object of numbers with dotted keys in build/bench/results.json, and what machine they are from."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.lab import project_disk

FOLDER = project_disk.REPOSITORY / "build/bench"
FILE = FOLDER / "results.json"
MACHINE = FOLDER / "machine.json"


def merge(figures: Mapping[str, float]) -> None:
    """Add figures to those of earlier runs; a key that is there already gets the new value. Notes the machine too."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    _write(FILE, {**load(), **{key: float(f"{value:.4g}") for key, value in figures.items()}})
    _write(
        MACHINE, {"cpu": _processor(), "cores": os.cpu_count(), "kernel": ".".join(platform.release().split(".")[:2])}
    )


def load() -> dict[str, float]:
    """Return all figures so far."""
    found: dict[str, float] = json.loads(FILE.read_text()) if FILE.exists() else {}
    return found


def machine() -> dict[str, str | int]:
    """Return what the figures were measured on."""
    found: dict[str, str | int] = json.loads(MACHINE.read_text())
    return found


def spread(key: str, samples: Sequence[float]) -> dict[str, float]:
    """Return the median of repeated measurements under `key`, with the lowest and highest beside it."""
    return {key: statistics.median(samples), f"{key}.min": min(samples), f"{key}.max": max(samples)}


def _write(path: Path, content: Mapping[str, object]) -> None:
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps(dict(sorted(content.items())), indent=1) + "\n")
    scratch.replace(path)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(": ")[2]
    return platform.machine()

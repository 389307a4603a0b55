"""Artefacts that take long to make, kept under a key of everything they are made of. Nothing here knows what they are.

`${PODFERRY_LAB_CACHE:-~/.cache/podferry/lab}/KIND/KEY/` holds one finished artefact. It is built in a temporary folder
beside it, under a lock per kind, and renamed into place, so a half-built one is never seen.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.lab import progress

KEEP = 3
"""Artefacts of a kind that stay: the newest ones by use. A branch switch then costs no rebuild."""


def root() -> Path:
    """Return the folder of all artefacts, made if needed."""
    path = Path(os.environ.get("PODFERRY_LAB_CACHE") or Path.home() / ".cache/podferry/lab")
    path.mkdir(parents=True, exist_ok=True)
    return path


def key(*parts: object) -> str:
    """Return 16 hex digits that stand for `parts` (anything JSON knows; bytes and paths by their content)."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.read_bytes() if isinstance(part, Path) else part
        digest.update(data if isinstance(data, bytes) else json.dumps(data, sort_keys=True).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def artefact(
    kind: str,
    content_key: str,
    steps: Callable[[Path], Sequence[progress.Step]],
    report: progress.Reporter,
) -> Path:
    """Return the folder of an artefact; build it by the steps that `steps(folder)` yields if it is not there."""
    home = root() / kind
    final = home / content_key
    home.mkdir(parents=True, exist_ok=True)
    with _locked(home):
        if not final.exists():
            _sweep(home)
            building = Path(tempfile.mkdtemp(prefix="building-", dir=home))
            try:
                report.run(f"lab: {kind}", steps(building))
                building.chmod(0o755)
                building.rename(final)
            finally:
                shutil.rmtree(building, ignore_errors=True)
        os.utime(final)
    return final


def _sweep(home: Path) -> None:
    """Remove what a killed builder left and all but the newest artefacts. The caller holds the lock."""
    for left in home.glob("building-*"):
        shutil.rmtree(left, ignore_errors=True)
    finished = sorted((path for path in home.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for old in finished[: max(0, len(finished) - KEEP + 1)]:
        shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

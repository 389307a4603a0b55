"""The disk with the Python packages that nodes need beside Debian's: the very files of this environment."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from packaging import requirements
from tests.lab import cache, node_image, progress

from podferry import errors

_SKIPPED = ("/tests/", "/test/", "/testing/")


def get(report: progress.Reporter) -> Path:
    """Return `python.squashfs`, built if the cache has none for the versions installed here.

    Raises:
        Permanent: this interpreter is not what nodes run (CPython 3.11 on x86-64): its packages would not load there.
    """
    if sys.version_info[:2] != (3, 11) or platform.machine() != "x86_64":
        raise errors.Permanent("the lab needs Python 3.11 on x86-64, as its nodes have", reason="WrongPython")
    wanted = distributions()
    names = sorted(f"{distribution.name}=={distribution.version}" for distribution in wanted)

    def steps(out: Path) -> Sequence[progress.Step]:
        return [
            progress.Step("copy packages", lambda: _copy(wanted, out / "tree")),
            progress.Step("file system", lambda: _pack(out)),
        ]

    return cache.artefact("python", cache.key(names, Path(__file__)), steps, report) / "python.squashfs"


def distributions() -> list[metadata.Distribution]:
    """Return what podferry and its agent require, and all that this requires in turn; the kubelet needs no more."""
    found: dict[str, metadata.Distribution] = {}
    waiting = _requirements(metadata.distribution("podferry"), "agent")
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name not in found:
            found[name] = metadata.distribution(name)
            waiting += _requirements(found[name], "")
    return list(found.values())


def _requirements(distribution: metadata.Distribution, extra: str) -> list[str]:
    parsed = [requirements.Requirement(line) for line in distribution.requires or []]
    return [one.name for one in parsed if one.marker is None or one.marker.evaluate({"extra": extra})]


def _copy(wanted: Sequence[metadata.Distribution], target: Path) -> None:
    for distribution in wanted:
        for file in distribution.files or []:
            source = Path(str(distribution.locate_file(file)))
            if ".." in file.parts or any(skipped in f"/{file}" for skipped in _SKIPPED) or not source.exists():
                continue
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / file)


def _pack(out: Path) -> None:
    node_image.squash(out / "tree", out / "python.squashfs")
    shutil.rmtree(out / "tree")

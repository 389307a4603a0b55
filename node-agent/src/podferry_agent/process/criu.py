"""CRIU's own files: logs, statistics, and the one image that must be changed on the way.

pycriu comes with the distribution's criu package, so it is imported where it is used: a machine without it can still
run everything else. Image formats: criu/images/*.proto.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podferry import errors

IMAGES = "criu"
"""Directory of CRIU's images inside an image set."""

PAGE = 4096

NETWORK_LOCK_SKIP = 3
"""criu/include/cr_options.h"""

_LOG_LINES = 12


@dataclass(frozen=True, slots=True)
class DumpStatistics:
    """What CRIU measured of its own dump."""

    frozen_seconds: float
    memory_bytes: int
    """Memory pages written to the images."""


def dump_statistics(work: Path) -> DumpStatistics:
    """Read `work`/stats-dump; zeros when CRIU left none, since a migration does not depend on it."""
    try:
        dump = _load(work / "stats-dump")["entries"][0]["dump"]
    except (OSError, errors.Permanent, LookupError):
        return DumpStatistics(0.0, 0)
    return DumpStatistics(int(dump["frozen_time"]) / 1e6, int(dump["pages_written"]) * PAGE)


def preload() -> None:
    """Load pycriu in the background, since that takes long and the first use would be while a pod stands frozen."""

    def load() -> None:
        with contextlib.suppress(ImportError):  # told by whoever needs it
            _pycriu()

    threading.Thread(target=load, name="pycriu", daemon=True).start()


def version() -> tuple[int, ...]:
    """Return the version of the installed CRIU, (3, 17, 1); (0,) when there is none."""
    try:
        told = subprocess.run(["criu", "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return (0,)
    found = re.search(r"\d+(\.\d+)+", told)
    return tuple(int(part) for part in found.group().split(".")) if found else (0,)


def unlock_network(images: Path) -> None:
    """Keep CRIU from locking the network namespace that it restores into.

    The method that the dump used stands in the inventory image. `skip` is known to CRIU 4.0; an older one that meets
    it does nothing either (criu/net.c: network_lock_internal).

    Raises:
        Permanent: an image cannot be read (reason ImagesDamaged).
    """
    path = images / "inventory.img"
    inventory = _load(path)
    for entry in inventory["entries"]:
        entry["network_lock_method"] = NETWORK_LOCK_SKIP
    _dump(inventory, path)


def set_host_name(images: Path, name: str) -> None:
    """Make CRIU restore the UTS namespace of these images with host name `name`.

    A container of a pod joins the sandbox's UTS namespace, and CRIU writes into it the name that it found on the
    source. The name of the new sandbox is the pod's.

    Raises:
        Permanent: an image cannot be read (reason ImagesDamaged).
    """
    for path in images.glob("utsns-*.img"):
        image = _load(path)
        for entry in image["entries"]:
            entry["nodename"] = name
        _dump(image, path)


def log_tail(path: Path) -> str:
    """Return the errors in a CRIU log, or its last lines when there is none; empty when there is no log."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    told = [line for line in lines if "Error (" in line] or lines
    return errors.tail("\n".join(told[-_LOG_LINES:]))


def _load(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        try:
            image: dict[str, Any] = _pycriu().load(file)
        except Exception as error:  # pycriu raises bare exceptions of its own and protobuf's
            raise errors.Permanent(f"cannot read {path.name}: {error!r}", reason="ImagesDamaged") from error
    return image


def _dump(image: dict[str, Any], path: Path) -> None:
    with path.open("wb") as file:
        _pycriu().dump(image, file)


def _pycriu() -> Any:
    from pycriu import images  # noqa: PLC0415  see the module's docstring

    return images

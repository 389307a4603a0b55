"""Getting one container's bundle ready to be restored from an image set, inside the hook's `create`.

CRIU is told what it must know through a configuration file of this container alone, which runc finds by the annotation
org.criu.config in the bundle. (runc has no flags for these options; an /etc/criu/runc.conf would be everybody's.) An
agent that removes the file later leaves nothing behind: CRIU ignores a configuration file that is gone.
"""

from __future__ import annotations

import json
from pathlib import Path

from podferry import errors
from podferry_agent.process import criu, files
from podferry_agent.runtime import bundle as bundles

OPTIONS = ("tcp-close", "skip-in-flight", "file-locks", "leave-stopped")
"""Established sockets come back closed, to be rebuilt; nothing on its way in is expected; tasks stand stopped."""


def prepare(bundle: bundles.Bundle, images: Path, work: Path) -> None:
    """Put the files of image set `images` in place and make runc restore `bundle` with our options.

    Raises:
        Permanent: a file cannot be put back or an image is damaged; the container must not be created then.
    """
    work.mkdir(mode=0o700, parents=True, exist_ok=True)
    configuration = work / "criu.conf"
    root = bundles.cgroup(bundle.cgroups_path)
    configuration.write_text("".join(f"{option}\n" for option in (*OPTIONS, f"cgroup-root {root}")))
    try:
        files.put_back(images, {"rootfs": bundle.rootfs, **bundle.carried})
        criu.unlock_network(images / criu.IMAGES)
        name = bundles.host_name(bundle)
        if name is not None:
            criu.set_host_name(images / criu.IMAGES, name)
        bundles.annotate(bundle.path, bundles.CRIU_CONFIG, str(configuration))
    except OSError as error:
        raise errors.Permanent(f"cannot prepare {bundle.container}: {error}", reason="RestoreFailed") from error


def failure(work: Path, runtime_log: Path | None, code: int) -> str:
    """Say why `runc restore` ended with `code`, from CRIU's log and runc's."""
    told = criu.log_tail(work / "restore.log") or _last_error(runtime_log)
    return f"runc restore ended with {code}: {told or 'it left no log'}"


def _last_error(log: Path | None) -> str:
    """Return the last error message in a runc log of JSON lines."""
    found = ""
    try:
        lines = log.read_text(errors="replace").splitlines() if log else []
    except OSError:
        return ""
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("level") == "error":
            found = str(entry.get("msg", ""))
    return found

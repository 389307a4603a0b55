"""An OCI bundle as containerd's CRI plugin makes it: what its config.json says about one container. No policy here.

The annotations are containerd's (pkg/cri/annotations); `cgroupsPath` comes in the two forms of the OCI runtime spec
and runc.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podferry import errors, ids

CRI = "io.kubernetes.cri."
CRIU_CONFIG = "org.criu.config"
"""The annotation by which runc is told of a CRIU configuration file for one container."""

CGROUP_MOUNT = Path("/sys/fs/cgroup")

_VOLUME = re.compile(r"(?P<pods>/.*/pods/(?P<uid>[^/]+))/volumes/kubernetes\.io~empty-dir/(?P<name>[^/]+)(/.*)?")
_SUBPATH = re.compile(r"(?P<pods>/.*/pods/(?P<uid>[^/]+))/volume-subpaths/(?P<name>[^/]+)/.*")


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a container's config.json says that matters to a migration."""

    path: Path
    sandbox: bool
    """Whether this is the pause container of the pod."""
    container: str
    """The container's name in the pod's spec; empty for the sandbox."""
    pod_uid: str
    sandbox_id: str
    migration_id: str
    """Value of the pod's migration annotation; empty when it has none."""
    cgroups_path: str
    netns: Path | None
    """The network namespace that the container joins; None when it shares the host's."""
    carried: Mapping[str, Path]
    """Directories of the pod that CRIU leaves out and that must travel: name in the image set → path on this node."""

    @property
    def rootfs(self) -> Path:
        """Where the shim has mounted the root file system."""
        return self.path / "rootfs"


def load(path: Path) -> Bundle:
    """Read `path`/config.json.

    Raises:
        Permanent: it is not there, or not what containerd writes.
    """
    try:
        spec = json.loads((path / "config.json").read_bytes())
        return parse(path, spec)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise errors.Permanent(f"cannot read the OCI bundle {path}: {error!r}", reason="BundleUnreadable") from error


def parse(path: Path, spec: Mapping[str, Any]) -> Bundle:
    """Interpret `spec`, the content of a config.json, or the `runtimeSpec` that CRI reports."""
    annotations: Mapping[str, str] = spec.get("annotations") or {}
    linux = spec["linux"]
    namespaces = {entry["type"]: entry.get("path") for entry in linux.get("namespaces", ())}
    uid = annotations.get(CRI + "sandbox-uid", "")
    netns = namespaces.get("network")
    return Bundle(
        path=path,
        sandbox=annotations.get(CRI + "container-type") == "sandbox",
        container=annotations.get(CRI + "container-name", ""),
        pod_uid=uid,
        sandbox_id=annotations.get(CRI + "sandbox-id", ""),
        migration_id=annotations.get(ids.MIGRATION_ANNOTATION, ""),
        cgroups_path=linux.get("cgroupsPath", ""),
        netns=Path(netns) if netns else None,
        carried=_carried(spec.get("mounts") or (), uid),
    )


def _carried(mounts: Any, uid: str) -> dict[str, Path]:
    """Find emptyDir volumes of pod `uid` ("volume-<name>") and the sandbox's /dev/shm ("shm") among a spec's mounts."""
    found: dict[str, Path] = {}
    for mount in mounts:
        source = mount.get("source", "")
        match = _VOLUME.fullmatch(source) or _SUBPATH.fullmatch(source)
        if match and match["uid"] == uid:
            volume = Path(match["pods"]) / "volumes" / "kubernetes.io~empty-dir" / match["name"]
            if volume.is_dir():  # a subPath may lie in a volume of another kind
                found["volume-" + match["name"]] = volume
        elif mount.get("destination") == "/dev/shm" and source.endswith("/shm"):  # noqa: S108
            found["shm"] = Path(source)
    return found


def annotate(path: Path, key: str, value: str) -> None:
    """Set an annotation in `path`/config.json, atomically, everything else unchanged."""
    file = path / "config.json"
    spec = json.loads(file.read_bytes())
    spec.setdefault("annotations", {})[key] = value
    new = path / "config.json.podferry"
    new.write_text(json.dumps(spec))
    new.chmod(file.stat().st_mode & 0o777)
    new.replace(file)


def host_name(bundle: Bundle) -> str | None:
    """Return the host name that the pod's sandbox was created with, from the sandbox's own bundle beside this one."""
    try:
        spec = json.loads((bundle.path.parent / bundle.sandbox_id / "config.json").read_bytes())
    except (OSError, ValueError):
        return None
    name = spec.get("hostname")
    return name if isinstance(name, str) and name else None


def cgroup(cgroups_path: str) -> str:
    """Return the path below the cgroup2 mount ("/kubepods/…") that runc makes of an OCI `cgroupsPath`.

    With the cgroupfs driver the two are the same; with the systemd driver it is "slice:prefix:name", and a slice's name
    spells its parents (systemd.slice(5)).
    """
    if ":" not in cgroups_path:
        return "/" + cgroups_path.strip("/")
    slice_name, prefix, name = cgroups_path.split(":", 2)
    parts = slice_name.removesuffix(".slice").split("-")
    slices = ["-".join(parts[: end + 1]) + ".slice" for end in range(len(parts))]
    unit = name if name.endswith(".slice") else f"{prefix}-{name}.scope"
    return "/" + "/".join([*slices, unit])

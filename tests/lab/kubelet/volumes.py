"""A pod's files on the node: volumes, hosts file, termination messages. `prepare` makes them, `discard` undoes it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.lab.kubelet import container, pods, quantities

MESSAGE_LIMIT = 4096
"""Longest termination message kept, in characters."""

ConfigMap = Callable[[str], pods.Json]
"""Fetches a ConfigMap of the pod's namespace by name."""


class Unmountable(Exception):
    """A volume cannot be had; the pod waits."""


class Files:
    """The folder of one pod, and what is mounted below it."""

    def __init__(self, root: Path, pod: pods.Json) -> None:
        self._pod = pod
        self._folder = root / "pods" / pods.uid(pod)

    @property
    def hosts(self) -> Path:
        """The pod's hosts file."""
        return self._folder / "etc-hosts"

    def prepare(self, config_map: ConfigMap) -> dict[str, str]:
        """Make every volume that is not there yet; return volume name → path on the node.

        Raises:
            Unmountable: one of them cannot be had.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        return {one["name"]: str(self._volume(one, config_map)) for one in self._pod["spec"].get("volumes") or []}

    def _volume(self, volume: pods.Json, config_map: ConfigMap) -> Path:
        name = str(volume["name"])
        if "hostPath" in volume:
            return _host_path(volume["hostPath"])
        if "emptyDir" in volume:
            folder = self._folder / "volumes" / "kubernetes.io~empty-dir" / name
            _empty_dir(folder, volume["emptyDir"] or {}, self._group())
            return folder
        if "configMap" in volume:
            folder = self._folder / "volumes" / "kubernetes.io~configmap" / name
            _config_map(folder, volume["configMap"], config_map)
            return folder
        raise Unmountable(f"volume {name}: only emptyDir, hostPath and configMap are known here")

    def _group(self) -> int | None:
        found: int | None = (self._pod["spec"].get("securityContext") or {}).get("fsGroup")
        return found

    def write_hosts(self, text: str) -> str:
        """Write the pod's hosts file; return its path."""
        self.hosts.write_text(text)
        return str(self.hosts)

    def message_path(self, name: str, attempt: int) -> Path:
        """Return where the termination message of one attempt at a container stands."""
        return self._folder / "containers" / name / f"{attempt}.message"

    def make_message(self, name: str, attempt: int) -> str:
        """Make the empty file for a termination message, writable for whoever the container runs as."""
        path = self.message_path(name, attempt)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        path.chmod(0o666)
        return str(path)

    def message(self, name: str, attempt: int) -> str:
        """Return what a container left as its termination message."""
        try:
            return self.message_path(name, attempt).read_text(errors="replace")[-MESSAGE_LIMIT:]
        except FileNotFoundError:
            return ""

    def make_logs(self, directory: Path) -> None:
        """Make the folders for the containers' logs."""
        for spec in pods.containers(self._pod):
            (directory / container.log_path(spec["name"], 0)).parent.mkdir(parents=True, exist_ok=True)

    def discard(self, logs: Path) -> None:
        """Unmount and delete everything of the pod. Idempotent."""
        discard(self._folder, logs)


def discard(folder: Path, logs: Path) -> None:
    """Unmount what is mounted below a pod's folder, delete it and the folder of its logs. Idempotent."""
    for mount in sorted(_mounts_below(folder), reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=True, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(logs, ignore_errors=True)


def _mounts_below(folder: Path) -> list[str]:
    fields = (line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return [one[4] for one in fields if one[4].startswith(f"{folder}/")]


def _empty_dir(folder: Path, said: pods.Json, group: int | None) -> None:
    if folder.exists():
        return
    # Made under another name first: a kubelet that dies in between must not find a volume that is half made.
    folder.parent.mkdir(parents=True, exist_ok=True)
    if said.get("medium") == "Memory":
        staging = folder
        folder.mkdir()
        limit = quantities.whole(said.get("sizeLimit"))
        options = ["-o", f"size={limit}"] if limit else []
        done = subprocess.run(
            ["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)], check=False, capture_output=True, text=True
        )
        if done.returncode:
            folder.rmdir()
            raise Unmountable(f"tmpfs for {folder.name}: {done.stderr.strip()}")
    else:
        staging = folder.with_name(f".{folder.name}")
        staging.mkdir(exist_ok=True)
    if group is not None:
        os.chown(staging, -1, group)
    staging.chmod(0o777 if group is None else 0o2777)
    if staging != folder:
        staging.rename(folder)


def _host_path(said: pods.Json) -> Path:
    path, kind = Path(said["path"]), said.get("type") or ""
    if kind == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True)
    elif kind == "FileOrCreate":
        path.touch(exist_ok=True)
    elif (kind == "Directory" and not path.is_dir()) or (kind == "File" and not path.is_file()):
        raise Unmountable(f"hostPath {path} is not a {kind.lower()}")
    return path


def _config_map(folder: Path, said: pods.Json, fetch: ConfigMap) -> None:
    if folder.exists():
        return
    data = fetch(said["name"]).get("data") or {}
    wanted = {one["key"]: one["path"] for one in said.get("items") or []} or {key: key for key in data}
    missing = sorted(set(wanted) - set(data))
    if missing and not said.get("optional"):
        raise Unmountable(f"ConfigMap {said['name']} has no {', '.join(missing)}")
    staging = folder.with_name(f".{folder.name}")
    for key in wanted.keys() & data.keys():
        file = staging / wanted[key]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(data[key])
        file.chmod(said.get("defaultMode") or 0o644)
    staging.mkdir(parents=True, exist_ok=True)
    staging.rename(folder)

"""Which of a pod's volumes and devices a move can keep: what lies in the pod, in the API or on the network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from podferry_operator.domain import observation

_KEPT = frozenset(
    {
        "emptyDir",  # its content travels
        *("configMap", "downwardAPI", "image", "projected", "secret"),  # the kubelet writes the same on any node
        *("azureFile", "cephfs", "glusterfs", "nfs"),  # file systems that many nodes mount
    }
)
_MANY_NODES = frozenset({"ReadWriteMany", "ReadOnlyMany"})


def claims(pod: observation.Object) -> list[str]:
    """Return the names of the PersistentVolumeClaims that the pod mounts."""
    found = (volume.get("persistentVolumeClaim") for volume in pod["spec"].get("volumes", ()))
    return [str(claim["claimName"]) for claim in found if claim]


def unmovable(pod: observation.Object, found: Mapping[str, observation.Object]) -> Iterator[str]:
    """Yield what the pod would lose on another node; `found`: its claims by name, those that could be read."""
    for volume in pod["spec"].get("volumes", ()):
        yield from (f"has volume {volume['name']}{what}" for what in _volume(volume, pod, found))
    for container in pod["spec"]["containers"]:
        yield from (f"{what} in container {container['name']}: devices cannot move" for what in _devices(container))
    if pod["spec"].get("resourceClaims"):
        yield "holds claimed devices (resourceClaims), which cannot move"


def _volume(
    volume: observation.Object, pod: observation.Object, found: Mapping[str, observation.Object]
) -> Iterator[str]:
    kind = next((key for key in volume if key != "name"), "emptyDir")
    if kind == "hostPath":
        if any(not mount.get("readOnly") for mount in _mounts(pod, volume["name"])):
            yield ", a writable hostPath: what it writes there stays on its node; mount it readOnly"
    elif kind == "ephemeral":
        yield ", a generic ephemeral volume, which would be a new and empty one"
    elif kind == "persistentVolumeClaim":
        name = volume[kind]["claimName"]
        modes = set(found.get(name, {}).get("spec", {}).get("accessModes", ()))
        if not modes & _MANY_NODES:
            said = ", ".join(sorted(modes)) or "unknown access mode"
            yield f", claim {name} ({said}): both nodes must mount it at once; ReadWriteMany can move"
    elif kind not in _KEPT:
        yield f" of kind {kind}, which cannot move"


def _devices(container: observation.Object) -> Iterator[str]:
    if container.get("volumeDevices"):
        yield "has a block device"
    for resource in container.get("resources", {}).get("limits", {}):
        if "/" in resource and not resource.startswith("kubernetes.io/"):
            yield f"holds {resource}"


def _mounts(pod: observation.Object, volume: str) -> Iterator[observation.Object]:
    for container in pod["spec"]["containers"]:
        yield from (mount for mount in container.get("volumeMounts", ()) if mount["name"] == volume)

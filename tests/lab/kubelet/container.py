"""From a container of a Pod to what the runtime is asked to create. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.lab.kubelet import env, names, pods, resources, sandbox, security

from podferry_agent.runtime import cri_pb2

MESSAGE_PATH = "/dev/termination-log"

_PROPAGATION = {
    "None": cri_pb2.PROPAGATION_PRIVATE,
    "HostToContainer": cri_pb2.PROPAGATION_HOST_TO_CONTAINER,
    "Bidirectional": cri_pb2.PROPAGATION_BIDIRECTIONAL,
}


@dataclass(frozen=True)
class Surroundings:
    """What a container's configuration takes from the node rather than from the pod."""

    image: str
    """The image's id in the runtime."""

    volumes: Mapping[str, str]
    """Volume name → path on the node."""

    hosts: str
    """Path of the pod's hosts file on the node, empty with the host's network."""

    message: str
    """Path of the container's termination message on the node."""

    ips: Sequence[str]
    host_ip: str
    node_memory: int


def config(pod: pods.Json, spec: pods.Json, attempt: int, around: Surroundings) -> cri_pb2.ContainerConfig:
    """Return the configuration of one container.

    Raises:
        env.Unresolvable: a variable cannot be given.
    """
    variables = env.variables(pod, spec, around.ips, around.host_ip)
    return cri_pb2.ContainerConfig(
        metadata=cri_pb2.ContainerMetadata(name=spec["name"], attempt=attempt),
        image=cri_pb2.ImageSpec(image=around.image, user_specified_image=spec["image"]),
        command=env.expand_all(spec.get("command"), variables),
        args=env.expand_all(spec.get("args"), variables),
        working_dir=spec.get("workingDir") or "",
        envs=[cri_pb2.KeyValue(key=key, value=value.encode()) for key, value in variables.items()],
        mounts=_mounts(spec, around, variables),
        labels={names.CONTAINER_NAME: spec["name"], **sandbox.pod_labels(pod)},
        annotations=_annotations(pod, spec, attempt),
        log_path=log_path(spec["name"], attempt),
        stdin=bool(spec.get("stdin")),
        stdin_once=bool(spec.get("stdinOnce")),
        tty=bool(spec.get("tty")),
        linux=cri_pb2.LinuxContainerConfig(
            resources=resources.of_container(pod, spec, around.node_memory),
            security_context=security.of_container(pod, spec),
        ),
    )


def log_path(name: str, attempt: int) -> str:
    """Return where the log of one attempt stands, under the pod's folder of logs."""
    return f"{name}/{attempt}.log"


def _annotations(pod: pods.Json, spec: pods.Json, attempt: int) -> dict[str, str]:
    found = {
        names.CONTAINER_HASH: _hash(spec),
        names.CONTAINER_RESTARTS: str(attempt),
        names.CONTAINER_MESSAGE_PATH: spec.get("terminationMessagePath") or MESSAGE_PATH,
        names.CONTAINER_MESSAGE_POLICY: spec.get("terminationMessagePolicy") or "File",
        names.POD_GRACE: str(pods.grace(pod)),
    }
    if spec.get("ports"):
        found[names.CONTAINER_PORTS] = json.dumps(spec["ports"], separators=(",", ":"))
    return found


def _hash(spec: pods.Json) -> str:
    text = json.dumps({"name": spec["name"], "image": spec["image"]}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _mounts(spec: pods.Json, around: Surroundings, variables: Mapping[str, str]) -> list[cri_pb2.Mount]:
    found = []
    for one in spec.get("volumeMounts") or []:
        source = around.volumes[one["name"]]
        below = one.get("subPath") or env.expand(one.get("subPathExpr") or "", variables)
        found.append(
            cri_pb2.Mount(
                container_path=one["mountPath"],
                host_path=f"{source}/{below}" if below else source,
                readonly=bool(one.get("readOnly")),
                propagation=_PROPAGATION[one.get("mountPropagation") or "None"],
            )
        )
    taken = {mount.container_path for mount in found}
    if around.hosts and "/etc/hosts" not in taken:
        found.append(cri_pb2.Mount(container_path="/etc/hosts", host_path=around.hosts))
    path = spec.get("terminationMessagePath") or MESSAGE_PATH
    found.append(cri_pb2.Mount(container_path=path, host_path=around.message))
    return found

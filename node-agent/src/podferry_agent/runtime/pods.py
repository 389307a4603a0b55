"""Pods that run on this node, as containerd's CRI and runc report them. The only caller of CRI; its errors end here."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from podferry import errors
from podferry_agent import settings as settings_module
from podferry_agent.runtime import bundle as bundles
from podferry_agent.runtime import cri_pb2, cri_pb2_grpc, runc

POD_UID = "io.kubernetes.pod.uid"
POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
"""Labels that every kubelet puts on the containers it makes (kubelet's pkg/types)."""

CALL_SECONDS = 10.0
"""How long CRI may take: it only lists, but behind a busy containerd."""


@dataclass(frozen=True, slots=True)
class Container:
    """A running container."""

    name: str
    id: str
    pid: int
    """Its init process, in our PID namespace."""
    cgroup: Path
    """Absolute path of its own cgroup, below the cgroup2 mount."""
    bundle: bundles.Bundle


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod with its running containers, oldest first."""

    uid: str
    namespace: str
    name: str
    sandbox_id: str
    netns: Path
    containers: tuple[Container, ...]

    def ordered(self, names: Sequence[str]) -> Pod:
        """Return the pod with its containers in the order of `names`, that of the pod's spec.

        Raises:
            Permanent: other containers run than those named (reason PodChanged).
        """
        running = {container.name: container for container in self.containers}
        if sorted(running) != sorted(names):
            raise errors.Permanent(f"the pod runs {sorted(running)}, not {sorted(names)}", reason="PodChanged")
        return dataclasses.replace(self, containers=tuple(running[name] for name in names))


class PodView:
    """A view of this node's pods; each call asks anew."""

    def __init__(self, settings: settings_module.Settings) -> None:
        self._runc_root = settings.runc_root
        # containerd refuses the authority that gRPC makes of a socket's path
        options = (("grpc.default_authority", "localhost"),)
        self._channel = grpc.insecure_channel(settings.cri, options=options)
        self._runtime = cri_pb2_grpc.RuntimeServiceStub(self._channel)

    def find(self, uid: str) -> Pod:
        """Return the pod with this UID.

        Raises:
            Permanent: it has no running container here (reason PodNotFound), or shares the node's network namespace, in
                which nobody can tell its connections from the node's (reason HostNetwork).
            Transient: the container runtime does not answer (reason RuntimeUnavailable).
        """
        found = sorted(self._list(uid), key=lambda item: item.created_at)
        if not found:
            raise errors.Permanent(f"no container of pod {uid} runs on this node", reason="PodNotFound")
        containers = tuple(self._container(item) for item in found)
        netns = containers[0].bundle.netns
        if netns is None:
            raise errors.Permanent("the pod uses the node's network namespace", reason="HostNetwork")
        labels = found[0].labels
        sandbox = found[0].pod_sandbox_id
        return Pod(uid, labels[POD_NAMESPACE], labels[POD_NAME], sandbox, netns, containers)

    def uids(self) -> set[str]:
        """Return the UID of every pod that this node knows: the kubelet keeps the last sandbox until a pod is deleted.

        Raises:
            Transient: the container runtime does not answer (reason RuntimeUnavailable).
        """
        with _translated():
            answer = self._runtime.ListPodSandbox(cri_pb2.ListPodSandboxRequest(), timeout=CALL_SECONDS)
        return {item.metadata.uid for item in answer.items}

    def _container(self, item: cri_pb2.Container) -> Container:
        state = runc.load(self._runc_root, item.id)
        return Container(item.metadata.name, item.id, state.pid, state.cgroup, bundles.load(state.bundle))

    def _list(self, uid: str) -> list[cri_pb2.Container]:
        wanted = cri_pb2.ContainerFilter(
            label_selector={POD_UID: uid}, state=cri_pb2.ContainerStateValue(state=cri_pb2.CONTAINER_RUNNING)
        )
        with _translated():
            answer = self._runtime.ListContainers(cri_pb2.ListContainersRequest(filter=wanted), timeout=CALL_SECONDS)
        return list(answer.containers)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        raise errors.Transient(f"the container runtime: {error}", reason="RuntimeUnavailable") from error

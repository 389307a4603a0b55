"""The runtime, through CRI over its unix socket; gRPC's errors become CriError here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import grpc
from tests.lab.kubelet import names, observation

from podferry_agent.runtime import cri_pb2, cri_pb2_grpc

MESSAGE_LIMIT = 16 * 1024 * 1024
"""Longest reply in bytes, the kubelet's: lists and verbose statuses grow past gRPC's default of 4 MiB."""


class CriError(Exception):
    """The runtime refused, failed, or did not answer in time."""

    def __init__(self, call: str, code: grpc.StatusCode, message: str) -> None:
        super().__init__(f"{call}: {code.name}: {message}")
        self.code = code
        self.message = message


class Runtime:
    """Calls on one runtime, each with the kubelet's deadline; safe to use from many threads.

    `timeout` is the runtime request timeout in seconds.
    """

    def __init__(self, endpoint: str, timeout: float) -> None:
        limit = [("grpc.max_receive_message_length", MESSAGE_LIMIT)]
        channel = grpc.insecure_channel(endpoint, options=limit)
        self._runtime = cri_pb2_grpc.RuntimeServiceStub(channel)
        self._images = cri_pb2_grpc.ImageServiceStub(channel)
        self._timeout = timeout
        self.name = "containerd"

    def version(self) -> str:
        """Return name and version of the runtime; waits until it serves."""
        reply = self._call(self._runtime.Version, cri_pb2.VersionRequest(version="v1"), wait=True)
        self.name = reply.runtime_name
        return f"{reply.runtime_name}://{reply.runtime_version}"

    def conditions(self) -> dict[str, cri_pb2.RuntimeCondition]:
        """Return RuntimeReady and NetworkReady by name."""
        reply: cri_pb2.StatusResponse = self._call(self._runtime.Status, cri_pb2.StatusRequest())
        return {one.type: one for one in reply.status.conditions}

    def states(self) -> dict[str, frozenset[tuple[str, int]]]:
        """Return pod uid → (id, state) of each of its sandboxes and containers, of every pod in the runtime."""
        sandboxes = self._call(self._runtime.ListPodSandbox, cri_pb2.ListPodSandboxRequest()).items
        containers = self._call(self._runtime.ListContainers, cri_pb2.ListContainersRequest()).containers
        found: dict[str, set[tuple[str, int]]] = {}
        for one in (*sandboxes, *containers):
            found.setdefault(one.labels.get(names.POD_UID, ""), set()).add((one.id, one.state))
        found.pop("", None)
        return {uid: frozenset(states) for uid, states in found.items()}

    def sandboxes(self) -> Iterable[cri_pb2.PodSandbox]:
        """Return every sandbox that a kubelet made."""
        listed = self._call(self._runtime.ListPodSandbox, cri_pb2.ListPodSandboxRequest()).items
        return [one for one in listed if names.POD_UID in one.labels]

    def pod(self, uid: str) -> observation.Observed:
        """Return what the runtime has of one pod."""
        mine = {names.POD_UID: uid}
        boxes = self._call(
            self._runtime.ListPodSandbox,
            cri_pb2.ListPodSandboxRequest(filter=cri_pb2.PodSandboxFilter(label_selector=mine)),
        ).items
        containers = self._call(
            self._runtime.ListContainers,
            cri_pb2.ListContainersRequest(filter=cri_pb2.ContainerFilter(label_selector=mine)),
        ).containers
        return observation.observed(
            self._each(self._sandbox_status, boxes), self._each(self._container_status, containers), self.name
        )

    def _sandbox_status(self, sandbox: str) -> Any:
        return self._call(
            self._runtime.PodSandboxStatus, cri_pb2.PodSandboxStatusRequest(pod_sandbox_id=sandbox)
        ).status

    def _container_status(self, container: str) -> Any:
        return self._call(self._runtime.ContainerStatus, cri_pb2.ContainerStatusRequest(container_id=container)).status

    @staticmethod
    def _each(ask: Callable[[str], Any], listed: Iterable[Any]) -> list[Any]:
        """Ask for each status; what was removed since it was listed is left out."""
        found = []
        for one in listed:
            try:
                found.append(ask(one.id))
            except CriError as error:
                if error.code != grpc.StatusCode.NOT_FOUND:
                    raise
        return found

    def run_sandbox(self, config: cri_pb2.PodSandboxConfig, handler: str) -> str:
        """Run a pod's sandbox, network included; return its id."""
        request = cri_pb2.RunPodSandboxRequest(config=config, runtime_handler=handler)
        return str(self._call(self._runtime.RunPodSandbox, request, extra=self._timeout).pod_sandbox_id)

    def stop_sandbox(self, sandbox: str) -> None:
        """Stop a sandbox and everything in it, and give its network back. Idempotent."""
        self._call(self._runtime.StopPodSandbox, cri_pb2.StopPodSandboxRequest(pod_sandbox_id=sandbox))

    def remove_sandbox(self, sandbox: str) -> None:
        """Remove a stopped sandbox with its containers. Idempotent."""
        self._call(self._runtime.RemovePodSandbox, cri_pb2.RemovePodSandboxRequest(pod_sandbox_id=sandbox))

    def create(self, sandbox: str, config: cri_pb2.ContainerConfig, around: cri_pb2.PodSandboxConfig) -> str:
        """Create a container in a sandbox; return its id."""
        request = cri_pb2.CreateContainerRequest(pod_sandbox_id=sandbox, config=config, sandbox_config=around)
        return str(self._call(self._runtime.CreateContainer, request).container_id)

    def start(self, container: str) -> None:
        """Start a created container."""
        self._call(self._runtime.StartContainer, cri_pb2.StartContainerRequest(container_id=container))

    def stop(self, container: str, grace: int) -> None:
        """Ask a container to end, kill it after `grace` seconds, and wait for that. Idempotent."""
        request = cri_pb2.StopContainerRequest(container_id=container, timeout=grace)
        self._call(self._runtime.StopContainer, request, extra=grace)

    def remove(self, container: str) -> None:
        """Remove a container that does not run. Idempotent."""
        self._call(self._runtime.RemoveContainer, cri_pb2.RemoveContainerRequest(container_id=container))

    def execute(self, container: str, command: Iterable[str], timeout: float) -> tuple[int, str]:
        """Run a command in a container; return its exit code and what it said."""
        request = cri_pb2.ExecSyncRequest(container_id=container, cmd=command, timeout=max(1, int(timeout)))
        reply = self._call(self._runtime.ExecSync, request, extra=timeout)
        return reply.exit_code, (reply.stdout + reply.stderr).decode("utf-8", "replace")

    def image(self, name: str) -> str | None:
        """Return the id of an image that the node has, or None."""
        request = cri_pb2.ImageStatusRequest(image=cri_pb2.ImageSpec(image=name))
        return self._call(self._images.ImageStatus, request).image.id or None

    def _call(self, method: Any, request: Any, *, extra: float = 0.0, wait: bool = False) -> Any:
        try:
            return method(request, timeout=self._timeout + extra, wait_for_ready=wait)
        except grpc.RpcError as error:
            call = type(request).__name__.removesuffix("Request")
            raise CriError(call, error.code(), error.details() or "") from error

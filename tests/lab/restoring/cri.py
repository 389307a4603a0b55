"""Pods by direct CRI calls, as a kubelet would make them: two containers, a volume, logs in files."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import grpc
from tests.lab import layout

from podferry import ids
from podferry_agent.runtime import cri_pb2, cri_pb2_grpc, pods

PODS = Path("/var/lib/kubelet/pods")
LOGS = Path("/var/log/pods")
CONTAINERS = ("one", "two")
HOST_NAME = "web-0"
SECONDS = 150.0
_APPLICATION = Path(__file__).with_name("application.py")
_OWN_PIDS = cri_pb2.NamespaceOption(pid=cri_pb2.CONTAINER)


@dataclass(frozen=True)
class Pod:
    """A pod's name and UID; a migrating one has the id of its migration."""

    uid: str
    handler: str
    migration_id: str = ""

    @property
    def labels(self) -> dict[str, str]:
        """Return what every kubelet puts on sandbox and containers."""
        return {pods.POD_UID: self.uid, pods.POD_NAME: "web", pods.POD_NAMESPACE: "default"}

    def log(self, container: str, attempt: int = 0) -> Path:
        """Return where a container's output is written."""
        return LOGS / self.uid / f"{container}-{attempt}.log"

    def config(self) -> cri_pb2.PodSandboxConfig:
        """Return the sandbox's configuration."""
        return cri_pb2.PodSandboxConfig(
            metadata=cri_pb2.PodSandboxMetadata(name="web", uid=self.uid, namespace="default"),
            hostname=HOST_NAME,
            log_directory=str(LOGS / self.uid),
            labels=self.labels,
            annotations={ids.MIGRATION_ANNOTATION: self.migration_id} if self.migration_id else {},
            linux=cri_pb2.LinuxPodSandboxConfig(
                cgroup_parent=f"/kubepods/pod{self.uid}",
                security_context=cri_pb2.LinuxSandboxSecurityContext(namespace_options=_OWN_PIDS),
            ),
        )


class Runtime:
    """containerd of this node."""

    def __init__(self) -> None:
        options = (("grpc.default_authority", "localhost"),)
        channel = grpc.insecure_channel("unix:///run/containerd/containerd.sock", options=options)
        self._stub = cri_pb2_grpc.RuntimeServiceStub(channel)

    def sandbox(self, pod: Pod) -> str:
        """Make a pod's sandbox; return its id."""
        (LOGS / pod.uid).mkdir(parents=True, exist_ok=True)
        (PODS / pod.uid / "volumes/kubernetes.io~empty-dir/data").mkdir(parents=True, exist_ok=True)
        request = cri_pb2.RunPodSandboxRequest(config=pod.config(), runtime_handler=pod.handler)
        return str(self._stub.RunPodSandbox(request, timeout=SECONDS).pod_sandbox_id)

    def address(self, sandbox: str) -> str:
        """Return a sandbox's IP address."""
        request = cri_pb2.PodSandboxStatusRequest(pod_sandbox_id=sandbox)
        return str(self._stub.PodSandboxStatus(request, timeout=SECONDS).status.network.ip)

    def container(
        self, pod: Pod, sandbox: str, name: str, *words: str, attempt: int = 0, command: tuple[str, ...] = ()
    ) -> str:
        """Create and start a container that runs the application with `words`, or `command`; return its id."""
        config = cri_pb2.ContainerConfig(
            metadata=cri_pb2.ContainerMetadata(name=name, attempt=attempt),
            image=cri_pb2.ImageSpec(image=layout.SAMPLE_IMAGE),
            command=command or ("/usr/bin/python3", "-Sc", _APPLICATION.read_text(), name, *words),
            log_path=pod.log(name, attempt).name,
            labels=pod.labels,
            mounts=[
                cri_pb2.Mount(
                    container_path="/data", host_path=str(PODS / pod.uid / "volumes/kubernetes.io~empty-dir/data")
                )
            ],
            linux=cri_pb2.LinuxContainerConfig(
                security_context=cri_pb2.LinuxContainerSecurityContext(namespace_options=_OWN_PIDS)
            ),
        )
        create = cri_pb2.CreateContainerRequest(pod_sandbox_id=sandbox, config=config, sandbox_config=pod.config())
        made = str(self._stub.CreateContainer(create, timeout=SECONDS).container_id)
        self._stub.StartContainer(cri_pb2.StartContainerRequest(container_id=made), timeout=SECONDS)
        return made

    def execute(self, container: str, *command: str) -> str:
        """Run a command in a container; return its output."""
        request = cri_pb2.ExecSyncRequest(container_id=container, cmd=command, timeout=60)
        return str(self._stub.ExecSync(request, timeout=SECONDS).stdout.decode())

    def stop(self, container: str) -> int:
        """Stop a container by SIGTERM; return its exit code."""
        self._stub.StopContainer(cri_pb2.StopContainerRequest(container_id=container, timeout=60), timeout=SECONDS)
        return self.exited(container)

    def exited(self, container: str) -> int:
        """Wait until a container has ended; return its exit code."""
        deadline = time.monotonic() + SECONDS
        request = cri_pb2.ContainerStatusRequest(container_id=container)
        while (status := self._stub.ContainerStatus(request, timeout=SECONDS).status).state != cri_pb2.CONTAINER_EXITED:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{container} does not end")
            time.sleep(0.05)
        return int(status.exit_code)

    def remove_container(self, container: str) -> None:
        """Remove a container that has ended."""
        self._stub.RemoveContainer(cri_pb2.RemoveContainerRequest(container_id=container), timeout=SECONDS)

    def remove(self, uid: str) -> None:
        """Stop and remove a pod with all that is in it."""
        every = cri_pb2.ListPodSandboxRequest(filter=cri_pb2.PodSandboxFilter(label_selector={pods.POD_UID: uid}))
        for item in self._stub.ListPodSandbox(every, timeout=SECONDS).items:
            self._stub.StopPodSandbox(cri_pb2.StopPodSandboxRequest(pod_sandbox_id=item.id), timeout=SECONDS)
            self._stub.RemovePodSandbox(cri_pb2.RemovePodSandboxRequest(pod_sandbox_id=item.id), timeout=SECONDS)

    def sandbox_of(self, uid: str) -> str:
        """Return the id of a pod's sandbox."""
        every = cri_pb2.ListPodSandboxRequest(filter=cri_pb2.PodSandboxFilter(label_selector={pods.POD_UID: uid}))
        return str(self._stub.ListPodSandbox(every, timeout=SECONDS).items[0].id)

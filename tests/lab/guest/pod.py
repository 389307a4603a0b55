"""One pod by direct CRI calls, for tests of the machines alone: no kubelet, no API.

python3 -m tests.lab.guest.pod run NAME ANNOTATIONS-AS-JSON COMMAND…   prints {"sandbox", "container", "address"}
python3 -m tests.lab.guest.pod remove SANDBOX
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import grpc
from tests.lab import layout

from podferry_agent.runtime import cri_pb2, cri_pb2_grpc

SECONDS = 120
"""For one call: generous, for a machine that is busy with other labs is slow without being wrong."""
_LOGS = "/var/log/pods/machines"


def run(
    runtime: cri_pb2_grpc.RuntimeServiceStub, name: str, annotations: dict[str, str], command: Sequence[str]
) -> dict[str, str]:
    """Start a pod with one container of the sample image; its output goes to /var/log/pods/machines/NAME.log."""
    sandbox = cri_pb2.PodSandboxConfig(
        metadata=cri_pb2.PodSandboxMetadata(name=name, uid=name, namespace="machines"),
        hostname=name,
        log_directory=_LOGS,
        annotations=annotations,
        linux=cri_pb2.LinuxPodSandboxConfig(cgroup_parent=f"/kubepods/{name}"),
    )
    container = cri_pb2.ContainerConfig(
        metadata=cri_pb2.ContainerMetadata(name=name),
        image=cri_pb2.ImageSpec(image=layout.SAMPLE_IMAGE),
        command=command,
        log_path=f"{name}.log",
    )
    sandbox_id = runtime.RunPodSandbox(
        cri_pb2.RunPodSandboxRequest(config=sandbox, runtime_handler="runc"), timeout=SECONDS
    ).pod_sandbox_id
    request = cri_pb2.CreateContainerRequest(pod_sandbox_id=sandbox_id, config=container, sandbox_config=sandbox)
    container_id = runtime.CreateContainer(request, timeout=SECONDS).container_id
    runtime.StartContainer(cri_pb2.StartContainerRequest(container_id=container_id), timeout=SECONDS)
    status = runtime.PodSandboxStatus(cri_pb2.PodSandboxStatusRequest(pod_sandbox_id=sandbox_id), timeout=SECONDS)
    return {"sandbox": sandbox_id, "container": container_id, "address": status.status.network.ip}


def remove(runtime: cri_pb2_grpc.RuntimeServiceStub, sandbox_id: str) -> None:
    """Stop and remove a pod with its containers."""
    runtime.StopPodSandbox(cri_pb2.StopPodSandboxRequest(pod_sandbox_id=sandbox_id), timeout=SECONDS)
    runtime.RemovePodSandbox(cri_pb2.RemovePodSandboxRequest(pod_sandbox_id=sandbox_id), timeout=SECONDS)


def main(arguments: Sequence[str]) -> None:
    """Do what the command line says."""
    options = (("grpc.default_authority", "localhost"),)
    with grpc.insecure_channel("unix:///run/containerd/containerd.sock", options=options) as channel:
        runtime = cri_pb2_grpc.RuntimeServiceStub(channel)
        match arguments:
            case ["run", name, annotations, *command]:
                sys.stdout.write(json.dumps(run(runtime, name, json.loads(annotations), command)))
            case ["remove", sandbox_id]:
                remove(runtime, sandbox_id)
            case _:
                sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])

"""From a Pod to the sandbox that the runtime is asked for, and the files that go with it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.lab.kubelet import names, pods, resources, security

from podferry_agent.runtime import cri_pb2

HOSTNAME_LIMIT = 63

_PROTOCOLS = {"TCP": cri_pb2.TCP, "UDP": cri_pb2.UDP, "SCTP": cri_pb2.SCTP}


def config(pod: pods.Json, *, attempt: int, logs: Path, resolv_conf: str) -> cri_pb2.PodSandboxConfig:
    """Return the sandbox's configuration.

    Args:
        pod: as the API has it now; annotations newer than the sandbox reach the containers created from now on.
        attempt: 0 for the first sandbox of the pod.
        logs: the folder under which every pod has its own.
        resolv_conf: the text of the node's resolv.conf; the lab has no cluster DNS.
    """
    labels = pod["metadata"].get("labels") or {}
    annotations = pod["metadata"].get("annotations") or {}
    seen = str(pod["metadata"].get("creationTimestamp") or "")
    return cri_pb2.PodSandboxConfig(
        metadata=cri_pb2.PodSandboxMetadata(
            name=pods.name(pod), uid=pods.uid(pod), namespace=pods.namespace(pod), attempt=attempt
        ),
        hostname="" if pods.host_network(pod) else hostname(pod),
        log_directory=str(log_directory(pod, logs)),
        dns_config=_dns(pod, resolv_conf),
        port_mappings=[_port(port) for one in pods.containers(pod) for port in one.get("ports") or []],
        labels={**labels, **pod_labels(pod)},
        annotations={**annotations, names.CONFIG_SEEN: seen, names.CONFIG_SOURCE: "api"},
        linux=cri_pb2.LinuxPodSandboxConfig(
            cgroup_parent=pods.cgroup(pod),
            security_context=security.of_sandbox(pod),
            sysctls={
                one["name"]: one["value"] for one in (pod["spec"].get("securityContext") or {}).get("sysctls", [])
            },
            overhead=cri_pb2.LinuxContainerResources(),
            resources=resources.of_pod(pod),
        ),
    )


def pod_labels(pod: pods.Json) -> dict[str, str]:
    """Return the labels that say of a sandbox or a container whose it is."""
    return {names.POD_NAME: pods.name(pod), names.POD_NAMESPACE: pods.namespace(pod), names.POD_UID: pods.uid(pod)}


def log_directory(pod: pods.Json, logs: Path) -> Path:
    """Return the folder of the pod's logs."""
    return logs / pods.full_name(pod)


def hostname(pod: pods.Json) -> str:
    """Return the pod's host name: what its spec says, or its name as far as that fits."""
    asked = pod["spec"].get("hostname")
    return str(asked) if asked else pods.name(pod)[:HOSTNAME_LIMIT].rstrip("-.")


def hosts_file(pod: pods.Json, ips: Sequence[str]) -> str:
    """Return the text of the pod's /etc/hosts."""
    lines = [
        "# Kubernetes-managed hosts file.",
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        *(f"{ip}\t{hostname(pod)}" for ip in ips),
        *("\t".join([one["ip"], *one.get("hostnames", [])]) for one in pod["spec"].get("hostAliases") or []),
    ]
    return "\n".join(lines) + "\n"


def _dns(pod: pods.Json, resolv_conf: str) -> cri_pb2.DNSConfig:
    given: dict[str, list[str]] = {"nameserver": [], "search": [], "options": []}
    if pod["spec"].get("dnsPolicy") != "None":
        for line in resolv_conf.splitlines():
            word, *values = line.split() or [""]
            if word in given:
                given[word] += values
    own = pod["spec"].get("dnsConfig") or {}
    options = [":".join(filter(None, (one["name"], one.get("value")))) for one in own.get("options") or []]
    # containerd copies the node's file, which need not exist, when it is told nothing at all: ndots:1 is the default.
    return cri_pb2.DNSConfig(
        servers=given["nameserver"] + (own.get("nameservers") or []),
        searches=given["search"] + (own.get("searches") or []),
        options=given["options"] + options or ["ndots:1"],
    )


def _port(port: pods.Json) -> cri_pb2.PortMapping:
    return cri_pb2.PortMapping(
        protocol=_PROTOCOLS[port.get("protocol") or "TCP"],
        container_port=port["containerPort"],
        host_port=port.get("hostPort") or 0,
        host_ip=port.get("hostIP") or "",
    )

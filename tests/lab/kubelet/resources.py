"""From requests and limits to what the runtime sets: CPU shares and quota, memory limit, OOM score. Pure.

The formulas are the kubelet's: 1 CPU is 1024 shares, the quota's period is 100 ms, the OOM score falls as a container's
share of the node's memory rises.
"""

from __future__ import annotations

from tests.lab.kubelet import pods, quantities

from podferry_agent.runtime import cri_pb2

PERIOD = 100_000
SMALLEST_QUOTA = 1_000
SMALLEST_SHARES = 2


def of_container(pod: pods.Json, container: pods.Json, node_memory: int) -> cri_pb2.LinuxContainerResources:
    """Return the runtime's resources for one container; `node_memory` in bytes."""
    cpu, memory = _limit(container, "cpu"), _limit(container, "memory")
    return cri_pb2.LinuxContainerResources(
        cpu_period=PERIOD,
        cpu_quota=_quota(quantities.milli(cpu)),
        cpu_shares=_shares(quantities.milli(_request(container, "cpu"))),
        memory_limit_in_bytes=quantities.whole(memory),
        oom_score_adj=_oom_score(pod, container, node_memory),
    )


def of_pod(pod: pods.Json) -> cri_pb2.LinuxContainerResources:
    """Return the sum over the pod's containers; a limit only when every container has one."""
    every = pods.containers(pod)
    cpu = sum(quantities.milli(_request(one, "cpu")) for one in every)
    limits = [quantities.milli(_limit(one, "cpu")) for one in every]
    memory = [quantities.whole(_limit(one, "memory")) for one in every]
    return cri_pb2.LinuxContainerResources(
        cpu_period=PERIOD,
        cpu_quota=_quota(sum(limits)) if all(limits) else 0,
        cpu_shares=_shares(cpu),
        memory_limit_in_bytes=sum(memory) if all(memory) else 0,
    )


def _limit(container: pods.Json, kind: str) -> str | None:
    return ((container.get("resources") or {}).get("limits") or {}).get(kind)


def _request(container: pods.Json, kind: str) -> str | None:
    asked: str | None = ((container.get("resources") or {}).get("requests") or {}).get(kind)
    return _limit(container, kind) if asked is None else asked


def _quota(milli: int) -> int:
    return max(SMALLEST_QUOTA, milli * PERIOD // 1000) if milli else 0


def _shares(milli: int) -> int:
    return max(SMALLEST_SHARES, milli * 1024 // 1000)


def _oom_score(pod: pods.Json, container: pods.Json, node_memory: int) -> int:
    match pods.qos_class(pod):
        case "Guaranteed":
            return -997
        case "BestEffort":
            return 1000
    asked = quantities.whole(_request(container, "memory"))
    return min(999, max(3, 1000 - 1000 * asked // node_memory))

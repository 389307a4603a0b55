"""From a Pod to what the runtime is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.lab.kubelet import container, env, pods, quantities, resources, sandbox, security

from podferry_agent.runtime import cri_pb2

GIB = 1024**3


def pod(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    given = list(containers) or [{"name": "main", "image": "app"}]
    return {
        "metadata": {
            "name": "echo",
            "namespace": "demo",
            "uid": "u-1",
            "labels": {"app": "echo"},
            "annotations": {"example.org/note": 'a "quoted" word'},
            "creationTimestamp": "2026-01-02T03:04:05Z",
        },
        "spec": {"nodeName": "node-a", "containers": given, **spec},
    }


def around(**other: Any) -> container.Surroundings:
    given = {
        "image": "sha256:1",
        "volumes": {"data": "/v/data"},
        "hosts": "/p/etc-hosts",
        "message": "/p/message",
        "ips": ["10.1.0.5"],
        "host_ip": "10.77.0.1",
        "node_memory": GIB,
    }
    return container.Surroundings(**{**given, **other})


def sandbox_of(of: dict[str, Any], **other: Any) -> cri_pb2.PodSandboxConfig:
    return sandbox.config(of, **{"attempt": 0, "logs": Path("/var/log/pods"), "resolv_conf": "", **other})


def config_of(spec: dict[str, Any], attempt: int = 0, **other: Any) -> cri_pb2.ContainerConfig:
    return container.config(pod(spec), spec, attempt, around(**other))


def test_sandbox_carries_identity_labels_and_annotations() -> None:
    found = sandbox_of(pod(), attempt=2)
    assert (found.metadata.name, found.metadata.namespace, found.metadata.uid) == ("echo", "demo", "u-1")
    assert found.metadata.attempt == 2
    assert found.labels["app"] == "echo"
    assert found.labels["io.kubernetes.pod.uid"] == "u-1"
    assert found.annotations["example.org/note"] == 'a "quoted" word'
    assert found.annotations["kubernetes.io/config.source"] == "api"
    assert found.log_directory == "/var/log/pods/demo_echo_u-1"
    assert found.hostname == "echo"


@pytest.mark.parametrize(
    ("resources", "parent"),
    [
        ({}, "/kubepods/besteffort/podu-1"),
        ({"requests": {"cpu": "100m"}}, "/kubepods/burstable/podu-1"),
        ({"limits": {"cpu": "1"}}, "/kubepods/burstable/podu-1"),
        ({"limits": {"cpu": "1", "memory": "64Mi"}}, "/kubepods/podu-1"),
        ({"limits": {"cpu": "1", "memory": "64Mi"}, "requests": {"cpu": "1000m"}}, "/kubepods/podu-1"),
        ({"limits": {"cpu": "1", "memory": "64Mi"}, "requests": {"cpu": "500m"}}, "/kubepods/burstable/podu-1"),
    ],
)
def test_cgroup_parent_follows_the_qos_class(resources: dict[str, Any], parent: str) -> None:
    assert sandbox_of(pod({"name": "main", "image": "app", "resources": resources})).linux.cgroup_parent == parent


def test_host_network_takes_the_nodes_namespace_and_no_hostname() -> None:
    found = sandbox_of(pod(hostNetwork=True))
    assert found.hostname == ""
    assert found.linux.security_context.namespace_options.network == cri_pb2.NODE
    assert found.linux.security_context.namespace_options.pid == cri_pb2.CONTAINER


def test_dns_is_the_nodes_and_the_pods_and_never_nothing() -> None:
    said = sandbox_of(pod(dnsConfig={"searches": ["x.y"]}), resolv_conf="# c\nnameserver 10.0.0.1\nsearch a b\n")
    assert list(said.dns_config.servers) == ["10.0.0.1"]
    assert list(said.dns_config.searches) == ["a", "b", "x.y"]
    assert list(sandbox_of(pod()).dns_config.options) == ["ndots:1"]


def test_long_names_are_cut_to_a_host_name() -> None:
    of = pod()
    of["metadata"]["name"] = "n" * 62 + "-more"
    assert sandbox.hostname(of) == "n" * 62


def test_hosts_file_names_the_pod_and_its_aliases() -> None:
    text = sandbox.hosts_file(pod(hostAliases=[{"ip": "10.9.9.9", "hostnames": ["one", "two"]}]), ["10.1.0.5"])
    assert "10.1.0.5\techo\n" in text
    assert "10.9.9.9\tone\ttwo\n" in text


def test_container_carries_labels_annotations_and_its_log() -> None:
    found = config_of({"name": "main", "image": "app", "ports": [{"containerPort": 80}]}, attempt=3)
    assert found.metadata.attempt == 3
    assert found.labels["io.kubernetes.container.name"] == "main"
    assert found.labels["io.kubernetes.pod.name"] == "echo"
    assert found.annotations["io.kubernetes.container.restartCount"] == "3"
    assert json.loads(found.annotations["io.kubernetes.container.ports"]) == [{"containerPort": 80}]
    assert found.log_path == "main/3.log"
    assert found.image.image == "sha256:1"
    assert found.image.user_specified_image == "app"


def test_environment_expands_and_reads_the_pod() -> None:
    found = config_of(
        {
            "name": "main",
            "image": "app",
            "env": [
                {"name": "A", "value": "1"},
                {"name": "B", "value": "$(A)$$(A)$(C)"},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            ],
            "command": ["run", "$(B)"],
            "args": ["--ip=$(IP)", "$(NOBODY)"],
        }
    )
    assert {one.key: one.value for one in found.envs} == {"A": b"1", "B": b"1$(A)$(C)", "IP": b"10.1.0.5", "L": b"echo"}
    assert list(found.command) == ["run", "1$(A)$(C)"]
    assert list(found.args) == ["--ip=10.1.0.5", "$(NOBODY)"]


def test_unknown_sources_of_variables_are_refused() -> None:
    source = {"secretKeyRef": {"name": "s", "key": "k"}}
    with pytest.raises(env.Unresolvable):
        config_of({"name": "main", "image": "app", "env": [{"name": "A", "valueFrom": source}]})


def test_mounts_are_the_volumes_the_hosts_file_and_the_message() -> None:
    mounts = [
        {"name": "data", "mountPath": "/data", "readOnly": True},
        {"name": "data", "mountPath": "/sub", "subPath": "below"},
    ]
    found = config_of({"name": "main", "image": "app", "volumeMounts": mounts})
    assert [(one.host_path, one.container_path, one.readonly) for one in found.mounts] == [
        ("/v/data", "/data", True),
        ("/v/data/below", "/sub", False),
        ("/p/etc-hosts", "/etc/hosts", False),
        ("/p/message", "/dev/termination-log", False),
    ]


def test_a_volume_over_etc_hosts_wins() -> None:
    found = config_of({"name": "main", "image": "app", "volumeMounts": [{"name": "data", "mountPath": "/etc/hosts"}]})
    assert [one.host_path for one in found.mounts if one.container_path == "/etc/hosts"] == ["/v/data"]


def test_resources_become_shares_quota_and_limit() -> None:
    spec = {"name": "main", "image": "app", "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}}}
    found = resources.of_container(pod(spec), spec, GIB)
    assert (found.cpu_shares, found.cpu_quota, found.cpu_period) == (1536, 150_000, 100_000)
    assert found.memory_limit_in_bytes == 64 * 1024**2
    assert found.oom_score_adj == -997


def test_a_container_without_requests_gets_the_least_and_goes_first() -> None:
    spec = {"name": "main", "image": "app"}
    found = resources.of_container(pod(spec), spec, GIB)
    assert (found.cpu_shares, found.cpu_quota, found.memory_limit_in_bytes, found.oom_score_adj) == (2, 0, 0, 1000)


def test_a_burstable_containers_oom_score_falls_with_its_share_of_memory() -> None:
    spec = {"name": "main", "image": "app", "resources": {"requests": {"memory": "256Mi"}}}
    assert resources.of_container(pod(spec), spec, GIB).oom_score_adj == 750


def test_the_pods_limit_needs_every_containers() -> None:
    limited = {"name": "a", "image": "app", "resources": {"limits": {"cpu": "1", "memory": "1Mi"}}}
    free = {"name": "b", "image": "app"}
    assert resources.of_pod(pod(limited, limited)).cpu_quota == 200_000
    assert resources.of_pod(pod(limited, free)).cpu_quota == 0
    assert resources.of_pod(pod(limited, free)).memory_limit_in_bytes == 0


def test_security_defaults_mask_proc_and_leave_seccomp_off() -> None:
    found = security.of_container(pod(), pod()["spec"]["containers"][0])
    assert "/proc/kcore" in found.masked_paths
    assert "/proc/sys" in found.readonly_paths
    assert found.seccomp.profile_type == cri_pb2.SecurityProfile.Unconfined
    assert not found.HasField("run_as_user")


def test_the_containers_word_goes_before_the_pods() -> None:
    own = {"runAsUser": 0, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    spec = {"name": "main", "image": "app", "securityContext": own}
    of = pod(spec, securityContext={"runAsUser": 7, "runAsGroup": 8, "fsGroup": 9, "supplementalGroups": [10]})
    found = security.of_container(of, spec)
    assert (found.run_as_user.value, found.run_as_group.value) == (0, 8)
    assert found.HasField("run_as_user")
    assert list(found.supplemental_groups) == [9, 10]
    assert found.no_new_privs
    assert list(found.capabilities.drop_capabilities) == ["ALL"]


def test_privileged_masks_nothing() -> None:
    spec = {"name": "main", "image": "app", "securityContext": {"privileged": True}}
    assert not security.of_container(pod(spec), spec).masked_paths
    assert security.of_sandbox(pod(spec)).privileged


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("250m", "0.25"),
        ("64Mi", str(64 * 2**20)),
        ("1k", "1000"),
        (2, "2"),
        ("1e3", "1000"),
        (None, "0"),
        ("2E", "2e18"),
    ],
)
def test_quantities(text: str | int | None, number: str) -> None:
    assert quantities.parse(text) == quantities.parse(number)


def test_quantities_refuse_what_is_none() -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        quantities.parse("a lot")


@pytest.mark.parametrize(
    ("containers", "spec", "field"),
    [
        ([], {"initContainers": [{"name": "i"}]}, "spec.initContainers"),
        ([{"name": "a", "image": "x", "lifecycle": {"preStop": {}}}], {}, "lifecycle"),
        ([{"name": "a", "image": "x", "livenessProbe": {"grpc": {"port": 1}}}], {}, "livenessProbe.grpc"),
        ([{"name": "a", "image": "x"}], {}, ""),
    ],
)
def test_what_would_be_done_differently_is_named(containers: list[Any], spec: dict[str, Any], field: str) -> None:
    found = pods.unsupported(pod(*containers, **spec))
    assert found.endswith(field)
    assert bool(found) == bool(field)

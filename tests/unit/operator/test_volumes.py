"""Which volumes and devices keep a pod where it is."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.operator_objects import pod

from podferry_operator.domain import volumes


def mounting(volume: dict[str, Any], container: dict[str, Any] | None = None, *, read_only: bool = False) -> Any:
    mount = {"name": "v", "mountPath": "/v", "readOnly": read_only}
    containers = [{"name": "main", "volumeMounts": [mount], **(container or {})}]
    return pod(spec={"volumes": [{"name": "v", **volume}], "containers": containers})


def claim(*modes: str) -> dict[str, Any]:
    return {"spec": {"accessModes": list(modes)}}


@pytest.mark.parametrize(
    "volume",
    [
        {"emptyDir": {}},
        {"emptyDir": {"medium": "Memory"}},
        {},
        {"configMap": {"name": "c"}},
        {"projected": {"sources": []}},
        {"nfs": {"server": "s", "path": "/"}},
    ],
)
def test_what_is_in_the_pod_the_api_or_on_the_network_moves(volume: dict[str, Any]) -> None:
    assert not list(volumes.unmovable(mounting(volume), {}))


def test_a_host_path_that_is_only_read_moves() -> None:
    volume = {"hostPath": {"path": "/etc/localtime"}}
    assert not list(volumes.unmovable(mounting(volume, read_only=True), {}))
    (said,) = volumes.unmovable(mounting(volume), {})
    assert said.startswith("has volume v, a writable hostPath")


@pytest.mark.parametrize(("volume", "said"), [({"ephemeral": {}}, "new and empty"), ({"iscsi": {}}, "of kind iscsi")])
def test_what_another_node_would_not_have_stays(volume: dict[str, Any], said: str) -> None:
    (found,) = volumes.unmovable(mounting(volume), {})
    assert said in found


def test_a_claim_moves_when_two_nodes_can_mount_it() -> None:
    mounted = mounting({"persistentVolumeClaim": {"claimName": "data"}})
    assert volumes.claims(mounted) == ["data"]
    assert not list(volumes.unmovable(mounted, {"data": claim("ReadWriteOnce", "ReadWriteMany")}))
    (said,) = volumes.unmovable(mounted, {"data": claim("ReadWriteOnce")})
    assert "claim data (ReadWriteOnce)" in said
    (said,) = volumes.unmovable(mounted, {})
    assert "unknown access mode" in said


def test_devices_stay() -> None:
    block = {"volumeDevices": [{"name": "v", "devicePath": "/dev/xvda"}]}
    limits = {"resources": {"limits": {"cpu": "1", "memory": "1Gi", "example.com/gpu": "1"}}}
    said = list(volumes.unmovable(mounting({"emptyDir": {}}, block | limits), {}))
    assert [one.partition(" in container")[0] for one in said] == ["has a block device", "holds example.com/gpu"]
    (said_of_claims,) = volumes.unmovable(pod(spec={"resourceClaims": [{"name": "x"}]}), {})
    assert "resourceClaims" in said_of_claims

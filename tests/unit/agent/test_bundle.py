from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from podferry import errors, ids
from podferry_agent.runtime import bundle as bundles

UID = "11111111-2222-3333-4444-555555555555"


def spec(**changes: Any) -> dict[str, Any]:
    return {
        "annotations": {
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.container-name": "app",
            "io.kubernetes.cri.sandbox-id": "box",
            "io.kubernetes.cri.sandbox-uid": UID,
            ids.MIGRATION_ANNOTATION: "aaaaaaaa-2222-3333-4444-555555555555",
        },
        "mounts": [],
        "linux": {
            "cgroupsPath": f"/kubepods/pod{UID}/abc",
            "namespaces": [{"type": "pid"}, {"type": "network", "path": "/var/run/netns/cni-1"}],
        },
        **changes,
    }


def write(path: Path, document: dict[str, Any]) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(document))
    return path


def test_a_container_of_a_migrating_pod(tmp_path: Path) -> None:
    found = bundles.load(write(tmp_path, spec()))
    assert (found.container, found.pod_uid, found.sandbox_id, found.sandbox) == ("app", UID, "box", False)
    assert found.migration_id == "aaaaaaaa-2222-3333-4444-555555555555"
    assert found.netns == Path("/var/run/netns/cni-1")
    assert found.rootfs == tmp_path / "rootfs"


def test_a_sandbox_and_an_ordinary_container(tmp_path: Path) -> None:
    sandbox = spec(annotations={"io.kubernetes.cri.container-type": "sandbox"})
    found = bundles.parse(tmp_path, sandbox)
    assert found.sandbox
    assert not found.migration_id
    assert bundles.parse(tmp_path, {"linux": {}}).netns is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"linux": 3}', '{"linux": {}, "mounts": [3]}'])
def test_a_damaged_config_is_an_error_of_ours(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(errors.Permanent) as caught:
        bundles.load(tmp_path)
    assert caught.value.reason == "BundleUnreadable"


def test_what_is_carried(tmp_path: Path) -> None:
    pods = tmp_path / "pods" / UID
    volumes = pods / "volumes" / "kubernetes.io~empty-dir"
    for name in ("data", "sub"):
        (volumes / name).mkdir(parents=True)
    sources = {
        "/data": volumes / "data",
        "/sub": pods / "volume-subpaths" / "sub" / "app" / "0",
        "/config": pods / "volume-subpaths" / "config" / "app" / "1",
        "/secret": pods / "volumes" / "kubernetes.io~secret" / "s",
        "/alien": tmp_path / "pods" / UID.replace("1", "9") / "volumes" / "kubernetes.io~empty-dir" / "x",
        "/dev/shm": Path("/run/containerd/io.containerd.grpc.v1.cri/sandboxes/box/shm"),
    }
    mounts = [{"destination": key, "type": "bind", "source": str(value)} for key, value in sources.items()]
    found = bundles.parse(tmp_path, spec(mounts=mounts))
    assert found.carried == {
        "volume-data": volumes / "data",
        "volume-sub": volumes / "sub",
        "shm": sources["/dev/shm"],
    }


def test_annotating_changes_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, spec())
    (tmp_path / "config.json").chmod(0o640)
    bundles.annotate(tmp_path, bundles.CRIU_CONFIG, "/run/x.conf")
    document = json.loads((tmp_path / "config.json").read_text())
    assert document["annotations"].pop(bundles.CRIU_CONFIG) == "/run/x.conf"
    assert document == spec()
    assert (tmp_path / "config.json").stat().st_mode & 0o777 == 0o640


def test_host_name_comes_from_the_sandbox(tmp_path: Path) -> None:
    found = bundles.load(write(tmp_path / "abc", spec()))
    assert bundles.host_name(found) is None
    write(tmp_path / "box", {"hostname": "web-0"})
    assert bundles.host_name(found) == "web-0"


@pytest.mark.parametrize(
    ("cgroups_path", "expected"),
    [
        ("/kubepods/besteffort/podX/abc", "/kubepods/besteffort/podX/abc"),
        ("kubepods/podX/abc", "/kubepods/podX/abc"),
        (
            "kubepods-burstable-podX_Y.slice:cri-containerd:abc",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podX_Y.slice/cri-containerd-abc.scope",
        ),
    ],
)
def test_cgroup_in_both_drivers(cgroups_path: str, expected: str) -> None:
    assert bundles.cgroup(cgroups_path) == expected

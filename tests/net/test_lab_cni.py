"""The lab's CNI plugin on this machine's kernel, in two network namespaces: a node and a pod."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.lab import layout, project_disk

pytestmark = pytest.mark.net

SANDBOX = "0123456789abcdef" * 4
HOST_END = f"veth{SANDBOX[:11]}"
FIXED = {layout.FIXED_ADDRESS_ANNOTATION: '["10.77.0.50"]'}
HELD = {"podferry.dev/hold-network": "true"}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cni")
    state = folder / "state"
    project_disk.compile_cni(folder / "podferry-lab", f'-DSTATE="{state}"')
    (folder / "loopback").symlink_to("podferry-lab")
    return folder / "podferry-lab"


@dataclass(frozen=True)
class Node:
    """A namespace with the node's bridge, one for a pod, and the plugin's state."""

    program: Path
    node: str
    pod: str

    def call(
        self, command: str, annotations: dict[str, str] | None = None, plugin: str = "podferry-lab"
    ) -> dict[str, Any]:
        configuration = {
            "cniVersion": "0.4.0",
            "name": "podferry-lab",
            "type": "podferry-lab",
            "runtimeConfig": {"io.kubernetes.cri.pod-annotations": annotations or {}},
            "bridge": layout.BRIDGE,
            "range": "10.77.1.0",
            "prefix": 16,
        }
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": SANDBOX,
            "CNI_NETNS": f"/run/netns/{self.pod}",
            "CNI_IFNAME": "eth0",
        }
        done = subprocess.run(
            ["ip", "netns", "exec", self.node, self.program.with_name(plugin)],
            input=json.dumps(configuration, separators=(",", ":")),
            env=environment | {"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
        )
        answer: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
        assert ("code" in answer) == (done.returncode != 0), done
        return answer

    def links(self, namespace: str) -> dict[str, dict[str, Any]]:
        done = subprocess.run(["ip", "-n", namespace, "-json", "address"], capture_output=True, check=True)
        return {link["ifname"]: link for link in json.loads(done.stdout)}

    @property
    def given(self) -> set[str]:
        """Addresses that the plugin takes for used."""
        return {path.name for path in (self.program.parent / "state").glob("*.*")}


@pytest.fixture
def node(program: Path) -> Iterator[Node]:
    names = [f"podferry-cni-{os.getpid()}-{role}" for role in ("node", "pod")]
    for name in names:
        subprocess.run(["ip", "netns", "add", name], check=True)
    subprocess.run(["ip", "-n", names[0], "link", "add", layout.BRIDGE, "type", "bridge"], check=True)
    made = Node(program, *names)
    yield made
    made.call("DEL")
    for name in names:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def test_add_connects_and_delete_leaves_nothing(node: Node) -> None:
    result = node.call("ADD")
    address = result["ips"][0]["address"].removesuffix("/16")
    assert address.startswith("10.77.1.")
    pod_end, host_end = node.links(node.pod)["eth0"], node.links(node.node)[HOST_END]
    assert host_end["master"] == layout.BRIDGE
    assert "UP" in pod_end["flags"]
    assert "UP" in host_end["flags"]
    assert [(one["local"], one["prefixlen"]) for one in pod_end["addr_info"] if one["family"] == "inet"] == [
        (address, 16)
    ]
    assert [one for one in host_end["addr_info"] if one["family"] == "inet6"] == []
    assert node.given == {address}
    for _ in range(2):
        assert node.call("DEL") == {}
    assert HOST_END not in node.links(node.node)
    assert "eth0" not in node.links(node.pod)
    assert node.given == set()


def test_a_repeated_add_replaces_what_the_first_made(node: Node) -> None:
    first, second = node.call("ADD"), node.call("ADD")
    assert first["ips"] != second["ips"], "an address just freed is not given again at once"
    assert len(node.given) == 1
    assert len(node.links(node.pod)) == 2


def test_a_fixed_address_brings_its_mac(node: Node) -> None:
    result = node.call("ADD", FIXED)
    assert result["ips"][0]["address"] == "10.77.0.50/16"
    assert node.links(node.pod)["eth0"]["address"] == "0a:58:0a:4d:00:32"


def test_a_held_pod_has_its_address_but_no_way_out(node: Node) -> None:
    node.call("ADD", FIXED | HELD)
    pod_end, host_end = node.links(node.pod)["eth0"], node.links(node.node)[HOST_END]
    assert "UP" in pod_end["flags"]
    assert pod_end["operstate"] == host_end["operstate"] == "UP"
    assert "master" not in host_end
    alias = subprocess.run(
        ["ip", "-n", node.node, "-json", "link", "show", HOST_END], capture_output=True, check=True
    ).stdout
    assert json.loads(alias)[0]["ifalias"] == layout.HOLD_ALIAS


def test_only_real_annotations_count(node: Node) -> None:
    quoted = json.dumps({"metadata": {"annotations": FIXED | HELD}}, separators=(",", ":"))
    result = node.call("ADD", {"kubectl.kubernetes.io/last-applied-configuration": quoted})
    assert result["ips"][0]["address"].startswith("10.77.1.")
    assert node.links(node.node)[HOST_END]["master"] == layout.BRIDGE


@pytest.mark.parametrize("wrong", ['["10.77.0.50","10.77.0.51"]', "[]", '["10.77.0"]', "10.77.0.300"])
def test_a_wrong_fixed_address_is_refused(node: Node, wrong: str) -> None:
    answer = node.call("ADD", {layout.FIXED_ADDRESS_ANNOTATION: wrong})
    assert answer["code"] == 7
    assert layout.FIXED_ADDRESS_ANNOTATION in answer["msg"]
    assert HOST_END not in node.links(node.node)


def test_an_address_in_use_is_refused(node: Node) -> None:
    node.call("ADD", FIXED)
    taken = node.program.parent / "state/10.77.0.50"
    taken.write_text("another sandbox")
    assert node.call("ADD", FIXED)["code"] == 11
    taken.unlink()


def test_loopback_comes_up(node: Node) -> None:
    assert node.call("ADD", plugin="loopback")["interfaces"][0]["name"] == "lo"
    assert "UP" in node.links(node.pod)["lo"]["flags"]
    assert node.call("DEL", plugin="loopback") == {}

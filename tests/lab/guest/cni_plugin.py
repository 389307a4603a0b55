"""The lab's CNI plugin (CNI spec 0.4): a veth per pod, its host end a port of the node's bridge, everything on layer 2.

A pod gets an address from its node's range, or the one in Calico's annotation `cni.projectcalico.org/ipAddrs`. The MAC
follows from the address, so that neighbours keep a right entry when a pod with the same address starts elsewhere.

With `podferry.dev/hold-network: "true"` link, address and routes are up, but the host end is not a port of the bridge:
nothing gets in or out, and its interface alias says which bridge it will have to join (docs/adr/0003).

Started for every pod under emulation: imports only what it cannot do without.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.lab import layout

STATE = Path("/run/podferry-lab-cni")
"""One file per address given, named as the address; its content is the sandbox's id."""

HOLD_ANNOTATION = "podferry.dev/hold-network"
_ANNOTATIONS = "io.kubernetes.cri.pod-annotations"


class PluginError(Exception):
    """A message for containerd, with the code that the CNI specification gives to its kind."""

    def __init__(self, message: str, code: int = 100) -> None:
        super().__init__(message)
        self.code = code


def main() -> int:
    """Do what CNI_COMMAND says and print the result as JSON; return the exit code."""
    try:
        result = _answer(os.environ["CNI_COMMAND"])
    except (PluginError, OSError, KeyError, ValueError) as error:
        code = error.code if isinstance(error, PluginError) else 100
        _print({"cniVersion": "0.4.0", "code": code, "msg": f"{type(error).__name__}: {error}"})
        return 1
    if result is not None:
        _print(result)
    return 0


def _answer(command: str) -> dict[str, Any] | None:
    if command == "VERSION":
        return {"cniVersion": "0.4.0", "supportedVersions": ["0.3.1", "0.4.0"]}
    configuration = json.load(sys.stdin)
    sandbox, interface = os.environ["CNI_CONTAINERID"], os.environ["CNI_IFNAME"]
    if command == "ADD":
        annotations = configuration.get("runtimeConfig", {}).get(_ANNOTATIONS) or {}
        return add(sandbox, os.environ["CNI_NETNS"], interface, annotations)
    if command == "DEL":
        delete(sandbox)
        return None
    if command == "CHECK":
        return None
    raise PluginError(f"unknown command {command!r}", 4)


def add(sandbox: str, netns: str, interface: str, annotations: dict[str, str]) -> dict[str, Any]:
    """Connect the network namespace at `netns`; a second call for the same sandbox replaces what the first made."""
    delete(sandbox)
    address = fixed_address(annotations) or ""
    address = _take(sandbox, address)
    host, mac = host_interface(sandbox), layout.pod_mac(address)
    held = annotations.get(HOLD_ANNOTATION) == "true"
    attach = f"alias {layout.HOLD_ALIAS}" if held else f"master {layout.BRIDGE}"
    # The pod's end goes up last: its gratuitous ARP (arp_notify) then finds the way out open, or held.
    _ip(
        [
            f"link add {host} type veth peer name {interface} address {mac} netns {os.path.basename(netns)}",  # noqa: PTH119
            f"link set {host} addrgenmode none",
            f"link set {host} {attach} up",
        ]
    )
    _ip([f"address add {address}/{layout.NETWORK.prefixlen} dev {interface}", f"link set {interface} up"], netns)
    return {
        "cniVersion": "0.4.0",
        "interfaces": [{"name": host}, {"name": interface, "mac": mac, "sandbox": netns}],
        "ips": [{"version": "4", "interface": 1, "address": f"{address}/{layout.NETWORK.prefixlen}"}],
        "dns": {},
    }


def delete(sandbox: str) -> None:
    """Remove the interface and give the address back; what is gone already is no error."""
    host = host_interface(sandbox)
    if Path("/sys/class/net", host).exists():
        _ip([f"link delete {host}"])
    for given in STATE.glob("*.*"):
        if given.read_text() == sandbox:
            given.unlink(missing_ok=True)


def host_interface(sandbox: str) -> str:
    """Return the name of the host end: at most 15 characters, the same for every call about a sandbox."""
    return f"veth{sandbox[:11]}"


def fixed_address(annotations: dict[str, str]) -> str | None:
    """Return the address that a pod asks for, if it does.

    Raises:
        PluginError: the annotation is not a list of one address.
    """
    text = annotations.get(layout.FIXED_ADDRESS_ANNOTATION)
    if text is None:
        return None
    addresses = json.loads(text)
    if not isinstance(addresses, list) or len(addresses) != 1 or not isinstance(addresses[0], str):
        raise PluginError(f"{layout.FIXED_ADDRESS_ANNOTATION}: not a list of one address: {text}", 7)
    return addresses[0]


def _take(sandbox: str, wanted: str) -> str:
    """Mark `wanted`, or else the next free address of the node's range, as the sandbox's; return it."""
    STATE.mkdir(parents=True, exist_ok=True)
    with (STATE / "lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if wanted:
            _mark(STATE / wanted, sandbox)
            return wanted
        lock.seek(0)
        index = int(layout.kernel_arguments(Path("/proc/cmdline").read_text())["index"])
        last, hosts = lock.read().strip(), [str(host) for host in layout.pod_range(index).hosts()]
        begin = hosts.index(last) + 1 if last in hosts else 0
        for address in hosts[begin:] + hosts[:begin]:
            if not (STATE / address).exists():
                lock.truncate(0)
                lock.write(address)
                (STATE / address).write_text(sandbox)
                return address
    raise PluginError("no address left in the node's range")


def _mark(given: Path, sandbox: str) -> None:
    if given.exists():
        raise PluginError(f"address {given.name} is in use by sandbox {given.read_text()}", 11)
    given.write_text(sandbox)


def _ip(lines: list[str], netns: str = "") -> None:
    inside = ["/usr/bin/nsenter", f"--net={netns}"] if netns else []
    script = "".join(f"{line}\n" for line in lines)
    done = subprocess.run(
        [*inside, "/sbin/ip", "-batch", "-"], input=script, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise PluginError(f"ip: {done.stderr.strip()}")


def _print(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value))

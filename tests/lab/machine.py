"""The command line of one virtual machine, and whether this host's KVM can be used for it."""

from __future__ import annotations

import contextlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.lab import cache, layout, network

MEMORY_MIB = 1536
PROBE_SECONDS = 8.0
PROBE_WORD = "podferry-probe-passed"
"""What the initramfs prints when it is started with `lab.probe=1`; then it resets."""

_QEMU = "qemu-system-x86_64"
_BASE = ("-M", "q35", "-nodefaults", "-display", "none", "-no-reboot")
_KERNEL_WORDS = (
    *(
        "console=ttyS0",
        "quiet",
        "loglevel=4",
        "panic=-1",
        "mitigations=off",
        "nokaslr",
        "random.trust_cpu=on",
        "audit=0",
    ),
    *("apparmor=0", "no_timer_check", "tsc=reliable", "cryptomgr.notests", "rcupdate.rcu_expedited=1"),
)


@dataclass(frozen=True)
class Disks:
    """What every machine boots from, all read-only and shared by all machines."""

    node: Path
    """Folder of the node image: vmlinux, initramfs, root.squashfs."""
    python: Path
    project: Path
    images: Path


def command_line(name: str, index: int, disks: Disks, folder: Path, accelerator: list[str]) -> list[str]:
    """Return the QEMU command for the node with `index` (from 1); its socket and console are in `folder`."""
    words = [*_KERNEL_WORDS, f"lab.node={name}", f"lab.index={index}"]
    argv = [_QEMU, *_BASE, *accelerator, "-smp", "1", "-m", str(MEMORY_MIB), "-name", name]
    argv += [
        "-kernel",
        str(disks.node / "vmlinux"),
        "-initrd",
        str(disks.node / "initramfs"),
        "-append",
        " ".join(words),
    ]
    argv += ["-serial", f"file:{console(folder, name)}"]
    for number, disk in enumerate((disks.node / "root.squashfs", disks.python, disks.project, disks.images)):
        argv += ["-drive", f"file={disk},if=none,id=disk{number},format=raw,readonly=on,file.locking=off"]
        argv += ["-device", f"virtio-blk-pci,drive=disk{number}"]
    argv += ["-device", "virtio-serial-pci", "-device", "virtio-rng-pci"]
    argv += ["-chardev", f"socket,id=control,path={control_socket(folder, name)},server=on,wait=off"]
    argv += ["-device", f"virtserialport,chardev=control,name={layout.CONTROL_PORT}"]
    argv += ["-netdev", f"tap,id=net,ifname={network.tap(name)},script=no,downscript=no,vhost=off"]
    return [*argv, "-device", f"virtio-net-pci,netdev=net,mac=52:54:00:77:00:{index:02x}"]


def console(folder: Path, name: str) -> Path:
    """Return the file that gets what a node prints on its serial console."""
    return folder / f"{name}.console"


def control_socket(folder: Path, name: str) -> Path:
    """Return the unix socket of a node's control channel."""
    return folder / f"{name}.control"


def accelerator(node: Path) -> list[str]:
    """Return QEMU's options for KVM when a kernel really boots under it here, else for emulation."""
    if _kvm_works(node):
        return ["-accel", "kvm", "-cpu", "host"]
    # qemu64 boots three times faster than `max`. The translation buffer (MiB) holds what containerd, runc, CRIU and
    # Python need together: with 64 it is thrown away every few seconds and all is translated anew.
    return ["-accel", "tcg,thread=multi,tb-size=256", "-cpu", "qemu64"]


def _kvm_works(node: Path) -> bool:
    """Boot the node's kernel under KVM for some seconds, once per kernel of the host and of the nodes.

    A /dev/kvm that can be opened proves little: nested ones may start a guest and never get it anywhere.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    answer = cache.root() / f"kvm-{cache.key(os.uname().release, node.name)}"
    if not answer.exists():
        argv = [_QEMU, *_BASE, "-accel", "kvm", "-cpu", "host", "-m", "256", "-serial", "stdio"]
        argv += ["-kernel", str(node / "vmlinux"), "-initrd", str(node / "initramfs")]
        argv += ["-append", "console=ttyS0 panic=-1 lab.probe=1"]
        out = b""
        with contextlib.suppress(subprocess.TimeoutExpired, OSError):
            done = subprocess.run(
                argv, capture_output=True, timeout=PROBE_SECONDS, check=False, stdin=subprocess.DEVNULL
            )
            out = done.stdout
        answer.write_text("yes" if PROBE_WORD.encode() in out else "no")
    return answer.read_text() == "yes"

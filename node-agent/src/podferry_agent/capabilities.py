"""What this node can do, probed once at start: "not supported" is data with a reason, never an exception."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from podferry.wire import agent_pb2
from podferry_agent import settings as settings_module

TCP_REPAIR = 19
"""linux/tcp.h"""

CGROUP_ROOT = Path("/sys/fs/cgroup")

_USABLE = re.compile(
    r"3dnow\w*|abm|adx|aes|amx_\w+|avx\w*|bmi[12]|cldemote|clflush(opt)?|clwb|clzero|cmov|cx(8|16)|enqcmd|erms|f16c|fma4?"
    r"|fpu|fs(gsbase|rm)|fxsr(_opt)?|gfni|hle|lahf_lm|lwp|misalignsse|mmx\w*|movbe|movdir\w+|ospke|pclmulqdq|pku|pni|popcnt"
    r"|rd(pid|rand|seed|tscp)|rtm|serialize|sha\w+|shstk|sm[34]|sse\w*|ssse3|syscall|tbm|vaes|vpclmulqdq|waitpkg|xgetbv1"
    r"|xop|xsave\w*"
)
"""Flags of /proc/cpuinfo that name something a program can use; the others are about the kernel and its mitigations."""


def probe(settings: settings_module.Settings) -> agent_pb2.Capabilities:
    """Return versions and what is missing; forks criu and runc once each."""
    criu, runc = _version(["criu", "--version"]), _version([str(settings.runc), "--version"])
    return agent_pb2.Capabilities(
        node=settings.node,
        version=metadata.version("podferry") if _installed("podferry") else "unknown",
        kernel=os.uname().release,
        machine=os.uname().machine,
        criu=criu,
        runtime=f"runc {runc}" if runc else "",
        backends=["repair"] if _repair_allowed() else [],
        missing=[
            agent_pb2.Problem(reason=reason, message=message) for reason, message in _missing(settings, criu, runc)
        ],
        cpu_features=_cpu_features(),
    )


def now(found: agent_pb2.Capabilities) -> agent_pb2.Capabilities:
    """Return what was found at start with what changes all the time beside it."""
    current = agent_pb2.Capabilities()
    current.CopyFrom(found)
    current.memory_available_bytes = _memory_available()
    current.clock_unix_ns = time.time_ns()
    return current


def _missing(settings: settings_module.Settings, criu: str, runc: str) -> Iterator[tuple[str, str]]:
    if not criu:
        yield "NoCriu", "criu does not run on this node; install it"
    if not runc:
        yield "NoRuntime", f"{settings.runc} does not run on this node; point --runc at runc"
    if not (CGROUP_ROOT / "cgroup.controllers").exists():
        yield "NoCgroupV2", "cgroup v2 is not mounted at /sys/fs/cgroup; boot with systemd.unified_cgroup_hierarchy=1"
    if not _repair_allowed():
        yield (
            "NoTcpRepair",
            "TCP_REPAIR is refused; the agent needs CAP_NET_ADMIN and a kernel with CONFIG_CHECKPOINT_RESTORE",
        )
    if importlib.util.find_spec("pycriu") is None:
        yield "NoPycriu", "the pycriu package is missing; it comes with the distribution's criu"
    if not Path(settings.cri.removeprefix("unix://")).exists():
        yield "NoContainerRuntime", f"nothing listens at {settings.cri}; start containerd or point --cri at it"


def _version(command: list[str]) -> str:
    try:
        out = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    found = re.search(r"\d+(\.\d+)+", out)
    return found.group() if found else ""


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _repair_allowed() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe_socket:
        try:
            probe_socket.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        except OSError:
            return False
        return True


def _cpu_features() -> list[str]:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return [flag for flag in line.split(":", 1)[1].split() if _USABLE.fullmatch(flag)]
    return []


def _memory_available() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 0

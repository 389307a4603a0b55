"""Names and numbers that both the host's and the guests' side of the lab must know: addresses, paths, image names.

Only the standard library may be imported here: the guests load this module while they boot.
"""

from __future__ import annotations

PREFIX = 16
"""Length of the one flat network of nodes, pods and clients, 10.77.0.0."""

API_ADDRESS = "10.77.0.254"
API_PORT = 6443
CLIENT_ADDRESS = "10.77.0.100"
AGENT_PORT = 7443

CONTROL_PORT = "podferry.control"
"""Name of the virtio-serial port that carries the control channel."""

GUEST_CODE = "/opt/podferry"
"""Where a node sees the project disk; the same tree as the repository, as far as nodes need it."""

GUEST_IMAGES = "/opt/images"
"""Where a node sees the container images."""

TLS_DIR = "/etc/podferry/tls"
LOG_DIR = "/var/log/lab"
BRIDGE = "cni0"
HOLD_ALIAS = f"podferry-hold:{BRIDGE}"
"""Interface alias of a host-side veth that is kept off its bridge: a fixed word, then the bridge to join."""

PAUSE_IMAGE = "lab.podferry.dev/pause:1"
SAMPLE_IMAGE = "lab.podferry.dev/sample:1"
REDIS_IMAGE = "lab.podferry.dev/redis:1"

FIXED_ADDRESS_ANNOTATION = "cni.projectcalico.org/ipAddrs"
"""Calico's: a JSON list with the one address that the pod gets instead of one from its node's range."""


def node_address(index: int) -> str:
    """Return the address of the node with `index`, counted from 1."""
    return f"10.77.0.{index}"


def words(text: str) -> tuple[str, ...]:
    """Return the words of a long list that is written over several lines."""
    return tuple(text.split())

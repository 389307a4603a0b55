"""Questions about a node object."""

from __future__ import annotations

import ipaddress

from podferry import errors
from podferry_operator.domain import observation


def endpoint(node: observation.Object, port: int) -> str:
    """Return host:port of the agent on `node`, by the node's first InternalIP.

    Raises:
        Permanent: the node has none (reason NodeHasNoAddress).
    """
    for address in node.get("status", {}).get("addresses", ()):
        if address["type"] == "InternalIP":
            ip = ipaddress.ip_address(address["address"])
            return f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"
    raise errors.Permanent(f"node {node['metadata']['name']} has no InternalIP", reason="NodeHasNoAddress")

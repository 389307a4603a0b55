"""What the operator ordered of a target, checked again by the target itself before anything is done for a peer."""

from __future__ import annotations

import hmac
import re

from podferry import clock as clocks
from podferry import errors, ids
from podferry.wire import agent_pb2

_TOKEN = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


def pod_ref(pod: agent_pb2.PodRef, field: str) -> None:
    """Refuse a reference that is not a pod's: names and UIDs become paths and look-ups.

    Raises:
        InvalidInput: names the field.
    """
    ids.migration_id(pod.uid, f"{field}.uid")
    for part in ("namespace", "name"):
        if not _NAME.fullmatch(getattr(pod, part)):
            raise errors.InvalidInput(f"{field}.{part}", f"not a name: {getattr(pod, part)!r}")


def containers(names: list[str]) -> None:
    """Refuse container names that are none, or none at all; they become directories.

    Raises:
        InvalidInput: names the field.
    """
    if not names or len(set(names)) != len(names):
        raise errors.InvalidInput("containers", "at least one container, each once")
    for name in names:
        if not _NAME.fullmatch(name):
            raise errors.InvalidInput("containers", f"not a container name: {name!r}")


def token(value: str) -> None:
    """Refuse a token that does not look like 32 random bytes.

    Raises:
        InvalidInput: names the field.
    """
    if not _TOKEN.fullmatch(value):
        raise errors.InvalidInput("token", "not 64 hex digits")


def admit(order: agent_pb2.AdmitRequest, clock: clocks.Clock) -> None:
    """Check an order to a target as a whole.

    Raises:
        InvalidInput: names the field.
    """
    ids.migration_id(order.migration_id)
    token(order.token)
    pod_ref(order.target_pod, "target_pod")
    pod_ref(order.source_pod, "source_pod")
    containers(list(order.containers))
    if not _NAME.fullmatch(order.source_node):
        raise errors.InvalidInput("source_node", f"not a node name: {order.source_node!r}")
    if order.expires_unix * 1e9 <= clock.wall():
        raise errors.InvalidInput("expires_unix", "lies in the past")


def start(order: agent_pb2.StartRequest) -> None:
    """Check an order to a source as a whole.

    Raises:
        InvalidInput: names the field.
    """
    ids.migration_id(order.migration_id)
    token(order.token)
    pod_ref(order.source_pod, "source_pod")
    pod_ref(order.target_pod, "target_pod")
    containers(list(order.containers))
    if not _NAME.fullmatch(order.target_node):
        raise errors.InvalidInput("target_node", f"not a node name: {order.target_node!r}")
    if ":" not in order.target_endpoint:
        raise errors.InvalidInput("target_endpoint", "not host:port")
    if not 0 < order.freeze_budget_seconds <= 3600:
        raise errors.InvalidInput("freeze_budget_seconds", "not between 0 and 3600")


def peer(order: agent_pb2.AdmitRequest, opening: agent_pb2.Open, names: set[str], clock: clocks.Clock) -> None:
    """Check that who opens a session is the agent of the ordered source node, with the ordered token, in time.

    `names` are the DNS names in the peer's certificate. A resumed session may come late: the order was used in time.

    Raises:
        Permanent: reason NotAuthorised; which part was wrong is said to the log, not to the peer.
    """
    refused = errors.Permanent("no such order for this peer", reason="NotAuthorised")
    if ids.agent_server_name(order.source_node) not in names:
        raise refused
    if not hmac.compare_digest(order.token.encode(), opening.token.encode()):
        raise refused
    if not opening.resume and order.expires_unix * 1e9 <= clock.wall():
        raise errors.Permanent("the order has expired", reason="OrderExpired")

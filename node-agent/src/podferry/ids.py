"""Names derived from a migration's id, so that whatever it made can be found again by name alone.

The id is the UID of the ServiceMigration. Both agents, the operator and the runtime hook compute the same names from
it.
"""

from __future__ import annotations

import re

from podferry import errors

MIGRATION_ANNOTATION = "podferry.dev/migration"
"""On the target pod: the id of the migration that fills it. The runtime hook acts on a container only if it is there.
"""

HOLD_ANNOTATION = "podferry.dev/hold-network"
"""On the target pod, "true": the CNI gives the interface its address but draws no traffic until the cut (ADR 0003)."""

RUNTIME_CLASS = "podferry"
"""RuntimeClass, and the name of the runtime handler on every node."""

OBJECT_PREFIX = "podferry-"
"""Every nftables table, directory and file of a migration is named OBJECT_PREFIX + short id."""

_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def migration_id(uid: str, field: str = "migration_id") -> str:
    """Return `uid` if it is a lower-case RFC 9562 UUID, as Kubernetes makes them.

    Raises:
        InvalidInput: anything else. Ids become path and table names, so nothing else may pass a trust boundary.
    """
    if not _UID.fullmatch(uid):
        raise errors.InvalidInput(field, f"not a UID: {uid!r}")
    return uid


def short(uid: str) -> str:
    """Return the first 12 hex digits of a migration id: unique on a node, short enough for a kernel object's name."""
    return migration_id(uid).replace("-", "")[:12]


def object_name(uid: str) -> str:
    """Return the name of the kernel objects that belong to one migration."""
    return OBJECT_PREFIX + short(uid)


def agent_server_name(node: str) -> str:
    """Return the DNS name in the certificate of the agent on `node`: how agents and operator know each other."""
    return f"{node}.agent.podferry.dev"


OPERATOR_SERVER_NAME = "operator.podferry.dev"
"""The DNS name in the operator's certificate."""

"""Objects of the API server as the operator's unit tests need them: small, but of the real shape."""

from __future__ import annotations

from typing import Any

from podferry_operator.api import migration as migrations
from podferry_operator.api.migration import Migration
from podferry_operator.domain.observation import Observation

UID = "aaaaa000-0000-4000-8000-000000000001"
NOW = 1_700_000_000.0
Object = dict[str, Any]


def pod(name: str = "web", node: str = "a", ip: str = "10.0.0.1", **changes: Any) -> Object:
    """Return a running, Ready pod; `metadata`, `spec` and `status` are merged into it, one level deep."""
    body: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-of-{name}", "labels": {"app": "web"}},
        "spec": {
            "nodeName": node,
            "containers": [
                {"name": "main", "image": "example/web:1", "ports": [{"name": "http", "containerPort": 8080}]}
            ],
        },
        "status": {
            "phase": "Running",
            "podIP": ip,
            "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2023-11-14T22:13:20Z"}],
            "containerStatuses": [{"name": "main", "state": {"running": {}}}],
        },
    }
    for part, change in changes.items():
        body[part] |= change
    return body


def node(name: str = "b", *, ready: str = "True", **spec: Any) -> Object:
    """Return a node."""
    conditions = [{"type": "Ready", "status": ready, "message": "kubelet says so"}]
    return {"metadata": {"name": name}, "spec": spec, "status": {"conditions": conditions}}


def migration(uid: str = UID, status: Object | None = None, **spec: Any) -> Migration:
    """Return the migration of pod "web" to node "b"."""
    return migrations.parse(
        {
            "metadata": {"namespace": "default", "name": "move", "uid": uid},
            "spec": {"podName": "web", "targetNode": "b", **spec},
            "status": status or {},
        }
    )


def seen(order: Migration | None = None, **parts: Any) -> Observation:
    """Return an observation with a running pod and a ready node, as changed."""
    found: dict[str, Any] = {"source_pod": pod(), "target_node": node(), "runtime_class": {}, **parts}
    return Observation(NOW, order or migration(), **found)

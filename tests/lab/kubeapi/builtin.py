"""The table of built-in kinds."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from . import columns, crd, defaults, events, models, validation
from .resources import Column, Resource
from .store import Store

_POD_FIELDS = frozenset(
    [
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ]
)
_EVENT_FIELDS = frozenset(
    [
        *(
            f"involvedObject.{field}"
            for field in ["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"]
        ),
        "reason",
        "reportingComponent",
        "type",
    ]
)


def resources(store: Store) -> Iterator[Resource]:
    """Yield the built-in kinds; the store is asked for the service addresses that are taken."""
    yield from _core(store)
    yield from _workloads()
    yield from _others()


def _kind(group: str, plural: str, kind: str, model: str = "", **more: Any) -> Resource:
    """Return a built-in kind in version v1 whose schema comes from the client's model."""
    module = model or "v1_" + "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in kind).lstrip(
        "_"
    )
    return Resource(group, "v1", plural, kind, schema=functools.partial(models.schema, module), **more)


def _core(store: Store) -> Iterator[Resource]:
    yield _kind(
        "", "namespaces", "Namespace",
        namespaced=False, short_names=("ns",), status=True, returns_deleted=True, columns=columns.NAMESPACES,
        default=defaults.namespace, prepare=defaults.new_namespace, selectable=frozenset({"status.phase"}),
    )  # fmt: skip
    yield _kind(
        "", "nodes", "Node",
        namespaced=False, short_names=("no",), status=True, columns=columns.NODES,
        selectable=frozenset({"spec.unschedulable"}),
        default=defaults.node, keeps_status=True,
    )  # fmt: skip
    yield _kind(
        "", "pods", "Pod",
        short_names=("po",), categories=("all",), status=True, generation=True, graceful=True, returns_deleted=True,
        columns=columns.PODS, default=defaults.pod, prepare=defaults.new_pod, check=validation.pod,
        selectable=_POD_FIELDS,
    )  # fmt: skip
    yield _kind(
        "", "services", "Service",
        short_names=("svc",), categories=("all",), status=True, columns=columns.SERVICES, default=defaults.service,
        prepare=defaults.service_allocator(lambda: iter(store.objects(("", "services")))), check=validation.service,
        returns_deleted=True, selectable=frozenset({"spec.clusterIP", "spec.type"}),
    )  # fmt: skip
    yield _kind("", "endpoints", "Endpoints", short_names=("ep",), columns=columns.ENDPOINTS, upsert=True)
    yield _kind(
        "", "events", "Event", "core_v1_event",
        short_names=("ev",), columns=columns.EVENTS, default=defaults.event, check=validation.event,
        selectable=_EVENT_FIELDS, upsert=True,
    )  # fmt: skip
    yield _kind(
        "", "configmaps", "ConfigMap", "v1_config_map",
        short_names=("cm",), columns=columns.CONFIG_MAPS, check=validation.frozen_data,
    )  # fmt: skip
    yield _kind(
        "", "secrets", "Secret",
        columns=columns.SECRETS, default=defaults.secret, check=validation.frozen_data, selectable=frozenset({"type"}),
    )  # fmt: skip
    yield _kind("", "persistentvolumeclaims", "PersistentVolumeClaim", short_names=("pvc",), status=True)
    yield _kind(
        "",
        "serviceaccounts",
        "ServiceAccount",
        short_names=("sa",),
        returns_deleted=True,
        columns=columns.SERVICE_ACCOUNTS,
    )


def _workloads() -> Iterator[Resource]:
    """Plain storage with a status: there is no controller that makes pods of them."""
    for plural, kind, short, shown in (
        ("deployments", "Deployment", "deploy", columns.DEPLOYMENTS),
        ("replicasets", "ReplicaSet", "rs", columns.REPLICA_SETS),
        ("statefulsets", "StatefulSet", "sts", columns.STATEFUL_SETS),
        ("daemonsets", "DaemonSet", "ds", ()),
    ):
        yield _kind(
            "apps", plural, kind,
            short_names=(short,), categories=("all",), status=True, generation=True, columns=shown,
            default=defaults.workload, check=validation.workload,
        )  # fmt: skip


def _others() -> Iterator[Resource]:
    yield _kind("coordination.k8s.io", "leases", "Lease", columns=columns.LEASES, upsert=True)
    yield _kind(
        "discovery.k8s.io", "endpointslices", "EndpointSlice",
        columns=columns.ENDPOINT_SLICES, default=defaults.endpoint_slice, check=validation.endpoint_slice,
        generation=True,
    )  # fmt: skip
    yield _kind(
        "events.k8s.io", "events", "Event", "events_v1_event",
        short_names=("ev",), columns=[_served_as_core(column) for column in columns.EVENTS], collection=("", "events"),
        default=defaults.event, check=validation.event, serve=events.from_core, accept=events.to_core,
        selectable=frozenset({"reason", "type", "reportingController"}), upsert=True,
    )  # fmt: skip
    yield _kind(
        "node.k8s.io", "runtimeclasses", "RuntimeClass",
        namespaced=False, columns=columns.RUNTIME_CLASSES, check=validation.runtime_class,
    )  # fmt: skip
    for plural, kind, namespaced in (
        ("clusterrolebindings", "ClusterRoleBinding", False),
        ("clusterroles", "ClusterRole", False),
        ("rolebindings", "RoleBinding", True),
        ("roles", "Role", True),
    ):
        yield _kind("rbac.authorization.k8s.io", plural, kind, namespaced=namespaced)
    yield _kind(
        "apiextensions.k8s.io", crd.PLURAL, "CustomResourceDefinition",
        namespaced=False, short_names=("crd", "crds"), categories=("api-extensions",), status=True, generation=True,
        columns=columns.DEFINITIONS, default=crd.default, check=crd.check,
    )  # fmt: skip


def _served_as_core(column: Column) -> Column:
    return Column(
        column.name, lambda event: column.cell(events.to_core(event)), column.type, column.format, column.priority
    )

"""What is served: /api, /apis and the documents below them, in the old form and in the aggregated one."""

from __future__ import annotations

from .errors import Json
from .resources import Registry, Resource

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_STATUS_VERBS = ("get", "patch", "update")


def wants_aggregated(accept: str) -> bool:
    """Tell whether a client accepts the aggregated form (which kubectl asks for first)."""
    wanted = set(AGGREGATED.split(";"))
    return any(wanted <= {part.strip() for part in offer.split(";")} for offer in accept.split(","))


def versions() -> Json:
    """Return /api."""
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}],
    }


def group_list(registry: Registry) -> Json:
    """Return /apis."""
    groups = [group(registry, name) for name in registry.groups() if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group(registry: Registry, name: str) -> Json:
    """Return the description of one group."""
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in registry.groups()[name]]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def resource_list(resources: list[Resource]) -> Json:
    """Return the kinds of one group and version, subresources among them."""
    listed: list[Json] = []
    for one in resources:
        entry: Json = {
            "name": one.plural,
            "singularName": one.singular,
            "namespaced": one.namespaced,
            "kind": one.kind,
            "verbs": list(one.verbs),
        }
        if one.short_names:
            entry["shortNames"] = list(one.short_names)
        if one.categories:
            entry["categories"] = list(one.categories)
        listed.append(entry)
        if one.status:
            listed.append(
                {
                    "name": f"{one.plural}/status",
                    "singularName": "",
                    "namespaced": one.namespaced,
                    "kind": one.kind,
                    "verbs": list(_STATUS_VERBS),
                }
            )
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": resources[0].api_version,
        "resources": listed,
    }


def aggregated(registry: Registry, *, core: bool) -> Json:
    """Return everything below /api (`core`) or /apis in one document."""
    items = [
        {
            "metadata": {"name": name} if name else {"creationTimestamp": None},
            "versions": [
                {"version": version, "resources": [_discovered(one) for one in kinds], "freshness": "Current"}
                for version, kinds in by_version.items()
            ],
        }
        for name, by_version in registry.groups().items()
        if (name == "") is core
    ]
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _discovered(one: Resource) -> Json:
    response_kind = {"group": one.group, "version": one.version, "kind": one.kind}
    entry: Json = {
        "resource": one.plural,
        "responseKind": response_kind,
        "scope": "Namespaced" if one.namespaced else "Cluster",
        "singularResource": one.singular,
        "verbs": list(one.verbs),
    }
    if one.short_names:
        entry["shortNames"] = list(one.short_names)
    if one.categories:
        entry["categories"] = list(one.categories)
    if one.status:
        status = {"subresource": "status", "responseKind": response_kind, "verbs": list(_STATUS_VERBS)}
        entry["subresources"] = [status]
    return entry

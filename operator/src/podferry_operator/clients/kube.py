"""Kubernetes' API, plain: JSON objects in and out, errors as podferry.errors.

The official client brings configuration, authentication and TLS. Its models are left out, since a model drops fields
that it does not know, and a pod's spec has to be copied whole.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import urllib3.exceptions
from kubernetes import client, config
from kubernetes.client import exceptions

from podferry import errors
from podferry_operator.api import migration

MERGE_PATCH = "application/merge-patch+json"
TIMEOUT = 15.0
"""Seconds for one call; a call that takes longer is tried again."""

PAGE = 500
"""Objects per page of a list."""


@dataclass(frozen=True, slots=True)
class Resource:
    """Where objects of one kind live; `namespaced` False for nodes."""

    prefix: str
    plural: str
    namespaced: bool = True


PODS = Resource("/api/v1", "pods")
NODES = Resource("/api/v1", "nodes", namespaced=False)
CLAIMS = Resource("/api/v1", "persistentvolumeclaims")
RUNTIME_CLASSES = Resource("/apis/node.k8s.io/v1", "runtimeclasses", namespaced=False)
EVENTS = Resource("/api/v1", "events")
SERVICES = Resource("/api/v1", "services")
ENDPOINTS = Resource("/api/v1", "endpoints")
SLICES = Resource("/apis/discovery.k8s.io/v1", "endpointslices")
MIGRATIONS = Resource(f"/apis/{migration.API_VERSION}", migration.PLURAL)


class Kube:
    """Calls to one API server. Every call runs in a thread and raises Transient, Permanent, or what it documents."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api

    async def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        """Return one object, None when there is none."""
        try:
            return await self._call("GET", _path(resource, namespace, name))
        except _NotFound:
            return None

    async def list(
        self, resource: Resource, namespace: str, *, labels: str = "", fields: str = ""
    ) -> list[dict[str, Any]]:
        """Return the objects of a namespace that both selectors match."""
        items: list[dict[str, Any]] = []
        query = {"limit": str(PAGE), "labelSelector": labels, "fieldSelector": fields}
        while True:
            page = await self._call("GET", _path(resource, namespace), query=query)
            items += page.get("items") or []
            token = page.get("metadata", {}).get("continue")
            if not token:
                return items
            query["continue"] = token

    async def create(self, resource: Resource, namespace: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object; Transient with reason AlreadyExists when its name is taken."""
        return await self._call("POST", _path(resource, namespace), body=body)

    async def replace(self, resource: Resource, body: Mapping[str, Any]) -> dict[str, Any]:
        """Write an object back; Transient with reason Conflict when it has changed since it was read."""
        metadata = body["metadata"]
        return await self._call("PUT", _path(resource, metadata["namespace"], metadata["name"]), body=body)

    async def merge(
        self, resource: Resource, namespace: str, name: str, patch: Mapping[str, Any], *, subresource: str = ""
    ) -> dict[str, Any] | None:
        """Apply a JSON merge patch (RFC 7396) and return the object, None when there is none."""
        path = _path(resource, namespace, name) + (f"/{subresource}" if subresource else "")
        try:
            return await self._call("PATCH", path, body=patch, content_type=MERGE_PATCH)
        except _NotFound:
            return None

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str = "", grace: int | None = None
    ) -> None:
        """Delete an object; one that is gone, or whose UID is not `uid`, counts as deleted."""
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if uid:
            options["preconditions"] = {"uid": uid}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        try:
            await self._call("DELETE", _path(resource, namespace, name), body=options)
        except _NotFound:
            return
        except errors.Transient as error:
            if not (uid and error.reason == "Conflict"):
                raise

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        return await asyncio.to_thread(self._call_blocking, method, path, query or {}, body, content_type)

    def _call_blocking(
        self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any] | None, content_type: str
    ) -> dict[str, Any]:
        try:
            request = self._api.param_serialize(
                method,
                path,
                query_params=[(key, value) for key, value in query.items() if value],
                header_params={"Accept": "application/json", "Content-Type": content_type},
                body=body,
                auth_settings=["BearerToken"],
            )
            response = self._api.call_api(*request, _request_timeout=TIMEOUT)
            content: bytes = response.read()  # type: ignore[no-untyped-call]
        except (urllib3.exceptions.HTTPError, exceptions.ApiException, OSError) as error:
            raise errors.Transient(f"{method} {path}: {error}", reason="ApiUnreachable") from error
        if response.status >= 300:
            raise _refused(response.status, f"{method} {path}", content)
        document: dict[str, Any] = json.loads(content)
        return document


def connect() -> Kube:
    """Return a client configured by $KUBECONFIG, ~/.kube/config, or the service account of the pod around us."""
    config.load_config()  # type: ignore[no-untyped-call]
    return Kube(client.ApiClient())


class _NotFound(errors.Permanent):
    reason = "NotFound"


def _path(resource: Resource, namespace: str, name: str = "") -> str:
    scope = f"/namespaces/{quote(namespace, safe='')}" if resource.namespaced else ""
    return f"{resource.prefix}{scope}/{resource.plural}" + (f"/{quote(name, safe='')}" if name else "")


def _refused(status: int, call: str, content: bytes) -> errors.PodferryError:
    try:
        answer = json.loads(content)
        message, reason = str(answer.get("message", "")), str(answer.get("reason", ""))
    except (ValueError, AttributeError):
        message, reason = content.decode(errors="replace"), ""
    text = f"{call}: {status}: {message}"
    if status == 404:
        return _NotFound(text)
    if status in {401, 408, 409, 429} or status >= 500:
        return errors.Transient(text, reason=reason or ("Conflict" if status == 409 else "ApiUnavailable"))
    return errors.Permanent(text, reason=reason or "Refused")

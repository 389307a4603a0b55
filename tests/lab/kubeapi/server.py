"""The HTTP face: sockets, routes, content types. Everything that decides lives below, in `rest` and its neighbours."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import aiohttp.web
import yaml

from . import builtin, controllers, deletion, discovery, errors, openapi, patch, protobuf, selectors, tables, watch
from .errors import Json
from .request import Target, parse_target
from .resources import Registry, Resource
from .rest import Options, Rest
from .store import Store

logger = logging.getLogger(__name__)

SYSTEM_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
VERSION = {"major": "1", "minor": "37", "gitVersion": "v1.37.0+lab", "platform": "linux/amd64"}
KEPT_LINES = 256
"""Encoded watch events that are kept."""


class Api:
    """Answers requests over one in-memory cluster."""

    def __init__(self, store: Store | None = None) -> None:
        self.store = store or Store()
        self.registry = Registry(builtin.resources(self.store))
        self.rest = Rest(self.registry, self.store)
        self._watches: set[asyncio.Task[Any]] = set()
        self._lines: dict[tuple[str, str, str, str], bytes] = {}
        self._openapi_documents: dict[tuple[int, str], bytes] = {}
        self._documents: dict[str, Callable[[], Json]] = {
            "/version": lambda: dict(VERSION),
            "/api": discovery.versions,
            "/apis": lambda: discovery.group_list(self.registry),
            "/openapi/v2": lambda: {"swagger": "2.0", "info": {"title": "podferry lab", "version": "v1"}, "paths": {}},
            "/openapi/v3": lambda: openapi.index(self.registry),
        }

    def found_namespaces(self) -> None:
        """Create the namespaces that every cluster has."""
        namespaces = self.registry.find("", "v1", "namespaces")
        assert namespaces is not None
        for name in SYSTEM_NAMESPACES:
            self.rest.create(namespaces, "", {"metadata": {"name": name}}, Options())

    def end_watches(self) -> None:
        """Cut all open watches, so that a shutdown does not wait for them."""
        for task in self._watches:
            task.cancel()

    async def handle(self, request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
        """Answer one request; refusals become `Status` objects."""
        logger.debug("%s %s", request.method, request.path_qs)
        try:
            return await self._route(request)
        except errors.ApiError as error:
            logger.debug("%s %s: %d %s", request.method, request.path_qs, error.code, error.message)
            return _json(error.status(), status=error.code)
        except Exception as error:
            logger.exception("%s %s", request.method, request.path_qs)
            failure = errors.ApiError(500, "InternalError", f"Internal error occurred: {error!r}")
            return _json(failure.status(), status=failure.code)

    async def _route(self, request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
        path = request.path.rstrip("/")
        if path in {"/healthz", "/livez", "/readyz"}:
            return aiohttp.web.Response(text="ok")
        if path in {"/api", "/apis"} and discovery.wants_aggregated(request.headers.get("Accept", "")):
            document = discovery.aggregated(self.registry, core=path == "/api")
            return _json(document, content_type=discovery.AGGREGATED)
        if path == "/openapi/v2" and openapi.V2_PROTOBUF in request.headers.get("Accept", ""):
            return aiohttp.web.Response(body=openapi.V2_EMPTY, content_type=openapi.V2_ANSWER)
        if path.startswith("/openapi/v3/"):
            return self._openapi(path.removeprefix("/openapi/v3"))
        if path in self._documents:
            return _json(self._documents[path]())
        if path.startswith("/apis/") and path.count("/") == 2:
            return _json(self._group(path.rpartition("/")[2]))
        for version in (kinds for by_version in self.registry.groups().values() for kinds in by_version.values()):
            if path == version[0].path:
                return _json(discovery.resource_list(version))
        return await self._resource(request, parse_target(request.path, self.registry))

    def _openapi(self, path: str) -> aiohttp.web.Response:
        """Return a document, kept as bytes while the set of served kinds stays the same."""
        key = (self.registry.revision, path)
        if key not in self._openapi_documents:
            outdated = [one for one in self._openapi_documents if one[0] != self.registry.revision]
            for one in outdated:
                del self._openapi_documents[one]
            self._openapi_documents[key] = _dump(openapi.document(self.registry, path))
        return aiohttp.web.Response(body=self._openapi_documents[key], content_type="application/json")

    def _group(self, name: str) -> Json:
        if name not in self.registry.groups():
            raise errors.no_such_path()
        return {"kind": "APIGroup", "apiVersion": "v1", **discovery.group(self.registry, name)}

    async def _resource(self, request: aiohttp.web.Request, target: Target) -> aiohttp.web.StreamResponse:
        resource = target.resource
        if target.subresource and not (target.subresource == "status" and resource.status):
            if resource.plural == "pods" and target.subresource in {"log", "exec", "attach", "portforward"}:
                raise errors.ApiError(
                    501, "NotImplemented", f"this API has no kubelet behind it: no {target.subresource}"
                )
            raise errors.no_such_path()
        if request.method != "GET":
            return await self._write(request, target)
        if target.name:
            obj = self.rest.get(resource, target.namespace, target.name)
            return _json(_as_wanted(request, resource, obj))
        if request.query.get("watch") in {"true", "1"}:
            return await self._watch(request, target)
        return self._list(request, target)

    async def _write(self, request: aiohttp.web.Request, target: Target) -> aiohttp.web.Response:
        resource, options = target.resource, _options(request)
        in_scope = bool(target.namespace) is resource.namespaced
        match request.method, bool(target.name):
            case "POST", False if in_scope:
                obj = self.rest.create(resource, target.namespace, await _object(request), options)
                return self._written(request, resource, obj, options, status=201)
            case "PUT", True:
                return await self._put(request, target, options)
            case "PATCH", True:
                return await self._patch(request, target, options)
            case "DELETE", _ if in_scope:
                return await self._delete(request, target, options)
        raise errors.ApiError(
            405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
        )

    def _written(
        self, request: aiohttp.web.Request, resource: Resource, obj: Json, options: Options, *, status: int = 200
    ) -> aiohttp.web.Response:
        return _json(_as_wanted(request, resource, obj), status=status, warnings=options.warnings)

    # -- reading --------------------------------------------------------------------------------------------------

    def _list(self, request: aiohttp.web.Request, target: Target) -> aiohttp.web.Response:
        resource, query = target.resource, request.query
        objects = self.rest.list(resource, target.namespace, _predicate(request, resource))
        metadata: Json = {"resourceVersion": str(self.store.revision)}
        start = _continued(query.get("continue", ""))
        if start is not None:
            objects = [obj for obj in objects if _place(obj) > start]
        limit = int(query.get("limit") or 0)
        if limit and len(objects) > limit:
            metadata["continue"] = json.dumps(_place(objects[limit - 1])).encode().hex()
            metadata["remainingItemCount"] = len(objects) - limit
            objects = objects[:limit]
        if _wants(request, "Table"):
            include = query.get("includeObject", "Metadata")
            return _json(tables.table(resource, objects, include=include, metadata=metadata))
        if _wants(request, "PartialObjectMetadataList"):
            items = [tables.partial(obj) for obj in objects]
            kind = {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1"}
            return _json({**kind, "metadata": metadata, "items": items})
        items = objects if resource.custom else [_without_type(obj) for obj in objects]
        kind = {"kind": resource.list_kind, "apiVersion": resource.api_version}
        return _json({**kind, "metadata": metadata, "items": items})

    async def _watch(self, request: aiohttp.web.Request, target: Target) -> aiohttp.web.StreamResponse:
        resource, query = target.resource, request.query
        initial = query.get("sendInitialEvents") == "true"
        given = query.get("resourceVersion", "")
        if given and not given.isdigit():
            raise errors.invalid(
                "ListOptions",
                "meta.k8s.io",
                "",
                [errors.Cause("FieldValueInvalid", f"Invalid value: {given!r}", "resourceVersion")],
            )
        bookmarks = query.get("allowWatchBookmarks") in {"true", "1"}
        wanted = watch.Wanted(
            namespace=target.namespace,
            matches=_predicate(request, resource),
            revision=None if initial or given in {"", "0"} else int(given),
            announce_initial_end=initial and bookmarks,
            bookmarks=bookmarks,
            timeout=float(query.get("timeoutSeconds") or 1800),
        )
        response = aiohttp.web.StreamResponse(
            headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
        )
        response.enable_chunked_encoding()
        await response.prepare(request)
        task = asyncio.current_task()
        assert task is not None
        self._watches.add(task)
        try:
            await self._send_changes(request, resource, wanted, response)
            await response.write_eof()
        except ConnectionResetError:
            pass
        finally:
            self._watches.discard(task)
        return response

    async def _send_changes(
        self,
        request: aiohttp.web.Request,
        resource: Resource,
        wanted: watch.Wanted,
        response: aiohttp.web.StreamResponse,
    ) -> None:
        as_table, as_partial = _wants(request, "Table"), _wants(request, "PartialObjectMetadata")
        include, heading = request.query.get("includeObject", "Metadata"), True
        async with contextlib.aclosing(watch.stream(self.store, resource, wanted)) as changes:
            async for kind, stored in changes:
                obj = stored
                if kind not in {"ERROR", "BOOKMARK"}:
                    obj = resource.out(stored)
                if as_table and kind != "ERROR":
                    rows, metadata = ([], obj["metadata"]) if kind == "BOOKMARK" else ([obj], _table_metadata(obj))
                    obj = tables.table(resource, rows, include=include, metadata=metadata, heading=heading)
                    heading = False
                elif as_partial and kind != "ERROR":
                    obj = tables.partial(obj)
                await response.write(self._line(resource, kind, obj, shared=not as_table and not as_partial))

    def _line(self, resource: Resource, kind: str, obj: Json, *, shared: bool) -> bytes:
        """Return an event as bytes; most watches of a kind see the same ones, so the latest are kept."""
        key = (kind, resource.path, obj["metadata"].get("uid", ""), obj["metadata"].get("resourceVersion", ""))
        line = self._lines.get(key) if shared else None
        if line is None:
            line = _dump({"type": kind, "object": obj}) + b"\n"
            if shared and key[2]:
                self._lines[key] = line
            if len(self._lines) > KEPT_LINES:
                del self._lines[next(iter(self._lines))]
        return line

    # -- writing --------------------------------------------------------------------------------------------------

    async def _put(self, request: aiohttp.web.Request, target: Target, options: Options) -> aiohttp.web.Response:
        body, resource = await _object(request), target.resource
        given = body["metadata"].get("name") if isinstance(body.get("metadata"), dict) else None
        if given != target.name:
            raise errors.bad_request(
                f"the name of the object ({given}) does not match the name on the URL ({target.name})"
            )
        if resource.upsert and self.store.get(resource.collection, (target.namespace, target.name)) is None:
            body["metadata"].pop("resourceVersion", None)
            obj = self.rest.create(resource, target.namespace, body, options)
            return self._written(request, resource, obj, options, status=201)
        obj = self.rest.update(
            resource, target.namespace, target.name, lambda _: body, options, subresource=target.subresource
        )
        return self._written(request, resource, obj, options)

    async def _patch(self, request: aiohttp.web.Request, target: Target, options: Options) -> aiohttp.web.Response:
        resource, body = target.resource, await _body(request)
        kind = request.content_type
        if kind == patch.APPLY:
            return await self._apply(request, target, options)
        accepted = [patch.JSON, patch.MERGE, patch.APPLY] + ([] if resource.custom else [patch.STRATEGIC])
        if kind not in accepted:
            listed = ", ".join(accepted)
            raise errors.unsupported_media(
                f"the body of the request was in an unknown format - accepted media types include: {listed}"
            )

        def change(old: Json) -> Json:
            if kind == patch.JSON:
                return patch.apply_json(old, body)
            if not isinstance(body, dict):
                raise errors.bad_request("the patch is not an object")
            if kind == patch.MERGE:
                return dict(patch.merge(old, body))
            return dict(patch.strategic(old, body, resource.schema()))

        obj = self.rest.update(resource, target.namespace, target.name, change, options, subresource=target.subresource)
        return self._written(request, resource, obj, options)

    async def _apply(self, request: aiohttp.web.Request, target: Target, options: Options) -> aiohttp.web.Response:
        key, body = (target.namespace, target.name), await _object(request)
        obj, created = self.rest.apply(target.resource, key, body, options, subresource=target.subresource)
        return self._written(request, target.resource, obj, options, status=201 if created else 200)

    async def _delete(self, request: aiohttp.web.Request, target: Target, options: Options) -> aiohttp.web.Response:
        raw, resource = await _body(request), target.resource
        body = {} if raw is None else raw
        if not isinstance(body, dict):
            raise errors.bad_request("couldn't get the options from the request's body: they are not an object")
        if "All" in (body.get("dryRun") or ()):
            options.dry_run = True
        wanted = deletion.Request.parse(body, dict(request.query))
        if target.name:
            obj, gone = deletion.delete(self.rest, resource, (target.namespace, target.name), wanted, options)
            status = 202 if not gone and wanted.propagation == "Foreground" else 200
            if gone and not resource.returns_deleted:
                details = {
                    "name": target.name,
                    "group": resource.group,
                    "kind": resource.plural,
                    "uid": obj["metadata"]["uid"],
                }
                return _json(errors.success({key: value for key, value in details.items() if value}))
            return _json(_as_wanted(request, resource, obj), status=status)
        objects = self.rest.list(resource, target.namespace, _predicate(request, resource))
        for obj in objects:
            deletion.delete(self.rest, resource, (target.namespace, obj["metadata"]["name"]), wanted, options)
        kind = {"kind": resource.list_kind, "apiVersion": resource.api_version}
        return _json({**kind, "metadata": {"resourceVersion": str(self.store.revision)}, "items": objects})


def _dump(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def _json(
    body: Json, *, status: int = 200, content_type: str = "application/json", warnings: Sequence[str] = ()
) -> aiohttp.web.Response:
    response = aiohttp.web.Response(body=_dump(body), status=status, headers={"Content-Type": content_type})
    for warning in warnings:
        response.headers.add("Warning", f"299 - {json.dumps(warning)}")
    return response


def _wants(request: aiohttp.web.Request, kind: str) -> bool:
    """Tell whether the client's first choice is this form of the answer."""
    first = request.headers.get("Accept", "").split(",")[0]
    parts = {part.strip() for part in first.split(";")}
    return f"as={kind}" in parts and "g=meta.k8s.io" in parts and "v=v1" in parts


def _as_wanted(request: aiohttp.web.Request, resource: Resource, obj: Json) -> Json:
    if _wants(request, "Table"):
        include = request.query.get("includeObject", "Metadata")
        return tables.table(resource, [obj], include=include, metadata=_table_metadata(obj))
    return tables.partial(obj) if _wants(request, "PartialObjectMetadata") else obj


def _table_metadata(obj: Json) -> Json:
    return {"resourceVersion": obj["metadata"].get("resourceVersion", "")}


def _without_type(obj: Json) -> Json:
    return {key: value for key, value in obj.items() if key not in {"kind", "apiVersion"}}


def _place(obj: Json) -> list[str]:
    return [obj["metadata"].get("namespace", ""), obj["metadata"]["name"]]


def _continued(token: str) -> list[str] | None:
    if not token:
        return None
    try:
        return [str(part) for part in json.loads(bytes.fromhex(token))]
    except ValueError as error:
        raise errors.bad_request("continue key is not valid") from error


def _predicate(request: aiohttp.web.Request, resource: Resource) -> selectors.Predicate:
    by_label = selectors.labels(request.query.get("labelSelector", ""))
    by_field = selectors.fields(request.query.get("fieldSelector", ""), resource.selectable)
    if resource.serve is None:
        return lambda obj: by_label(obj) and by_field(obj)
    return lambda obj: by_label(obj) and by_field(resource.out(obj))


def _options(request: aiohttp.web.Request) -> Options:
    query = request.query
    validation = query.get("fieldValidation") or "Warn"
    if validation not in {"Strict", "Warn", "Ignore"}:
        raise errors.bad_request(f"invalid fieldValidation {validation!r}")
    applies, agent = request.content_type == patch.APPLY, request.headers.get("User-Agent", "unknown").partition("/")[0]
    return Options(
        dry_run="All" in query.getall("dryRun", []),
        field_validation=validation,
        field_manager=query.get("fieldManager") or ("" if applies else agent),
        force=query.get("force") in {"true", "1"},
    )


async def _body(request: aiohttp.web.Request) -> Any:
    raw = await request.read()
    if not raw:
        return None
    if request.content_type == protobuf.CONTENT_TYPE:
        return protobuf.decode(raw)
    if "cbor" in request.content_type:
        raise errors.unsupported_media("only JSON and YAML are understood: application/json, application/yaml")
    try:
        return yaml.safe_load(raw) if "yaml" in request.content_type else json.loads(raw)
    except (ValueError, yaml.YAMLError) as error:
        raise errors.bad_request(f"couldn't get the object from the request's body: {error}") from error


async def _object(request: aiohttp.web.Request) -> Json:
    body = await _body(request)
    if not isinstance(body, dict):
        raise errors.bad_request("couldn't get the object from the request's body: it is not an object")
    return body


class Server:
    """An API with its sockets and controllers; use as `async with Server(...) as server`, then `server.url`."""

    def __init__(self, sockets: Sequence[socket.socket] = (), *, listen: tuple[str, int] | None = None) -> None:
        self.api = Api()
        self._sockets = list(sockets)
        if listen is not None:
            self._sockets.append(socket.create_server(listen))
        self._exits = contextlib.AsyncExitStack()

    @property
    def url(self) -> str:
        """Where the first socket is reached."""
        host, port = self._sockets[0].getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def __aenter__(self) -> Server:
        """Start controllers and listening."""
        await self._exits.enter_async_context(controllers.running(self.api.rest))
        self.api.found_namespaces()
        application = aiohttp.web.Application(client_max_size=8 << 20)
        application.router.add_route("*", "/{path:.*}", self.api.handle)
        application.on_shutdown.append(self._end_watches)
        runner = aiohttp.web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=1)
        await runner.setup()
        self._exits.push_async_callback(runner.cleanup)
        for one in self._sockets:
            await aiohttp.web.SockSite(runner, one).start()
        return self

    async def _end_watches(self, _: aiohttp.web.Application) -> None:
        self.api.end_watches()

    async def __aexit__(self, *_: object) -> None:
        """Stop listening, cut watches, stop the controllers."""
        await self._exits.aclose()


@contextlib.asynccontextmanager
async def serving(listen: tuple[str, int] = ("127.0.0.1", 0)) -> AsyncIterator[Server]:
    """Serve an empty cluster on a loopback address while the block runs."""
    async with Server(listen=listen) as server:
        yield server

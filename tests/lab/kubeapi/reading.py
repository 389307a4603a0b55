"""GET of a collection: lists and watches."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import aiohttp.web

from . import answers, asking, errors, tables, watch
from .asking import Target
from .errors import Json
from .resources import Resource
from .rest import Rest

KEPT_LINES = 256
"""Encoded watch events that are kept."""


class Reading:
    """Answers reads of collections; remembers the open watches, to cut them at the end."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest
        self._watches: set[asyncio.Task[Any]] = set()
        self._lines: dict[tuple[str, str, str, str], bytes] = {}

    def end_watches(self) -> None:
        """Cut all open watches, so that a shutdown does not wait for them."""
        for task in self._watches:
            task.cancel()

    def list(self, request: aiohttp.web.Request, target: Target) -> aiohttp.web.Response:
        """Return a list in the form that the client asked for, in chunks when it set a limit."""
        resource, query = target.resource, request.query
        objects = self._rest.list(resource, target.namespace, asking.predicate(request, resource))
        metadata: Json = {"resourceVersion": str(self._rest.store.revision)}
        start = _continued(query.get("continue", ""))
        if start is not None:
            objects = [obj for obj in objects if _place(obj) > start]
        limit = asking.number(request, "limit", 0)
        if limit and len(objects) > limit:
            metadata["continue"] = json.dumps(_place(objects[limit - 1])).encode().hex()
            metadata["remainingItemCount"] = len(objects) - limit
            objects = objects[:limit]
        if answers.wants(request, "Table"):
            include = query.get("includeObject", "Metadata")
            return answers.as_json(tables.table(resource, objects, include=include, metadata=metadata))
        if answers.wants(request, "PartialObjectMetadataList"):
            items = [tables.partial(obj) for obj in objects]
            kind = {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1"}
            return answers.as_json({**kind, "metadata": metadata, "items": items})
        items = objects if resource.custom else [answers.without_type(obj) for obj in objects]
        kind = {"kind": resource.list_kind, "apiVersion": resource.api_version}
        return answers.as_json({**kind, "metadata": metadata, "items": items})

    async def follow(self, request: aiohttp.web.Request, target: Target) -> aiohttp.web.StreamResponse:
        """Stream changes until the client leaves or its time is up."""
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
            matches=asking.predicate(request, resource),
            revision=None if initial or given in {"", "0"} else int(given),
            announce_initial_end=initial and bookmarks,
            bookmarks=bookmarks,
            timeout=asking.number(request, "timeoutSeconds", 1800),
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
        as_table, as_partial = answers.wants(request, "Table"), answers.wants(request, "PartialObjectMetadata")
        include, heading = request.query.get("includeObject", "Metadata"), True
        async with contextlib.aclosing(watch.stream(self._rest.store, resource, wanted)) as changes:
            async for kind, stored in changes:
                obj = stored
                if kind not in {"ERROR", "BOOKMARK"}:
                    obj = resource.out(stored)
                if as_table and kind != "ERROR":
                    rows, metadata = (
                        ([], obj["metadata"]) if kind == "BOOKMARK" else ([obj], answers.table_metadata(obj))
                    )
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
            line = answers.dump({"type": kind, "object": obj}) + b"\n"
            if shared and key[2]:
                self._lines[key] = line
            if len(self._lines) > KEPT_LINES:
                del self._lines[next(iter(self._lines))]
        return line


def _place(obj: Json) -> list[str]:
    return [obj["metadata"].get("namespace", ""), obj["metadata"]["name"]]


def _continued(token: str) -> list[str] | None:
    if not token:
        return None
    try:
        return [str(part) for part in json.loads(bytes.fromhex(token))]
    except ValueError as error:
        raise errors.bad_request("continue key is not valid") from error

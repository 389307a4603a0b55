"""POST, PUT, PATCH and DELETE."""

from __future__ import annotations

import aiohttp.web

from . import answers, asking, deletion, errors, patch
from .asking import Target
from .errors import Json
from .resources import Resource
from .rest import Options, Rest


class Writing:
    """Answers writes."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest

    async def write(self, request: aiohttp.web.Request, target: Target) -> aiohttp.web.Response:
        """Carry out a write and answer with the object as it is then."""
        resource, options = target.resource, asking.options(request)
        in_scope = bool(target.namespace) is resource.namespaced
        match request.method, bool(target.name):
            case "POST", False if in_scope:
                obj = self._rest.create(resource, target.namespace, await asking.whole_object(request), options)
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
        return answers.as_json(answers.as_wanted(request, resource, obj), status=status, warnings=options.warnings)

    async def _put(self, request: aiohttp.web.Request, target: Target, options: Options) -> aiohttp.web.Response:
        body, resource = await asking.whole_object(request), target.resource
        given = body["metadata"].get("name") if isinstance(body.get("metadata"), dict) else None
        if given != target.name:
            raise errors.bad_request(
                f"the name of the object ({given}) does not match the name on the URL ({target.name})"
            )
        if resource.upsert and self._rest.store.get(resource.collection, (target.namespace, target.name)) is None:
            body["metadata"].pop("resourceVersion", None)
            obj = self._rest.create(resource, target.namespace, body, options)
            return self._written(request, resource, obj, options, status=201)
        obj = self._rest.update(
            resource, target.namespace, target.name, lambda _: body, options, subresource=target.subresource
        )
        return self._written(request, resource, obj, options)

    async def _patch(self, request: aiohttp.web.Request, target: Target, options: Options) -> aiohttp.web.Response:
        resource, body = target.resource, await asking.body(request)
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

        obj = self._rest.update(
            resource, target.namespace, target.name, change, options, subresource=target.subresource
        )
        return self._written(request, resource, obj, options)

    async def _apply(self, request: aiohttp.web.Request, target: Target, options: Options) -> aiohttp.web.Response:
        key, body = (target.namespace, target.name), await asking.whole_object(request)
        obj, created = self._rest.apply(target.resource, key, body, options, subresource=target.subresource)
        return self._written(request, target.resource, obj, options, status=201 if created else 200)

    async def _delete(self, request: aiohttp.web.Request, target: Target, options: Options) -> aiohttp.web.Response:
        raw, resource = await asking.body(request), target.resource
        body = {} if raw is None else raw
        if not isinstance(body, dict):
            raise errors.bad_request("couldn't get the options from the request's body: they are not an object")
        if "All" in (body.get("dryRun") or ()):
            options.dry_run = True
        wanted = deletion.Request.parse(body, dict(request.query))
        if target.name:
            obj, gone = deletion.delete(self._rest, resource, (target.namespace, target.name), wanted, options)
            status = 202 if not gone and wanted.propagation == "Foreground" else 200
            if gone and not resource.returns_deleted:
                details = {
                    "name": target.name,
                    "group": resource.group,
                    "kind": resource.plural,
                    "uid": obj["metadata"]["uid"],
                }
                return answers.as_json(errors.success({key: value for key, value in details.items() if value}))
            return answers.as_json(answers.as_wanted(request, resource, obj), status=status)
        objects = self._rest.list(resource, target.namespace, asking.predicate(request, resource))
        for obj in objects:
            deletion.delete(self._rest, resource, (target.namespace, obj["metadata"]["name"]), wanted, options)
        kind = {"kind": resource.list_kind, "apiVersion": resource.api_version}
        return answers.as_json(
            {**kind, "metadata": {"resourceVersion": str(self._rest.store.revision)}, "items": objects}
        )

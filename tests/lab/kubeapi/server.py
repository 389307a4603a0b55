"""The HTTP face: sockets and routes. Everything that decides lives below, in `rest` and its neighbours."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable, Sequence

import aiohttp.web

from . import answers, builtin, controllers, discovery, errors, openapi
from .asking import Target, parse_target
from .errors import Json
from .reading import Reading
from .resources import Registry
from .rest import Options, Rest
from .store import Store
from .writing import Writing

logger = logging.getLogger(__name__)

SYSTEM_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
VERSION = {"major": "1", "minor": "37", "gitVersion": "v1.37.0+lab", "platform": "linux/amd64"}


class Api:
    """Answers requests over one in-memory cluster."""

    def __init__(self, store: Store | None = None) -> None:
        self.store = store or Store()
        self.registry = Registry(builtin.resources(self.store))
        self.rest = Rest(self.registry, self.store)
        self.reading = Reading(self.rest)
        self._writing = Writing(self.rest)
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

    async def handle(self, request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
        """Answer one request; refusals become `Status` objects."""
        logger.debug("%s %s", request.method, request.path_qs)
        try:
            return await self._route(request)
        except errors.ApiError as error:
            logger.debug("%s %s: %d %s", request.method, request.path_qs, error.code, error.message)
            return answers.as_json(error.status(), status=error.code)
        except Exception as error:
            logger.exception("%s %s", request.method, request.path_qs)
            failure = errors.ApiError(500, "InternalError", f"Internal error occurred: {error!r}")
            return answers.as_json(failure.status(), status=failure.code)

    async def _route(self, request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
        path = request.path.rstrip("/")
        if path in {"/healthz", "/livez", "/readyz"}:
            return aiohttp.web.Response(text="ok")
        if path in {"/api", "/apis"} and discovery.wants_aggregated(request.headers.get("Accept", "")):
            document = discovery.aggregated(self.registry, core=path == "/api")
            return answers.as_json(document, content_type=discovery.AGGREGATED)
        if path == "/openapi/v2" and openapi.V2_PROTOBUF in request.headers.get("Accept", ""):
            return aiohttp.web.Response(body=openapi.V2_EMPTY, content_type=openapi.V2_ANSWER)
        if path.startswith("/openapi/v3/"):
            return self._openapi(path.removeprefix("/openapi/v3"))
        if path in self._documents:
            return answers.as_json(self._documents[path]())
        if path.startswith("/apis/") and path.count("/") == 2:
            return answers.as_json(self._group(path.rpartition("/")[2]))
        for version in (kinds for by_version in self.registry.groups().values() for kinds in by_version.values()):
            if path == version[0].path:
                return answers.as_json(discovery.resource_list(version))
        return await self._resource(request, parse_target(request.path, self.registry))

    def _openapi(self, path: str) -> aiohttp.web.Response:
        """Return a document, kept as bytes while the set of served kinds stays the same."""
        key = (self.registry.revision, path)
        if key not in self._openapi_documents:
            outdated = [one for one in self._openapi_documents if one[0] != self.registry.revision]
            for one in outdated:
                del self._openapi_documents[one]
            self._openapi_documents[key] = answers.dump(openapi.document(self.registry, path))
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
            return await self._writing.write(request, target)
        if target.name:
            obj = self.rest.get(resource, target.namespace, target.name)
            return answers.as_json(answers.as_wanted(request, resource, obj))
        if request.query.get("watch") in {"true", "1"}:
            return await self.reading.follow(request, target)
        return self.reading.list(request, target)


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
        self.api.reading.end_watches()

    async def __aexit__(self, *_: object) -> None:
        """Stop listening, cut watches, stop the controllers."""
        await self._exits.aclose()


@contextlib.asynccontextmanager
async def serving(listen: tuple[str, int] = ("127.0.0.1", 0)) -> AsyncIterator[Server]:
    """Serve an empty cluster on a loopback address while the block runs."""
    async with Server(listen=listen) as server:
        yield server

"""A small Kubernetes API client for the lab's own parts: plain calls, and a reflector (list, watch, resume, relist).

The official client takes more than ten seconds to import inside an emulated node, and urllib3 two; this needs the
standard library only. Plain HTTP, a connection per call. Objects are dictionaries as they come off the wire. No caching
beyond the reflector's store, no retries beyond the reflector's own.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib import parse

Json = dict[str, Any]
"""An API object."""

Changed = Callable[[Json, bool], None]
"""Called with an object and whether it is gone; from one thread, in the order of the changes."""

log = logging.getLogger(__name__)

WATCH_SECONDS = 240
"""How long a watch runs before it is renewed; the server ends it, resourceVersion carries over."""

RETRY_SECONDS = 1.0
"""Pause after a failed list or watch."""

# A node whose link was cut gets no FIN: keep-alive notices within half a minute, also under emulation.
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
)


class ApiError(Exception):
    """The API server said no, or was not reached (`code` 0).

    `reason` is the word of its Status object ("NotFound", "Conflict"), empty when it sent none.
    """

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code = code
        self.reason = reason


class Client:
    """Calls on one API server; safe to use from many threads."""

    def __init__(self, url: str, *, timeout: float = 60.0) -> None:
        target = parse.urlsplit(url)
        self._host, self._port = target.hostname or "", target.port or 80
        self._timeout = timeout

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Json:
        """Return the object or list at `path`."""
        return self._call("GET", path, query)

    def create(self, path: str, body: Json) -> Json:
        """Create `body` in the collection at `path`."""
        return self._call("POST", path, None, body)

    def replace(self, path: str, body: Json) -> Json:
        """Put `body` in the place of the object at `path`; a resourceVersion in it is a precondition."""
        return self._call("PUT", path, None, body)

    def merge(self, path: str, body: Json) -> Json:
        """Apply a JSON merge patch (RFC 7396): None removes a member, a list replaces the whole list."""
        return self._call("PATCH", path, None, body, "application/merge-patch+json")

    def delete(self, path: str, *, uid: str = "", grace: int | None = None) -> None:
        """Delete the object at `path`; with `uid` only if it is still that very object (else ApiError 409)."""
        body: Json = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if uid:
            body["preconditions"] = {"uid": uid}
        if grace is not None:
            body["gracePeriodSeconds"] = grace
        self._call("DELETE", path, None, body)

    def watch(self, path: str, query: Mapping[str, str]) -> Iterator[tuple[str, Json]]:
        """Yield (event type, object) until the server ends the watch; ERROR events are raised as ApiError."""
        wanted = {**query, "watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(WATCH_SECONDS)}
        with self._reply("GET", path, wanted, timeout=WATCH_SECONDS + self._timeout) as reply:
            for line in reply:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise ApiError(status.get("code", 500), status.get("reason", ""), status.get("message", ""))
                yield event["type"], event["object"]

    def _call(
        self, method: str, path: str, query: Mapping[str, str] | None, body: Json | None = None, kind: str = ""
    ) -> Json:
        with self._reply(method, path, query, body, kind, timeout=self._timeout) as reply:
            answer: Json = json.loads(reply.read())
            return answer

    @contextlib.contextmanager
    def _reply(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Json | None = None,
        kind: str = "",
        *,
        timeout: float,
    ) -> Iterator[http.client.HTTPResponse]:
        """Yield the reply to a request that was granted; every other end is an ApiError."""
        headers = {"Content-Type": kind or "application/json", "Accept": "application/json"}
        line = http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        try:
            line.connect()
            for level, option, value in _KEEPALIVE:
                line.sock.setsockopt(level, option, value)
            target = f"{path}?{parse.urlencode(query)}" if query else path
            line.request(method, target, None if body is None else json.dumps(body), headers)
            reply = line.getresponse()
            if reply.status >= 300:
                raise _refusal(reply.status, reply.read())
            yield reply
        except (OSError, http.client.HTTPException, json.JSONDecodeError) as error:
            raise ApiError(0, "", f"{method} {path}: {error}") from error
        finally:
            line.close()


def _refusal(code: int, body: bytes) -> ApiError:
    try:
        status = json.loads(body)
        return ApiError(code, status.get("reason", ""), status.get("message", ""))
    except (ValueError, AttributeError):
        return ApiError(code, "", body.decode("utf-8", "replace")[:500])


def key(obj: Json) -> str:
    """Return what names an object over its whole life: its uid."""
    uid: str = obj["metadata"]["uid"]
    return uid


class Reflector:
    """Keeps a copy of one collection and tells of every change, through restarts and outages of the API server.

    After an outage that outlived the server's history it lists again and reports the difference, so a change is never
    missed, though several may be told as one.
    """

    def __init__(self, client: Client, path: str, changed: Changed, query: Mapping[str, str] | None = None) -> None:
        self._client = client
        self._path = path
        self._changed = changed
        self._query = dict(query or {})
        self._objects: dict[str, Json] = {}
        self._version = ""
        self.synced = threading.Event()
        """Set once the first list has been reported."""

    def objects(self) -> list[Json]:
        """Return the copy as it stands now."""
        return list(self._objects.values())

    def start(self) -> None:
        """Run in a thread of its own until the process ends."""
        threading.Thread(target=self.run, name=f"watch {self._path}", daemon=True).start()

    def run(self) -> None:
        """Follow the collection for ever."""
        pause = threading.Event()
        while True:
            try:
                if not self._version:
                    self._list()
                self._watch()
            except ApiError as error:
                log.log(logging.DEBUG if error.code == 410 else logging.WARNING, "%s: %s", self._path, error)
                if error.code:  # an answer, 410 for one: what we know may be stale
                    self._version = ""
                if error.code != 410:
                    pause.wait(RETRY_SECONDS)

    def _list(self) -> None:
        listing = self._client.get(self._path, self._query)
        kind, version = listing["kind"].removesuffix("List"), listing["apiVersion"]
        found = {key(item): {"kind": kind, "apiVersion": version, **item} for item in listing["items"]}
        gone = [item for uid, item in self._objects.items() if uid not in found]
        fresh = [item for uid, item in found.items() if _version(self._objects.get(uid)) != _version(item)]
        self._objects = found
        self._version = listing["metadata"]["resourceVersion"]
        for item in gone:
            self._tell(item, gone=True)
        for item in fresh:
            self._tell(item, gone=False)
        self.synced.set()

    def _watch(self) -> None:
        for kind, obj in self._client.watch(self._path, {**self._query, "resourceVersion": self._version}):
            self._version = obj["metadata"]["resourceVersion"]
            if kind == "BOOKMARK":
                continue
            if kind == "DELETED":
                self._objects.pop(key(obj), None)
            else:
                self._objects[key(obj)] = obj
            self._tell(obj, gone=kind == "DELETED")

    def _tell(self, obj: Json, *, gone: bool) -> None:
        try:
            self._changed(obj, gone)
        except Exception:
            log.exception("%s: reporting a change of %s", self._path, obj["metadata"].get("name"))


def _version(obj: Json | None) -> str:
    return "" if obj is None else str(obj["metadata"].get("resourceVersion", ""))

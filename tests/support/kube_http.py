"""Plain HTTP to a Kubernetes API, for probes of what is on the wire: status codes, headers, bodies, watch events."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib import parse

import urllib3

Json = dict[str, Any]

MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came back: HTTP status, decoded body, headers."""

    status: int
    body: Json
    headers: Mapping[str, str]

    @property
    def reason(self) -> str:
        """The `reason` of a refusal."""
        return str(self.body.get("reason", ""))

    @property
    def causes(self) -> set[tuple[str, str]]:
        """The (reason, field) pairs of a refusal."""
        return {(one["reason"], one["field"]) for one in self.body.get("details", {}).get("causes", [])}


class Http:
    """One API server."""

    def __init__(self, url: str, token: str, ca_file: pathlib.Path | None) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        self._pool = urllib3.PoolManager(ca_certs=str(ca_file) if ca_file else None, maxsize=4)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        kind: str = "application/json",
        accept: str = "",
        **query: str,
    ) -> Answer:
        """Send a request; `kind` is the body's content type, further keywords make the query."""
        headers = {**self._headers, "Content-Type": kind, "Accept": accept or "application/json"}
        data = None if body is None else json.dumps(body)
        url = f"{self._url}{path}?{parse.urlencode(query)}"
        answer = self._pool.request(method, url, body=data, headers=headers, timeout=30, retries=False)
        decoded = json.loads(answer.data) if answer.data.startswith(b"{") else {"text": answer.data.decode()}
        return Answer(answer.status, decoded, answer.headers)

    def expect(self, status: int, method: str, path: str, body: Any = None, **options: Any) -> Json:
        """Send a request whose answer must have this status; return the body."""
        answer = self.call(method, path, body, **options)
        assert answer.status == status, f"{method} {path}: {answer.status} {json.dumps(answer.body)[:600]}"
        return answer.body

    @contextlib.contextmanager
    def watching(self, path: str, *, accept: str = "", seconds: int = 60, **query: str) -> Iterator[Iterator[Json]]:
        """Open a watch and give its events; it ends after `seconds`."""
        query = {"watch": "true", "timeoutSeconds": str(seconds)} | query
        headers = {**self._headers, "Accept": accept or "application/json"}
        url = f"{self._url}{path}?{parse.urlencode(query)}"
        answer = self._pool.request(
            "GET", url, headers=headers, preload_content=False, timeout=seconds + 10, retries=False
        )
        try:
            assert answer.status == 200, f"{answer.status} {answer.read()!r}"
            yield _events(answer)
        finally:
            answer.close()

    def events(self, path: str, count: int, **options: Any) -> list[Json]:
        """Return the first events of a watch, fewer when it ends before."""
        with self.watching(path, **options) as events:
            return list(itertools.islice(events, count))


def _events(answer: urllib3.BaseHTTPResponse) -> Iterator[Json]:
    rest = b""
    for chunk in answer.stream(amt=None, decode_content=True):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (json.loads(line) for line in lines if line.strip())


def eventually(check: Callable[[], Any], *, seconds: float = 60, what: str = "") -> Any:
    """Return the first true value that `check` gives; fail when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or check}"
        time.sleep(0.05)

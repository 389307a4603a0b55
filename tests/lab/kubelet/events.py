"""Events about pods, for `kubectl describe`. Best effort: an API server that is away loses them."""

from __future__ import annotations

import collections
import logging
import queue
import secrets
import threading
import time
from dataclasses import dataclass

from tests.lab import kubehttp
from tests.lab.kubelet import pods, times

log = logging.getLogger(__name__)

WAITING_LIMIT = 200
SERIES_LIMIT = 200


REPEAT = 10.0
"""Seconds between two updates of an event that keeps happening."""

_Key = tuple[str, str, str]


@dataclass
class _Series:
    """An event that was sent: where it is, how often it happened, when that was last said (monotonic seconds)."""

    path: str
    count: int
    said: float


class Recorder:
    """Sends events from a thread of its own, so that nobody waits for the API server.

    What happens again and again about one pod is one event with a growing count.
    """

    def __init__(self, client: kubehttp.Client, node: str) -> None:
        self._client = client
        self._node = node
        self._queue: queue.Queue[kubehttp.Json] = queue.Queue(WAITING_LIMIT)
        self._sent: collections.OrderedDict[_Key, _Series] = collections.OrderedDict()

    def start(self) -> None:
        """Begin to send."""
        threading.Thread(target=self._run, name="events", daemon=True).start()

    def normal(self, pod: pods.Json, reason: str, message: str) -> None:
        """Tell of something that went as it should."""
        self._put(pod, "Normal", reason, message)

    def warning(self, pod: pods.Json, reason: str, message: str) -> None:
        """Tell of something that went wrong."""
        self._put(pod, "Warning", reason, message)

    def _put(self, pod: pods.Json, kind: str, reason: str, message: str) -> None:
        now = times.text(time.time_ns())
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{pods.name(pod)}.{secrets.token_hex(8)}",
                "namespace": pods.namespace(pod),
            },
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": pods.name(pod),
                "namespace": pods.namespace(pod),
                "uid": pods.uid(pod),
            },
            "type": kind,
            "reason": reason,
            "message": message[:1024],
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "source": {"component": "kubelet", "host": self._node},
            "reportingComponent": "kubelet",
            "reportingInstance": self._node,
        }
        try:
            self._queue.put_nowait(event)
        except queue.Full:
            log.debug("event dropped: %s", message)

    def _run(self) -> None:
        while True:
            event = self._queue.get()
            try:
                self._send(event)
            except kubehttp.ApiError as error:
                log.debug("event lost: %s", error)

    def _send(self, event: kubehttp.Json) -> None:
        key = (event["involvedObject"]["uid"], event["reason"], event["message"])
        series = self._sent.get(key)
        if series is None:
            level = logging.WARNING if event["type"] == "Warning" else logging.INFO
            log.log(level, "%s: %s: %s", event["involvedObject"]["name"], event["reason"], event["message"])
            collection = f"/api/v1/namespaces/{event['metadata']['namespace']}/events"
            self._sent[key] = _Series(f"{collection}/{event['metadata']['name']}", 1, time.monotonic())
            if len(self._sent) > SERIES_LIMIT:
                self._sent.popitem(last=False)
            self._client.create(collection, event)
            return
        series.count += 1
        if time.monotonic() - series.said >= REPEAT:
            series.said = time.monotonic()
            self._client.merge(series.path, {"count": series.count, "lastTimestamp": event["lastTimestamp"]})

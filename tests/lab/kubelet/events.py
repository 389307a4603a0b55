"""Events about pods, for `kubectl describe`. Best effort: an API server that is away loses them."""

from __future__ import annotations

import logging
import queue
import secrets
import threading
import time

from tests.lab import kubehttp
from tests.lab.kubelet import pods, times

log = logging.getLogger(__name__)

WAITING_LIMIT = 200


class Recorder:
    """Sends events from a thread of its own, so that nobody waits for the API server."""

    def __init__(self, client: kubehttp.Client, node: str) -> None:
        self._client = client
        self._node = node
        self._queue: queue.Queue[kubehttp.Json] = queue.Queue(WAITING_LIMIT)

    def start(self) -> None:
        """Begin to send."""
        threading.Thread(target=self._run, name="events", daemon=True).start()

    def normal(self, pod: pods.Json, reason: str, message: str) -> None:
        """Tell of something that went as it should."""
        self._put(pod, "Normal", reason, message)

    def warning(self, pod: pods.Json, reason: str, message: str) -> None:
        """Tell of something that went wrong."""
        log.warning("%s/%s: %s: %s", pods.namespace(pod), pods.name(pod), reason, message)
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
                self._client.create(f"/api/v1/namespaces/{event['metadata']['namespace']}/events", event)
            except kubehttp.ApiError as error:
                log.debug("event lost: %s", error)

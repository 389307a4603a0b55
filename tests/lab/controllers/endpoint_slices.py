"""Keeps every service's EndpointSlice as it should be: watches services, pods and slices, writes what differs."""

from __future__ import annotations

import logging
import queue
import secrets
import threading
from collections.abc import Iterable

from tests.lab import kubehttp
from tests.lab.controllers import slices
from tests.lab.kubehttp import Json

log = logging.getLogger(__name__)

ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""Of generated names: no vowels and nothing that looks like one, so that no word comes out."""


class EndpointSlices:
    """The controller: changes name the services they concern in a queue, one thread brings those in order."""

    def __init__(self, client: kubehttp.Client) -> None:
        self._client = client
        self._due: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._pause = threading.Event()
        self._services = kubehttp.Reflector(client, "/api/v1/services", self._service_changed)
        self._pods = kubehttp.Reflector(client, "/api/v1/pods", self._pod_changed)
        self._slices = kubehttp.Reflector(client, "/apis/discovery.k8s.io/v1/endpointslices", self._slice_changed)

    def run(self) -> None:
        """Work for ever."""
        for one in (self._services, self._pods, self._slices):
            one.start()
        for one in (self._services, self._pods, self._slices):
            one.synced.wait()
        while True:
            due = {self._due.get()}
            while not self._due.empty():
                due.add(self._due.get())
            for uid in due:
                try:
                    self._sync(uid)
                except kubehttp.ApiError as error:
                    log.warning("%s", error)
                    if error.code not in {404, 409}:  # what changed under us comes again by the watch
                        self._due.put(uid)
                        self._pause.wait(kubehttp.RETRY_SECONDS)

    def _service_changed(self, service: Json, gone: bool) -> None:
        if not gone:
            self._due.put(kubehttp.key(service))

    def _pod_changed(self, pod: Json, _gone: bool) -> None:
        """A pod that no longer matches concerns the services whose slices still name it."""
        uid = kubehttp.key(pod)
        named = {
            owner["uid"]
            for slice_ in self._slices.objects()
            if any((one.get("targetRef") or {}).get("uid") == uid for one in slice_.get("endpoints") or [])
            for owner in slice_["metadata"].get("ownerReferences") or []
        }
        for service in self._services.objects():
            if slices.selects(service, pod) or kubehttp.key(service) in named:
                self._due.put(kubehttp.key(service))

    def _slice_changed(self, slice_: Json, _gone: bool) -> None:
        for owner in slice_["metadata"].get("ownerReferences") or []:
            self._due.put(owner["uid"])

    def _sync(self, uid: str) -> None:
        service = _by_uid(self._services.objects(), uid)
        if service is None or not service["spec"].get("selector"):
            return  # its slices go with their owner, or are somebody else's
        wanted = slices.wanted(service, self._pods.objects())
        meta = wanted["metadata"]
        collection = f"/apis/discovery.k8s.io/v1/namespaces/{meta['namespace']}/endpointslices"
        # Asked for, not taken from the copy: a copy that is late would make a second slice.
        query = {"labelSelector": f"{slices.SERVICE_NAME}={service['metadata']['name']}"}
        mine = [one for one in self._client.get(collection, query)["items"] if slices.owned_by(one, service)]
        if not mine:
            suffix = "".join(secrets.choice(ALPHABET) for _ in range(5))
            meta["name"] = f"{service['metadata']['name']}-{suffix}"
            self._client.create(collection, wanted)
            log.info("%s: made", meta["name"])
        elif not slices.same(mine[0], wanted):
            mine[0]["metadata"]["labels"] = meta["labels"]
            body = {**mine[0], **{name: wanted[name] for name in ("apiVersion", "kind", "endpoints", "ports")}}
            self._client.replace(f"{collection}/{mine[0]['metadata']['name']}", body)
            log.info("%s: %s", mine[0]["metadata"]["name"], [one["conditions"] for one in wanted["endpoints"]])


def _by_uid(objects: Iterable[Json], uid: str) -> Json | None:
    return next((one for one in objects if kubehttp.key(one) == uid), None)

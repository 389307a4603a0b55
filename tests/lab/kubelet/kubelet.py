"""Hands each pod of the node to a worker of its own, tells workers what changed, and finds what belongs to nobody."""

from __future__ import annotations

import logging
import threading

from tests.lab import kubehttp
from tests.lab.kubelet import cgroups, cri, host, names, pods, worker

log = logging.getLogger(__name__)


class Kubelet:
    """The pods of one node."""

    def __init__(self, node: host.Host) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._workers: dict[str, worker.Worker] = {}
        self._states: dict[str, frozenset[tuple[str, int]]] = {}
        query = {"fieldSelector": f"spec.nodeName={node.settings.node}"}
        self._pods = kubehttp.Reflector(node.client, "/api/v1/pods", self._changed, query)

    def run(self, ended: threading.Event) -> None:
        """Work until `ended` is set. What runs then goes on running."""
        self._pods.start()
        since = 0.0
        while not ended.wait(self._node.settings.relist):
            if not self._pods.synced.is_set():
                continue  # before we know what should run, nothing that runs may be touched
            try:
                self._relist()
            except cri.CriError as error:
                log.warning("%s", error)
                continue
            since += self._node.settings.relist
            if since >= self._node.settings.housekeeping:
                since = 0.0
                with self._lock:
                    known = set(self._workers)
                cgroups.remove_orphans(self._node.settings.cgroups, known | set(self._states))

    def _changed(self, pod: pods.Json, gone: bool) -> None:
        with self._lock:
            found = self._workers.get(pods.uid(pod))
            if found is None and not gone:
                log.info("%s is ours", pods.full_name(pod))
                self._begin(worker.Worker(pod, self._node, self._over))
            elif found is not None and gone:
                found.removed()
            elif found is not None:
                found.update(pod)

    def _relist(self) -> None:
        """Wake the workers of pods of which the runtime has something else than a moment ago."""
        states = self._node.runtime.states()
        before, self._states = self._states, states
        for uid in before.keys() | states.keys():
            if before.get(uid) == states.get(uid):
                continue
            with self._lock:
                found = self._workers.get(uid)
                if found:
                    found.wake()
        self._take_orphans(states)

    def _take_orphans(self, states: dict[str, frozenset[tuple[str, int]]]) -> None:
        """Stop pods that the runtime has and the API does not."""
        with self._lock:
            orphans = states.keys() - self._workers.keys()
        if not orphans:
            return
        for one in self._node.runtime.sandboxes():
            uid = one.labels[names.POD_UID]
            with self._lock:
                if uid in orphans and uid not in self._workers:
                    log.info("sandbox %s belongs to a pod that is gone", one.id)
                    meta = {"name": one.metadata.name, "namespace": one.metadata.namespace, "uid": uid}
                    self._begin(worker.Worker({"metadata": meta, "spec": {}}, self._node, self._over, gone=True))

    def _begin(self, fresh: worker.Worker) -> None:
        self._workers[fresh.uid] = fresh
        fresh.start()

    def _over(self, done: worker.Worker) -> None:
        with self._lock:
            if self._workers.get(done.uid) is done:
                del self._workers[done.uid]

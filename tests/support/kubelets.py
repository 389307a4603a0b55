"""A pretended kubelet for contract tests of the operator: pods of the fake agents' nodes start, run and end.

As ignorant of migrations as a real one, but for the place where the runtime hook would stand: a pod with the migration
annotation waits until its fake agent says that the processes have arrived.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

from podferry import errors, ids
from podferry_operator.api import times
from podferry_operator.clients import kube
from podferry_operator.testing import FakeAgent

READY_AT = times.text(1_700_000_000)


class Kubelets:
    """Serves the pods of one namespace for all nodes that have a fake agent."""

    def __init__(self, api: kube.Kube, namespace: str, agents: Mapping[str, FakeAgent], poll: float = 0.1) -> None:
        self._api, self._namespace, self._agents, self._poll = api, namespace, agents, poll
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.started: dict[str, str] = {}
        """UID → name of every pod whose containers ever ran here."""
        self.pull_error = ""
        """While set, images of new pods cannot be pulled, with this message."""
        self.unready: set[str] = set()
        """Names of pods whose readiness probe fails."""

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """End, leaving the pods as they are."""
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stop.wait(self._poll):
            try:
                asyncio.run(self._sync())
            except errors.PodferryError:
                continue

    async def _sync(self) -> None:
        for pod in await self._api.list(kube.PODS, self._namespace):
            agent = self._agents.get(pod["spec"].get("nodeName", ""))
            if agent is None:
                continue
            if "deletionTimestamp" in pod["metadata"]:
                metadata = pod["metadata"]
                await self._api.delete(kube.PODS, self._namespace, metadata["name"], uid=metadata["uid"], grace=0)
                continue
            wanted = self._status(pod, agent)
            if any(pod.get("status", {}).get(key) != value for key, value in wanted.items()):
                await self._api.merge(
                    kube.PODS, self._namespace, pod["metadata"]["name"], {"status": wanted}, subresource="status"
                )

    def _status(self, pod: Mapping[str, Any], agent: FakeAgent) -> dict[str, Any]:
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        held = ids.MIGRATION_ANNOTATION in pod["metadata"].get("annotations", {})
        pulled = not self.pull_error or uid in self.started
        if held and pulled and uid not in self.started:
            agent.hook_arrived(uid)
        running = pulled and (not held or uid in self.started or agent.resumed(uid))
        if running:
            self.started[uid] = name
        waiting = {"reason": "ContainerCreating"} if pulled else {"reason": "ErrImagePull", "message": self.pull_error}
        state = {"running": {"startedAt": READY_AT}} if running else {"waiting": waiting}
        ready = "True" if running and name not in self.unready else "False"
        address = pod["metadata"].get("annotations", {}).get("test/address", "10.77.1.9")
        return {
            "phase": "Running" if running else "Pending",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": times_now(pod, ready)}],
            "containerStatuses": [
                {
                    "name": container["name"],
                    "image": container["image"],
                    "imageID": "",
                    "ready": ready == "True",
                    "restartCount": 0,
                    "state": state,
                }
                for container in pod["spec"]["containers"]
            ],
        }


def times_now(pod: Mapping[str, Any], ready: str) -> str:
    """Return when Ready last changed: as before while it is as before, now otherwise."""
    import time

    for condition in pod.get("status", {}).get("conditions", ()):
        if condition["type"] == "Ready" and condition["status"] == ready:
            return str(condition["lastTransitionTime"])
    return times.text(time.time())

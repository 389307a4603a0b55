"""One pod's worker: observe, publish, act, one sync after the other, in a thread that only this pod blocks.

As in the real kubelet a sync publishes what it observed *before* it acts, and acting may take minutes: a container
whose start hangs holds back everything else about its pod, its deletion too, and nothing about other pods.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable

from tests.lab import kubehttp
from tests.lab.kubelet import actions, cri, host, plan, pods, prober, status, volumes
from tests.lab.kubelet.observation import Observed

log = logging.getLogger(__name__)

AT_ONCE = 0.0
API_RETRY = 2.0
"""Seconds until a status that could not be published is tried again."""


class Worker:
    """Brings one pod to what its object says and its object to what the pod is, until the pod is gone."""

    def __init__(self, pod: pods.Json, node: host.Host, over: Callable[[Worker], None], *, gone: bool = False) -> None:
        self._pod = pod
        self._gone = gone
        self._node = node
        self._over = over
        self._actions = actions.Actions(node)
        self._prober = prober.Prober(node, self.wake)
        self._wake = threading.Event()
        self._choice = threading.Lock()
        self._published = True
        self._finished = False
        self.uid = pods.uid(pod)

    def start(self) -> None:
        """Begin to work."""
        threading.Thread(target=self._run, name=f"pod {pods.name(self._pod)}", daemon=True).start()

    def wake(self) -> None:
        """Say that something about the pod may have changed."""
        self._wake.set()

    def update(self, pod: pods.Json) -> None:
        """Give the worker a newer object."""
        self._take(pod)
        self.wake()

    def removed(self) -> None:
        """Say that the object is gone from the API: nothing may be left of the pod."""
        self._gone = True
        self.wake()

    def _run(self) -> None:
        while not self._finished:
            self._wake.clear()
            self._published = True
            try:
                delay = self._sync()
            except (cri.CriError, kubehttp.ApiError, volumes.Unmountable, OSError) as error:
                self._node.events.warning(self._pod, "FailedSync", str(error))
                delay = self._node.settings.retry
            except Exception:
                log.exception("sync of %s failed", pods.full_name(self._pod))
                delay = self._node.settings.retry
            if not self._published:
                delay = API_RETRY if delay is None else min(delay, API_RETRY)
            if not self._finished:
                self._wake.wait(delay)
        self._prober.stop()
        self._over(self)

    def _sync(self) -> float | None:
        """Do what is to be done now; return the seconds until the next sync, None: until something changes."""
        pod, seen = self._pod, self._observe()
        if self._gone or pods.deleted(pod):
            self._end(seen)
            return None
        if pods.finished(pod):
            self._wind_down(seen)
            return None
        if field := pods.unsupported(pod):
            self._publish(status.refused(pod, field, time.time_ns()))
            return None
        self._prober.sync(pod, seen)
        wanted = self._status(seen)
        self._publish(wanted)
        if wanted["phase"] in {"Succeeded", "Failed"}:
            self._wind_down(seen)
            return None
        return self._act(pod, seen)

    def _observe(self) -> Observed:
        seen = self._node.runtime.pod(self.uid)
        files = volumes.Files(self._node.settings.root, self._pod)
        told = [
            dataclasses.replace(one, message=one.message or files.message(one.name, one.attempt)) if one.exited else one
            for one in seen.containers
        ]
        return dataclasses.replace(seen, containers=tuple(told))

    def _act(self, pod: pods.Json, seen: Observed) -> float | None:
        failed = self._prober.failed()
        what = plan.plan(pod, seen, failed)
        if what.stop:
            self._stop(seen)
        if what.create_sandbox:
            try:
                self._actions.run_sandbox(pod, what.attempt)
            except (cri.CriError, kubehttp.ApiError, volumes.Unmountable, OSError) as error:
                self._node.events.warning(pod, "FailedCreatePodSandBox", str(error))
                return self._node.settings.retry
            seen = self._observe()
        for one in what.kill:
            probe = failed.get(one.id)
            grace = pods.grace(pod) if probe is None or probe.grace is None else probe.grace
            self._actions.kill(pod, one, grace, f"{probe.kind} probe failed" if probe else "its state is unknown")
        if what.kill:
            seen = self._observe()
        specs = {spec["name"]: spec for spec in pods.containers(pod)}
        results = [self._actions.start(pod, specs[name], seen) for name in what.start]
        if self._actions.trouble:
            self._publish(self._status(self._observe()))
        if "started" in results or what.kill:
            return AT_ONCE
        return min((one for one in results if not isinstance(one, str)), default=None)

    def _stop(self, seen: Observed) -> None:
        """Stop all there is of the pod, with its own grace period."""
        self._actions.stop_containers(seen, self._grace, self._wake)
        self._actions.stop_sandboxes(seen)

    def _grace(self) -> int:
        return pods.MINIMUM_GRACE if self._gone else pods.grace(self._pod)

    def _wind_down(self, seen: Observed) -> None:
        """Stop what a finished pod still has; its containers stay, for whoever asks how they ended."""
        self._prober.stop()
        self._stop(seen)

    def _end(self, seen: Observed) -> None:
        """Stop the pod, say so, take its files away, let the object go, and make the runtime forget it."""
        self._prober.stop(("liveness", "startup"))
        if not self._gone:
            self._publish(self._status(seen))
            if seen.running:
                self._node.events.normal(self._pod, "Killing", f"Stopping pod {pods.name(self._pod)}")
        self._actions.stop_containers(seen, self._grace, self._wake)
        self._prober.stop()
        seen = self._observe()
        if not self._gone:
            self._publish(self._status(seen, ended=True))
        self._actions.stop_sandboxes(seen)
        self._actions.discard(self._pod)
        if not self._gone:
            self._delete()
        self._gone = True  # from here on there is nothing to say, should the rest have to be tried again
        self._actions.remove(seen)
        self._finished = True

    def _delete(self) -> None:
        try:
            self._node.client.delete(pods.path(self._pod), uid=self.uid, grace=0)
        except kubehttp.ApiError as error:
            if error.code not in {404, 409}:  # gone already, or another pod of that name
                raise

    def _status(self, seen: Observed, *, ended: bool = False) -> pods.Json:
        given = status.Inputs(
            now=time.time_ns(),
            host_ip=self._node.ip,
            ready=self._prober.ready(),
            started=self._prober.started(),
            trouble=self._actions.trouble,
            ended=ended,
        )
        return status.of_pod(self._pod, seen, given)

    def _publish(self, wanted: pods.Json) -> None:
        """Write what differs; an API server that is away or a newer object is no reason to stop working."""
        patch = status.difference(self._pod, wanted)
        if not patch:
            return
        meta = self._pod["metadata"]
        body = {"metadata": {"uid": self.uid, "resourceVersion": meta["resourceVersion"]}, "status": patch}
        try:
            self._take(self._node.client.merge(f"{pods.path(self._pod)}/status", body))
        except kubehttp.ApiError as error:
            self._published = False
            if error.code == 409:
                self._refresh()
            elif error.code != 404:
                log.warning("%s: status not published: %s", pods.full_name(self._pod), error)

    def _refresh(self) -> None:
        """Take the newest object, which the watch will bring too; the next sync publishes on top of it."""
        try:
            newest = self._node.client.get(pods.path(self._pod))
        except kubehttp.ApiError as error:
            log.warning("%s: %s", pods.full_name(self._pod), error)
            return
        if pods.uid(newest) == self.uid:
            self._take(newest)
            self.wake()

    def _take(self, pod: pods.Json) -> None:
        """Keep the newer of two objects: the watch may overtake the answer to a call, with a deletion for one."""
        with self._choice:
            if pods.version(pod) > pods.version(self._pod):
                self._pod = pod

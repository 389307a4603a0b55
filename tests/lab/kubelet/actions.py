"""What is done to one pod in the runtime: run its sandbox, start its containers, stop them, take everything away."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent import futures
from typing import Literal

from tests.lab import kubehttp
from tests.lab.kubelet import backoff, cgroups, container, cri, env, host, pods, sandbox, volumes
from tests.lab.kubelet.observation import Container, Observed

from podferry_agent.runtime import cri_pb2

log = logging.getLogger(__name__)


_FAILURES = (cri.CriError, kubehttp.ApiError, env.Unresolvable, volumes.Unmountable, LookupError, OSError)


class Actions:
    """The hands of one pod's worker; used from that worker's thread only.

    `trouble` holds container name → (reason, message) of the last failure to start it.
    """

    def __init__(self, node: host.Host) -> None:
        self._node = node
        self._backoff = backoff.Backoff(time.time)
        self.trouble: dict[str, tuple[str, str]] = {}

    def run_sandbox(self, pod: pods.Json, attempt: int) -> str:
        """Make the pod's files and run a new sandbox; return its id."""
        files = volumes.Files(self._node.settings.root, pod)
        files.prepare(lambda name: self._config_map(pod, name))
        config = self._sandbox_config(pod, attempt)
        files.make_logs(sandbox.log_directory(pod, self._node.settings.logs))
        return self._node.runtime.run_sandbox(config, self._node.handler(pod))

    def start(self, pod: pods.Json, spec: pods.Json, seen: Observed) -> Literal["started"] | float:
        """Create and start one container of a pod whose sandbox is ready.

        Returns:
            "started", or the seconds after which to try again when it failed or its back-off still runs. What went
            wrong is kept in `trouble`: the pod's other containers are started nevertheless.
        """
        name = spec["name"]
        newest = seen.newest(name)
        if newest is not None and newest.exited and (left := self._held_back(pod, newest)):
            return left
        attempt = newest.attempt + 1 if newest else 0
        try:
            reason = "ErrImageNeverPull"
            image = self._node.runtime.image(spec["image"])
            if image is None:
                raise LookupError(f"image {spec['image']} is not on the node, and images are not pulled here")
            reason = "CreateContainerConfigError"
            config = self._container_config(pod, spec, seen, attempt, image)
            reason = "CreateContainerError"
            assert seen.sandbox
            around = self._sandbox_config(pod, seen.sandbox.attempt)
            created = self._node.runtime.create(seen.sandbox.id, config, around)
            reason = "RunContainerError"
            self._node.runtime.start(created)
        except _FAILURES as error:
            self.trouble[name] = (reason, str(error))
            self._node.events.warning(pod, "Failed", f"container {name}: {reason}: {error}")
            return self._node.settings.retry
        finally:
            self._forget_old(seen, name)
        self.trouble.pop(name, None)
        self._node.events.normal(pod, "Started", f"Started container {name}")
        return "started"

    def kill(self, pod: pods.Json, which: Container, grace: int, why: str) -> None:
        """Stop one container that must not go on."""
        self._node.events.normal(pod, "Killing", f"Stopping container {which.name}: {why}")
        self._node.runtime.stop(which.id, grace)

    def stop_containers(self, seen: Observed, grace: Callable[[], int], hurry: threading.Event) -> None:
        """Stop all containers of the pod at once and wait for them.

        `grace` is asked again whenever `hurry` is set: who cuts the grace period short need not wait for the long one.
        """
        given = grace()
        hurried = False
        with futures.ThreadPoolExecutor() as pool:
            stops = self._stops(pool, seen, given)
            while not all(one.done() for one in stops):
                if hurry.wait(0.1):
                    hurry.clear()
                    hurried = True
                if grace() < given:
                    given = grace()
                    stops += self._stops(pool, seen, given)
            for one in stops:
                one.result()
        if hurried:
            hurry.set()  # whatever else it may have been set for is still to be done

    def _stops(self, pool: futures.Executor, seen: Observed, grace: int) -> list[futures.Future[None]]:
        return [pool.submit(self._node.runtime.stop, one.id, grace) for one in seen.containers if not one.exited]

    def stop_sandboxes(self, seen: Observed) -> None:
        """Stop the pod's sandboxes and give their network back."""
        for one in seen.sandboxes:
            if one.ready:
                self._node.runtime.stop_sandbox(one.id)

    def remove(self, seen: Observed) -> None:
        """Make the runtime forget a stopped pod."""
        for one in seen.containers:
            self._node.runtime.remove(one.id)
        for box in seen.sandboxes:
            self._node.runtime.remove_sandbox(box.id)

    def discard(self, pod: pods.Json) -> None:
        """Take away the files and the cgroup of a stopped pod."""
        logs = sandbox.log_directory(pod, self._node.settings.logs)
        volumes.Files(self._node.settings.root, pod).discard(logs)
        folder = cgroups.found(self._node.settings.cgroups).get(pods.uid(pod))
        if folder:
            cgroups.remove(folder)

    def _held_back(self, pod: pods.Json, newest: Container) -> float:
        """Return the seconds for which what ended may not start again yet; 0: it may, and the next time is later."""
        key, ended = newest.name, newest.finished_at / 1e9
        left = self._backoff.remaining(key, ended)
        if left > 0:
            message = f"back-off {self._backoff.delay(key):g}s restarting failed container={key} pod={pods.name(pod)}"
            if self.trouble.get(key) != ("CrashLoopBackOff", message):
                self._node.events.warning(pod, "BackOff", message)
            self.trouble[key] = ("CrashLoopBackOff", message)
            return left
        self._backoff.next(key, ended)
        return 0.0

    def _forget_old(self, seen: Observed, name: str) -> None:
        """Remove all attempts but the newest two: one that runs and one to tell the last state of."""
        removable: Iterable[Container] = [one for one in seen.attempts(name)[1:] if not one.running]
        for one in removable:
            try:
                self._node.runtime.remove(one.id)
            except cri.CriError as error:
                log.warning("%s", error)

    def _sandbox_config(self, pod: pods.Json, attempt: int) -> cri_pb2.PodSandboxConfig:
        logs = self._node.settings.logs
        return sandbox.config(pod, attempt=attempt, logs=logs, resolv_conf=self._node.resolv_conf())

    def _container_config(
        self, pod: pods.Json, spec: pods.Json, seen: Observed, attempt: int, image: str
    ) -> cri_pb2.ContainerConfig:
        files = volumes.Files(self._node.settings.root, pod)
        ips = [self._node.ip] if pods.host_network(pod) else seen.ips
        around = container.Surroundings(
            image=image,
            volumes=files.prepare(lambda name: self._config_map(pod, name)),
            hosts="" if pods.host_network(pod) else files.write_hosts(sandbox.hosts_file(pod, ips)),
            message=files.make_message(spec["name"], attempt),
            ips=ips,
            host_ip=self._node.ip,
            node_memory=self._node.memory,
        )
        return container.config(pod, spec, attempt, around)

    def _config_map(self, pod: pods.Json, name: str) -> pods.Json:
        return self._node.client.get(f"/api/v1/namespaces/{pods.namespace(pod)}/configmaps/{name}")

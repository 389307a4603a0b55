"""Carries out a pod's probes, each in a thread of its own, and keeps their verdicts by container id."""

from __future__ import annotations

import http.client
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable

import grpc
from tests.lab.kubelet import cri, host, pods, probe
from tests.lab.kubelet.observation import Container, Observed

log = logging.getLogger(__name__)


class Prober:
    """The probes of one pod. `verdict_changed` is called from a probe's thread."""

    def __init__(self, node: host.Host, verdict_changed: Callable[[], None]) -> None:
        self._node = node
        self._changed = verdict_changed
        self._runs: dict[tuple[str, probe.Kind], _Run] = {}

    def sync(self, pod: pods.Json, seen: Observed) -> None:
        """Take note of what runs now; a container that has just come up is probed at once."""
        for spec in pods.containers(pod):
            for one in probe.of_container(spec):
                run = self._runs.get((one.container, one.kind))
                if run is None:
                    run = _Run(self._node, pod, spec, one, self._startup_passed, self._changed)
                    self._runs[one.container, one.kind] = run
                run.see(seen)

    def ready(self) -> dict[str, bool]:
        """Return container id → what its readiness probe says; a container without one is left out."""
        return self._verdicts("readiness")

    def started(self) -> dict[str, bool]:
        """Return container id → what its startup probe says; a container without one is left out."""
        return self._verdicts("startup")

    def failed(self) -> dict[str, probe.Probe]:
        """Return container id → the liveness or startup probe that has failed for good."""
        runs = [run for (_, kind), run in self._runs.items() if kind != "readiness"]
        return {run.container: run.probe for run in runs if run.container and run.tally.failed}

    def stop(self, kinds: tuple[probe.Kind, ...] = probe.KINDS) -> None:
        """End the probes of these kinds; their verdicts stay."""
        for (_, kind), run in self._runs.items():
            if kind in kinds:
                run.stop()

    def _verdicts(self, kind: probe.Kind) -> dict[str, bool]:
        runs = [run for (_, its), run in self._runs.items() if its == kind]
        return {run.container: run.tally.verdict for run in runs if run.container}

    def _startup_passed(self, name: str) -> bool:
        run = self._runs.get((name, "startup"))
        return run is None or (run.container != "" and run.tally.verdict)


class _Run:
    """One probe at work: a thread that asks every period, or at once when told."""

    def __init__(  # noqa: PLR0917
        self,
        node: host.Host,
        pod: pods.Json,
        spec: pods.Json,
        which: probe.Probe,
        startup_passed: Callable[[str], bool],
        changed: Callable[[], None],
    ) -> None:
        self._node = node
        self._pod = pod
        self._spec = spec
        self.probe = which
        self._startup_passed = startup_passed
        self._changed = changed
        self._now: Container | None = None
        self._ip = ""
        self._at_once = threading.Event()
        self._ended = False
        self.tally = probe.Tally.fresh(which)
        self.container = ""
        """Id of the container that the tally is about; empty before the first one runs."""
        threading.Thread(target=self._loop, name=f"{which.kind} {which.container}", daemon=True).start()

    def see(self, seen: Observed) -> None:
        """Take note of the container's newest attempt."""
        now = seen.newest(self.probe.container)
        self._ip = self._node.ip if pods.host_network(self._pod) else next(iter(seen.ips), self._ip)
        if now is not None and now.running and now.id != self.container:
            self.tally = probe.Tally.fresh(self.probe)
            self.container = now.id
        fresh = now is not None and now.running and (self._now is None or self._now.id != now.id)
        self._now = now
        if fresh or (self.probe.kind == "readiness" and now and now.running and not self.tally.verdict):
            self._at_once.set()

    def stop(self) -> None:
        """End the thread after the answer it may be waiting for."""
        self._ended = True
        self._at_once.set()

    def _loop(self) -> None:
        while not self._ended:
            self._at_once.wait(self.probe.period)
            self._at_once.clear()
            now, tally = self._now, self.tally
            if self._ended or now is None or not self._due(now, tally):
                continue
            success, what = self._ask(now)
            if success is None or tally is not self.tally:
                continue
            if not success:
                kind = self.probe.kind.capitalize()
                self._node.events.warning(self._pod, "Unhealthy", f"{kind} probe failed: {what}")
            before = (tally.verdict, tally.failed)
            tally.add(success)
            if (tally.verdict, tally.failed) != before:
                self._changed()

    def _due(self, now: Container, tally: probe.Tally) -> bool:
        if not now.running or now.id != self.container:
            return False
        if self.probe.kind == "startup":
            if tally.verdict or tally.failed:
                return False
        elif not self._startup_passed(self.probe.container):
            return False
        if self.probe.kind == "liveness" and tally.failed:
            return False
        return time.time() - now.started_at / 1e9 >= self.probe.delay

    def _ask(self, now: Container) -> tuple[bool | None, str]:
        """Return success (None: no answer worth counting) and what was heard."""
        try:
            if self.probe.command:
                code, said = self._node.runtime.execute(now.id, self.probe.command, self.probe.timeout)
                return code == 0, said
            if self.probe.tcp is not None:
                host_, port = self._target(self.probe.tcp)
                socket.create_connection((host_, port), self.probe.timeout).close()
                return True, ""
            return self._get(self.probe.http or {})
        except cri.CriError as error:
            # A command that takes too long is a failure; a runtime that cannot say is not.
            return (False if error.code == grpc.StatusCode.DEADLINE_EXCEEDED else None), str(error)
        except (OSError, http.client.HTTPException, ValueError) as error:
            return False, str(error)

    def _get(self, said: pods.Json) -> tuple[bool, str]:
        host_, port = self._target(said)
        headers = {one["name"]: one["value"] for one in said.get("httpHeaders") or []}
        line: http.client.HTTPConnection
        if said.get("scheme") == "HTTPS":
            unverified = ssl._create_unverified_context()  # noqa: S323 - probes do not verify
            line = http.client.HTTPSConnection(host_, port, timeout=self.probe.timeout, context=unverified)
        else:
            line = http.client.HTTPConnection(host_, port, timeout=self.probe.timeout)
        try:
            line.request("GET", said.get("path") or "/", headers={"User-Agent": "kube-probe/1.36", **headers})
            code = line.getresponse().status
        finally:
            line.close()
        return 200 <= code < 400, f"HTTP status {code}"

    def _target(self, said: pods.Json) -> tuple[str, int]:
        return said.get("host") or self._ip, probe.port_number(self._spec, said["port"])

"""What a probe asks for and what its answers add up to. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from tests.lab.kubelet import pods

Kind = Literal["liveness", "readiness", "startup"]
KINDS: tuple[Kind, ...] = ("startup", "liveness", "readiness")


@dataclass(frozen=True)
class Probe:
    """One probe of one container; times in seconds. Exactly one of `http`, `tcp` and `command` is set."""

    container: str
    kind: Kind
    delay: float
    period: float
    timeout: float
    successes: int
    failures: int
    grace: int | None
    """Seconds that a container gets to end when this probe kills it; None: the pod's."""

    http: pods.Json | None = None
    tcp: pods.Json | None = None
    command: tuple[str, ...] = ()


def of_container(spec: pods.Json) -> list[Probe]:
    """Return the probes of a container's spec."""
    found = []
    for kind in KINDS:
        said = spec.get(f"{kind}Probe")
        if said:
            found.append(
                Probe(
                    container=spec["name"],
                    kind=kind,
                    delay=said.get("initialDelaySeconds") or 0,
                    period=said.get("periodSeconds") or 10,
                    timeout=said.get("timeoutSeconds") or 1,
                    successes=said.get("successThreshold") or 1,
                    failures=said.get("failureThreshold") or 3,
                    grace=said.get("terminationGracePeriodSeconds"),
                    http=said.get("httpGet"),
                    tcp=said.get("tcpSocket"),
                    command=tuple((said.get("exec") or {}).get("command") or ()),
                )
            )
    return found


def port_number(spec: pods.Json, port: int | str) -> int:
    """Return the number of a port that a probe names or numbers.

    Raises:
        ValueError: the container has no port of that name.
    """
    if isinstance(port, int) or port.isdigit():
        return int(port)
    ports: Iterable[pods.Json] = spec.get("ports") or []
    for one in ports:
        if one.get("name") == port:
            return int(one["containerPort"])
    raise ValueError(f"container {spec['name']} has no port named {port!r}")


@dataclass
class Tally:
    """Turns single answers into a verdict: it changes after as many answers in a row as the probe's threshold says."""

    probe: Probe
    verdict: bool
    _last: bool | None = None
    _row: int = 0

    @classmethod
    def fresh(cls, probe: Probe) -> Tally:
        """Return the tally of a container that has just started: alive, but neither ready nor started."""
        return cls(probe, verdict=probe.kind == "liveness")

    def add(self, success: bool) -> bool:
        """Count one answer; return the verdict."""
        self._row = self._row + 1 if success == self._last else 1
        self._last = success
        if self._row >= (self.probe.successes if success else self.probe.failures):
            self.verdict = success
        return self.verdict

    @property
    def failed(self) -> bool:
        """Say whether the failure threshold has been reached: liveness and startup then kill the container."""
        return self._last is False and self._row >= self.probe.failures

"""The composition root of the operator: reads the command line, builds the parts, runs kopf until told to stop."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import prometheus_client

from podferry import errors
from podferry_operator import metrics
from podferry_operator.clients import agents, kube
from podferry_operator.handlers import act, controller, directory, loop, observe, publish, registration
from podferry_operator.settings import Settings


class SystemClock:
    """The machine's clocks."""

    def wall(self) -> int:
        """Return nanoseconds since the Unix epoch."""
        return time.time_ns()

    def monotonic(self) -> int:
        """Return nanoseconds that never go back."""
        return time.monotonic_ns()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the operator until SIGTERM or SIGINT."""
    settings, verbose = parse(arguments)
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("kopf").setLevel(logging.INFO if verbose else logging.WARNING)
    try:
        asyncio.run(run(settings))
    except errors.InvalidInput as error:
        sys.exit(f"podferry-operator: {error.message}")


def parse(arguments: Sequence[str] | None) -> tuple[Settings, bool]:
    """Return the settings of a command line, and whether to be verbose."""
    parser = argparse.ArgumentParser(prog="podferry-operator", description="Moves pods as ServiceMigrations order.")
    parser.add_argument("--tls-dir", type=Path, required=True, help="folder with ca.crt, tls.crt and tls.key")
    parser.add_argument("--agent-port", type=int, default=7443, help="TCP port of the agents (default: 7443)")
    parser.add_argument("--namespace", action="append", default=[], help="serve only this namespace; may be repeated")
    parser.add_argument("--metrics-port", type=int, default=0, help="serve Prometheus metrics here")
    parser.add_argument("--liveness-port", type=int, default=0, help="serve /healthz here")
    parser.add_argument("--verbose", action="store_true", help="log more")
    found = parser.parse_args(arguments)
    settings = Settings(
        tls_dir=found.tls_dir,
        agent_port=found.agent_port,
        namespaces=tuple(found.namespace),
        metrics_port=found.metrics_port,
        liveness_port=found.liveness_port,
    )
    return settings, found.verbose


async def run(settings: Settings) -> None:
    """Build everything and run it until a signal comes."""
    agents.Credentials.load(settings.tls_dir)  # fail now rather than at the first migration
    api, pool = kube.connect(), agents.Agents(settings.tls_dir)
    counters = metrics.Metrics(prometheus_client.CollectorRegistry())
    nodes = directory.Directory(api, pool, settings.agent_port)
    tools = loop.Tools(
        observer=observe.Observer(api, nodes, SystemClock()),
        hands=act.Hands(api, nodes),
        publisher=publish.Publisher(api, counters),
        agents=nodes,
        metrics=counters,
        admission=asyncio.Lock(),
    )

    if settings.metrics_port:
        prometheus_client.start_http_server(settings.metrics_port, registry=counters.registry)
    await registration.serve(controller.Controller(tools), pool, settings.namespaces, settings.liveness_port)


if __name__ == "__main__":
    main()

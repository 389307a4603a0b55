"""The composition root of the agent: probe, recover, serve. Nobody imports it.

Recovery starts before the server does, so that a pod which an earlier life left frozen is thawed whether or not anybody
asks.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from pathlib import Path

import grpc

from podferry import errors, faults
from podferry.wire import agent_pb2_grpc
from podferry_agent import capabilities
from podferry_agent import settings as settings_module
from podferry_agent.connections import backend
from podferry_agent.migration import audits, inspection, journal, registry, source, target
from podferry_agent.process import checkpoint, freezer, tasks
from podferry_agent.rpc import agent_service, ferry_service, ferry_session, tls
from podferry_agent.runtime import hooks, pods

log = logging.getLogger("podferry_agent")

FAULT_VARIABLE = "PODFERRY_FAULT"
"""Arms fault points in tests: "point=action[,point=action]", action one of fail, kill, stall."""

WORKERS = 32
"""gRPC threads: a session and a watch hold one each for as long as they last."""


class SystemClock:
    """The machine's clocks."""

    def wall(self) -> int:
        """Return nanoseconds since the epoch."""
        return time.time_ns()

    def monotonic(self) -> int:
        """Return nanoseconds that never go back."""
        return time.monotonic_ns()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an agent until SIGTERM or SIGINT; return its exit code."""
    settings = parse(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        return _serve(settings)
    except errors.PodferryError as error:
        log.error("cannot start: %s", error)  # noqa: TRY400  the message says it all
        return 1


def parse(arguments: Sequence[str] | None) -> settings_module.Settings:
    """Turn the command line into settings: one option for each field."""
    parser = argparse.ArgumentParser("podferry-agent", description="The node agent of podferry.")
    for field in dataclasses.fields(settings_module.Settings):
        required = field.default is dataclasses.MISSING
        kind = Path if isinstance(field.default, Path) else str
        option = "--" + field.name.replace("_", "-")
        parser.add_argument(option, type=kind, required=required, default=None if required else field.default)
    return settings_module.Settings(**vars(parser.parse_args(arguments)))


def _serve(settings: settings_module.Settings) -> int:
    for directory in (settings.run_dir, settings.images, settings.journal):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = capabilities.probe(settings)
    for problem in found.missing:
        log.warning("%s: %s", problem.reason, problem.message)
    clock, armed = SystemClock(), faults.Faults(_armed(os.environ.get(FAULT_VARIABLE, "")))
    identity, view = tls.Identity(settings.tls_dir), pods.PodView(settings)
    hook, checkpointer, connections = hooks.Hooks(settings), checkpoint.Checkpointer(settings), backend.RepairBackend()
    migrations = registry.Migrations(
        journal.Journals(settings.journal),
        source.Tools(
            pods=view,
            freezer=freezer,
            checkpointer=checkpointer,
            connections=connections,
            sessions=lambda order: ferry_session.FerrySession(identity, order),
            clock=clock,
            faults=armed,
            audits=audits.AuditFiles(settings.audits),
            images=settings.images,
        ),
        target.Tools(
            pods=view,
            hooks=hook,
            freezer=freezer,
            tasks=tasks,
            connections=connections,
            clock=clock,
            faults=armed,
            images=settings.images,
        ),
    )
    for line in migrations.recover():
        log.info("recovered %s", line)
    try:
        hook.prune(view.uids())
    except errors.Transient as error:
        log.info("what arrived for deleted pods is kept until the next start: %s", error)
    server = grpc.server(futures.ThreadPoolExecutor(WORKERS), options=tls.OPTIONS)
    inspector = inspection.Inspector(view, checkpointer.check, freezer.pids, connections)
    agent_pb2_grpc.add_AgentServicer_to_server(
        agent_service.AgentService(migrations, lambda: capabilities.now(found), inspector), server
    )
    agent_pb2_grpc.add_FerryServicer_to_server(ferry_service.FerryService(migrations), server)
    if not server.add_secure_port(settings.listen, identity.server_credentials()):
        raise errors.Permanent(f"cannot listen on {settings.listen}", reason="AddressInUse")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with hook:
        server.start()
        log.info("%s serves on %s", settings.node, settings.listen)
        stop.wait()
        server.stop(grace=1).wait()
    return 0


def _armed(text: str) -> dict[faults.FaultPoint, Callable[[], None]]:
    armed = {}
    for item in filter(None, text.split(",")):
        point, _, action = item.partition("=")
        armed[faults.FaultPoint(point)] = _ACTIONS[action](faults.FaultPoint(point))
    return armed


_ACTIONS: dict[str, Callable[[faults.FaultPoint], Callable[[], None]]] = {
    "fail": faults.fail,
    "kill": lambda _: lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stall": lambda _: lambda: time.sleep(3600),
}


if __name__ == "__main__":
    sys.exit(main())

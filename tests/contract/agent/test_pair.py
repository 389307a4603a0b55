"""Two agents over real gRPC and mutual TLS, on a fake machine: whatever fails or dies when, the pod moved or it did
not.

Every fault point is walked three ways: a tool fails there, the agent that reaches it is killed there and started
again, the operator aborts there. Afterwards the world is either *moved* or *as before*, and the reports say which.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.support import pki

from podferry import errors, faults, ids
from podferry.faults import FaultPoint
from podferry.wire import agent_pb2, agent_pb2_grpc
from podferry_agent import testing
from podferry_agent.migration import audits, journal, registry, source, target
from podferry_agent.rpc import agent_service, ferry_service, ferry_session, tls

UID = "12345678-1234-1234-1234-1234567890ab"
TOKEN = "0123456789abcdef" * 4
AFTER_COMMIT = (FaultPoint.COMMIT_AFTER_JOURNAL, FaultPoint.TARGET_RESUMING, FaultPoint.TARGET_RESUMED)


class Killed(BaseException):
    """The process ended here; nothing after it ran."""


class RealClock:
    """The machine's clocks."""

    def wall(self) -> int:
        return time.time_ns()

    def monotonic(self) -> int:
        return time.monotonic_ns()


class Agent:
    """An agent that can be killed at a fault point and started again on the same world, journal and port."""

    def __init__(self, world: testing.World, node: str, identity: tls.Identity) -> None:
        self.world, self.node, self.identity = world, node, identity
        self.endpoint = "127.0.0.1:0"
        self.killed = threading.Event()
        self.armed: dict[FaultPoint, Callable[[], None]] = {}

    def start(self) -> None:
        root, world = self.world.root / self.node, self.world
        armed, clock, freezer = faults.Faults(self.armed), RealClock(), testing.FakeFreezer(world)
        # Fakes of whole classes, not of protocols.
        view: Any = testing.FakePods(world)
        connections: Any = testing.FakeConnections(world)
        checkpointer: Any = testing.FakeCheckpointer(world)
        hooks: Any = testing.FakeHooks(world)
        inspector: Any = None
        self.migrations = registry.Migrations(
            journal.Journals(root / "journal"),
            source.Tools(
                pods=view,
                freezer=freezer,
                checkpointer=checkpointer,
                connections=connections,
                sessions=lambda order: ferry_session.FerrySession(self.identity, order),
                clock=clock,
                faults=armed,
                audits=audits.AuditFiles(root / "audit"),
                images=root / "images",
            ),
            target.Tools(
                pods=view,
                hooks=hooks,
                freezer=freezer,
                tasks=testing.FakeTasks(world),
                connections=connections,
                clock=clock,
                faults=armed,
                images=root / "images",
            ),
        )
        list(self.migrations.recover())
        self.server = grpc.server(futures.ThreadPoolExecutor(16), options=tls.OPTIONS)
        service = agent_service.AgentService(self.migrations, agent_pb2.Capabilities, inspector=inspector)
        agent_pb2_grpc.add_AgentServicer_to_server(service, self.server)
        agent_pb2_grpc.add_FerryServicer_to_server(ferry_service.FerryService(self.migrations), self.server)
        port = self.server.add_secure_port(self.endpoint, self.identity.server_credentials())
        self.endpoint = f"127.0.0.1:{port}"
        self.server.start()

    def arm(self, point: FaultPoint, action: Callable[[], None]) -> None:
        self.armed[point] = action

    def kill(self) -> None:
        """Die: every call ends at the peers, and the thread that reached the point runs no further."""
        self.armed.clear()
        threading.Thread(target=self._die, daemon=True).start()
        self.killed.wait()
        raise Killed

    def _die(self) -> None:
        self.server.stop(None)
        for moving in self.migrations.sources():
            moving.session.cancel()
        self.killed.set()


class Pair:
    """A source, a target and an operator that orders one migration."""

    def __init__(self, world: testing.World, authority: pki.Authority) -> None:
        def identity(name: str) -> tls.Identity:
            return tls.Identity(authority.issue(world.root / "tls" / name, name))

        self.world, self.budget = world, 20.0
        self.source = Agent(world, "source", identity(ids.agent_server_name("source")))
        self.target = Agent(world, "target", identity(ids.agent_server_name("target")))
        self.operator = identity(ids.OPERATOR_SERVER_NAME)

    def start(self) -> None:
        self.source.start()
        self.target.start()

    def order(self) -> None:
        pods = {
            "source_pod": agent_pb2.PodRef(namespace="default", name="a", uid=UID),
            "target_pod": agent_pb2.PodRef(namespace="default", name="b", uid=UID.replace("1", "2")),
        }
        common: dict[str, Any] = {"migration_id": UID, "token": TOKEN, "containers": ["app", "sidecar"], **pods}
        expires = int(time.time()) + 60
        self.stub(self.target).Admit(agent_pb2.AdmitRequest(source_node="source", expires_unix=expires, **common))
        start = agent_pb2.StartRequest(
            target_node="target",
            target_endpoint=self.target.endpoint,
            freeze_budget_seconds=self.budget,
            flush=True,
            **common,
        )
        self.stub(self.source).Start(start)

    def stub(self, agent: Agent) -> agent_pb2_grpc.AgentStub:
        channel = self.operator.channel(agent.endpoint, ids.agent_server_name(agent.node))
        return agent_pb2_grpc.AgentStub(channel)

    def outcome(self, agent: Agent, seconds: float = 60) -> agent_pb2.Report:
        reports: list[agent_pb2.Report] = list(
            self.stub(agent).Watch(agent_pb2.MigrationRef(migration_id=UID), timeout=seconds)
        )
        return reports[-1]

    def settle(self) -> None:
        """Wait until the world is where it will stay."""
        deadline = time.monotonic() + 30
        while not (self.world.moved or self.world.as_before) and time.monotonic() < deadline:
            time.sleep(0.01)

    def stop(self) -> None:
        for agent in (self.source, self.target):
            agent.server.stop(None).wait(10)


@pytest.fixture(scope="module")
def authority() -> pki.Authority:
    return pki.Authority()


@pytest.fixture
def pair(tmp_path: Path, authority: pki.Authority) -> Iterator[Pair]:
    made = Pair(testing.World(tmp_path), authority)
    yield made
    made.stop()


def at_target(point: FaultPoint) -> bool:
    return point.startswith("target-")


def test_a_migration_moves_the_pod(pair: Pair) -> None:
    pair.start()
    pair.order()
    report = pair.outcome(pair.source)
    assert (report.outcome, report.reason) == (agent_pb2.SUCCEEDED, "Resumed")
    assert pair.world.moved
    assert (report.connections.total, report.connections.kept, report.connections.flushed) == (3, 3, 3)
    assert report.image_bytes_sent >= report.image_bytes > 0
    assert report.freeze_seconds > report.connections.dead_seconds > 0
    assert pair.outcome(pair.target).outcome == agent_pb2.SUCCEEDED


def test_what_the_flush_did_not_bring_to_rest_is_audited(pair: Pair) -> None:
    pair.world.moving = ("10.0.0.1:80 10.0.0.2:1",)
    pair.start()
    pair.order()
    report = pair.outcome(pair.source)
    assert (report.connections.kept, report.connections.flushed) == (3, 2)
    assert [one.flushed for one in report.audit] == [True, False, True]
    kept = (pair.world.root / "source" / "audit" / f"{UID}.jsonl").read_text().splitlines()
    assert [json.loads(line).get("flushed", False) for line in kept] == [True, False, True]


@pytest.mark.parametrize("point", list(FaultPoint))
def test_a_tool_that_fails_rolls_back_before_commit_and_is_survived_after(pair: Pair, point: FaultPoint) -> None:
    agent = pair.target if at_target(point) else pair.source
    agent.arm(point, faults.fail(point))
    pair.start()
    pair.order()
    report = pair.outcome(pair.source)
    pair.settle()
    if point in AFTER_COMMIT:
        assert report.outcome == agent_pb2.SUCCEEDED
    else:
        assert (report.outcome, report.reason) == (agent_pb2.ROLLED_BACK, "FaultInjected")
    assert pair.world.moved if point in AFTER_COMMIT else pair.world.as_before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("point", list(FaultPoint))
def test_an_agent_that_is_killed_and_started_again_leaves_it_moved_or_as_before(pair: Pair, point: FaultPoint) -> None:
    agent = pair.target if at_target(point) else pair.source
    agent.arm(point, agent.kill)
    pair.start()
    pair.order()
    assert agent.killed.wait(30)
    agent.start()
    report = pair.outcome(pair.source)
    pair.settle()
    if point in AFTER_COMMIT:
        assert pair.world.moved
        assert report.outcome == agent_pb2.SUCCEEDED
    else:
        assert pair.world.as_before
        assert report.outcome == agent_pb2.ROLLED_BACK


@pytest.mark.parametrize("point", list(FaultPoint))
def test_an_abort_is_honoured_before_commit_and_refused_after(pair: Pair, point: FaultPoint) -> None:
    refused = threading.Event()

    def abort() -> None:
        with contextlib.suppress(errors.Permanent):
            pair.source.migrations.abort(UID, "by hand")
            return
        refused.set()

    (pair.target if at_target(point) else pair.source).arm(point, abort)
    pair.start()
    pair.order()
    report = pair.outcome(pair.source)
    pair.settle()
    if point in AFTER_COMMIT:
        assert refused.is_set()
        assert pair.world.moved
        assert report.outcome == agent_pb2.SUCCEEDED
    else:
        assert pair.world.as_before
        assert (report.outcome, report.reason, report.message) == (agent_pb2.ROLLED_BACK, "Aborted", "by hand")


def test_a_budget_that_is_exceeded_rolls_back(pair: Pair) -> None:
    pair.source.arm(FaultPoint.FLUSH_DONE, lambda: time.sleep(0.5))
    pair.start()
    pair.budget = 0.3
    pair.order()
    report = pair.outcome(pair.source)
    pair.settle()
    assert (report.outcome, report.reason) == (agent_pb2.ROLLED_BACK, "FreezeBudgetExceeded")
    assert pair.world.as_before


def test_nobody_but_the_operator_may_order_and_nobody_but_the_source_may_ferry(pair: Pair) -> None:
    pair.start()
    pair.order()
    stranger = pair.target.identity.channel(pair.source.endpoint, ids.agent_server_name("source"))
    with pytest.raises(grpc.RpcError) as refused:
        agent_pb2_grpc.AgentStub(stranger).Abort(agent_pb2.AbortRequest(migration_id=UID))
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
    wrong = pair.operator.channel(pair.target.endpoint, ids.agent_server_name("target"))
    opening = agent_pb2.FromSource(open=agent_pb2.Open(migration_id=UID, token=TOKEN))
    with pytest.raises(grpc.RpcError) as refused:
        list(agent_pb2_grpc.FerryStub(wrong).Session(iter([opening])))
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert pair.outcome(pair.source).outcome == agent_pb2.SUCCEEDED


def test_a_finished_migration_is_remembered_until_it_is_forgotten(pair: Pair) -> None:
    pair.start()
    pair.order()
    before = pair.outcome(pair.source)
    pair.source.server.stop(None).wait()
    pair.source.start()
    assert pair.outcome(pair.source) == before
    reference = agent_pb2.MigrationRef(migration_id=UID)
    for agent in (pair.source, pair.target):
        pair.outcome(agent)
        pair.stub(agent).Forget(reference)
        pair.stub(agent).Forget(reference)
        assert list((pair.world.root / agent.node / "journal").iterdir()) == []
    with pytest.raises(grpc.RpcError) as unknown:
        list(pair.stub(pair.source).Watch(reference))
    assert unknown.value.code() == grpc.StatusCode.NOT_FOUND

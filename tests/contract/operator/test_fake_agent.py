"""The fake agent answers the operator as the real agent does: one conversation, held with both."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.contract.agent.test_pair import Pair
from tests.support import pki, stage

from podferry import ids
from podferry.wire import agent_pb2, agent_pb2_grpc
from podferry_agent import testing as agent_testing
from podferry_operator.testing import FakeAgent

MOVED = "aaaaa000-0000-4000-8000-000000000001"
ABORTED = "aaaaa000-0000-4000-8000-000000000002"
SOURCE_POD = agent_pb2.PodRef(namespace="default", name="a", uid="bbbbb000-0000-4000-8000-000000000001")
TARGET_POD = agent_pb2.PodRef(namespace="default", name="b", uid="bbbbb000-0000-4000-8000-000000000002")
Sides = tuple[Any, Any, str]
"""Stubs of the source and of the target, and the target's host:port."""


@pytest.fixture
def real(tmp_path: Path, authority: pki.Authority) -> Iterator[Sides]:
    pair = Pair(agent_testing.World(tmp_path), authority)
    pair.start()
    yield pair.stub(pair.source), pair.stub(pair.target), pair.target.endpoint
    pair.stop()


@pytest.fixture
def fake(tmp_path: Path, authority: pki.Authority, control_plane: stage.ControlPlane) -> Iterator[Sides]:
    agents: dict[str, FakeAgent] = {}
    channels = []
    for number, node in enumerate(("source", "target"), start=1):
        address = f"127.10.0.{number}"
        folder = authority.issue(tmp_path / node, ids.agent_server_name(node), address)
        FakeAgent(node, address, control_plane.agent_port, folder, agents).start()
        channels.append(_channel(f"{address}:{control_plane.agent_port}", node, authority, tmp_path))
    agents["target"].hook_arrived(TARGET_POD.uid)
    source, target = (agent_pb2_grpc.AgentStub(channel) for channel in channels)
    yield source, target, f"127.10.0.2:{control_plane.agent_port}"
    for channel in channels:
        channel.close()
    for agent in agents.values():
        agent.stop()


def _channel(endpoint: str, node: str, authority: pki.Authority, folder: Path) -> grpc.Channel:
    files = authority.issue(folder / "operator", ids.OPERATOR_SERVER_NAME)
    ca, certificate, key = ((files / name).read_bytes() for name in ("ca.crt", "tls.crt", "tls.key"))
    credentials = grpc.ssl_channel_credentials(ca, key, certificate)
    override = ("grpc.ssl_target_name_override", ids.agent_server_name(node))
    return grpc.secure_channel(endpoint, credentials, options=[override])


def _said(call: Callable[[], Any]) -> str:
    """Return what an answer comes down to: a refusal with its reason, or where the migration stands."""
    try:
        report = call()
    except grpc.RpcError as error:
        trailing: Any = error.trailing_metadata()
        reason = dict(trailing or ()).get("podferry-reason")
        return f"{error.code().name} {reason}"
    if not isinstance(report, agent_pb2.Report):
        return "done"
    return f"{agent_pb2.Outcome.Name(report.outcome)} {report.reason}".strip() + " committed" * report.committed


def _admit(migration: str, token: str) -> agent_pb2.AdmitRequest:
    return agent_pb2.AdmitRequest(
        migration_id=migration,
        token=token * 64,
        source_node="source",
        source_pod=SOURCE_POD,
        target_pod=TARGET_POD,
        containers=["app", "sidecar"],
        expires_unix=int(time.time()) + 60,
    )


def _conversation(sides: Sides) -> list[str]:
    source, target, endpoint = sides

    def last(stub: Any, migration: str) -> Any:
        *_, report = stub.Watch(agent_pb2.MigrationRef(migration_id=migration), timeout=30)
        return report

    start = agent_pb2.StartRequest(
        migration_id=MOVED,
        token="1" * 64,
        source_pod=SOURCE_POD,
        target_pod=TARGET_POD,
        target_node="target",
        target_endpoint=endpoint,
        containers=["app", "sidecar"],
        freeze_budget_seconds=30,
        flush=True,
    )
    return [
        _said(call)
        for call in (
            lambda: last(source, MOVED),
            lambda: source.Abort(agent_pb2.AbortRequest(migration_id=MOVED, message="no")),
            lambda: source.Forget(agent_pb2.MigrationRef(migration_id=MOVED)),
            lambda: target.Admit(_admit(ABORTED, "0")),
            lambda: target.Admit(_admit(ABORTED, "1")),
            lambda: target.Forget(agent_pb2.MigrationRef(migration_id=ABORTED)),
            lambda: target.Abort(agent_pb2.AbortRequest(migration_id=ABORTED, message="no")),
            lambda: target.Abort(agent_pb2.AbortRequest(migration_id=ABORTED, message="no")),
            lambda: target.Admit(_admit(ABORTED, "2")),
            lambda: last(target, ABORTED),
            lambda: target.Forget(agent_pb2.MigrationRef(migration_id=ABORTED)),
            lambda: target.Admit(_admit(MOVED, "0")),
            lambda: target.Admit(_admit(MOVED, "1")),
            lambda: source.Start(start),
            lambda: last(source, MOVED),
            lambda: last(target, MOVED),
            lambda: source.Start(start),
            lambda: source.Abort(agent_pb2.AbortRequest(migration_id=MOVED, message="no")),
            lambda: target.Abort(agent_pb2.AbortRequest(migration_id=MOVED, message="no")),
            lambda: source.Forget(agent_pb2.MigrationRef(migration_id=MOVED)),
            lambda: last(source, MOVED),
        )
    ]


def test_one_conversation_with_both(fake: Sides, real: Sides) -> None:
    assert _conversation(fake) == _conversation(real)

"""What the clients make of answers, refusals and silence; against real gRPC and a real API."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import pki, stage

from podferry import errors, ids
from podferry.wire import agent_pb2
from podferry_operator.clients import agents, kube
from podferry_operator.testing import FakeAgent

UID = "aaaaa000-0000-4000-8000-000000000001"
NODE = "lonely"


@pytest.fixture
def tls(tmp_path: Path, authority: pki.Authority) -> Path:
    return authority.issue(tmp_path / "operator", ids.OPERATOR_SERVER_NAME)


@pytest.fixture
def agent(tmp_path: Path, authority: pki.Authority, control_plane: stage.ControlPlane) -> Iterator[FakeAgent]:
    folder = authority.issue(tmp_path / NODE, ids.agent_server_name(NODE))
    fake = FakeAgent(NODE, "127.9.0.1", control_plane.agent_port, folder, {})
    fake.start()
    yield fake
    fake.stop()


def _endpoint(agent: FakeAgent) -> str:
    return f"{agent.address}:{agent.port}"


def _order() -> agent_pb2.AdmitRequest:
    return agent_pb2.AdmitRequest(migration_id=UID, token="0" * 64)


def test_an_agent_says_what_it_can_do(agent: FakeAgent, tls: Path) -> None:
    async def ask() -> agent_pb2.Capabilities:
        pool = agents.Agents(tls)
        try:
            return await (await pool.at(NODE, _endpoint(agent))).probe()
        finally:
            await pool.close()

    assert asyncio.run(ask()).criu == "3.17.1"


def test_refusals_are_told_apart(agent: FakeAgent, tls: Path) -> None:
    async def ask() -> None:
        pool = agents.Agents(tls)
        known = await pool.at(NODE, _endpoint(agent))
        with pytest.raises(agents.UnknownMigration):
            await known.abort(UID, "no")
        with pytest.raises(agents.UnknownMigration):
            await anext(known.watch(UID).__aiter__())
        await known.forget(UID)
        await known.admit(_order())
        with pytest.raises(errors.Permanent) as refused:
            await known.forget(UID)
        assert refused.value.reason == "StillRunning"
        await pool.close()

    asyncio.run(ask())


def test_silence_may_pass(agent: FakeAgent, tls: Path) -> None:
    async def ask() -> None:
        pool = agents.Agents(tls)
        agent.stop()
        with pytest.raises(errors.Transient) as silent:
            await (await pool.at(NODE, _endpoint(agent))).probe()
        assert silent.value.reason == "AgentUnreachable"
        await pool.drop(NODE)
        agent.start()
        await (await pool.at(NODE, _endpoint(agent))).probe()
        await pool.close()

    asyncio.run(ask())


def test_only_the_operator_is_answered_and_only_the_right_agent_believed(
    agent: FakeAgent, tmp_path: Path, authority: pki.Authority
) -> None:
    async def ask(folder: Path, node: str) -> None:
        pool = agents.Agents(folder)
        try:
            await (await pool.at(node, _endpoint(agent))).probe()
        finally:
            await pool.close()

    another = authority.issue(tmp_path / "another", ids.agent_server_name("another"))
    with pytest.raises(errors.Permanent) as refused:
        asyncio.run(ask(another, NODE))
    assert refused.value.reason == "NotAuthorised"
    operator = authority.issue(tmp_path / "operator", ids.OPERATOR_SERVER_NAME)
    with pytest.raises(errors.Transient):
        asyncio.run(ask(operator, "another"))
    stranger = pki.Authority().issue(tmp_path / "stranger", ids.OPERATOR_SERVER_NAME)
    with pytest.raises(errors.Transient):
        asyncio.run(ask(stranger, NODE))


def test_a_channel_closed_under_a_call_is_no_cancellation(agent: FakeAgent, tls: Path) -> None:
    async def ask() -> None:
        pool = agents.Agents(tls)
        known = await pool.at(NODE, _endpoint(agent))
        await known.admit(_order())
        stream = known.watch(UID).__aiter__()
        await anext(stream)
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.1)
        await pool.drop(NODE)
        with pytest.raises(errors.Transient):
            await waiting

    asyncio.run(ask())


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidInput, match=r"--tls-dir: .*ca\.crt"):
        agents.Credentials.load(tmp_path)


def test_what_the_api_server_answers(control_plane: stage.ControlPlane) -> None:
    async def ask() -> None:
        api = control_plane.api
        assert await api.get(kube.PODS, "default", "ghost") is None
        await api.delete(kube.PODS, "default", "ghost")
        assert await api.merge(kube.PODS, "default", "ghost", {"metadata": {"labels": {"a": "b"}}}) is None
        service = {"metadata": {"name": "clients"}, "spec": {"ports": [{"port": 80}]}}
        made = await api.create(kube.SERVICES, "default", service)
        with pytest.raises(errors.Transient) as taken:
            await api.create(kube.SERVICES, "default", service)
        assert taken.value.reason == "AlreadyExists"
        await api.merge(kube.SERVICES, "default", "clients", {"metadata": {"labels": {"a": "b"}}})
        with pytest.raises(errors.Transient) as stale:
            await api.replace(kube.SERVICES, made)
        assert stale.value.reason == "Conflict"
        await api.delete(kube.SERVICES, "default", "clients", uid="another")
        assert [item["metadata"]["name"] for item in await api.list(kube.SERVICES, "default", labels="a=b")] == [
            "clients"
        ]
        await api.delete(kube.SERVICES, "default", "clients", uid=made["metadata"]["uid"])
        assert await api.list(kube.SERVICES, "default", labels="a=b") == []
        with pytest.raises(errors.Permanent) as invalid:
            await api.create(kube.MIGRATIONS, "default", {"metadata": {"name": "x"}, "spec": {}})
        assert invalid.value.reason in {"Invalid", "BadRequest"}

    asyncio.run(ask())

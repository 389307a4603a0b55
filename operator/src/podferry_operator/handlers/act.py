"""Carries out what a plan ordered, one action after the other; every action can be repeated without harm."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from podferry import errors
from podferry.wire import agent_pb2
from podferry_operator.api.migration import FINALIZER, Migration
from podferry_operator.clients import kube
from podferry_operator.domain import actions
from podferry_operator.domain.observation import Role
from podferry_operator.handlers import directory

POD_GRACE_SECONDS = 1
"""A frozen or a held pod cannot use a longer grace period, and 0 would not wait for its kubelet."""

TOKEN_BYTES = 32


@dataclass(slots=True)
class Token:
    """The secret that lets the source in at the target; in memory only, after a restart a new order brings another."""

    value: str = ""


class Hands:
    """Acts through the API server and the agents."""

    def __init__(self, api: kube.Kube, agents: directory.Directory) -> None:
        self._api, self._agents = api, agents

    async def act(self, action: actions.Action, migration: Migration, token: Token) -> None:
        """Carry out one action; raises Transient or Permanent."""
        match action:
            case actions.Admit() | actions.Start() | actions.Abort() | actions.Forget():
                await self._agent(action, migration, token)
            case actions.AddFinalizer() | actions.RemoveFinalizer() | actions.DeleteMigration():
                await self._migration(action, migration)
            case _:
                await self._cluster(action, migration.namespace)

    async def _agent(
        self,
        action: actions.Admit | actions.Start | actions.Abort | actions.Forget,
        migration: Migration,
        token: Token,
    ) -> None:
        source, target = migration.source.node, migration.spec.target_node
        match action:
            case actions.Admit(request):
                fresh = secrets.token_hex(TOKEN_BYTES)
                order = agent_pb2.AdmitRequest()
                order.CopyFrom(request)
                order.token = fresh
                await (await self._agents.agent(target)).admit(order)
                token.value = fresh
            case actions.Start(request):
                start = agent_pb2.StartRequest()
                start.CopyFrom(request)
                start.token = token.value
                await (await self._agents.agent(source)).start(start)
            case actions.Abort(role, message):
                agent = await self._agents.agent(source if role is Role.SOURCE else target)
                await agent.abort(migration.uid, message)
            case actions.Forget(role):
                await self._forget(source if role is Role.SOURCE else target, migration.uid)

    async def _forget(self, node: str, migration_id: str) -> None:
        try:
            agent = await self._agents.agent(node)
        except errors.Permanent:  # the node is gone, and its agent with it
            return
        await agent.forget(migration_id)

    async def _migration(
        self, action: actions.AddFinalizer | actions.RemoveFinalizer | actions.DeleteMigration, migration: Migration
    ) -> None:
        if isinstance(action, actions.DeleteMigration):
            await self._api.delete(kube.MIGRATIONS, migration.namespace, migration.name, uid=migration.uid)
            return
        others = [item for item in migration.finalizers if item != FINALIZER]
        wanted = [*others, FINALIZER] if isinstance(action, actions.AddFinalizer) else others
        # the resourceVersion makes it a compare-and-swap: a list is replaced whole by a merge patch
        patch = {"metadata": {"finalizers": wanted, "resourceVersion": migration.resource_version}}
        await self._api.merge(kube.MIGRATIONS, migration.namespace, migration.name, patch)

    async def _cluster(self, action: actions.Action, namespace: str) -> None:
        match action:
            case actions.CreatePod(body):
                await self._api.create(kube.PODS, namespace, body)
            case actions.DeletePod(name, uid):
                await self._api.delete(kube.PODS, namespace, name, uid=uid, grace=POD_GRACE_SECONDS)
            case actions.CreateSlice(body):
                await self._api.create(kube.SLICES, namespace, body)
            case actions.DeleteSlice(name):
                await self._api.delete(kube.SLICES, namespace, name)
            case actions.ReplaceSlice(body):
                await self._api.replace(kube.SLICES, body)
            case actions.ReplaceEndpoints(body):
                await self._api.replace(kube.ENDPOINTS, body)
            case _:
                raise TypeError(f"no such action: {action!r}")

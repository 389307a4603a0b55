"""One look at a migration: ask only for what this stage of it has a use for."""

from __future__ import annotations

import asyncio
import dataclasses

from podferry import clock as clocks
from podferry import errors, ids
from podferry.wire import agent_pb2
from podferry_operator.api import migration as migrations
from podferry_operator.api.conditions import Status, Type
from podferry_operator.api.migration import Migration
from podferry_operator.clients import kube
from podferry_operator.domain import finish, pods, target_pod, volumes
from podferry_operator.domain.observation import AgentView, Network, Object, Observation, Preflight
from podferry_operator.handlers import directory


@dataclasses.dataclass(frozen=True, slots=True)
class Feeds:
    """The two agents' words on one migration."""

    source: directory.Feed
    target: directory.Feed


class Observer:
    """Looks at migrations through the API server and the agents."""

    def __init__(self, api: kube.Kube, agents: directory.Directory, clock: clocks.Clock) -> None:
        self._api, self._agents, self._clock = api, agents, clock

    async def read(self, namespace: str, name: str) -> Migration | None:
        """Return the migration itself, None when it is gone."""
        body = await self._api.get(kube.MIGRATIONS, namespace, name)
        return None if body is None else migrations.parse(body)

    async def look(
        self, migration: Migration, feeds: Feeds, *, token_held: bool, failure: errors.PodferryError | None
    ) -> Observation:
        """Return what is seen now."""
        seen = Observation(self._clock.wall() / 1e9, migration, token_held=token_held, failure=failure)
        if migration.finished:
            return seen
        if not migration.accepted:
            return await self._order(seen)
        if not migration.condition_is(Type.PREFLIGHT, Status.TRUE):
            return await self._preflight(seen)
        source = await feeds.source.view(migration.source.node)
        seen = dataclasses.replace(seen, source=source)
        if source.running and not source.committed:
            return seen  # the agents are at it; nothing of Kubernetes matters to them or to us
        return await self._pods(seen, feeds)

    async def _order(self, seen: Observation) -> Observation:
        namespace, spec = seen.migration.namespace, seen.migration.spec
        source, node, runtime_class, others = await asyncio.gather(
            self._api.get(kube.PODS, namespace, spec.pod_name),
            self._api.get(kube.NODES, "", spec.target_node),
            self._api.get(kube.RUNTIME_CLASSES, "", ids.RUNTIME_CLASS),
            self._api.list(kube.MIGRATIONS, namespace),
        )
        named = [] if source is None else volumes.claims(source)
        claims = await asyncio.gather(*(self._api.get(kube.CLAIMS, namespace, name) for name in named))
        parsed = (migrations.parse(body) for body in others)
        rivals = tuple(m for m in parsed if m.uid != seen.migration.uid and m.accepted and not m.finished)
        return dataclasses.replace(
            seen,
            source_pod=source,
            target_node=node,
            runtime_class=runtime_class,
            claims={name: claim for name, claim in zip(named, claims, strict=True) if claim is not None},
            rivals=rivals,
        )

    async def _preflight(self, seen: Observation) -> Observation:
        migration = seen.migration
        pod = agent_pb2.PodRef(
            namespace=migration.namespace, name=migration.source.pod_name, uid=migration.source.pod_uid
        )
        source_pod, (source, inspection, source_error), (target, target_error) = await asyncio.gather(
            self._api.get(kube.PODS, migration.namespace, migration.source.pod_name),
            self._ask_source(migration.source.node, pod),
            self._ask_target(migration.spec.target_node),
        )
        failures = tuple(error for error in (source_error, target_error) if error is not None)
        return dataclasses.replace(
            seen, source_pod=source_pod, preflight=Preflight(source, target, inspection, failures)
        )

    async def _ask_source(
        self, node: str, pod: agent_pb2.PodRef
    ) -> tuple[agent_pb2.Capabilities | None, agent_pb2.Inspection | None, errors.PodferryError | None]:
        capabilities, error = await self._ask_target(node)
        if error is not None:
            return None, None, error
        try:
            return capabilities, await (await self._agents.agent(node)).inspect(pod), None
        except errors.PodferryError as refused:
            return capabilities, None, refused

    async def _ask_target(self, node: str) -> tuple[agent_pb2.Capabilities | None, errors.PodferryError | None]:
        try:
            return await (await self._agents.agent(node)).probe(), None
        except errors.PodferryError as error:
            await self._agents.lost(node)
            return None, error

    async def _pods(self, seen: Observation, feeds: Feeds) -> Observation:
        migration = seen.migration
        namespace = migration.namespace
        target, source_pod = await asyncio.gather(
            feeds.target.view(migration.spec.target_node),
            self._api.get(kube.PODS, namespace, migration.source.pod_name),
        )
        name = migration.target.pod_name or _target_name(migration, source_pod)
        target_body = await self._api.get(kube.PODS, namespace, name) if name else None
        seen = dataclasses.replace(seen, target=target, source_pod=source_pod, target_pod=target_body)
        if finish.reached(seen):
            return dataclasses.replace(seen, network=await self._network(namespace))
        if migration.condition_is(Type.TARGET_READY, Status.TRUE) or _hook_waits(target):
            return dataclasses.replace(seen, target_endpoint=await self._endpoint(migration.spec.target_node))
        return dataclasses.replace(seen, warnings=await self._warnings(namespace, target_body))

    async def _endpoint(self, node: str) -> str:
        try:
            return await self._agents.endpoint(node)
        except errors.Permanent:  # the node is gone: whoever needs its agent will say so
            return ""

    async def _network(self, namespace: str) -> Network:
        services, slices, endpoints = await asyncio.gather(
            self._api.list(kube.SERVICES, namespace),
            self._api.list(kube.SLICES, namespace),
            self._api.list(kube.ENDPOINTS, namespace),
        )
        return Network(tuple(services), tuple(slices), tuple(endpoints))

    async def _warnings(self, namespace: str, pod: Object | None) -> tuple[Object, ...]:
        if pod is None:
            return ()
        events = await self._api.list(kube.EVENTS, namespace, fields=f"involvedObject.uid={pods.uid(pod)},type=Warning")
        return tuple(sorted(events, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or ""))


def _target_name(migration: Migration, source: Object | None) -> str:
    return "" if source is None else target_pod.name(source, migration.uid)


def _hook_waits(view: AgentView) -> bool:
    return view.report is not None and view.report.hook_waiting

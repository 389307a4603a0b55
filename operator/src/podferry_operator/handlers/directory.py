"""Where the agent of a node answers, and what it says about one migration."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable
from typing import cast

from podferry import errors
from podferry.wire import agent_pb2
from podferry_operator.clients import agents, kube
from podferry_operator.domain import nodes
from podferry_operator.domain.observation import AgentView

log = logging.getLogger(__name__)

FIRST_REPORT_SECONDS = 5.0
"""How long an agent may take to send a migration's first report, which it has at hand."""


class Directory:
    """Finds agents by node name; addresses are kept until an agent does not answer."""

    def __init__(self, api: kube.Kube, pool: agents.Agents, port: int) -> None:
        self._api, self._pool, self._port = api, pool, port
        self._endpoints: dict[str, str] = {}

    async def endpoint(self, node: str) -> str:
        """Return host:port of the node's agent.

        Raises:
            Permanent: there is no such node (reason NodeNotFound), or it has no internal address (NodeHasNoAddress).
        """
        if node not in self._endpoints:
            body = await self._api.get(kube.NODES, "", node)
            if body is None:
                raise errors.Permanent(f"node {node} does not exist", reason="NodeNotFound")
            self._endpoints[node] = nodes.endpoint(body, self._port)
        return self._endpoints[node]

    async def agent(self, node: str) -> agents.Agent:
        """Return the node's agent; raises as `endpoint`."""
        return await self._pool.at(node, await self.endpoint(node))

    async def lost(self, node: str) -> None:
        """Note that the agent does not answer: the next call looks for it anew."""
        self._endpoints.pop(node, None)
        await self._pool.drop(node)


class Feed:
    """One agent's word on one migration: a stream that is kept open, and read as a state.

    A report is a whole state, so only the last one counts; `changed` is called whenever it leads to a new decision.
    """

    def __init__(self, directory: Directory, migration_id: str, changed: Callable[[], None]) -> None:
        self._directory, self._migration_id, self._changed = directory, migration_id, changed
        self._latest: agent_pb2.Report | None = None
        self._follower: asyncio.Task[None] | None = None

    async def view(self, node: str) -> AgentView:
        """Return what the agent of `node` says now; asks anew unless a stream is open."""
        if self._follower is not None and not self._follower.done() and self._latest is not None:
            return AgentView(reachable=True, report=self._latest)
        try:
            agent = await self._directory.agent(node)
            stream = cast(AsyncGenerator[agent_pb2.Report, None], agent.watch(self._migration_id))
            self._latest = await asyncio.wait_for(anext(stream), FIRST_REPORT_SECONDS)
        except agents.UnknownMigration:
            return AgentView(reachable=True)
        except (errors.Transient, TimeoutError, StopAsyncIteration) as error:
            await self._directory.lost(node)
            return AgentView(reachable=False, message=str(error) or f"the agent of node {node} does not answer")
        except errors.PodferryError as error:
            return AgentView(reachable=False, message=str(error), node_gone=error.reason == "NodeNotFound")
        self._follower = asyncio.create_task(self._follow(stream), name=f"watch {self._migration_id} at {node}")
        return AgentView(reachable=True, report=self._latest)

    async def close(self) -> None:
        """End the stream."""
        if self._follower is not None:
            self._follower.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._follower

    async def _follow(self, stream: AsyncGenerator[agent_pb2.Report, None]) -> None:
        try:
            async for report in stream:
                moved = self._latest is None or _position(report) != _position(self._latest)
                self._latest = report
                if moved:  # counters that grow while images stream wait for the next look
                    self._changed()
        except errors.PodferryError as error:
            log.info("the stream of migration %s ended: %s", self._migration_id, error)
        finally:
            await stream.aclose()
            self._changed()


def _position(report: agent_pb2.Report) -> tuple[str, int, bool, bool]:
    return report.step, report.outcome, report.committed, report.hook_waiting

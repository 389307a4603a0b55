"""What kopf is asked for: to watch ServiceMigrations, and to start and stop with us.

kopf's own change detection, finalizers and progress storage are not used: they keep state in annotations of the object,
and a migration's state has to come from what is observed.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import kopf

from podferry_operator.api import migration
from podferry_operator.clients import agents
from podferry_operator.handlers import controller


async def serve(
    control: controller.Controller, pool: agents.Agents, namespaces: Collection[str], liveness_port: int
) -> None:
    """Run kopf until a signal comes; all namespaces are served when none is named, no liveness at port 0.

    Standalone: there is one replica, see the operator's README.
    """
    await kopf.operator(
        registry=register(control, pool),
        settings=settings(),
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
        liveness_endpoint=f"http://0.0.0.0:{liveness_port}/healthz" if liveness_port else None,
    )


def register(control: controller.Controller, pool: agents.Agents) -> kopf.OperatorRegistry:
    """Return the registry with the operator's few handlers."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def login(**context: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_via_client(**context)

    @kopf.on.event(migration.GROUP, migration.VERSION, migration.PLURAL, registry=registry)
    async def noticed(body: kopf.Body, **_: Any) -> None:
        control.notice(dict(body))

    @kopf.on.cleanup(registry=registry)
    async def stopped(**_: Any) -> None:
        await control.stop()
        await pool.close()

    return registry


def settings() -> kopf.OperatorSettings:
    """Return kopf's settings: no Events of its own, streams that notice a dead API server, a quick end."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.watching.server_timeout = 300
    chosen.watching.client_timeout = 330
    chosen.watching.connect_timeout = 10
    chosen.process.ultimate_exiting_timeout = 30
    return chosen

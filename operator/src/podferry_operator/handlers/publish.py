"""Tells the world: status when it differs, Events about what is new, metrics about what is over."""

from __future__ import annotations

import logging
from typing import Any

from podferry import errors
from podferry_operator import metrics
from podferry_operator.api import migration as migrations
from podferry_operator.api import times
from podferry_operator.api.migration import Migration, PodPlace
from podferry_operator.clients import kube
from podferry_operator.domain import actions, news, observation, status

log = logging.getLogger(__name__)

COMPONENT = "podferry-operator"
EVENT_MESSAGE_LIMIT = 1024
"""Characters that the API admits in an Event's message."""


class Publisher:
    """Writes what is known about migrations."""

    def __init__(self, api: kube.Kube, counters: metrics.Metrics) -> None:
        self._api, self._metrics = api, counters

    async def publish(self, seen: observation.Observation, plan: actions.Plan) -> Migration | None:
        """Write the status if it differs and return the migration as it is now, None when it is gone."""
        migration = seen.migration
        wanted = status.render(seen, plan)
        if wanted == migration.status:
            return migration
        body = await self._api.merge(
            kube.MIGRATIONS, migration.namespace, migration.name, {"status": wanted}, subresource="status"
        )
        if body is None:
            return None
        after = migrations.parse(body)
        if after.uid != migration.uid:
            return None
        if after.finished and not migration.finished:
            self._metrics.finished(wanted)
        for item in news.tell(migration.status, wanted):
            log.log(
                logging.WARNING if item.warning else logging.INFO,
                "%s/%s: %s: %s",
                migration.namespace,
                migration.name,
                item.reason,
                item.message,
            )
            await self._events(seen.now, after, item)
        return after

    async def _events(self, now: float, migration: Migration, item: news.News) -> None:
        pod = migration.target if item.on_target else migration.source
        subjects = [_migration(migration)] + [_pod(migration.namespace, pod)] * bool(pod.pod_uid)
        for subject in subjects:
            try:
                await self._api.create(kube.EVENTS, migration.namespace, _event(now, subject, item))
            except errors.PodferryError as error:  # an Event is a courtesy; the status has it all
                log.info("an Event was not written: %s", error)


def _migration(migration: Migration) -> dict[str, str]:
    return {
        "apiVersion": migrations.API_VERSION,
        "kind": migrations.KIND,
        "namespace": migration.namespace,
        "name": migration.name,
        "uid": migration.uid,
    }


def _pod(namespace: str, place: PodPlace) -> dict[str, str]:
    return {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": place.pod_name, "uid": place.pod_uid}


def _event(now: float, subject: dict[str, str], item: news.News) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{subject['name'][:50]}-", "namespace": subject["namespace"]},
        "involvedObject": subject,
        "type": "Warning" if item.warning else "Normal",
        "reason": item.reason,
        "message": item.message[:EVENT_MESSAGE_LIMIT],
        "source": {"component": COMPONENT},
        "firstTimestamp": times.text(now),
        "lastTimestamp": times.text(now),
        "count": 1,
    }

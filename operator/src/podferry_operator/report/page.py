"""The page: the template filled with a migration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from podferry import steps
from podferry_operator.report import model

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("podferry_operator", "report"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(
    migration: Mapping[str, Any], throughput: Sequence[model.Point] = (), witnessed: Sequence[model.Figure] = ()
) -> str:
    """Return a ServiceMigration (JSON as from the API) as one HTML page that needs nothing from elsewhere.

    `throughput` and `witnessed` are what clients saw, where somebody measured it.
    """
    status = migration.get("status", {})
    conditions = {one["type"]: one for one in status.get("conditions", ())}
    span = model.whole(status)
    return _TEMPLATES.get_template("page.html.j2").render(
        migration=migration,
        status=status,
        outcome=conditions.get("Succeeded", {"status": "Unknown", "reason": "", "message": "not observed yet"}),
        conditions=list(conditions.values()),
        figures=[*model.figures(status), *witnessed],
        bars=model.timeline(status),
        shadows=model.shadows(status, span) if span is not None else [],
        seconds=span.end - span.begin if span is not None else 0.0,
        does={row.step.value: row.does for row in steps.TABLE},
        chart=model.chart(status, throughput),
        audit=status.get("connections", {}).get("audit", []),
        connections=status.get("connections", {}),
    )

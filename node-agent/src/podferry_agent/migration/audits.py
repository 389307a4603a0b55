"""The fate of every connection, whole: one file for each migration, since a report names only the first hundred."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import json_format

from podferry.wire import agent_pb2

log = logging.getLogger(__name__)

KEPT = 100
"""Files kept, the newest: of 10,000 connections one takes about 2 MB."""


@dataclass(frozen=True, slots=True)
class AuditFiles:
    """Files DIRECTORY/<migration id>.jsonl: one ConnectionAudit (agent.proto) a line, in proto3's JSON."""

    directory: Path

    def write(self, migration_id: str, audits: Iterable[agent_pb2.ConnectionAudit]) -> None:
        """Write one file and drop the oldest; a disk that refuses costs the file, never the migration."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            lines = (json_format.MessageToJson(audit, indent=None) for audit in audits)
            (self.directory / f"{migration_id}.jsonl").write_text("".join(f"{line}\n" for line in lines))
            for old in sorted(self.directory.iterdir(), key=lambda path: path.stat().st_mtime_ns)[:-KEPT]:
                old.unlink()
        except OSError as error:
            log.warning("%s: the audit is not kept: %s", migration_id, error)

"""What the runtime hook is to do with the containers of one target pod: a small state machine, no sockets here.

A container of an ordered pod goes EXPECTED → RESTORING → RESTORED. A `create` of it is answered by `Order.answer`:

    EXPECTED    wait, if it is the next in line; fail, if one before it is missing (the kubelet will come again)
    RESTORING   fail: the first attempt is not over
    RESTORED    fail: the source may still be thawed, so nothing may be started afresh here yet

What is remembered beyond the order are `Arrivals`: containers of a committed migration, which are ordinary ones from
then on and pass.
"""

from __future__ import annotations

import enum
import json
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path


class State(enum.Enum):
    """Where one container of an ordered pod stands."""

    EXPECTED = "expected"
    RESTORING = "being restored"
    RESTORED = "restored"


@dataclass(slots=True)
class Order:
    """The containers that one migration brings into one pod, in the order in which the kubelet creates them."""

    migration_id: str
    pod_uid: str
    containers: tuple[str, ...]
    states: dict[str, State] = field(default_factory=dict)
    aborted: str | None = None
    """Why nothing may be restored any more; None as long as it may."""

    def __post_init__(self) -> None:
        self.states = dict.fromkeys(self.containers, State.EXPECTED)

    def answer(self, pod_uid: str, container: str) -> str | None:
        """Say why a `create` of `container` in pod `pod_uid` must fail, None when it may wait to be restored."""
        if self.aborted is not None:
            return f"migration {self.migration_id} was aborted: {self.aborted}"
        if pod_uid != self.pod_uid:
            return f"migration {self.migration_id} is for another pod than {pod_uid}"
        state = self.states.get(container)
        if state is None:
            return f"migration {self.migration_id} does not bring a container {container}"
        if state is not State.EXPECTED:
            return f"{container} is {state.value} already, and its migration is not committed"
        before = self.containers[: self.containers.index(container)]
        missing = [name for name in before if self.states[name] is not State.RESTORED]
        return f"{container} must wait until {missing[0]} is restored" if missing else None


@dataclass(frozen=True, slots=True)
class Arrivals:
    """The record on disk of containers that were restored and committed: one small file for each pod."""

    directory: Path

    def record(self, pod_uid: str, migration_id: str, containers: Sequence[str]) -> None:
        """Remember for good that these containers of the pod have arrived here."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self.directory / f".{pod_uid}"
        with new.open("w") as file:
            json.dump({"migration": migration_id, "containers": list(containers)}, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.directory / pod_uid)

    def prune(self, known: Collection[str]) -> None:
        """Forget the pods that are not among `known`: they are deleted, and no container of theirs comes again."""
        if self.directory.exists():
            for path in self.directory.iterdir():
                if path.name not in known:
                    path.unlink()

    def has(self, pod_uid: str, migration_id: str, container: str) -> bool:
        """Tell whether `container` arrived with this migration."""
        try:
            known = json.loads((self.directory / pod_uid).read_text())
        except (OSError, ValueError):
            return False
        return bool(known["migration"] == migration_id and container in known["containers"])

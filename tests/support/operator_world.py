"""A model of everything around the operator's plan: an API server, two agents, two kubelets, all in one process.

Time, faults and crashes happen only when the test says so. The model checks on every action that the operator may do
it; `settle` then lets everything run to its end. It stands for what the parts promise each other, not how they work.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

from podferry import errors
from podferry.steps import Step
from podferry.wire import agent_pb2
from podferry_operator.api import migration as migrations
from podferry_operator.api.conditions import Status, Type
from podferry_operator.api.migration import Migration
from podferry_operator.domain import actions, planner, status, target_pod
from podferry_operator.domain.observation import AgentView, Observation, Preflight, Role
from podferry_operator.testing import SOURCE_STEPS

UID = "0f0e0d0c-0000-4000-8000-000000000001"
SOURCE_UID = "0f0e0d0c-0000-4000-8000-000000000002"
TARGET_UID = "0f0e0d0c-0000-4000-8000-000000000003"
START = 1_700_000_000.0


class Crash(Exception):
    """The operator's process ends here."""


@dataclasses.dataclass
class Agent:
    """One agent: what it knows of the migration, and whether the operator can reach it."""

    role: Role
    reachable: bool = True
    report: agent_pb2.Report | None = None
    token: str = ""

    def view(self) -> AgentView:
        """Return what the operator is told."""
        if not self.reachable:
            return AgentView(reachable=False, message="silence")
        copied = None
        if self.report is not None:
            copied = agent_pb2.Report()
            copied.CopyFrom(self.report)
        return AgentView(reachable=True, report=copied)

    @property
    def running(self) -> bool:
        """At it, neither finished nor undone."""
        return self.report is not None and self.report.outcome == agent_pb2.RUNNING

    def end(self, outcome: agent_pb2.Outcome, reason: str = "") -> None:
        """Reach an outcome."""
        assert self.report is not None
        self.report.outcome, self.report.reason, self.report.message = outcome, reason, reason


class World:
    """The model. Its public methods are what can happen."""

    def __init__(self, **spec: Any) -> None:
        self.now = START
        self.object: dict[str, Any] | None = {
            "metadata": {"namespace": "default", "name": "move", "uid": UID, "generation": 1, "finalizers": []},
            "spec": {"podName": "web", "targetNode": "b", **spec},
        }
        self.pods: dict[str, dict[str, Any]] = {"web": _pod("web", SOURCE_UID, "a")}
        self.source, self.target = Agent(Role.SOURCE), Agent(Role.TARGET)
        self.source_frozen = False
        self.token, self.tokens = "", 0
        self.failure: errors.PodferryError | None = None
        self.deleted: list[str] = []
        """UIDs of the pods that the operator deleted."""
        self.history: list[Step] = []
        """status.step, whenever it changed."""

    # --- the operator

    @property
    def migration(self) -> Migration | None:
        """The object as the operator reads it."""
        return None if self.object is None else migrations.parse(self.object)

    def turn(self, *, crash_after: int | None = None) -> float | None:
        """Let the operator look once and act; it crashes after so many actions, at -1 before it published."""
        migration = self.migration
        if migration is None:
            return None
        seen = self._look(migration)
        plan = planner.plan(seen)
        try:
            if crash_after == -1:
                raise Crash
            published = self._publish(seen, plan)
            self.failure = None
            for number, action in enumerate(plan.actions):
                if crash_after == number:
                    raise Crash
                self._act(action, published)
        except Crash:
            self.crash()
            return 0.0
        except errors.PodferryError as error:
            self.failure = error
        return plan.wait

    def crash(self) -> None:
        """Restart the operator: what it held in memory is gone."""
        self.token, self.failure = "", None

    def _look(self, migration: Migration) -> Observation:
        seen = Observation(self.now, migration, token_held=bool(self.token), failure=self.failure)
        if migration.finished:
            return seen
        source = self.pods.get("web")
        if not migration.accepted:
            node = {"metadata": {"name": "b"}, "spec": {}, "status": {"conditions": [_condition("Ready", "True")]}}
            return dataclasses.replace(seen, source_pod=source, target_node=node, runtime_class={})
        if not migration.condition_is(Type.PREFLIGHT, Status.TRUE):
            silent = [agent for agent in (self.source, self.target) if not agent.reachable]
            answers = Preflight(
                agent_pb2.Capabilities(node="a"),
                agent_pb2.Capabilities(node="b"),
                agent_pb2.Inspection(),
                tuple(errors.Transient("silence") for _ in silent),
            )
            return dataclasses.replace(seen, source_pod=source, preflight=answers)
        seen = dataclasses.replace(seen, source=self.source.view())
        if seen.source is not None and seen.source.running and not seen.source.committed:
            return seen
        name = migration.target.pod_name or (target_pod.name(source, UID) if source else "")
        target = copy.deepcopy(self.pods.get(name))
        return dataclasses.replace(
            seen, source_pod=copy.deepcopy(source), target_pod=target, target=self.target.view(), target_endpoint="b:1"
        )

    def _publish(self, seen: Observation, plan: actions.Plan) -> Migration:
        assert self.object is not None
        wanted = status.render(seen, plan)
        before = seen.migration
        if before.finished:
            assert wanted == before.status, "a final status was changed"
        elif before.step != Step(wanted["step"]):
            self.history.append(Step(wanted["step"]))
        self.object["status"] = wanted
        return migrations.parse(self.object)

    def _act(self, action: actions.Action, migration: Migration) -> None:
        assert self.object is not None
        finalizers = self.object["metadata"]["finalizers"]
        match action:
            case actions.AddFinalizer():
                finalizers.append(migrations.FINALIZER)
            case actions.RemoveFinalizer():
                finalizers.clear()
                if "deletionTimestamp" in self.object["metadata"]:
                    self.object = None
            case actions.DeleteMigration():
                self.delete()
            case actions.CreatePod(body):
                self._create(body)
            case actions.DeletePod(name, uid):
                self._delete_pod(name, uid)
            case _:
                self._ask(action)

    def _create(self, body: Any) -> None:
        name = body["metadata"]["name"]
        if name in self.pods:
            raise errors.Transient("taken", reason="AlreadyExists")
        made = copy.deepcopy(dict(body))
        made["metadata"]["uid"] = TARGET_UID
        made["status"] = {"phase": "Pending"}
        self.pods[name] = made

    def _delete_pod(self, name: str, uid: str) -> None:
        if name not in self.pods or self.pods[name]["metadata"]["uid"] != uid:
            return
        if uid == SOURCE_UID:
            assert self.target.report is None or self.target.report.outcome == agent_pb2.SUCCEEDED, "source too early"
        else:
            assert self.source.report is None or not self.source.report.committed, "target after Commit"
            assert not self.source.running, "target while the source is at it"
        self.deleted.append(uid)
        self.pods[name]["metadata"]["deletionTimestamp"] = "now"

    def _ask(self, action: actions.Action) -> None:
        match action:
            case actions.Admit(request):
                self._reach(self.target)
                if self.target.report is None:
                    self.target.report = agent_pb2.Report(migration_id=UID, step=Step.PREPARE.value)
                elif self.target.report.step != Step.PREPARE or not self.target.running:
                    raise errors.Permanent("under way", reason="OrderChanged")
                self.tokens += 1
                self.token = self.target.token = f"token {self.tokens}"
                assert request.expires_unix > self.now
            case actions.Start():
                self._reach(self.source)
                if self.source.report is None:
                    self.source.report = agent_pb2.Report(migration_id=UID)
                    self.source.token = self.token
            case actions.Abort(role):
                agent = self.source if role is Role.SOURCE else self.target
                self._reach(agent)
                self._abort(agent)
            case actions.Forget(role):
                agent = self.source if role is Role.SOURCE else self.target
                self._reach(agent)
                if agent.running:
                    raise errors.Permanent("no outcome yet", reason="StillRunning")
                agent.report = None
            case _:
                raise AssertionError(action)

    def _reach(self, agent: Agent) -> None:
        if not agent.reachable:
            raise errors.Transient("silence")

    def _abort(self, agent: Agent) -> None:
        if agent.report is None:
            raise errors.Permanent("unknown", reason="NotFound")
        if agent.report.committed:
            raise errors.Permanent("committed", reason="AlreadyCommitted")
        if agent is self.target:
            assert not self.source.running, "target aborted while the source is at it"
            assert self.source.report is None or not self.source.report.committed, "target aborted after Commit"
        if agent.running:
            agent.end(agent_pb2.ROLLED_BACK, "Aborted")
            if agent is self.source:
                self.source_frozen = False

    # --- everything else that can happen

    def delete(self) -> None:
        """Somebody deletes the migration."""
        if self.object is None:
            return
        if self.object["metadata"]["finalizers"]:
            self.object["metadata"]["deletionTimestamp"] = "now"
        else:
            self.object = None

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    def kubelets(self) -> None:
        """Both kubelets look at their pods once."""
        for name, pod in list(self.pods.items()):
            if "deletionTimestamp" in pod["metadata"]:
                hook_waits = self.target.report is not None and self.target.report.hook_waiting and self.target.running
                if pod["metadata"]["uid"] == SOURCE_UID or not hook_waits:  # a pending `create` holds a pod up
                    del self.pods[name]
            elif pod["metadata"]["uid"] == TARGET_UID:
                resumed = self.target.report is not None and self.target.report.outcome == agent_pb2.SUCCEEDED
                if resumed or pod["status"]["phase"] == "Running":
                    self.pods[name]["status"] = _pod(name, TARGET_UID, "b")["status"]
                elif self.target.running and self.target.report is not None:
                    self.target.report.hook_waiting = True

    def source_advances(self) -> None:
        """The source agent does its next step, to which the target has to answer."""
        report = self.source.report
        if report is None or not self.source.running:
            return
        step = SOURCE_STEPS[0] if not report.step else _after(Step(report.step))
        if step is Step.FREEZE and not self._session_opens():
            self.source.end(agent_pb2.ROLLED_BACK, "NotAuthorised")
        elif not report.committed and not self._target_stands():
            self.source.end(agent_pb2.ROLLED_BACK, "TargetLost")
            self.source_frozen = False
        elif step is None:
            assert self.target.report is not None
            self.target.report.committed = True
            self.target.end(agent_pb2.SUCCEEDED)
            self.source.end(agent_pb2.SUCCEEDED)
        else:
            report.step = step.value
            self.source_frozen = True
            report.committed = report.committed or step is Step.COMMIT
            if self.target.report is not None:
                self.target.report.step = step.value

    def _session_opens(self) -> bool:
        report = self.target.report
        return (
            self.target.running
            and report is not None
            and report.hook_waiting
            and self.source.token == self.target.token
        )

    def _target_stands(self) -> bool:
        pod = next((pod for pod in self.pods.values() if pod["metadata"]["uid"] == TARGET_UID), None)
        return self.target.running and pod is not None and "deletionTimestamp" not in pod["metadata"]

    def source_fails(self) -> None:
        """The source's step fails: before Commit it rolls back, after it it tries again."""
        if self.source.running and self.source.report is not None and not self.source.report.committed:
            self.source.end(agent_pb2.ROLLED_BACK, "FaultInjected")
            self.source_frozen = False

    def source_forgets(self) -> None:
        """The source agent loses its journal before Commit; the containers are thawed by its node's restart."""
        if self.source.report is not None and not self.source.report.committed:
            self.source.report, self.source_frozen = None, False

    def target_fails(self) -> None:
        """The target's agent is restarted before Commit and gives its order up."""
        if self.target.running and (self.source.report is None or not self.source.report.committed):
            self.target.end(agent_pb2.ROLLED_BACK, "AgentRestarted")

    def reach(self, *, source: bool, target: bool) -> None:
        """The operator can, or cannot, reach the agents."""
        self.source.reachable, self.target.reachable = source, target

    # --- the end

    def settle(self) -> None:
        """Let everything run undisturbed until the operator has nothing left to do."""
        self.reach(source=True, target=True)
        for _ in range(200):
            wait = self.turn()
            if wait is None:
                return
            self.kubelets()
            self.source_advances()
            self.advance(max(wait, 0.1))
        raise AssertionError(f"never ends: {self.object}")

    @property
    def moved(self) -> bool:
        """The pod runs on the target node and nowhere else."""
        target = [pod for pod in self.pods.values() if pod["metadata"]["uid"] == TARGET_UID]
        return "web" not in self.pods and bool(target) and target[0]["status"]["phase"] == "Running"

    @property
    def as_before(self) -> bool:
        """The pod runs on the source node, and there is no trace of a target."""
        return list(self.pods) == ["web"] and not self.source_frozen and SOURCE_UID not in self.deleted

    @property
    def clean(self) -> bool:
        """Neither agent remembers anything."""
        return self.source.report is None and self.target.report is None


def _after(step: Step) -> Step | None:
    position = SOURCE_STEPS.index(step) + 1
    return SOURCE_STEPS[position] if position < len(SOURCE_STEPS) else None


def _condition(kind: str, value: str) -> dict[str, str]:
    return {"type": kind, "status": value, "lastTransitionTime": "2023-11-14T22:13:20Z"}


def _pod(name: str, uid: str, node: str) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "default", "name": name, "uid": uid, "labels": {"app": "web"}},
        "spec": {"nodeName": node, "containers": [{"name": "main", "image": "example/web:1"}]},
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.1",
            "conditions": [_condition("Ready", "True")],
            "containerStatuses": [{"name": "main", "state": {"running": {}}}],
        },
    }

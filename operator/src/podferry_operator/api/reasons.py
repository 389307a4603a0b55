"""The reasons that a ServiceMigration's conditions carry: a public contract, one CamelCase word each.

Beside these stand three groups that pass through unchanged: reasons of agents (podferry.errors, in a report or in the
trailing metadata of a gRPC error), reasons of sockets that cannot move, and Kubernetes' own words about a pod that does
not start (ErrImagePull, FailedMount, NodeAffinity, …).
"""

from __future__ import annotations

import enum


class Reason(enum.StrEnum):
    """Why a condition is as it is. `Reason.X.doc` is the sentence that the manual prints."""

    doc: str

    def __new__(cls, value: str, doc: str) -> Reason:
        """Make a member from its value and its sentence."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.doc = doc
        return member

    # Succeeded = Unknown or True
    MIGRATING = "Migrating", "Succeeded=Unknown: the migration is on its way."
    MOVED = "Moved", "Succeeded=True: the pod runs on the target node."
    DRY_RUN = "DryRun", "Succeeded=True: the pod could move; nothing was changed, as ordered."

    # Accepted
    VALID = "Valid", "Accepted=True: the order makes sense."
    INVALID_SPEC = "Invalid", "A field of the spec has a value that cannot be used."
    POD_NOT_FOUND = "PodNotFound", "spec.podName names no pod of this namespace."
    POD_NOT_RUNNING = "PodNotRunning", "The pod, or one of its containers, does not run."
    POD_TERMINATING = "PodTerminating", "The pod is being deleted."
    POD_HAS_CONTROLLER = "PodHasController", "The pod belongs to a controller that would replace it."
    POD_UNSUPPORTED = "PodUnsupported", "The pod uses something that cannot be moved yet."
    POD_MIGRATING = "PodMigrating", "Another unfinished migration moves this pod."
    POD_IS_TARGET = "PodIsTarget", "The pod is the target of another unfinished migration."
    NODE_NOT_FOUND = "NodeNotFound", "spec.targetNode names no node."
    NODE_NOT_READY = "NodeNotReady", "The target node is not Ready, or closed for new pods."
    NO_RUNTIME_CLASS = "NoRuntimeClass", "The cluster has no RuntimeClass for pods that arrive."
    SAME_NODE = "SameNode", "The pod runs on the target node already."

    # Preflight
    MOVABLE = "Movable", "Preflight=True: both agents and every socket are ready to go."
    AGENT_UNREACHABLE = "AgentUnreachable", "An agent does not answer."
    NODE_INCAPABLE = "NodeIncapable", "A node lacks something that a migration needs."
    NODE_LACKS_MEMORY = "NodeLacksMemory", "A node has too little memory free for the images, or for the pod."
    POD_NOT_MOVABLE = "PodNotMovable", "The source agent found something in the pod that cannot move."
    UNMOVABLE_CONNECTIONS = "UnmovableConnections", "The pod holds sockets that cannot move, and onUnmovable is Abort."

    # TargetReady
    POD_CREATED = "PodCreated", "TargetReady=Unknown: the target pod is being prepared."
    WAITING = "Waiting", "TargetReady=True: the target pod waits for its processes."
    TARGET_NAME_TAKEN = "TargetNameTaken", "A pod of another origin has the name of the target pod."
    TARGET_POD_FAILED = "TargetPodFailed", "The target pod failed before it could take over."
    TARGET_POD_GONE = "TargetPodGone", "The target pod was deleted by someone else."

    # Committed
    COMMITTED = "Committed", "Committed=True: the target has taken over; there is no way back."

    # Succeeded = False, or Unknown while it is being undone
    ABORTED = "Aborted", "The migration was deleted before it was committed."
    DEADLINE_EXCEEDED = "DeadlineExceeded", "spec.deadline passed before the migration was committed."
    SOURCE_POD_GONE = "SourcePodGone", "The source pod ended before the migration was committed."
    SOURCE_LOST = "SourceLost", "The source agent knows nothing of a migration that it had begun."
    INCONSISTENT = "Inconsistent", "Neither finished nor undone: a person must look."

from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNSPECIFIED: _ClassVar[Role]
    SOURCE: _ClassVar[Role]
    TARGET: _ClassVar[Role]

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RUNNING: _ClassVar[Outcome]
    SUCCEEDED: _ClassVar[Outcome]
    ROLLED_BACK: _ClassVar[Outcome]
    INCONSISTENT: _ClassVar[Outcome]
ROLE_UNSPECIFIED: Role
SOURCE: Role
TARGET: Role
RUNNING: Outcome
SUCCEEDED: Outcome
ROLLED_BACK: Outcome
INCONSISTENT: Outcome

class ProbeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Capabilities(_message.Message):
    __slots__ = ("node", "version", "kernel", "criu", "runtime", "backends", "missing", "cpu_features", "machine", "memory_available_bytes", "clock_unix_ns")
    NODE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    KERNEL_FIELD_NUMBER: _ClassVar[int]
    CRIU_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    BACKENDS_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    CPU_FEATURES_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    MEMORY_AVAILABLE_BYTES_FIELD_NUMBER: _ClassVar[int]
    CLOCK_UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    node: str
    version: str
    kernel: str
    criu: str
    runtime: str
    backends: _containers.RepeatedScalarFieldContainer[str]
    missing: _containers.RepeatedCompositeFieldContainer[Problem]
    cpu_features: _containers.RepeatedScalarFieldContainer[str]
    machine: str
    memory_available_bytes: int
    clock_unix_ns: int
    def __init__(self, node: _Optional[str] = ..., version: _Optional[str] = ..., kernel: _Optional[str] = ..., criu: _Optional[str] = ..., runtime: _Optional[str] = ..., backends: _Optional[_Iterable[str]] = ..., missing: _Optional[_Iterable[_Union[Problem, _Mapping]]] = ..., cpu_features: _Optional[_Iterable[str]] = ..., machine: _Optional[str] = ..., memory_available_bytes: _Optional[int] = ..., clock_unix_ns: _Optional[int] = ...) -> None: ...

class Problem(_message.Message):
    __slots__ = ("reason", "message")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class PodRef(_message.Message):
    __slots__ = ("namespace", "name", "uid")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    uid: str
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ..., uid: _Optional[str] = ...) -> None: ...

class InspectRequest(_message.Message):
    __slots__ = ("pod",)
    POD_FIELD_NUMBER: _ClassVar[int]
    pod: PodRef
    def __init__(self, pod: _Optional[_Union[PodRef, _Mapping]] = ...) -> None: ...

class Inspection(_message.Message):
    __slots__ = ("containers", "memory_bytes", "connections", "unmovable", "problems")
    CONTAINERS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    UNMOVABLE_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    containers: _containers.RepeatedScalarFieldContainer[str]
    memory_bytes: int
    connections: int
    unmovable: _containers.RepeatedCompositeFieldContainer[Unmovable]
    problems: _containers.RepeatedCompositeFieldContainer[Problem]
    def __init__(self, containers: _Optional[_Iterable[str]] = ..., memory_bytes: _Optional[int] = ..., connections: _Optional[int] = ..., unmovable: _Optional[_Iterable[_Union[Unmovable, _Mapping]]] = ..., problems: _Optional[_Iterable[_Union[Problem, _Mapping]]] = ...) -> None: ...

class Unmovable(_message.Message):
    __slots__ = ("container", "process", "pid", "fd", "socket", "reason", "message")
    CONTAINER_FIELD_NUMBER: _ClassVar[int]
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    FD_FIELD_NUMBER: _ClassVar[int]
    SOCKET_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    container: str
    process: str
    pid: int
    fd: int
    socket: str
    reason: str
    message: str
    def __init__(self, container: _Optional[str] = ..., process: _Optional[str] = ..., pid: _Optional[int] = ..., fd: _Optional[int] = ..., socket: _Optional[str] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class MigrationRef(_message.Message):
    __slots__ = ("migration_id",)
    MIGRATION_ID_FIELD_NUMBER: _ClassVar[int]
    migration_id: str
    def __init__(self, migration_id: _Optional[str] = ...) -> None: ...

class AdmitRequest(_message.Message):
    __slots__ = ("migration_id", "token", "source_node", "target_pod", "source_pod", "containers", "expires_unix")
    MIGRATION_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    SOURCE_NODE_FIELD_NUMBER: _ClassVar[int]
    TARGET_POD_FIELD_NUMBER: _ClassVar[int]
    SOURCE_POD_FIELD_NUMBER: _ClassVar[int]
    CONTAINERS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_UNIX_FIELD_NUMBER: _ClassVar[int]
    migration_id: str
    token: str
    source_node: str
    target_pod: PodRef
    source_pod: PodRef
    containers: _containers.RepeatedScalarFieldContainer[str]
    expires_unix: int
    def __init__(self, migration_id: _Optional[str] = ..., token: _Optional[str] = ..., source_node: _Optional[str] = ..., target_pod: _Optional[_Union[PodRef, _Mapping]] = ..., source_pod: _Optional[_Union[PodRef, _Mapping]] = ..., containers: _Optional[_Iterable[str]] = ..., expires_unix: _Optional[int] = ...) -> None: ...

class StartRequest(_message.Message):
    __slots__ = ("migration_id", "token", "source_pod", "target_pod", "target_node", "target_endpoint", "containers", "freeze_budget_seconds", "close_unmovable", "flush")
    MIGRATION_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    SOURCE_POD_FIELD_NUMBER: _ClassVar[int]
    TARGET_POD_FIELD_NUMBER: _ClassVar[int]
    TARGET_NODE_FIELD_NUMBER: _ClassVar[int]
    TARGET_ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    CONTAINERS_FIELD_NUMBER: _ClassVar[int]
    FREEZE_BUDGET_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CLOSE_UNMOVABLE_FIELD_NUMBER: _ClassVar[int]
    FLUSH_FIELD_NUMBER: _ClassVar[int]
    migration_id: str
    token: str
    source_pod: PodRef
    target_pod: PodRef
    target_node: str
    target_endpoint: str
    containers: _containers.RepeatedScalarFieldContainer[str]
    freeze_budget_seconds: float
    close_unmovable: bool
    flush: bool
    def __init__(self, migration_id: _Optional[str] = ..., token: _Optional[str] = ..., source_pod: _Optional[_Union[PodRef, _Mapping]] = ..., target_pod: _Optional[_Union[PodRef, _Mapping]] = ..., target_node: _Optional[str] = ..., target_endpoint: _Optional[str] = ..., containers: _Optional[_Iterable[str]] = ..., freeze_budget_seconds: _Optional[float] = ..., close_unmovable: _Optional[bool] = ..., flush: _Optional[bool] = ...) -> None: ...

class AbortRequest(_message.Message):
    __slots__ = ("migration_id", "message")
    MIGRATION_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    migration_id: str
    message: str
    def __init__(self, migration_id: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class ForgetReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Report(_message.Message):
    __slots__ = ("migration_id", "role", "step", "outcome", "reason", "message", "timings", "connections", "audit", "memory_bytes", "image_bytes", "image_bytes_sent", "freeze_seconds", "hook_waiting", "committed")
    MIGRATION_ID_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    AUDIT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    IMAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    IMAGE_BYTES_SENT_FIELD_NUMBER: _ClassVar[int]
    FREEZE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    HOOK_WAITING_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    migration_id: str
    role: Role
    step: str
    outcome: Outcome
    reason: str
    message: str
    timings: _containers.RepeatedCompositeFieldContainer[StepTiming]
    connections: ConnectionTotals
    audit: _containers.RepeatedCompositeFieldContainer[ConnectionAudit]
    memory_bytes: int
    image_bytes: int
    image_bytes_sent: int
    freeze_seconds: float
    hook_waiting: bool
    committed: bool
    def __init__(self, migration_id: _Optional[str] = ..., role: _Optional[_Union[Role, str]] = ..., step: _Optional[str] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., timings: _Optional[_Iterable[_Union[StepTiming, _Mapping]]] = ..., connections: _Optional[_Union[ConnectionTotals, _Mapping]] = ..., audit: _Optional[_Iterable[_Union[ConnectionAudit, _Mapping]]] = ..., memory_bytes: _Optional[int] = ..., image_bytes: _Optional[int] = ..., image_bytes_sent: _Optional[int] = ..., freeze_seconds: _Optional[float] = ..., hook_waiting: _Optional[bool] = ..., committed: _Optional[bool] = ...) -> None: ...

class StepTiming(_message.Message):
    __slots__ = ("step", "started_unix_ns", "finished_unix_ns")
    STEP_FIELD_NUMBER: _ClassVar[int]
    STARTED_UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    step: str
    started_unix_ns: int
    finished_unix_ns: int
    def __init__(self, step: _Optional[str] = ..., started_unix_ns: _Optional[int] = ..., finished_unix_ns: _Optional[int] = ...) -> None: ...

class ConnectionTotals(_message.Message):
    __slots__ = ("total", "kept", "closed", "bytes_queued", "dead_seconds", "flushed")
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    BYTES_QUEUED_FIELD_NUMBER: _ClassVar[int]
    DEAD_SECONDS_FIELD_NUMBER: _ClassVar[int]
    FLUSHED_FIELD_NUMBER: _ClassVar[int]
    total: int
    kept: int
    closed: int
    bytes_queued: int
    dead_seconds: float
    flushed: int
    def __init__(self, total: _Optional[int] = ..., kept: _Optional[int] = ..., closed: _Optional[int] = ..., bytes_queued: _Optional[int] = ..., dead_seconds: _Optional[float] = ..., flushed: _Optional[int] = ...) -> None: ...

class ConnectionAudit(_message.Message):
    __slots__ = ("local", "peer", "state", "fate", "bytes_queued", "window_updates", "answered_seconds", "flushed")
    LOCAL_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    FATE_FIELD_NUMBER: _ClassVar[int]
    BYTES_QUEUED_FIELD_NUMBER: _ClassVar[int]
    WINDOW_UPDATES_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_SECONDS_FIELD_NUMBER: _ClassVar[int]
    FLUSHED_FIELD_NUMBER: _ClassVar[int]
    local: str
    peer: str
    state: str
    fate: str
    bytes_queued: int
    window_updates: int
    answered_seconds: float
    flushed: bool
    def __init__(self, local: _Optional[str] = ..., peer: _Optional[str] = ..., state: _Optional[str] = ..., fate: _Optional[str] = ..., bytes_queued: _Optional[int] = ..., window_updates: _Optional[int] = ..., answered_seconds: _Optional[float] = ..., flushed: _Optional[bool] = ...) -> None: ...

class FromSource(_message.Message):
    __slots__ = ("open", "manifest", "chunk", "restore", "prepare", "connections", "commit", "rollback")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    RESTORE_FIELD_NUMBER: _ClassVar[int]
    PREPARE_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    ROLLBACK_FIELD_NUMBER: _ClassVar[int]
    open: Open
    manifest: Manifest
    chunk: Chunk
    restore: Restore
    prepare: Prepare
    connections: Connections
    commit: Commit
    rollback: Rollback
    def __init__(self, open: _Optional[_Union[Open, _Mapping]] = ..., manifest: _Optional[_Union[Manifest, _Mapping]] = ..., chunk: _Optional[_Union[Chunk, _Mapping]] = ..., restore: _Optional[_Union[Restore, _Mapping]] = ..., prepare: _Optional[_Union[Prepare, _Mapping]] = ..., connections: _Optional[_Union[Connections, _Mapping]] = ..., commit: _Optional[_Union[Commit, _Mapping]] = ..., rollback: _Optional[_Union[Rollback, _Mapping]] = ...) -> None: ...

class FromTarget(_message.Message):
    __slots__ = ("ready", "stored", "restored", "prepared", "rebuilt", "resumed", "audited", "failed")
    READY_FIELD_NUMBER: _ClassVar[int]
    STORED_FIELD_NUMBER: _ClassVar[int]
    RESTORED_FIELD_NUMBER: _ClassVar[int]
    PREPARED_FIELD_NUMBER: _ClassVar[int]
    REBUILT_FIELD_NUMBER: _ClassVar[int]
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    AUDITED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    ready: Ready
    stored: Stored
    restored: Restored
    prepared: Prepared
    rebuilt: Rebuilt
    resumed: Resumed
    audited: Audited
    failed: Failed
    def __init__(self, ready: _Optional[_Union[Ready, _Mapping]] = ..., stored: _Optional[_Union[Stored, _Mapping]] = ..., restored: _Optional[_Union[Restored, _Mapping]] = ..., prepared: _Optional[_Union[Prepared, _Mapping]] = ..., rebuilt: _Optional[_Union[Rebuilt, _Mapping]] = ..., resumed: _Optional[_Union[Resumed, _Mapping]] = ..., audited: _Optional[_Union[Audited, _Mapping]] = ..., failed: _Optional[_Union[Failed, _Mapping]] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("migration_id", "token", "resume", "freeze_budget_seconds")
    MIGRATION_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    FREEZE_BUDGET_SECONDS_FIELD_NUMBER: _ClassVar[int]
    migration_id: str
    token: str
    resume: bool
    freeze_budget_seconds: float
    def __init__(self, migration_id: _Optional[str] = ..., token: _Optional[str] = ..., resume: _Optional[bool] = ..., freeze_budget_seconds: _Optional[float] = ...) -> None: ...

class Ready(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Manifest(_message.Message):
    __slots__ = ("container", "files")
    CONTAINER_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    container: str
    files: _containers.RepeatedCompositeFieldContainer[ImageFile]
    def __init__(self, container: _Optional[str] = ..., files: _Optional[_Iterable[_Union[ImageFile, _Mapping]]] = ...) -> None: ...

class ImageFile(_message.Message):
    __slots__ = ("path", "size")
    PATH_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    path: str
    size: int
    def __init__(self, path: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class Stored(_message.Message):
    __slots__ = ("container", "bytes")
    CONTAINER_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    container: str
    bytes: int
    def __init__(self, container: _Optional[str] = ..., bytes: _Optional[int] = ...) -> None: ...

class Restore(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Restored(_message.Message):
    __slots__ = ("containers",)
    CONTAINERS_FIELD_NUMBER: _ClassVar[int]
    containers: _containers.RepeatedCompositeFieldContainer[RestoredContainer]
    def __init__(self, containers: _Optional[_Iterable[_Union[RestoredContainer, _Mapping]]] = ...) -> None: ...

class RestoredContainer(_message.Message):
    __slots__ = ("name", "pid")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    name: str
    pid: int
    def __init__(self, name: _Optional[str] = ..., pid: _Optional[int] = ...) -> None: ...

class Prepare(_message.Message):
    __slots__ = ("connections",)
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    connections: int
    def __init__(self, connections: _Optional[int] = ...) -> None: ...

class Prepared(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Connections(_message.Message):
    __slots__ = ("batch", "last")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    batch: bytes
    last: bool
    def __init__(self, batch: _Optional[bytes] = ..., last: _Optional[bool] = ...) -> None: ...

class Rebuilt(_message.Message):
    __slots__ = ("count", "digest")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    count: int
    digest: bytes
    def __init__(self, count: _Optional[int] = ..., digest: _Optional[bytes] = ...) -> None: ...

class Commit(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Resumed(_message.Message):
    __slots__ = ("since_unlock_seconds", "since_release_seconds")
    SINCE_UNLOCK_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SINCE_RELEASE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    since_unlock_seconds: float
    since_release_seconds: float
    def __init__(self, since_unlock_seconds: _Optional[float] = ..., since_release_seconds: _Optional[float] = ...) -> None: ...

class Audited(_message.Message):
    __slots__ = ("audit",)
    AUDIT_FIELD_NUMBER: _ClassVar[int]
    audit: _containers.RepeatedCompositeFieldContainer[ConnectionAudit]
    def __init__(self, audit: _Optional[_Iterable[_Union[ConnectionAudit, _Mapping]]] = ...) -> None: ...

class Rollback(_message.Message):
    __slots__ = ("reason", "message")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Failed(_message.Message):
    __slots__ = ("reason", "message")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

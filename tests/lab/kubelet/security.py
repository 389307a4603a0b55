"""From the pod's and the container's securityContext to what the runtime is told. Pure.

The container's word goes before the pod's. What stays unsaid is what the kubelet says then: no seccomp profile, and the
usual parts of /proc and /sys masked or read-only.
"""

from __future__ import annotations

from tests.lab.kubelet import pods

from podferry_agent.runtime import cri_pb2

MASKED = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_PROFILES = {
    "RuntimeDefault": cri_pb2.SecurityProfile.RuntimeDefault,
    "Unconfined": cri_pb2.SecurityProfile.Unconfined,
    "Localhost": cri_pb2.SecurityProfile.Localhost,
}


def of_sandbox(pod: pods.Json) -> cri_pb2.LinuxSandboxSecurityContext:
    """Return the sandbox's security context; it is privileged as soon as one container is."""
    said = pod["spec"].get("securityContext") or {}
    return cri_pb2.LinuxSandboxSecurityContext(
        namespace_options=_namespaces(pod),
        run_as_user=_id(said.get("runAsUser")),
        run_as_group=_id(said.get("runAsGroup")),
        supplemental_groups=_groups(said),
        privileged=any((one.get("securityContext") or {}).get("privileged") for one in pods.containers(pod)),
        seccomp=cri_pb2.SecurityProfile(profile_type=cri_pb2.SecurityProfile.RuntimeDefault),
    )


def of_container(pod: pods.Json, container: pods.Json) -> cri_pb2.LinuxContainerSecurityContext:
    """Return one container's security context."""
    shared = pod["spec"].get("securityContext") or {}
    own = container.get("securityContext") or {}
    said = {**shared, **own}
    capabilities = own.get("capabilities") or {}
    privileged = bool(own.get("privileged"))
    unmasked = privileged or own.get("procMount") == "Unmasked"
    return cri_pb2.LinuxContainerSecurityContext(
        capabilities=cri_pb2.Capability(
            add_capabilities=capabilities.get("add") or [], drop_capabilities=capabilities.get("drop") or []
        ),
        privileged=privileged,
        namespace_options=_namespaces(pod),
        run_as_user=_id(said.get("runAsUser")),
        run_as_group=_id(said.get("runAsGroup")),
        readonly_rootfs=bool(own.get("readOnlyRootFilesystem")),
        supplemental_groups=_groups(shared),
        no_new_privs=own.get("allowPrivilegeEscalation") is False,
        masked_paths=[] if unmasked else MASKED,
        readonly_paths=[] if unmasked else READONLY,
        seccomp=_seccomp(said.get("seccompProfile"), privileged=privileged),
    )


def _namespaces(pod: pods.Json) -> cri_pb2.NamespaceOption:
    spec = pod["spec"]
    pid = cri_pb2.CONTAINER
    if spec.get("hostPID"):
        pid = cri_pb2.NODE
    elif spec.get("shareProcessNamespace"):
        pid = cri_pb2.POD
    return cri_pb2.NamespaceOption(
        network=cri_pb2.NODE if pods.host_network(pod) else cri_pb2.POD,
        pid=pid,
        ipc=cri_pb2.NODE if spec.get("hostIPC") else cri_pb2.POD,
    )


def _groups(said: pods.Json) -> list[int]:
    first = [said["fsGroup"]] if said.get("fsGroup") is not None else []
    return first + list(said.get("supplementalGroups") or [])


def _seccomp(profile: pods.Json | None, *, privileged: bool) -> cri_pb2.SecurityProfile:
    if profile is None or privileged:
        return cri_pb2.SecurityProfile(profile_type=cri_pb2.SecurityProfile.Unconfined)
    return cri_pb2.SecurityProfile(
        profile_type=_PROFILES[profile["type"]], localhost_ref=profile.get("localhostProfile") or ""
    )


def _id(number: int | None) -> cri_pb2.Int64Value | None:
    return None if number is None else cri_pb2.Int64Value(value=number)

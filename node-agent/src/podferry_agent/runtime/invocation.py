"""The command line with which containerd's shim calls its OCI runtime to create a container. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from podferry import errors

_GLOBAL_VALUED = frozenset({"--log", "--log-format", "--root", "--criu", "--rootless"})
_CREATE_VALUED = frozenset({"--bundle", "-b", "--console-socket", "--pid-file", "--preserve-fds"})


@dataclass(frozen=True, slots=True)
class Invocation:
    """A parsed `runc [global options] create [options] ID`."""

    global_options: tuple[str, ...]
    container_id: str
    bundle: Path
    pid_file: Path
    console_socket: str | None
    log: Path | None
    """Where runc writes its log, as JSON lines."""

    def restore(self, runc: Path, images: Path, work: Path) -> tuple[str, ...]:
        """Return the argument vector that restores from `images` what this would have created."""
        return (
            str(runc),
            *self.global_options,
            "restore",
            "--detach",
            "--no-subreaper",
            *(("--console-socket", self.console_socket) if self.console_socket else ()),
            *("--bundle", str(self.bundle)),
            *("--pid-file", str(self.pid_file)),
            *("--image-path", str(images)),
            *("--work-path", str(work)),
            self.container_id,
        )


def parse(arguments: Sequence[str]) -> Invocation:
    """Parse the arguments behind argv[0].

    Raises:
        InvalidInput: they are not a `create` with a bundle, a pid file and one id.
    """
    head, command, tail = _split(arguments)
    if command != "create":
        raise errors.InvalidInput("argv", f"not a create: {' '.join(arguments)}")
    options, positional = _options(tail)
    bundle = options.get("--bundle") or options.get("-b")
    pid_file = options.get("--pid-file")
    if len(positional) != 1 or not bundle or not pid_file:
        raise errors.InvalidInput("argv", f"needs --bundle, --pid-file and one id: {' '.join(arguments)}")
    log = _log(head)
    return Invocation(head, positional[0], Path(bundle), Path(pid_file), options.get("--console-socket"), log)


def _split(arguments: Sequence[str]) -> tuple[tuple[str, ...], str, tuple[str, ...]]:
    at = 0
    while at < len(arguments) and arguments[at].startswith("-"):
        at += 2 if arguments[at] in _GLOBAL_VALUED else 1
    command = arguments[at] if at < len(arguments) else ""
    return tuple(arguments[:at]), command, tuple(arguments[at + 1 :])


def _log(head: Sequence[str]) -> Path | None:
    if "--log" in head[:-1]:
        return Path(head[head.index("--log") + 1])
    return None


def _options(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    options: dict[str, str] = {}
    positional: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name in _CREATE_VALUED:
            options[name] = value if equals else next(rest, "")
        elif not argument.startswith("-"):
            positional.append(argument)
    return options, positional

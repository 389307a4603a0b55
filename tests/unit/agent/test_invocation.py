from __future__ import annotations

from pathlib import Path

import pytest

from podferry import errors
from podferry_agent.runtime import invocation

SHIM = "--root /r --log /b/log.json --log-format json --systemd-cgroup create --bundle /b --pid-file /b/init.pid abc"


def test_what_the_shim_says() -> None:
    parsed = invocation.parse(SHIM.split())
    assert parsed.container_id == "abc"
    assert parsed.bundle == Path("/b")
    assert parsed.pid_file == Path("/b/init.pid")
    assert parsed.log == Path("/b/log.json")
    assert parsed.console_socket is None


def test_restoring_keeps_what_the_shim_said() -> None:
    line = " ".join(invocation.parse(SHIM.split()).restore(Path("/usr/sbin/runc"), Path("/i"), Path("/w")))
    assert line == (
        "/usr/sbin/runc --root /r --log /b/log.json --log-format json --systemd-cgroup restore --detach --no-subreaper"
        " --bundle /b --pid-file /b/init.pid --image-path /i --work-path /w abc"
    )


def test_equals_signs_short_options_and_a_terminal() -> None:
    parsed = invocation.parse(["create", "-b", "/b", "--pid-file=/p", "--console-socket=/c", "--no-pivot", "abc"])
    assert (parsed.bundle, parsed.pid_file, parsed.console_socket) == (Path("/b"), Path("/p"), "/c")
    assert "--console-socket" in parsed.restore(Path("runc"), Path("/i"), Path("/w"))


@pytest.mark.parametrize(
    "arguments", ["", "--root", "start abc", "create abc", "create --bundle /b --pid-file /p", "create --bundle /b abc"]
)
def test_anything_else_is_refused(arguments: str) -> None:
    with pytest.raises(errors.InvalidInput):
        invocation.parse(arguments.split())

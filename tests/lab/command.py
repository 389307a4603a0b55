"""Run a tool of this machine and say in one error what it was and what it said."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from podferry import errors


def run(
    argv: Sequence[str | Path],
    *,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 600,
) -> str:
    """Run `argv` and return its standard output.

    Raises:
        Permanent: it is missing, ended with a code other than 0, or took longer than `timeout` seconds.
    """
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(words, input=stdin, capture_output=True, text=True, env=env, timeout=timeout, check=True)
    except subprocess.CalledProcessError as error:
        raise errors.Permanent(
            f"{' '.join(words)}: exit code {error.returncode}: {error.stdout}{error.stderr}"
        ) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise errors.Permanent(f"{' '.join(words)}: {error}") from error
    return done.stdout

"""Debian 12 packages as this machine's own apt knows them: their versions, and a tree of them unpacked.

The mirrors are asked from apt at run time. Packages are unpacked and not configured: nothing of a maintainer script's
work is needed in a node, and it would take twice as long.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tests.lab import command

from podferry import errors

RELEASE = "bookworm"

_MERGE_USR = 'for d in bin sbin lib lib64; do mkdir -p "$1/usr/$d"; ln -s "usr/$d" "$1/$d"; done'
_SOURCE_LINE = "deb $(REPO_URI) $(RELEASE) $(COMPONENT)"


def sources() -> str:
    """Return the machine's apt sources for Debian 12, one-line style, one per line.

    Raises:
        Permanent: apt has none, so no node can be made here.
    """
    lines = command.run(["apt-get", "indextargets", "--format", _SOURCE_LINE, "Created-By: Packages"]).splitlines()
    wanted = sorted({line for line in lines if re.search(rf" {RELEASE}(-\S+)? ", line) and line.endswith(" main")})
    if not wanted:
        raise errors.Permanent(f"apt has no sources for Debian {RELEASE} on this machine", reason="NoPackages")
    return "\n".join(wanted) + "\n"


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the candidate version of each of `packages`, "(none)" where apt does not know."""
    text = command.run(["apt-cache", "policy", *packages], env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"})
    return dict(re.findall(r"^(\S+):\n  Installed: .*\n  Candidate: (\S+)", text, re.MULTILINE))


def unpack(packages: Sequence[str], tree: Path) -> None:
    """Unpack `packages` and all that they depend on into `tree`, /usr merged, nothing configured."""
    listing = tree.with_suffix(".sources.list")
    listing.write_text(sources())
    command.run(
        [
            "mmdebstrap",
            "--variant=extract",
            "--format=directory",
            f"--include={','.join(packages)}",
            f"--setup-hook={_MERGE_USR}",
            RELEASE,
            tree,
            listing,
        ]
    )
    listing.unlink()

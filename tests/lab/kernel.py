"""The kernel of a node: Debian's, as the ELF file that QEMU boots directly, with just the modules a node needs."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.lab import command, kernel_modules

from podferry import errors


def version(tree: Path) -> str:
    """Return the version of the one kernel in an unpacked tree."""
    return next((tree / "usr/lib/modules").iterdir()).name


def vmlinux(vmlinuz: Path, out: Path) -> None:
    """Write the ELF kernel that `vmlinuz` (bzImage, LZ4) contains.

    The payload's place stands in the setup header (Documentation/x86/boot.rst: payload_offset, payload_length); its
    last four bytes are the unpacked size and do not belong to the LZ4 stream.
    """
    image = vmlinuz.read_bytes()
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    begin = (setup_sectors + 1) * 512 + offset
    payload = image[begin : begin + length - 4]
    done = subprocess.run(["lz4", "-d", "-c"], input=payload, capture_output=True, check=False)
    if not done.stdout.startswith(b"\x7fELF"):
        raise errors.Permanent(f"no LZ4 kernel in {vmlinuz}: {done.stderr.decode(errors='replace')}")
    out.write_bytes(done.stdout)


def keep_modules(tree: Path) -> None:
    """Delete every module that no list above names or depends on, and write the dependency files anew."""
    release = version(tree)
    folder = tree / "usr/lib/modules" / release
    command.run(["chroot", tree, "/usr/sbin/depmod", release])
    kept = set(
        load_order(tree, (*kernel_modules.BOOT, *kernel_modules.EARLY, *kernel_modules.LATE, *kernel_modules.ON_DEMAND))
    )
    for module in folder.rglob("*.ko"):
        if module not in kept:
            module.unlink()
    command.run(["chroot", tree, "/usr/sbin/depmod", release])


def load_order(tree: Path, modules: Iterable[str]) -> list[Path]:
    """Return the files of `modules` and of all they depend on, each after what it depends on.

    Raises:
        Permanent: the kernel package has no such module.
    """
    folder = tree / "usr/lib/modules" / version(tree)
    needs: dict[str, list[str]] = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        path, _, dependencies = line.partition(":")
        needs[_name(path)] = [*reversed(dependencies.split()), path]
    ordered: dict[Path, None] = {}
    for module in modules:
        if module not in needs:
            raise errors.Permanent(f"kernel {version(tree)} has no module {module}")
        ordered.update(dict.fromkeys(folder / path for path in needs[module]))
    return list(ordered)


def _name(path: str) -> str:
    return Path(path).name.removesuffix(".ko").replace("-", "_")


def initramfs(tree: Path, init: Path, out: Path) -> None:
    """Write an initramfs with static busybox, the boot modules and the script `init`; uncompressed is quicker."""
    folder = out.with_suffix(".tree")
    for name in ("bin", "dev", "proc", "sys", "modules", "lower", "writable", "root"):
        (folder / name).mkdir(parents=True)
    shutil.copy2(tree / "usr/bin/busybox", folder / "bin/busybox")
    shutil.copy2(init, folder / "init")
    order = load_order(tree, kernel_modules.BOOT)
    for path in order:
        shutil.copy2(path, folder / "modules" / path.name)
    (folder / "modules/order").write_text("".join(f"{path.name}\n" for path in order))
    names = "".join(f"{path.relative_to(folder)}\n" for path in sorted(folder.rglob("*")))
    command.run(["cpio", "--quiet", "-o", "-H", "newc", "-D", folder, "-F", out], stdin=names)
    shutil.rmtree(folder)

"""What runs in the containers of tests/lab/test_restore.py: it keeps state everywhere, and keeps saying what it sees.

Started as `python3 -c SOURCE NAME [stubborn]`. It accepts TCP connections and never reads: only the kernel answers.
Each line of its output is JSON; `n` counts, and lives in memory alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import io
import json
import os
import signal
import socket
import sys
import time

NAME = sys.argv[1]
IPC_KEY = 4242
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.shmat.restype = ctypes.c_void_p
LIBC.shmat.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]


def write(path: str, text: str) -> io.TextIOWrapper:
    """Write a file and return it open."""
    file = open(path, "w+")  # noqa: SIM115, PTH123
    file.write(text)
    file.flush()
    return file


def read(path: str) -> str:
    """Return a file's text."""
    with open(path) as file:  # noqa: PTH123
        return file.read()


class Semaphores(ctypes.Structure):
    """Struct sembuf of semop(2)."""

    _fields_ = [("number", ctypes.c_ushort), ("change", ctypes.c_short), ("flags", ctypes.c_short)]


if NAME == "one":  # a semaphore with value 3, and nothing attached
    semaphore = LIBC.semget(IPC_KEY, 1, 0o1600)
    LIBC.semop(semaphore, ctypes.byref(Semaphores(0, 3, 0)), 1)
    memory = None
else:
    memory = LIBC.shmat(LIBC.shmget(IPC_KEY, 4096, 0o1600), None, 0)
    ctypes.memmove(memory, b"attached", 8)

held = write(f"/held-{NAME}", "held")
deleted = write(f"/root/deleted-{NAME}", "d" * 2_000_000)
os.unlink(f"/root/deleted-{NAME}")  # noqa: PTH108
os.makedirs("/srv/deep", exist_ok=True)  # noqa: PTH103
write(f"/srv/deep/{NAME}", NAME).close()
os.unlink("/app/frames.py")  # noqa: PTH108  comes with the image: a whiteout in the upper layer
locked = write(f"/data/{NAME}", f"volume of {NAME}")
fcntl.flock(locked, fcntl.LOCK_EX)
fcntl.lockf(held, fcntl.LOCK_EX)
write(f"/dev/shm/{NAME}", f"shm of {NAME}").close()
listener = socket.create_server(("", 5000 if NAME == "one" else 5001))
listener.setblocking(False)
connections = []
if "stubborn" in sys.argv:
    stubborn = os.pidfd_open(os.getpid())  # CRIU before 4.1 knows no pidfds
signal.signal(signal.SIGTERM, lambda *_: os._exit(7))

n = 0
while True:
    n += 1
    with contextlib.suppress(BlockingIOError):
        connections.append(listener.accept()[0])
    deleted.seek(0)
    held.seek(0)
    seen = {
        "n": n,
        "host": socket.gethostname(),
        "ipc": ctypes.string_at(memory, 8).decode() if memory else LIBC.semctl(semaphore, 0, 12),
        "held": held.read(),
        "deleted": len(deleted.read()),
        "root": read(f"/srv/deep/{NAME}"),
        "app": sorted(os.listdir("/app")),  # noqa: PTH208
        "data": sorted(os.listdir("/data")),  # noqa: PTH208
        "shm": sorted(os.listdir("/dev/shm")),  # noqa: PTH208
        "sockets": len(connections),
    }
    print(json.dumps(seen), flush=True)  # noqa: T201
    time.sleep(0.2)

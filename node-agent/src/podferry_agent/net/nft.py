"""nftables inside this process: a thin binding of libnftables, so that no `nft` is forked while the network waits."""

from __future__ import annotations

import ctypes
import functools
import threading

from podferry import errors

_LOCK = threading.Lock()
"""libnftables keeps a few caches in globals: one command at a time."""


@functools.cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libnftables.so.1")
    except OSError as error:
        raise errors.Permanent(f"libnftables is not installed: {error}", reason="NoNftables") from error
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_free.restype = None
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    for name in ("nft_ctx_free", "nft_ctx_buffer_error", "nft_ctx_buffer_output"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    for name in ("nft_ctx_get_error_buffer", "nft_ctx_get_output_buffer"):
        getattr(library, name).restype = ctypes.c_char_p
        getattr(library, name).argtypes = [ctypes.c_void_p]
    return library


class Nft:
    """A libnftables context; it acts on the network namespace of the thread that made it."""

    def __init__(self) -> None:
        self._library = _library()
        self._context = self._library.nft_ctx_new(0)
        if not self._context:
            raise errors.Transient("libnftables gave no context", reason="NoNftables")
        self._library.nft_ctx_buffer_error(self._context)
        self._library.nft_ctx_buffer_output(self._context)

    def run(self, commands: str) -> str:
        """Run `commands` as one transaction and return what they print.

        Raises:
            Permanent: nftables refused them; nothing of them was applied.
        """
        with _LOCK:
            failed = self._library.nft_run_cmd_from_buffer(self._context, commands.encode())
            printed: bytes = self._library.nft_ctx_get_output_buffer(self._context)
            complaint: bytes = self._library.nft_ctx_get_error_buffer(self._context)
        if failed:
            raise errors.Permanent(complaint.decode(errors="replace"), reason="NftablesRefused")
        return printed.decode()

    def close(self) -> None:
        """Free the context."""
        if self._context:
            self._library.nft_ctx_free(self._context)
            self._context = None

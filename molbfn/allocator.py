"""Memory that the C library gives back after every large tensor, and is made to keep instead."""

from __future__ import annotations

import ctypes
import os

_OWN_SETTINGS = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_",
                 "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")  # fmt: skip
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h
_PAD = 64 * 2**20


def keep_memory() -> bool:
    """Have glibc keep the memory that this process frees; return whether it does now.

    By default it asks the kernel for every large block anew, so each tensor of each layer is paid
    for page by page: a tenth to a fifth of the time of our networks on a CPU.  Nothing is done with
    another C library, or where the user has set the allocator up.
    """
    if any(name in os.environ for name in _OWN_SETTINGS):
        return False
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version()  # glibc alone has it
        settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: _PAD}
        return all(library.mallopt(name, value) == 1 for name, value in settings.items())
    except (OSError, AttributeError, TypeError):
        return False

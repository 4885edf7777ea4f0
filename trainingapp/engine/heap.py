"""Memory of tensors on the CPU that is used again (no torch).

A step allocates and frees the same tensors as the step before. By default glibc returns large blocks to the system when
they are freed, so that each step gets new pages, which the kernel must find and clear: a seventh of the processor time
of a small network. Here the process keeps what it has once had, up to the most that it needed at a time.
"""

import ctypes

# Of malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
#: The largest that mallopt takes.
NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Have this process, and loader processes that it forks, use freed memory again; returns whether the C library can.

    To be called once memory that only the preparation needed has been returned. musl and macOS have no such switches.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, NEVER))

"""How the C library hands out memory, for networks whose images are larger than its defaults have in mind."""

import ctypes

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # of glibc's mallopt
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let freed blocks be used again instead of going back to the system, for the rest of the process.

    By default every image above a few MB is mapped anew and zeroed page by page, which costs five to ten times as much
    as a pass over it. The process then holds on to the most memory that it has needed.

    Returns:
        False where the C library is not glibc; nothing is changed there.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST)) and bool(mallopt(_TRIM_THRESHOLD, _LARGEST))


def give_back_freed_memory() -> None:
    """Return what is free now to the system; does nothing where the C library is not glibc."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return

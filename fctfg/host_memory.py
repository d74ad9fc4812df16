"""The memory of this machine, and how the C library hands it out, for images that are larger than it has in mind."""

import ctypes
import re
import resource
from contextlib import suppress
from pathlib import Path

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


def peak_resident() -> int:
    """Most memory that this process has had so far, bytes; since `forget_peak` where that was called."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def forget_peak() -> None:
    """Let `peak_resident` count from now on (Linux, 10 microseconds); elsewhere it goes on."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def available_memory(control_group: Path = Path("/sys/fs/cgroup")) -> int:
    """Memory that a new process could have without pushing others out, bytes.

    Args:
        control_group: folder of the process's control group (version 2), whose limit, if any, counts too.

    Raises:
        OSError: the system is not Linux.
    """
    table = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(table["MemAvailable"].split()[0]) * 1024
    try:
        limit, used = ((control_group / name).read_text().strip() for name in ("memory.max", "memory.current"))
        reclaimable = re.search(r"^inactive_file (\d+)$", (control_group / "memory.stat").read_text(), re.MULTILINE)
    except OSError:
        return free
    if limit == "max":
        return free
    return max(0, min(free, int(limit) - int(used) + int(reclaimable[1] if reclaimable else 0)))

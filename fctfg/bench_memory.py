"""Peak memory of one call, measured in a process of its own."""

from __future__ import annotations

import gc
import multiprocessing
import re
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from fctfg.bench_networks import Sizes, Workload
from fctfg.host_memory import give_back_freed_memory, keep_freed_memory


def peak_memory(sizes: Sizes, what: str, precision: str, compiled: bool, threads: int) -> float | None:
    """Most memory that a call needs above what the networks, their inputs and the libraries take, in GB.

    On a CPU: the highest resident size (VmHWM of Linux, cleared before) less the resident size before the call; on a
    GPU: the allocator's own peak. The call runs once before, because the first one also generates kernels; a step pays
    for the weights' gradients each time.

    Returns:
        GB (10^9 bytes), or None where the system does not tell or the process dies.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(sender, sizes, what, precision, compiled, threads))
    process.start()
    sender.close()
    try:
        found = receiver.recv()
    except EOFError:
        found = None
    process.join()
    return found


def _measure(sender: Connection, sizes: Sizes, what: str, precision: str, compiled: bool, threads: int) -> None:
    torch.set_num_threads(threads)
    call = Workload(sizes).call(what, precision, compiled)
    call()
    gc.collect()
    if sizes.device.startswith("cuda"):
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        sender.send((torch.cuda.max_memory_allocated() - before) / 1e9)
        return
    give_back_freed_memory()
    keep_freed_memory()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again at the present size
        before_kb = _status("VmRSS")
        call()
        sender.send((_status("VmHWM") - before_kb) * 1024 / 1e9)
    except OSError:
        sender.send(None)


def _status(field: str) -> int:
    """A field of the process's status, in kB."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])

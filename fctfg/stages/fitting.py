"""The largest batch that fits into memory."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable

import torch

from fctfg.data.datamodule import TalkingData
from fctfg.errors import FctfgError
from fctfg.host_memory import available_memory
from fctfg.stages.base import Stage
from fctfg.stages.dry_run import MakeTrainer, measure

PROBES = (2, 4)  # batches that are measured on a CPU
RESERVE = 0.1  # share of the available memory that is left alone on a CPU


def largest_batch(fits: Callable[[int], bool], most: int) -> int:
    """The largest batch that fits, by doubling, then by halving the rest.

    Args:
        fits: whether a batch of that size does; if it does, so do all smaller ones.
        most: no larger one is tried.

    Returns:
        0 where not even one sample fits.
    """
    good, bad = 0, most + 1
    while bad - good > 1:
        size = min(2 * good or 1, most) if bad > most else (good + bad) // 2
        if fits(size):
            good = size
        else:
            bad = size
    return good


def predicted_batch(peaks: dict[int, int], available: int, most: int) -> int:
    """The largest batch whose memory is predicted to be there: it grows in a line with the batch.

    Args:
        peaks: most memory, bytes, of two sizes of the batch.
        available: bytes.
        most: no larger one is returned.

    Returns:
        0 where not even one sample fits.
    """
    (small, low), (large, high) = sorted(peaks.items())
    slope = (high - low) / (large - small)
    room = available - (low - slope * small)
    if slope <= 0:
        return most if room > 0 else 0
    return max(0, min(most, int(room / slope)))


def fit_on_gpu(stage: Stage, data: TalkingData, make_trainer: MakeTrainer) -> int:
    """The largest `data.batch_size` for which no phase of a stage runs out of the GPU's memory.

    Args:
        stage: its weights change.
        data: its `batch_size` and `batches_per_epoch` change.
        make_trainer: as `fctfg.stages.dry_run.measure` wants it.
    """

    def fits(size: int) -> bool:
        data.batch_size = size
        try:
            measure(stage, data, make_trainer, rounds=1)
        except torch.OutOfMemoryError:
            return False
        finally:
            stage.zero_grad(set_to_none=True)
            gc.collect()  # graphs that hang on the exception
            torch.cuda.empty_cache()
        return True

    return largest_batch(fits, len(data.train))


def fit_on_cpu(arguments: list[str], data: TalkingData) -> int:
    """The largest `data.batch_size` whose memory is there, predicted from two dry runs in processes of their own.

    It is not tried out, because a system that runs out of memory kills processes, and not always the right one.

    Args:
        arguments: of `fctfg train`.
        data: as the run is configured.

    Raises:
        FctfgError: the dry run of a small batch fails.
    """
    available = int((1 - RESERVE) * available_memory())
    return predicted_batch({size: dry_run_memory(arguments, size) for size in PROBES}, available, len(data.train))


def dry_run_memory(arguments: list[str], size: int) -> int:
    """Most memory, bytes, of a dry run in a process of its own.

    Args:
        arguments: of `fctfg train`.
        size: of the batch.

    Raises:
        FctfgError: it fails, with its reason.
    """
    own = ["--fit=false", "--dry_run=true", f"--data.batch_size={size}"]
    command = [sys.executable, "-m", "fctfg", "train", *arguments, *own]
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=told)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            told.seek(0)
            last = (told.read().strip().splitlines() or ["it was killed"])[-1]
            raise FctfgError(f"a batch of {size} cannot be tried: {last.removeprefix('fctfg: error: ')}")
    return used.ru_maxrss * 1024

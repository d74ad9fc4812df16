"""Signals that ask a run to stop, heeded at the end of a batch."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 143}
"""Signals and the exit status that each leads to; a scheduler takes 143 for a job that wants to be started again."""


class Stopped(SystemExit):
    """The run was asked to stop, and is saved as far as could be."""


@contextmanager
def stop_at_once() -> Iterator[None]:
    """While there is nothing to save yet, the signals of a scheduler end the process with their status."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(STATUS[signal.Signals(number)])

    previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class StopSignals:
    """Remembers that this process was asked to stop, and finds out whether any process of the run was.

    A second Ctrl-C stops at once. The other signals may come again, since schedulers send several.
    """

    def __init__(self) -> None:
        self._status = 0
        self._previous: dict[signal.Signals, Any] = {}
        self._group: Any = None  # of processes that agree; None: a single one

    def listen(self, trainer: pl.Trainer) -> None:
        """From now on signals are remembered; called on all ranks alike."""
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._remember) for number in STATUS}
        if trainer.world_size > 1:
            self._group = torch.distributed.new_group(backend="gloo")  # the GPU need not be waited for

    def leave(self) -> None:
        """From now on signals do what they did before."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self._status = self._status or STATUS[signal.Signals(number)]
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def status(self) -> int:
        """The exit status that the run is asked to stop with, the same on all ranks; 0 when it is to go on."""
        if self._group is None:
            return self._status
        agreed = torch.tensor(self._status)
        torch.distributed.all_reduce(agreed, torch.distributed.ReduceOp.MAX, group=self._group)
        return int(agreed)

"""`last.ckpt`: what a run continues from."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from fctfg.atomic import atomic_path
from fctfg.errors import FctfgError
from fctfg.stages.base import Stage, say
from fctfg.stages.csv_log import CsvLog


class Interrupted(SystemExit):
    """Ctrl-C was pressed; the run is saved and stops with exit status 130."""

    def __init__(self) -> None:
        super().__init__(130)


def weights_agree(module: nn.Module) -> bool:
    """Whether all processes of the default group hold the same weights (by a sum in float64 over all parameters).

    Statistics of batch norms are not looked at: each process has those of its own samples, and rank 0's are saved.
    """
    total = torch.stack([p.detach().double().sum() for p in module.parameters()]).sum()
    largest, smallest = total.clone(), total.clone()
    torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)
    torch.distributed.all_reduce(smallest, torch.distributed.ReduceOp.MIN)
    return bool(largest == smallest)


class LastCheckpoint(pl.Callback):
    """Saves the run at the end of every epoch, and on Ctrl-C at the end of the batch in hand.

    The file is written beside its target and renamed, so that it is whole at every moment. A second Ctrl-C stops at
    once, without saving.

    Args:
        folder: `checkpoints/` of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "last.ckpt"
        self._stop = False  # asked for by this process
        self._leave = False  # agreed on by all, and saved
        self._previous: Any = None

    def save(self, trainer: pl.Trainer) -> None:
        """Save the run (called on all ranks alike)."""
        module = trainer.lightning_module
        assert isinstance(module, Stage)
        module.check_finite()
        if trainer.world_size > 1 and not weights_agree(module):
            raise FctfgError(
                f"the {trainer.world_size} processes hold different weights, so nothing is saved; "
                f"continue from {self.path}, and please report this"
            )
        if trainer.is_global_zero:
            with atomic_path(self.path) as partial:
                trainer.save_checkpoint(partial)
        else:
            trainer.save_checkpoint(self.path)  # takes part; only the first process writes
        trainer.strategy.barrier("last.ckpt")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._on_signal)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, CsvLog):
                logger.rewind(trainer.fit_loop.epoch_loop.batch_progress.total.ready)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        stop = self._stop
        if trainer.world_size > 1:
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
        if stop:
            self.save(trainer)
            self._leave = True  # once the loggers have this batch

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._leave:
            say(f"Interrupted; {self.path} is saved, and the same command goes on from it")
            raise Interrupted

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.save(trainer)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None

"""When a run is saved, and when it stops because it was asked to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import nn

from fctfg.errors import FctfgError, WriteError
from fctfg.stages.base import Stage, say
from fctfg.stages.callbacks.stop_signals import Stopped, StopSignals
from fctfg.stages.checkpoint_files import CheckpointFiles
from fctfg.stages.csv_log import CsvLog
from fctfg.stages.loop_state import evaluation_follows, go_on, settle


def weights_agree(module: nn.Module) -> bool:
    """Whether all processes of the default group hold the same weights (by a sum in float64 over all parameters).

    Statistics of batch norms are not looked at: within a step each process has those of its own samples.
    """
    total = torch.stack([p.detach().double().sum() for p in module.parameters()]).sum()
    largest, smallest = total.clone(), total.clone()
    torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)
    torch.distributed.all_reduce(smallest, torch.distributed.ReduceOp.MIN)
    return bool(largest == smallest)


def share_buffers(module: nn.Module) -> None:
    """Give all processes of the default group the first one's buffers (statistics of batch norms), which are saved."""
    for buffer in module.buffers():
        torch.distributed.broadcast(buffer, 0)


def iterations_done(trainer: pl.Trainer) -> int:
    """Iterations of the run so far, over all epochs and launches, with the one whose end is being dealt with."""
    return trainer.fit_loop.epoch_loop.batch_progress.total.ready


def stage_of(trainer: pl.Trainer) -> Stage:
    """The stage that is trained."""
    assert isinstance(trainer.lightning_module, Stage)
    return trainer.lightning_module


def _miss(module: Stage, error: WriteError) -> None:
    sentence = f"Not saved, training goes on: {error}"
    module.troubles.meet("checkpoints that could not be written", sentence, about=str(error))


def _is_over(trainer: pl.Trainer) -> bool:
    """Whether the run has reached its `max_steps`, which Lightning does not continue."""
    return 0 <= trainer.max_steps <= trainer.fit_loop.epoch_loop.global_step


class Checkpoints(pl.Callback):
    """Saves the run every so many iterations and at the end of every epoch, and when it is asked to stop.

    Ctrl-C, SIGTERM and SIGUSR1 are heeded at the end of the batch in hand, on all ranks alike. A checkpoint that cannot
    be written is said and counted; training goes on, and the older ones stay.

    Args:
        files: where to.
        every: iterations between two checkpoints.
        best: metrics by which the best checkpoint is kept too, and whether the largest ("max") or the smallest is best.
    """

    def __init__(self, files: CheckpointFiles, every: int, best: Mapping[str, Literal["min", "max"]]) -> None:
        self.files, self.every, self.best = files, every, dict(best)
        self._signals = StopSignals()
        self._due = False  # whether a checkpoint is to be written as soon as can be
        self._records: dict[str, float] = {}  # the best value of each metric
        self._evaluate = False  # whether an evaluation was due, and not done, when the run was saved
        self._before_evaluation: dict[str, Any] = {}  # Lightning's count of batches evaluated
        self._saved: tuple[int, Path] | None = None  # the newest checkpoint, and its iterations; rank 0
        self._better: tuple[int, list[str]] = 0, []  # records of the newest evaluation, and its iterations
        self._unsaved: WriteError | None = None  # why the newest one is missing

    def state_dict(self) -> dict[str, Any]:
        return {"records": dict(self._records), "evaluate": self._evaluate}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._records, self._evaluate = dict(state_dict["records"]), state_dict["evaluate"]

    def save(self, trainer: pl.Trainer, in_batch: bool) -> None:
        """Save the run (called on all ranks alike).

        Args:
            trainer: trains a `Stage`.
            in_batch: whether at the end of a batch or in the evaluation that follows; else at the end of an epoch.
        """
        module = stage_of(trainer)
        module.check_finite()
        if trainer.world_size > 1 and not weights_agree(module):
            raise FctfgError(
                f"the {trainer.world_size} processes hold different weights, so nothing is saved; "
                f"continue from {self.files.last}, and please report this"
            )
        self._due = False
        self._evaluate = in_batch and evaluation_follows(trainer)
        if trainer.is_global_zero:
            content = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
            loops = content["loops"]["fit_loop"]
            settle(loops, trainer, in_batch)
            if trainer.validating:
                loops["epoch_loop.val_loop.batch_progress"] = self._before_evaluation
            iterations = iterations_done(trainer)
            try:
                self._saved = iterations, self.files.write(iterations, content)
                self._unsaved = None
            except WriteError as error:
                self._unsaved = error
                _miss(module, error)
        trainer.strategy.barrier("checkpoint")

    def _keep_best(self, module: Stage, iterations: int) -> None:
        """Keep the newest checkpoint, if it is of these iterations and an evaluation of them brought records."""
        if self._saved is not None and self._saved[0] == self._better[0] == iterations:
            for metric in self._better[1]:
                try:
                    self.files.keep_as_best(metric, self._saved[1])
                except WriteError as error:
                    _miss(module, error)
            self._better = 0, []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        iterations = iterations_done(trainer)
        if trainer.world_size > 1 and trainer.strategy.broadcast(iterations) != iterations:
            raise FctfgError(
                f"the processes of this run do not see the same newest checkpoint in {self.files.folder}; "
                f"use a file system that all of them share"
            )
        if trainer.ckpt_path is not None:
            self._saved = (iterations, Path(trainer.ckpt_path)) if trainer.is_global_zero else None
            go_on(trainer, self._evaluate)
        for logger in trainer.loggers:
            if isinstance(logger, CsvLog):
                logger.rewind(iterations, evaluated=not self._evaluate)
        self._signals.listen(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._stop_if_asked(trainer)
        self._due |= iterations_done(trainer) % self.every == 0
        if trainer.fit_loop.epoch_loop._num_ready_batches_reached() or _is_over(trainer):
            return  # the end of the epoch or of the run follows, which is saved
        if self._due or (self.best and evaluation_follows(trainer)):
            self.save(trainer, in_batch=True)

    def _stop_if_asked(self, trainer: pl.Trainer) -> None:
        """Save the run and leave it, when any process was asked to and the run can be saved here."""
        status = self._signals.status()
        if status and not _is_over(trainer):
            self.save(trainer, in_batch=True)
            if self._unsaved is None:
                say(f"Interrupted; {self.files.last} is saved, and the same command goes on from it")
            raise Stopped(status)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._before_evaluation = trainer.fit_loop.epoch_loop.val_loop.batch_progress.state_dict()
        if trainer.world_size > 1:
            share_buffers(pl_module)  # what is evaluated is what is saved

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *rest: Any) -> None:
        self._stop_if_asked(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        better = []
        for metric, direction in self.best.items():
            value = float(trainer.callback_metrics.get(f"val/{metric}", math.nan))
            record = self._records.get(metric, -math.inf if direction == "max" else math.inf)
            if value > record if direction == "max" else value < record:
                self._records[metric] = value
                better.append(metric)
        iterations = iterations_done(trainer)
        self._better = iterations, better
        self._keep_best(stage_of(trainer), iterations)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.save(trainer, in_batch=False)
        self._keep_best(stage_of(trainer), iterations_done(trainer))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._unsaved is not None:
            raise WriteError(f"the run has ended, but its end is not saved: {self._unsaved}") from self._unsaved

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._signals.leave()

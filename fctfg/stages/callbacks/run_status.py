"""What a run tells those who watch it, and what it leaves when it ends."""

from __future__ import annotations

import logging
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from fctfg.errors import FctfgError
from fctfg.run_state import RunState, write_state
from fctfg.stages.base import Stage
from fctfg.stages.callbacks.speed import Mark, Rates, Speed, rates, total_iterations
from fctfg.stages.crash_report import write_crash_report
from fctfg.stages.finite import RollBack


class RunStatus(pl.Callback):
    """Keeps `run.json` up to date, for `fctfg runs`, and leaves a report where a run crashes.

    A file that cannot be written stops nothing: it tells of the run, and nothing is lost with it.

    Args:
        run: the run's folder.
        arguments: of `fctfg train`.
        speed: measures the run.
        every: seconds between two notes.
    """

    def __init__(self, run: Path, arguments: list[str], speed: Speed, every: float = 30.0) -> None:
        self.run, self.speed, self.every = run, speed, every
        self.command = ["fctfg", "train", *arguments]
        self._before: Mark | None = None  # where the run stood at the last note
        self._rates: Rates | None = None

    def _note(self, trainer: pl.Trainer, state: str, reason: str = "") -> None:
        if not trainer.is_global_zero:
            return
        stage, total, now = trainer.lightning_module, total_iterations(trainer), self.speed.now
        assert isinstance(stage, Stage)
        self._rates = (rates(self._before, now) if self._before else None) or self._rates
        self._before = now
        left = speed = None
        if self._rates is not None:
            left = self.speed.left(total, self._rates.seconds_per_iteration, int(trainer.num_training_batches))
            speed = self._rates.images_per_second
        content = RunState(
            stage=stage.stage,
            state=state,
            iterations=self._iterations(trainer),
            total=total,
            updated=time.time(),
            host=socket.gethostname(),
            process=os.getpid(),
            folder=os.getcwd(),
            command=self.command,
            metrics={k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")},
            images_per_second=speed,
            seconds_left=left,
            reason=reason,
        )
        with suppress(FctfgError, OSError):
            write_state(self.run, content)

    def _iterations(self, trainer: pl.Trainer) -> int:
        return max(self.speed.now.iterations, trainer.fit_loop.epoch_loop.batch_progress.total.completed)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._note(trainer, "running")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._before is not None and self.speed.now.seconds - self._before.seconds >= self.every:
            self._note(trainer, "running")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._note(trainer, "running")

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        total = total_iterations(trainer)
        done = total is None or self._iterations(trainer) >= total
        self._note(trainer, "complete" if done else "stopped")

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, KeyboardInterrupt | SystemExit):
            self._note(trainer, "stopped")
        elif isinstance(exception, FctfgError | RollBack):  # the latter may go on, and is running again then
            self._note(trainer, "failed", str(exception))
        else:
            report = write_crash_report(self.run, trainer, exception, self.command)
            if report is not None:
                logging.getLogger("fctfg").error(f"The run crashed; {report} says where, and what to do")
            self._note(trainer, "crashed", report.name if report else "")

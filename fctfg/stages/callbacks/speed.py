"""How fast a run is, and what holds it up."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch

from fctfg.data.batch import Batch
from fctfg.stages.base import Stage, say

ENOUGH = 0.1  # share of the time waited for data that is worth a warning
WINDOW = 100  # iterations that it is judged by


@dataclass(frozen=True)
class Mark:
    """Where a run stands at a moment.

    Attributes:
        seconds: of a clock that is never set.
        iterations: done so far.
        images: trained on so far, over all processes.
        waited: seconds waited for data so far.
        paused: seconds so far of what comes between epochs (validation, pictures, export, checkpoints).
    """

    seconds: float
    iterations: int
    images: int = 0
    waited: float = 0.0
    paused: float = 0.0


@dataclass(frozen=True)
class Rates:
    """The speed of training between two moments, without the pauses between epochs.

    Attributes:
        images_per_second: over all processes.
        kimg_per_day: thousands of images in 24 hours at that speed.
        data_wait: share of the time that was waited for data, 0 to 1.
        seconds_per_iteration: as it says.
    """

    images_per_second: float
    kimg_per_day: float
    data_wait: float
    seconds_per_iteration: float


def rates(before: Mark, now: Mark) -> Rates | None:
    """The speed from one moment to a later one; None where no iteration, or no time, lies between."""
    seconds = now.seconds - before.seconds - (now.paused - before.paused)
    if now.iterations <= before.iterations or seconds <= 0:
        return None
    images = (now.images - before.images) / seconds
    waited = min(1.0, (now.waited - before.waited) / seconds)
    return Rates(images, images * 86.4, waited, seconds / (now.iterations - before.iterations))


def total_iterations(trainer: pl.Trainer) -> int | None:
    """Iterations of the whole run; None where it has no end, or before its data are known."""
    epochs, batches = trainer.max_epochs, trainer.num_training_batches
    ends = [trainer.max_steps] if trainer.max_steps >= 0 else []
    if epochs is not None and epochs >= 0 and batches != float("inf"):
        ends.append(int(epochs * batches))
    return min(ends, default=None)


class Speed(pl.Callback):
    """Measures the run, logs `speed/...` at the logging intervals, and says once when training waits for its data.

    Nothing is read from the device. On a GPU, which works behind the process that commands it, the figures of many
    iterations are right and those of a single one are not.

    It must be the first callback, so that all that the others do at the end of an epoch counts as a pause.

    Attributes:
        now: the present state, after each iteration.
    """

    def __init__(self) -> None:
        self.now = Mark(time.monotonic(), 0)
        self._images, self._paused, self._pauses = 0, 0.0, 0
        self._since: float | None = None  # when the present pause began
        self._warned = False

    def left(self, total: int | None, per_iteration: float, batches: int) -> float | None:
        """Seconds until iteration `total` at this speed, with the pauses after each `batches` iterations as they have
        been; None where the run has no end."""
        if total is None:
            return None
        rest = max(0, total - self.now.iterations)
        pause = self._paused / self._pauses if self._pauses else 0.0
        return rest * per_iteration + -(-rest // batches) * pause

    def gpu_memory(self) -> float | None:
        """Most memory that this process has held on its GPU, 10^9 bytes; None without one."""
        return torch.cuda.max_memory_reserved(self._device) / 1e9 if self._device.type == "cuda" else None

    def _mark(self, trainer: pl.Trainer, iterations: int) -> Mark:
        waited = getattr(trainer.train_dataloader, "waited", 0.0)
        return Mark(time.monotonic(), iterations, self._images, waited, self._paused)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._device = pl_module.device
        self.now = self._logged = self._mark(trainer, trainer.fit_loop.epoch_loop.batch_progress.total.ready)
        self._window: Mark | None = None  # where the iterations begin that waiting is judged by

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Stage)
        samples, frames = batch.driving.shape[:2]
        self._images += samples * (frames + pl_module.trains_on_source) * trainer.world_size
        iteration = self.now.iterations  # 0-based number of the one that has just been done
        self.now = self._mark(trainer, iteration + 1)
        if iteration % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self._log(trainer, iteration)
        if self._window is None:  # not before the first iteration, which waits until data are read ahead
            self._window = self.now
        elif self.now.iterations - self._window.iterations >= WINDOW:
            self._judge_waiting(trainer, rates(self._window, self.now))
            self._window = self.now

    def _log(self, trainer: pl.Trainer, iteration: int) -> None:
        found = rates(self._logged, self.now)
        self._logged = self.now
        if found is None or not trainer.is_global_zero:
            return
        values = {f"speed/{name}": value for name, value in vars(found).items()}
        if (memory := self.gpu_memory()) is not None:
            values["speed/gpu_memory_gb"] = memory
        for logger in trainer.loggers:
            logger.log_metrics(values, step=iteration)

    def _judge_waiting(self, trainer: pl.Trainer, found: Rates | None) -> None:
        if self._warned or found is None or found.data_wait <= ENOUGH:
            return
        self._warned = True
        data = trainer.datamodule  # type: ignore[attr-defined]
        say(
            f"Training waits for its data: {found.data_wait:.0%} of the last {WINDOW} iterations with "
            f"--data.num_workers {data.num_workers}. More threads may help, up to the number of cores; "
            f"`fctfg bench data {data.root} --batch {data.batch_size} --frames {data.frames} "
            f"--step-ms {1e3 * found.seconds_per_iteration * (1 - found.data_wait):.0f}` measures how many are enough"
        )

    def _begin_pause(self) -> None:
        if self._since is None:
            self._since = time.monotonic()

    def _end_pause(self) -> None:
        if self._since is not None:
            self._paused += time.monotonic() - self._since
            self._since = None

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin_pause()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._end_pause()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin_pause()
        self._pauses += 1

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._end_pause()

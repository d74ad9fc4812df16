"""The progress of a run on the terminal."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from fctfg.data.batch import Batch


def duration(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"


class TrainingProgress(ProgressBar):
    """A bar over the whole run with images per second, time left and losses; plain lines where there is no terminal.

    Args:
        every: seconds between two plain lines.
    """

    def __init__(self, every: float = 20.0) -> None:
        super().__init__()
        self.every = every
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._done = trainer.fit_loop.epoch_loop.batch_progress.total.ready
        epochs = trainer.max_epochs if trainer.max_epochs is not None and trainer.max_epochs > 0 else 0
        self._total = int(epochs * trainer.num_training_batches) or None
        self._begin, self._first, self._images, self._last = time.monotonic(), self._done, 0, 0.0
        if self._enabled and trainer.is_global_zero and self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed}/{task.total}"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[state]}"),
                console=self._console,
                transient=False,
            )
            self._bar.start()
            name = getattr(pl_module, "stage", type(pl_module).__name__)
            self._task = self._bar.add_task(name, total=self._total, completed=self._done, state="")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self._done += 1
        samples, frames = batch.driving.shape[:2]
        self._images += samples * (frames + getattr(pl_module, "trains_on_source", False)) * trainer.world_size
        if not (self._enabled and trainer.is_global_zero):
            return
        now = time.monotonic()
        if now - self._last < (0.2 if self._bar else self.every):
            return
        self._last = now
        elapsed = now - self._begin
        rate = (self._done - self._first) / elapsed
        left = duration((self._total - self._done) / rate) if self._total else "?"
        metrics = self.get_metrics(trainer, pl_module)
        losses = " ".join(
            f"{k.removeprefix('train/')} {v:.3g}"
            for k, v in metrics.items()
            if k.startswith("train/") and isinstance(v, float)
        )
        state = f"{self._images / elapsed:.1f} images/s, {left} left | {losses}"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done, state=state)
        else:
            self._console.print(f"{self._done}/{self._total} | {state}", highlight=False, soft_wrap=True)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not (self._enabled and trainer.is_global_zero) or trainer.sanity_checking:
            return
        shown = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
        line = " ".join(f"{k} {v:.4g}" for k, v in shown.items())
        self._console.print(f"epoch {trainer.current_epoch} | {line}", highlight=False, soft_wrap=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop_bar()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._stop_bar()

    def _stop_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

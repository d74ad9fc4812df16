"""The progress of a run on the terminal."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from fctfg.data.batch import Batch
from fctfg.stages.base import Stage
from fctfg.stages.callbacks.learning_rates import named_rates
from fctfg.stages.callbacks.speed import Mark, Rates, Speed, rates, total_iterations

LINES = 5  # the speed that is shown is that since so many lines


def duration(seconds: float) -> str:
    """`1:02:03` or `2:03`, and `3 d 1:02:03` from a day on."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    day = f"{days} d " if days else ""
    return f"{day}{hours}:{m:02d}:{s:02d}" if hours or days else f"{m}:{s:02d}"


def short(value: float) -> str:
    """A number with three digits, or all digits before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def speed_text(found: Rates, left: float | None, gpu_memory: float | None) -> str:
    """The speed of a run in one line.

    Args:
        found: the speed.
        left: seconds until the run is done; None: it has no end.
        gpu_memory: 10^9 bytes; None: there is no GPU.
    """
    parts = [
        f"{short(found.images_per_second)} images/s",
        f"{short(found.kimg_per_day)} kimg/day",
        f"{'?' if left is None else duration(left)} left",
        f"{found.data_wait:.0%} waiting for data",
    ]
    return ", ".join(parts if gpu_memory is None else [*parts, f"{gpu_memory:.1f} GB of GPU memory"])


def terms_text(terms: Mapping[str, float], learning_rates: Mapping[str, float]) -> str:
    """Losses, then gradient norms (`grad_norm_NETWORK`), then learning rates, in one line.

    Args:
        terms: what `train/` logs, by name.
        learning_rates: by `learning_rate` or `learning_rate_NETWORK`.
    """
    norms = {name.removeprefix("grad_norm_"): term for name, term in terms.items() if name.startswith("grad_norm_")}
    steps = {name.removeprefix("learning_rate").lstrip("_"): rate for name, rate in learning_rates.items()}
    losses = {name: term for name, term in terms.items() if not name.startswith(("grad_norm_", "learning_rate"))}
    if len(set(steps.values())) == 1:
        steps = {"": next(iter(steps.values()))}
    groups = [
        (title, " ".join(f"{name} {term:.3g}".strip() for name, term in group.items()))
        for title, group in (("", losses), ("gradients ", norms), ("learning rate ", steps))
    ]
    return " | ".join(title + text for title, text in groups if text)


class TrainingProgress(ProgressBar):
    """A bar over the whole run with its speed and its terms below; plain lines where there is no terminal.

    Terms are read from the device when they are shown, and at no other time.

    Args:
        speed: measures the run.
        every: seconds between two plain lines.
        refresh: seconds between two figures below a bar.
    """

    def __init__(self, speed: Speed, every: float = 20.0, refresh: float = 2.0) -> None:
        super().__init__()
        self.speed = speed
        self.every, self.refresh = every, refresh
        self._console = Console(stderr=True)
        self._live: Live | None = None
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._total = total_iterations(trainer)
        self._shown = 0.0
        self._marks: deque[Mark] = deque([self.speed.now], maxlen=LINES)
        live = self._console.is_terminal and not self._console.is_dumb_terminal
        if self._enabled and trainer.is_global_zero and live:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed}/{task.total}"),
                TimeElapsedColumn(),
            )
            name = getattr(pl_module, "stage", type(pl_module).__name__)
            self._task = self._bar.add_task(name, total=self._total, completed=self.speed.now.iterations)
            self._live = Live(self._bar, console=self._console, refresh_per_second=4)
            self._live.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        if not (self._enabled and trainer.is_global_zero):
            return
        now, done = time.monotonic(), self.speed.now.iterations
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done)
        if now - self._shown < (self.refresh if self._bar else self.every) and done != self._total:
            return
        self._shown = now
        assert isinstance(pl_module, Stage)
        speed, terms = self._figures(trainer, pl_module)
        if self._live is not None and self._bar is not None:
            self._live.update(Group(self._bar, Text(speed), Text(terms)))
        else:
            total = "" if self._total is None else f"/{self._total}"
            self._print(f"iteration {done}{total} | {speed} | {terms}")

    def _figures(self, trainer: pl.Trainer, stage: Stage) -> tuple[str, str]:
        """The speed since some lines ago, and the present terms."""
        found = rates(self._marks[0], self.speed.now)
        self._marks.append(self.speed.now)
        speed = ""
        if found is not None:
            left = self.speed.left(self._total, found.seconds_per_iteration, int(trainer.num_training_batches))
            speed = speed_text(found, left, self.speed.gpu_memory())
        terms = {
            name.removeprefix("train/"): float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("train/")
        }
        return speed, terms_text(terms, named_rates(stage, trainer.optimizers))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not (self._enabled and trainer.is_global_zero) or trainer.sanity_checking:
            return
        shown = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
        line = " ".join(f"{k} {v:.4g}" for k, v in shown.items())
        self._print(f"epoch {trainer.current_epoch} | {line}")

    def _print(self, line: str) -> None:
        with suppress(OSError):  # it goes to a file, whose disk is full
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop_bar()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._stop_bar()

    def _stop_bar(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = self._bar = None

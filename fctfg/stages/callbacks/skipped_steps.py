"""Skipped steps and loss spikes: counted, written down, and said."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor

from fctfg.atomic import write_json
from fctfg.data.datamodule import TalkingData
from fctfg.data.sampler import positions
from fctfg.errors import WriteError
from fctfg.stages.base import Stage, say
from fctfg.stages.finite import RollBack
from fctfg.stages.spikes import UsualRange

MOST_FILES = 100  # of skipped iterations; more are only counted


class Row(NamedTuple):
    """What an iteration has shown: numbers by name, first on the device, later on the host."""

    iteration: int
    names: tuple[str, ...]
    values: Tensor  # [names]

    def plain(self) -> dict[str, float]:
        return dict(zip(self.names, self.values.tolist(), strict=True))


def gradient_norms(row: dict[str, float]) -> dict[str, float]:
    """The norms of the gradients in an iteration, by network."""
    return {name.removeprefix("grad_norm_"): v for name, v in row.items() if name.startswith("grad_norm_")}


def not_finite(row: dict[str, float]) -> list[str]:
    """The networks whose gradients were not finite in an iteration, for which a step was skipped."""
    return [name for name, norm in gradient_norms(row).items() if not math.isfinite(norm)]


class SkippedSteps(pl.Callback):
    """Looks at what the steps of the last iterations have shown, once every `log_every_n_steps` iterations.

    The numbers stay on the device until then, are copied while the next iteration runs, and are looked at after it, so
    that nothing waits. Each skipped iteration is written to `troubles/skipped-<iteration>.json`: the positions of its
    samples, their clips, seed, terms, and norms of gradients. After too many in a row the run goes back.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "troubles"
        self.skipped = 0  # iterations of the run with a skipped step
        self._clear()

    def _clear(self) -> None:
        self._in_a_row = 0
        self._trouble = ""  # why the run must go back
        self._new: list[Row] = []  # on the device
        self._copied: list[Row] = []  # on the host, once `_ready`
        self._ready: torch.cuda.Event | None = None
        self._usual: dict[str, UsualRange] = {}

    def state_dict(self) -> dict[str, Any]:
        unseen = sum(bool(not_finite(row.plain())) for row in self._copied + self._new)
        return {"skipped": self.skipped + unseen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped = state_dict["skipped"]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._clear()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Stage)
        iteration, every = pl_module.iteration, int(trainer.log_every_n_steps)  # type: ignore[attr-defined]
        if iteration % every == 0:
            self._look(trainer, pl_module)
            if trainer.is_global_zero:
                for logger in trainer.loggers:
                    logger.log_metrics({"train/skipped": self.skipped}, step=iteration)
        watched = pl_module.watched
        if watched:
            values = torch.stack([value.detach().float() for value in watched.values()])
            self._new.append(Row(iteration, tuple(watched), values))
        if (iteration + 1) % every == 0:
            self._copy()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Stage)
        self._catch_up(trainer, pl_module)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        assert isinstance(pl_module, Stage)
        if isinstance(exception, SystemExit):  # asked to stop, and saved
            with suppress(RollBack):
                self._catch_up(trainer, pl_module)

    def _catch_up(self, trainer: pl.Trainer, stage: Stage) -> None:
        """Look at all iterations so far, waiting for the device."""
        self._look(trainer, stage)
        self._copy()
        self._look(trainer, stage)

    def _copy(self) -> None:
        """Start to copy the new rows to the host."""
        if not self._new:
            return
        values = torch.cat([row.values for row in self._new]).to("cpu", non_blocking=True)
        parts = values.split([len(row.names) for row in self._new])
        self._copied = [row._replace(values=part) for row, part in zip(self._new, parts, strict=True)]
        if self._new[0].values.is_cuda:
            self._ready = torch.cuda.Event()
            self._ready.record()
        self._new = []

    def _look(self, trainer: pl.Trainer, stage: Stage) -> None:
        """Look at the rows that were copied.

        Raises:
            RollBack: too many iterations in a row were skipped.
        """
        if self._ready is not None:
            self._ready.synchronize()
        spikes: dict[str, str] = {}
        for row in self._copied:
            numbers = row.plain()
            if networks := not_finite(numbers):
                self.skipped += 1
                self._in_a_row += 1
                self._write(trainer, stage, row.iteration, networks, numbers)
                if self._in_a_row == stage.safety.max_skipped:
                    self._trouble = f"{self._in_a_row} iterations in a row were skipped, up to {row.iteration}"
                continue
            self._in_a_row = 0
            if stage.safety.spike:
                for name, value in numbers.items():
                    usual = self._usual.setdefault(name, UsualRange(stage.safety.spike))
                    if text := usual.take(value):
                        spikes[name] = f"{name} is {text} in iteration {row.iteration}"
        self._copied, self._ready = [], None
        for text in spikes.values():
            say(f"Spike: {text}")
        if self._trouble:
            raise RollBack(self._trouble)

    def _write(
        self, trainer: pl.Trainer, stage: Stage, iteration: int, networks: list[str], numbers: dict[str, float]
    ) -> None:
        """Write down a skipped iteration: the first process always, others where their own terms are not finite."""
        rank, world = trainer.global_rank, trainer.world_size
        terms = {name: value for name, value in numbers.items() if not name.startswith("grad_norm_")}
        own = not all(map(math.isfinite, terms.values()))
        if self.skipped > MOST_FILES or (rank and not own):
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, TalkingData)
        keys = positions(iteration, data.batches_per_epoch, data.accumulate * data.batch_size, rank, world)
        path = self.folder / (f"skipped-{iteration}.json" if not rank else f"skipped-{iteration}-rank{rank}.json")
        say(f"Iteration {iteration}: a step is skipped, gradients of {', '.join(networks)} are not finite; see {path}")
        content = {
            "iteration": iteration,
            "not_finite": networks,  # their gradients; all networks of their optimiser are skipped
            "seed": stage.seed,
            "attempt": stage.attempt,
            "process": rank,
            "processes": world,
            "samples": [list(key) for key in keys],  # (epoch, index within it)
            "clips": [data.train.clip_at(key) for key in keys],
            "terms": {name: _shown(value) for name, value in terms.items()},
            "gradient_norms": {name: _shown(norm) for name, norm in gradient_norms(numbers).items()},
        }
        try:
            write_json(path, content)
        except WriteError as error:
            stage.troubles.meet("skipped iterations that could not be written down", f"Training goes on: {error}")


def _shown(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)

"""A few iterations of a stage that leave nothing behind: what it needs, and how long the whole run takes."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from fctfg.data.batch import Batch
from fctfg.data.datamodule import TalkingData
from fctfg.host_memory import peak_resident
from fctfg.stages.base import Stage
from fctfg.stages.callbacks.progress import duration, short

LATE = 1_000_000  # iterations after which no stage warms up any more
MakeTrainer = Callable[[pl.Callback, int], pl.Trainer]


@dataclass(frozen=True)
class Phase:
    """Iterations that do the same work.

    Attributes:
        terms: the lazy terms that they have.
        iteration: the number of one of them.
        share: of all iterations, 0 to 1.
    """

    terms: tuple[str, ...]
    iteration: int
    share: float


def phases(periods: Mapping[str, int]) -> list[Phase]:
    """The phases of a stage, the most frequent first.

    Args:
        periods: of each lazy term, iterations.
    """
    cycle = math.lcm(*periods.values())
    first = -(-LATE // cycle) * cycle
    terms = [tuple(name for name, every in periods.items() if k % every == 0) for k in range(cycle)]
    return [
        Phase(present, first + terms.index(present), count / cycle) for present, count in Counter(terms).most_common()
    ]


def begin_at(trainer: pl.Trainer, stage: Stage, iteration: int) -> None:
    """Make the iteration that begins another one (called when a batch begins)."""
    trainer.fit_loop.epoch_loop.batch_progress.total.completed = iteration
    assert stage.iteration == iteration


@dataclass(frozen=True)
class Trial:
    """What a few iterations have shown.

    Attributes:
        seconds: of one iteration of each phase.
        validation: seconds of one validation batch.
        memory: most memory of the process on its GPU, or without one in the machine's memory, bytes.
        checkpoint: size of a checkpoint, bytes.
        images: that an iteration trains on.
    """

    seconds: Mapping[Phase, float]
    validation: float
    memory: int
    checkpoint: int
    images: int

    @property
    def amortised(self) -> float:
        """Seconds of an iteration, with every phase at its share."""
        return sum(phase.share * seconds for phase, seconds in self.seconds.items())


class _Size:
    """A stream that only counts what is written."""

    def __init__(self) -> None:
        self.bytes = 0

    def write(self, content: bytes) -> int:
        self.bytes += len(content)
        return len(content)

    def flush(self) -> None:
        """Nothing is held back."""


class _Watch(pl.Callback):
    """Makes a trainer's first batches the iterations that are wanted, and measures them."""

    def __init__(self, order: list[Phase]) -> None:
        self.order = order
        self.seconds: dict[Phase, float] = {}  # of the last iteration of each phase
        self.validation = 0.0
        self.checkpoint = self.images = 0

    def _now(self, stage: pl.LightningModule) -> float:
        if stage.device.type == "cuda":
            torch.cuda.synchronize(stage.device)
        return time.perf_counter()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Stage)
        begin_at(trainer, pl_module, self.order[batch_idx].iteration)
        samples, frames = batch.driving.shape[:2]
        self.images = samples * (frames + pl_module.trains_on_source)
        self._begin = self._now(pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self.seconds[self.order[batch_idx]] = self._now(pl_module) - self._begin

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin = self._now(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.validation = self._now(pl_module) - self._begin

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        size = _Size()
        torch.save(trainer._checkpoint_connector.dump_checkpoint(weights_only=False), size)  # type: ignore[arg-type]
        self.checkpoint = size.bytes


def measure(stage: Stage, data: TalkingData, make_trainer: MakeTrainer, rounds: int = 2) -> Trial:
    """Train each phase of a stage once a round, and validate one batch.

    Args:
        stage: its weights change.
        data: its `batches_per_epoch` changes.
        make_trainer: a trainer of one process with a callback and that many iterations, which writes nothing.
        rounds: the last one counts; the first also has what is done only once.
    """
    order = phases(stage.periods()) * rounds
    watch = _Watch(order)
    data.batches_per_epoch = len(order)
    trainer = make_trainer(watch, len(order))
    if trainer.strategy.root_device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(trainer.strategy.root_device)
    trainer.fit(stage, data)
    on_gpu = trainer.strategy.root_device.type == "cuda"
    memory = torch.cuda.max_memory_reserved(trainer.strategy.root_device) if on_gpu else peak_resident()
    return Trial(watch.seconds, watch.validation, memory, watch.checkpoint, watch.images)


def parameters(stage: Stage) -> dict[str, tuple[int, int]]:
    """How many numbers each network holds.

    Returns:
        (trained, frozen) by the network's name; those of no network under "others".
    """
    networks = [(name, module) for name, module in stage.named_modules() if hasattr(module, "config")]
    inner = [(n, m) for n, m in networks if not any(other.startswith(f"{n}.") for other, _ in networks)]
    counted: dict[str, tuple[int, int]] = {name.replace("network_ema.", "average of "): _count(m) for name, m in inner}
    rest = {p for p in stage.parameters()} - {p for _, module in inner for p in module.parameters()}
    trained = sum(p.numel() for p in rest if p.requires_grad)
    if rest:
        counted["others"] = (trained, sum(p.numel() for p in rest) - trained)
    return counted


def _count(module: nn.Module) -> tuple[int, int]:
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    return trained, sum(p.numel() for p in module.parameters()) - trained


def show_dry_run(stage: Stage, data: TalkingData, make_trainer: MakeTrainer, epochs: int | None) -> Trial:
    """Measure a stage and print what it needs and how long it takes.

    Args:
        stage: its weights change.
        data: as the run is configured; its `batches_per_epoch` changes.
        make_trainer: as `measure` wants it.
        epochs: of the run; None: it has no end.
    """
    counted = parameters(stage)  # before training, which switches gradients off and on
    per_epoch, batches = data.batches_per_epoch, len(data.val_dataloader())
    trial = measure(stage, data, make_trainer)
    console = Console(width=None if Console().is_terminal else 100)
    console.print(f"{stage.stage}: parameters, millions", highlight=False)
    table = Table()
    for column in ("network", "trained", "frozen"):
        table.add_column(column, justify="left" if column == "network" else "right")
    total = tuple(sum(count[k] for count in counted.values()) for k in (0, 1))
    for name, count in [*counted.items(), ("all", total)]:
        table.add_row(name, *(f"{number / 1e6:.3f}" if number else "" for number in count))
    console.print(table)
    console.print(f"time of an iteration with batch {data.batch_size}, {trial.images} images", highlight=False)
    table = Table()
    for column in ("iterations", "share", "ms"):
        table.add_column(column, justify="left" if column == "iterations" else "right")
    for phase, seconds in trial.seconds.items():
        name = f"with {' and '.join(phase.terms)}" if phase.terms else "plain"
        table.add_row(name, f"{phase.share:.1%}", f"{seconds * 1e3:.0f}")
    table.add_row("amortised", "", f"{trial.amortised * 1e3:.0f}")
    console.print(table)
    speed = trial.images / trial.amortised
    told = [
        f"{short(speed)} images/s ({short(speed * 86.4)} kimg/day) of one process, when it does not wait for data "
        f"(`fctfg bench data {data.root}`)",
        f"a validation batch: {trial.validation * 1e3:.0f} ms, and there are {batches}",
        f"memory of the process, at most: {trial.memory / 1e9:.2f} GB",
        f"a checkpoint: {trial.checkpoint / 1e6:.1f} MB",
    ]
    if epochs is not None:
        seconds = epochs * (per_epoch * trial.amortised + batches * trial.validation)
        told.append(
            f"the run: {epochs * per_epoch} iterations, about {duration(seconds)} and the time for pictures, exports "
            f"and checkpoints"
        )
    for line in told:
        console.print(line, highlight=False, soft_wrap=True)
    return trial

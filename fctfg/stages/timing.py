"""How long the parts of a stage's iteration take, on random weights and pictures."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, register_flop_formula

from fctfg.data.batch import Batch
from fctfg.stages.base import Stage
from fctfg.stages.callbacks.learning_rates import named_rates
from fctfg.stages.dry_run import Phase, begin_at, phases
from fctfg.stages.exchange import exchange_by_hand
from fctfg.stages.generator import GeneratorStage
from fctfg.stages.networks import Networks
from fctfg.stages.talking_face import TalkingFaceStage

Network = TypeVar("Network", bound=nn.Module)
Name = Literal["generator", "talking_face"]
FACE = ((0.37, 0.4), (0.63, 0.4), (0.5, 0.55), (0.4, 0.7), (0.6, 0.7))  # eyes, nose, mouth: fractions of the picture


@dataclass
class PhaseTime:
    """What an iteration of a phase takes.

    Attributes:
        seconds: least over the rounds.
        parts: seconds by part of that iteration: the gradients and the step of each optimiser, and what follows.
        gflop: multiplications and additions of convolutions and matrix products that were carried out, 10^9.
    """

    seconds: float = float("inf")
    parts: dict[str, float] = field(default_factory=dict)
    gflop: float = 0.0


class _Untrained(TalkingFaceStage):
    """Stage 3 with random weights in place of those of earlier stages."""

    def take(self, role: str, name: str, kind: type[Network], expected: Any = None) -> Network:
        return kind(expected)


def untrained_stage(name: Name, networks: Networks) -> Stage:
    """Stage 1 or 3 with random weights."""
    return GeneratorStage(networks) if name == "generator" else _Untrained(networks)


def random_batch(name: Name, size: int, resolution: int) -> Batch:
    """A batch of noise, with the frames that the stage trains on: one driving frame in stage 1, five in stage 3."""
    frames = 1 if name == "generator" else 5
    driving = torch.rand(size, frames, 3, resolution, resolution) * 2 - 1
    points = torch.tensor(FACE).expand(size, frames, 5, 2).clone()
    number = torch.zeros(size, dtype=torch.int64)
    return Batch(
        source=driving[:, 0].flip(-1),
        source_points=points[:, 0],
        driving=driving,
        points=points,
        decoy=driving[:, :0],
        decoy_points=points[:, :0],
        mel=torch.rand(size, frames, 1, 80, 16) * 8 - 4,
        identity=number,
        clip=number,
        start=number,
    )


class _Same:
    """A loader of one batch again and again."""

    def __init__(self, batch: Batch, times: int) -> None:
        self.batch, self.times = batch, times

    def __len__(self) -> int:
        return self.times

    def __iter__(self) -> Iterator[Batch]:
        return (self.batch for _ in range(self.times))


@register_flop_formula(torch.ops.fctfg.plain_weight_gradient)
def _weight_gradient_work(
    gradient: Sequence[int],
    x: Sequence[int],
    weight: Sequence[int],
    stride: int,
    padding: int,
    transposed: bool,
    *rest: Any,
    **options: Any,
) -> int:
    """Operations of our own operation in `fctfg.ops.convolution`, from the shapes that go in."""
    places = (x if transposed else gradient)[2:]
    return 2 * x[0] * math.prod(weight) * math.prod(places)


class _Work(TorchDispatchMode):
    """Counts operations, also under second derivatives, where `FlopCounterMode`, which tracks modules, gives up."""

    def __init__(self) -> None:
        super().__init__()
        self.flop = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            self.flop += count(*args, **(kwargs or {}), out_val=result)
        return result


class _Clock(pl.Callback):
    """Cuts iterations at the steps of their optimisers; in the first round it counts operations instead."""

    def __init__(self, order: list[Phase]) -> None:
        self.order = order
        self.found: dict[Phase, PhaseTime] = {}
        self._counter: _Work | None = None
        self._parts: dict[str, float] = {}  # of the iteration in hand
        self._last = 0.0  # when its last part ended

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._cuda = pl_module.device if pl_module.device.type == "cuda" else None
        for optimizer in trainer.optimizers:
            name = next(iter(named_rates(pl_module, [optimizer]))).removeprefix("learning_rate_")
            optimizer.register_step_pre_hook(lambda *_, n=name: self._cut(f"gradients of {n}"))
            optimizer.register_step_post_hook(lambda *_, n=name: self._cut(f"optimiser of {n}"))

    def _cut(self, part: str) -> None:
        if self._cuda is not None:
            torch.cuda.synchronize(self._cuda)
        now = time.perf_counter()
        self._parts[part] = now - self._last
        self._last = now

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, index: int) -> None:
        assert isinstance(pl_module, Stage)
        begin_at(trainer, pl_module, self.order[index].iteration)
        if self.order[index] not in self.found:
            torch.compiler.set_stance("force_eager")  # compiled operations cannot be counted
            self._counter = _Work()
            self._counter.__enter__()
        self._parts = {}
        self._cut("start")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._cut("average of the weights, and the rest")
        del self._parts["start"]
        phase = self.order[batch_idx]
        if self._counter is not None:
            self._counter.__exit__(None, None, None)
            torch.compiler.set_stance("default")
            self.found[phase] = PhaseTime(gflop=self._counter.flop / 1e9)
            self._counter = None
            return
        seconds = sum(self._parts.values())
        if seconds < self.found[phase].seconds:
            self.found[phase].seconds, self.found[phase].parts = seconds, self._parts


def time_stage(stage: Stage, batch: Batch, trainer_options: dict[str, Any], rounds: int) -> dict[Phase, PhaseTime]:
    """Train each phase of a stage once a round; the least time counts.

    Args:
        stage: with two optimisers that take turns (stages 1 and 3); its weights change.
        batch: for each iteration.
        trainer_options: of Lightning's trainer: device, precision, processes.
        rounds: beside the first, in which operations are counted.
    """
    order = phases(stage.periods()) * (rounds + 1)
    clock = _Clock(order)
    trainer = pl.Trainer(
        logger=False,
        callbacks=[clock],
        max_epochs=1,
        log_every_n_steps=len(order) + 1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        limit_val_batches=0,
        **trainer_options,
    )
    exchange_by_hand(trainer)
    trainer.fit(stage, _Same(batch, len(order)))
    return clock.found

"""Faults put into a run from outside, as a callback of the user's."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from torch import Tensor

from fctfg.stages.base import Stage


class Fault(pl.Callback):
    """Spoils some iterations.

    Args:
        plan: of each fault, the iteration, what is spoilt, and how. `batch:nan` and `batch:inf`: a picture;
            `weight:nan`, `gradient:inf` and so on: one of the first parameter of `optimizer`;
            `refuse`: nothing is spoilt, but the step of `optimizer` is not taken, and what belongs to it put back.
        optimizer: number of the optimiser, for each fault.
        rank: the process that has the faults; None: all.
        attempts: in how many attempts of the run they come.
    """

    runs: ClassVar[list[Fault]] = []

    def __init__(
        self, plan: dict[int, str], optimizer: dict[int, int] | None = None, rank: int | None = None, attempts: int = 1
    ) -> None:
        self.plan, self.optimizer, self.rank, self.attempts = plan, optimizer or {}, rank, attempts
        self.states: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}  # before and after each fault
        self.clips: list[list[int]] = []  # of each batch
        self.types: dict[str, torch.dtype] = {}  # of what is logged
        self._hook: Any = None
        Fault.runs.append(self)

    def _planned(self, trainer: pl.Trainer, stage: Stage) -> str:
        here = self.rank in (None, trainer.global_rank) and stage.attempt < self.attempts
        return self.plan.get(stage.iteration, "") if here else ""

    @staticmethod
    def _state(trainer: pl.Trainer, stage: Stage) -> dict[str, Any]:
        state = {"module": stage.state_dict(), "optimizers": [o.state_dict() for o in trainer.optimizers]}
        return copy.deepcopy(state)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, index: int) -> None:
        assert isinstance(pl_module, Stage)
        self.clips.append(batch.clip.tolist())
        if not (planned := self._planned(trainer, pl_module)):
            return
        self._before = self._state(trainer, pl_module)
        optimizer = trainer.optimizers[self.optimizer.get(pl_module.iteration, 0)]
        parameter = optimizer.param_groups[0]["params"][0]
        place, _, value = planned.partition(":")
        if place == "batch":
            batch.driving[0, 0] = float(value)
        elif place == "weight":
            parameter.data.view(-1)[3] = float(value)
        elif place == "gradient":

            def spoil(gradient: Tensor) -> Tensor:
                wrong = gradient.clone()
                wrong.view(-1)[2] = float(value)
                return wrong

            self._hook = parameter.register_hook(spoil)
        else:
            assert place == "refuse"
            optimizer.step = lambda closure: closure()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        assert isinstance(pl_module, Stage)
        self.types |= {name: value.dtype for name, value in pl_module.watched.items()}
        if not (planned := self._planned(trainer, pl_module)):
            return
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
        number = self.optimizer.get(pl_module.iteration, 0)
        if planned == "refuse":
            del trainer.optimizers[number].step
            if number == 0:  # the discriminator has neither statistics nor an average
                for name, value in pl_module.state_dict().items():
                    if not name.startswith("discriminator."):
                        value.copy_(self._before["module"][name])
        self.states[pl_module.iteration] = self._before, self._state(trainer, pl_module)


def finite(value: Any) -> bool:
    """Whether all numbers in containers of tensors are finite."""
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    if isinstance(value, dict):
        return all(map(finite, value.values()))
    return all(map(finite, value)) if isinstance(value, list | tuple) else True

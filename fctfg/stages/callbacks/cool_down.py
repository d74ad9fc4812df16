"""Learning rates that fall towards the end of a run."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from fctfg.stages.base import Stage


def remaining(iteration: int, total: int, share: float) -> float:
    """Factor of the learning rate: 1, and over the last part of a run a straight line that would reach 0 after it.

    Args:
        iteration: 0-based number of the iteration.
        total: iterations of the whole run.
        share: part of the run over which the factor falls, in [0, 1].

    Returns:
        Factor in (0, 1].
    """
    return min(1.0, (total - iteration) / (share * total)) if share else 1.0


class CoolDown(pl.Callback):
    """Holds the learning rates at what the configuration says, and lets them fall over the last part of a run.

    Where no average of the weights is kept, a constant rate leaves the noise of the last steps in them (docs/log.md).
    The rates follow from the position alone: a run that continues has those of an undisturbed one, and takes a rate
    that was changed meanwhile. Not in the paper, which says nothing of its schedule.

    Args:
        share: part of the run over which the rates fall, in [0, 1]; 0 keeps them constant.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self._configured: list[list[float]] = []  # learning rate of each parameter group of each optimiser

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # new optimisers: a checkpoint's state is restored after this
        self._configured = [[group["lr"] for group in optimizer.param_groups] for optimizer in trainer.optimizers]

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Stage) and trainer.max_epochs is not None
        factor = remaining(pl_module.iteration, trainer.max_epochs * int(trainer.num_training_batches), self.share)
        for optimizer, rates in zip(trainer.optimizers, self._configured, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor

"""Learning rates that fall towards the end of a run."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from fctfg.stages.base import Stage


def learning_rate_factor(done: float, share: float) -> float:
    """Factor of the learning rate: 1, and over the last part of a run a straight line towards 0 at its end.

    Args:
        done: part of the run before this iteration, in [0, 1).
        share: part of the run over which the factor falls, in [0, 1].

    Returns:
        Factor in (0, 1].
    """
    return min(1.0, (1.0 - done) / share) if share else 1.0


def named_rates(module: nn.Module, optimizers: Iterable[torch.optim.Optimizer]) -> dict[str, float]:
    """The present learning rate of each parameter group.

    Args:
        module: has the parameters.
        optimizers: over its parameters.

    Returns:
        Rates by `learning_rate_NETWORK`, after the part of `module` that holds all parameters of the group, or
        `learning_rate` where that is `module` itself.
    """
    names = {parameter: name.split(".") for name, parameter in module.named_parameters()}
    found = {}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            places = [names[parameter] for parameter in group["params"]]
            common = [parts[0] for parts in takewhile(lambda parts: len(set(parts)) == 1, zip(*places, strict=False))]
            inner = common[: len(common) - (len(places) == 1)]  # a lone parameter's name is no network's
            found["_".join(["learning_rate", *inner[-1:]])] = float(group["lr"])
    return found


class LearningRates(pl.Callback):
    """Holds the learning rates at what the configuration says, and lets them fall over the last part of a run.

    Constant rates with a cool-down (Hägele et al. 2024), so that the constant part may be made longer later. A run that
    was interrupted has the rates of an undisturbed one; one that goes on with more epochs, or with another rate, has
    those of the configuration that it goes on with. Not in the paper, which says nothing of its schedule. They are
    logged at the logging intervals.

    Args:
        share: part of the run (its epochs) over which the rates fall, in [0, 1]; 0 keeps them constant.

    Raises:
        ValueError: if `share` is outside of that.
    """

    def __init__(self, share: float) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"cool_down={share}: it is a share of the run, between 0 and 1")
        self.share = share
        self._configured: list[list[float]] = []  # learning rate of each parameter group of each optimiser

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # the optimisers are new here: a checkpoint's state comes after this
        self._configured = [[group["lr"] for group in optimizer.param_groups] for optimizer in trainer.optimizers]

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        done = 0.0
        if self.share:
            assert trainer.max_epochs is not None
            done = (trainer.current_epoch + batch_idx / trainer.num_training_batches) / trainer.max_epochs
        factor = learning_rate_factor(done, self.share)
        for optimizer, rates in zip(trainer.optimizers, self._configured, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
        assert isinstance(pl_module, Stage)
        if pl_module.iteration % trainer.log_every_n_steps == 0 and trainer.is_global_zero:  # type: ignore[attr-defined]
            values = {f"train/{name}": rate for name, rate in named_rates(pl_module, trainer.optimizers).items()}
            for logger in trainer.loggers:
                logger.log_metrics(values, step=pl_module.iteration)

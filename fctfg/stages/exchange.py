"""How Lightning is told that stages exchange their gradients themselves."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy

from fctfg.errors import UsageError
from fctfg.ops.processes import first_of_all


def exchange_by_hand(trainer: pl.Trainer) -> None:
    """Have the processes of a trainer begin alike, and leave all exchange within steps to the stage.

    torch's `DistributedDataParallel` exchanges the gradients of all networks with every backward pass, those of the
    network whose turn it is not too, and waits for the device to find out which they are. A stage exchanges what its
    optimiser uses, once before each step (`Stage.accumulate`).

    Args:
        trainer: before it fits.

    Raises:
        UsageError: its strategy is neither one device nor DDP.
    """
    strategy = trainer.strategy
    if isinstance(strategy, DDPStrategy):

        @torch.no_grad()
        def begin_alike() -> None:
            assert strategy.model is not None
            for tensor in strategy.model.state_dict(keep_vars=True).values():
                first_of_all(tensor.data)

        strategy.configure_ddp = begin_alike  # type: ignore[method-assign]
    elif not isinstance(strategy, SingleDeviceStrategy):
        raise UsageError(
            f"trainer.strategy: {type(strategy).__name__} is not for networks trained in turns; use auto or ddp"
        )

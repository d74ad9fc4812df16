"""What the stages that train with one optimiser share: their iteration."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from fctfg.data.batch import Batch
from fctfg.stages.base import Stage, mean_terms


class OneOptimizer(Stage):
    """A stage of one optimiser: the gradients of an iteration, averaged over parts and processes, and one step."""

    @abstractmethod
    def train_part(self, batch: Batch) -> dict[str, Tensor]:
        """Add the gradients of a part of the batch (`parts`).

        Returns:
            The terms, scalars to watch.
        """

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad(set_to_none=True)  # type: ignore[union-attr]
        terms = mean_terms([self.train_part(part) for part in self.parts(batch)])
        optimizer.step()  # type: ignore[union-attr]
        self.log_terms("train", terms, prog_bar=True)

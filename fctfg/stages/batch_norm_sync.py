"""How Lightning is told to keep batch norms in step."""

from __future__ import annotations

from pytorch_lightning.plugins import LayerSync
from torch import nn

from fctfg.models.synced_batch_norm import sync_batch_norms


class BatchNormSync(LayerSync):
    """`trainer.sync_batchnorm` for every device: batch norms see the samples of all processes."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Before several processes train the model."""
        sync_batch_norms(model)
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Nothing to do: outside of training, a synced batch norm is a batch norm."""
        return model

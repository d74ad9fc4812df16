"""The paper's ablation of the temporal fusion: a recurrent network over time."""

import torch
from torch import Tensor, nn

from fctfg.models.latent_mlps import LayerwiseLinear


class LSTMFusion(nn.Module):
    """An LSTM over the frames for each generator layer, added to its input; the identity at the start.

    The paper names the LSTM and no more. Not in the paper: weights of their own for each layer (as the convolution has
    them), one direction, a state of the codes' size that starts at zero with every window, and the sum with the input
    through a linear layer that starts at zero, so that both fusions start alike.

    Args:
        n_layers: manipulated layers L'.
        dim: of the codes.
    """

    def __init__(self, n_layers: int, dim: int) -> None:
        super().__init__()
        self.lstms = nn.ModuleList(nn.LSTM(dim, dim, batch_first=True) for _ in range(n_layers))
        self.output = LayerwiseLinear(n_layers, dim, gain=0.0)

    def forward(self, z: Tensor) -> Tensor:
        """z_fused = z + Linear(LSTM(z)) with z = z_canonical + z_motion; [B, T, L', D] -> [B, T, L', D]."""
        states = torch.stack([lstm(z[:, :, layer])[0] for layer, lstm in enumerate(self.lstms)])  # [L', B, T, D]
        added = self.output(states.flatten(1, 2)).view_as(states)
        return z + added.permute(1, 2, 0, 3)

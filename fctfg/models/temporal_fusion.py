"""The paper's temporal fusion: one 1-D convolution over time."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TemporalFusion(nn.Module):
    """A convolution over the frames, with weights of its own for each generator layer; the identity at the start.

    Not in the paper: the kernel size, the repeated first and last frame at the ends of a window (zeros would pull
    them toward the mean face), and the initialization.

    Args:
        n_layers: manipulated layers L'.
        dim: of the codes.
        kernel: frames, odd.
    """

    def __init__(self, n_layers: int, dim: int, kernel: int = 3) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"the temporal kernel must be odd, not {kernel}")
        self.kernel = kernel
        self.conv = nn.Conv1d(n_layers * dim, n_layers * dim, kernel, groups=n_layers)
        with torch.no_grad():
            self.conv.weight.zero_()
            self.conv.weight[:, :, kernel // 2] = torch.eye(dim).repeat(n_layers, 1)
            assert self.conv.bias is not None
            self.conv.bias.zero_()

    def forward(self, z: Tensor) -> Tensor:
        """z_fused = TemporalFusion(z_canonical + z_motion); [B, T, L', D] -> [B, T, L', D]."""
        x = z.flatten(2).transpose(1, 2)  # [B, L'*D, T]
        half = self.kernel // 2
        x = self.conv(F.pad(x, (half, half), mode="replicate"))
        return x.transpose(1, 2).reshape(z.shape)

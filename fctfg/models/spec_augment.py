"""SpecAugment (Park et al. 2019) on mel windows."""

import torch
from torch import Tensor, nn

from fctfg.ops.draws import Draws
from fctfg.ops.mel import SILENCE


class SpecAugment(nn.Module):
    """Replace a random band of time and one of frequency by silence, in training only. Not in the paper.

    Every window of a batch gets masks of its own.

    Args:
        time_mask: the time mask is shorter than this, in mel frames; 0 switches it off.
        freq_mask: the frequency mask is narrower than this, in mel bins; 0 switches it off.
    """

    def __init__(self, time_mask: int = 4, freq_mask: int = 16) -> None:
        super().__init__()
        if min(time_mask, freq_mask) < 0:
            raise ValueError("mask sizes must not be negative")
        self.time_mask, self.freq_mask = time_mask, freq_mask

    def forward(self, mel: Tensor, draws: Draws | None = None) -> Tensor:
        """Mask windows; in eval mode they stay as they are.

        Args:
            mel: [B, 1, 80, M].
            draws: of each window; None draws from torch's global generator.

        Returns:
            the same shape.
        """
        if not self.training:
            return mel
        draws = draws or Draws.fresh(len(mel), mel.device)
        for name, longest, axis in (("time mask 0", self.time_mask, 3), ("frequency mask 0", self.freq_mask, 2)):
            if longest == 0:
                continue
            size = mel.shape[axis]
            place = torch.arange(size, device=mel.device)
            length, start = draws.uniform(name, 2).split(1, dim=1)  # [B, 1] each
            width = (length * min(longest, size + 1)).long()
            first = (start * (size - width + 1)).long()
            band = (place >= first) & (place < first + width)  # [B, size]
            mel = mel.masked_fill(band[:, None, None, :] if axis == 3 else band[:, None, :, None], SILENCE)
        return mel

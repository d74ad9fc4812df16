"""SpecAugment (Park et al. 2019) on mel windows."""

from torch import Tensor, nn

from fctfg.ops.mel import SILENCE


class SpecAugment(nn.Module):
    """Replace random bands of time and of frequency by silence, in training only. Not in the paper.

    Every window of a batch gets masks of its own, drawn from torch's global generator.

    Args:
        time_mask: a time mask is shorter than this, in mel frames; 0 switches it off.
        freq_mask: a frequency mask is narrower than this, in mel bins; 0 switches it off.
        n_time, n_freq: number of masks.
    """

    def __init__(self, time_mask: int = 4, freq_mask: int = 16, n_time: int = 1, n_freq: int = 1) -> None:
        super().__init__()
        if min(time_mask, freq_mask, n_time, n_freq) < 0:
            raise ValueError("mask sizes and numbers must not be negative")
        self.time_mask, self.freq_mask, self.n_time, self.n_freq = time_mask, freq_mask, n_time, n_freq

    def forward(self, mel: Tensor) -> Tensor:
        """[B, 1, 80, M] -> the same shape; the input itself in eval mode."""
        if not self.training:
            return mel
        from torchaudio.functional import mask_along_axis_iid  # heavy

        for size, count, axis in ((self.time_mask, self.n_time, 3), (self.freq_mask, self.n_freq, 2)):
            for _ in range(count if size else 0):
                mel = mask_along_axis_iid(mel, size, SILENCE, axis)
        return mel

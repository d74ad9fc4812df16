"""Up-sample, filter with a FIR kernel, down-sample: StyleGAN2's resampling, in plain torch."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def fir_kernel(taps: Sequence[float] = (1.0, 3.0, 3.0, 1.0), gain: float = 1.0) -> Tensor:
    """The separable 2-D filter of some taps, normalized to the sum ``gain``.

    Args:
        taps: the 1-D filter.
        gain: the sum of the result; ``factor**2`` keeps the brightness when zeros are inserted by ``factor``.

    Returns:
        float32 [len(taps), len(taps)].
    """
    taps_1d = torch.tensor(taps, dtype=torch.float32)
    kernel = torch.outer(taps_1d, taps_1d)
    return kernel * (gain / kernel.sum())


def upfirdn2d(x: Tensor, kernel: Tensor, up: int = 1, down: int = 1, pad: tuple[int, int] = (0, 0)) -> Tensor:
    """Insert zeros, pad, convolve every channel with one kernel, and keep every ``down``-th pixel.

    One depthwise convolution (transposed when ``up`` > 1): the fastest of the six forms measured on CPUs in either
    memory format, and it supports double backward.

    Args:
        x: [B, C, H, W].
        kernel: [k, k], square; a true convolution, i.e. the kernel is flipped.
        up: zeros are inserted so that each pixel becomes up x up.
        down: the step with which the result is kept.
        pad: zeros before and after, in pixels of the up-sampled image, the same for both axes.

    Returns:
        [B, C, (H*up + pad0 + pad1 - k) // down + 1, likewise for W].
    """
    channels, size = x.shape[1], kernel.shape[0]
    kernel = kernel.to(x.dtype)
    if up == 1:
        weight = kernel.flip(0, 1).expand(channels, 1, size, size)
        if pad[0] == pad[1] >= 0:
            return F.conv2d(x, weight, stride=down, padding=pad[0], groups=channels)
        return F.conv2d(F.pad(x, (*pad, *pad)), weight, stride=down, groups=channels)
    # A transposed convolution is the full response; what upfirdn pads less than k - 1 is cropped from it.
    before, after = pad[0] - (size - 1), pad[1] - (size - 1) + (up - 1)
    crop = -before if before == after <= 0 else 0
    weight = kernel.expand(channels, 1, size, size)
    y = F.conv_transpose2d(x, weight, stride=up, padding=crop, groups=channels)
    if crop == 0:
        y = F.pad(y, (before, after, before, after))
    return y if down == 1 else y[:, :, ::down, ::down]

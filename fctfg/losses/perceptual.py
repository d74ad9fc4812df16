"""The perceptual loss (Eq. 7)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fctfg.ops.precision import float32_island


@float32_island
def perceptual(features: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
    """The mean squared difference of feature maps, averaged over the maps.

    L_per = 1/N sum over maps i of || VGG_i(generated) - VGG_i(driving) ||_2^2 / (C_i H_i W_i)        (Eq. 7)

    Args:
        features: N maps [B, C_i, H_i, W_i] of the generated frames.
        target: the same of the driving frames.

    Returns:
        a scalar.

    Raises:
        ValueError: if the numbers of maps differ.
    """
    terms = [(a - b).square().mean() for a, b in zip(features, target, strict=True)]
    return torch.stack(terms).mean()

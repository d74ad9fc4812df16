"""Mixup of real and generated images for the discriminator (Zhang et al. 2018)."""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import betaincinv
from torch import Tensor

from fctfg.losses.adversarial import AdversarialForm
from fctfg.ops.draws import Draws
from fctfg.ops.precision import float32_island

LEVELS = 2**16


@functools.cache
@torch.inference_mode(False)  # what is kept may be needed outside of it
def _quantiles(concentration: float, device: torch.device) -> Tensor:
    """Float32 [65536]: the medians of as many equally likely slices of Beta(a, a)."""
    return (
        torch.from_numpy(betaincinv(concentration, concentration, (np.arange(LEVELS) + 0.5) / LEVELS))
        .float()
        .to(device)
    )


def real_shares(concentration: float, draws: Draws) -> Tensor:
    """How much of each mixed image is real, from Beta(a, a).

    Args:
        concentration: a > 0; 0.2 in Zhang et al. 2018, Section 3.5.
        draws: of N images.

    Returns:
        float32 [N, 1] in [0, 1].
    """
    levels = (draws.uniform("mixup", 1) * LEVELS).long()
    return _quantiles(concentration, levels.device)[levels]


def mixup(real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """Images between real and generated ones.

    x = s real + (1 - s) fake        (Zhang et al. 2018, Section 3.5)

    Args:
        real: [B, ...].
        fake: the same shape.
        share: [B, 1] in [0, 1], of the real image (`real_shares`).

    Returns:
        The same shape.
    """
    return fake.lerp(real, share.view(-1, *[1] * (real.ndim - 1)).to(real.dtype))


@float32_island
def d_mixed(logits: Tensor, share: Tensor, form: AdversarialForm = "nonsaturating") -> Tensor:
    """The discriminator's loss for mixed images: it is to say how much of each is real.

    E[l(D(x), s)]        (Zhang et al. 2018, Section 3.5)

    where l is s softplus(-D) + (1 - s) softplus(D), or 1/2 (D - (2 s - 1))^2 with least squares. For s = 1 and s = 0
    these are the losses of real and of generated images.

    Args:
        logits: [B, 1] of `mixup`'s images.
        share: [B, 1], as there.
        form: of the loss.

    Returns:
        a scalar.
    """
    share = share.to(logits.dtype)
    if form == "least_squares":
        return (logits - (2 * share - 1)).square().mean() / 2
    return F.binary_cross_entropy_with_logits(logits, share)

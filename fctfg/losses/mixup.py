"""Mixup of real and generated images for the discriminator (Zhang et al. 2018)."""

import torch.nn.functional as F
from torch import Tensor

from fctfg.losses.adversarial import AdversarialForm
from fctfg.ops.precision import float32_island


def mixup(real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """Images between real and generated ones.

    x = s real + (1 - s) fake        (Zhang et al. 2018, Section 3.5)

    Args:
        real: [B, ...].
        fake: the same shape.
        share: [B, 1] in [0, 1], of the real image; drawn from Beta(a, a), a = 0.2 there.

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

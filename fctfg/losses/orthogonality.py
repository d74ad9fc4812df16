"""The orthogonality loss between the canonical and the motion space (Eq. 3)."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor


def orthogonality(z_canonical: Tensor, z_motion: Tensor, reduction: Literal["mean", "sum"] = "mean") -> Tensor:
    """The size of the element-wise product of the two codes.

    L_ort = 1/L' sum over layers l of || z_canonical_l * z_motion_l ||_1        (Eq. 3; element-wise product)

    The paper prints the signed product; the absolute value and the mean over channels are not in the paper.

    Args:
        z_canonical: [B, L', D].
        z_motion: [B, T, L', D].
        reduction: over the channels.

    Returns:
        a scalar, not negative, averaged over images, frames and layers.
    """
    product = (z_canonical[:, None] * z_motion).abs()  # [B, T, L', D]
    return product.mean() if reduction == "mean" else product.sum(-1).mean()


def cosine_orthogonality(z_canonical: Tensor, z_motion: Tensor) -> Tensor:
    """The ablated form: the absolute cosine of the two codes of each layer.

    Args:
        z_canonical: [B, L', D].
        z_motion: [B, T, L', D].

    Returns:
        a scalar in [0, 1].
    """
    return F.cosine_similarity(z_canonical[:, None], z_motion, dim=-1).abs().mean()

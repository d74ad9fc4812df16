"""The orthogonality loss between the canonical and the motion space (Eq. 3)."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from fctfg.ops.precision import float32_island

Form = Literal["mean", "sum", "cosine"]


@float32_island
def orthogonality(z_canonical: Tensor, z_motion: Tensor, form: Form = "mean") -> Tensor:
    """The size of the element-wise product of the two codes.

    L_ort = 1/L' sum over layers l of || z_canonical_l * z_motion_l ||_1        (Eq. 3; element-wise product)

    The paper prints the signed product; the absolute value and the mean over channels are not in the paper.

    Args:
        z_canonical: [B, L', D].
        z_motion: [B, T, L', D].
        form: the product's "mean" or "sum" over the channels; "cosine" is the paper's ablation, which was worse: the
            absolute cosine of the two codes of each layer.

    Returns:
        a scalar, not negative, averaged over images, frames and layers.
    """
    if form == "cosine":
        return F.cosine_similarity(z_canonical[:, None], z_motion, dim=-1).abs().mean()
    product = (z_canonical[:, None] * z_motion).abs()  # [B, T, L', D]
    return product.mean() if form == "mean" else product.sum(-1).mean()

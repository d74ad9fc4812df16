"""Whether a result is as sharp as what it should be."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sharpness(images: Tensor) -> Tensor:
    """Mean absolute Laplacian of the brightness of each image.

    L = |4 I(x, y) - I(x - 1, y) - I(x + 1, y) - I(x, y - 1) - I(x, y + 1)|, averaged over the inside, of the family of
    Laplacian operators in Pertuz et al. 2013, "Analysis of focus measure operators". It sees noise as sharpness:
    compare it with the real frame's, and look at the pictures.

    Args:
        images: [N, 3, H, W], float.

    Returns:
        [N], in the unit of the images; 0 for even images.
    """
    grey = images.mean(1, keepdim=True)
    kernel = torch.tensor([[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]], dtype=grey.dtype, device=grey.device)
    return F.conv2d(grey, kernel[None, None]).abs().mean((1, 2, 3))

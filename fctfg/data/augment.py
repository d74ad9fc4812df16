"""Small changes of colour and framing against learning few people by heart, the same for all frames of a sample."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

EXPOSURE, TINT, LEVEL = 0.15, 0.125, 0.1  # a factor above black, one per channel, and an offset of images in [-1, 1]
TURN, SCALE, SHIFT = math.radians(5), 0.05, 0.03  # shift as a fraction of the picture


def augment(images: Tensor, points: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
    """One random change of exposure, tint, level, turn, size and place for all frames, so that nothing flickers.

    Where the picture does not reach, it is continued by its reflection.

    Args:
        images: float32 [N, 3, S, S] in [-1, 1].
        points: float32 [N, P, 2], (x, y) as fractions of the picture.
        draw: where everything random comes from.

    Returns:
        images and points of the same shapes; the points move with the picture.
    """
    factor = 1 + draw.uniform(-EXPOSURE, EXPOSURE) + draw.uniform(-TINT, TINT, 3)
    level = draw.uniform(-LEVEL, LEVEL)
    angle, scale = draw.uniform(-TURN, TURN), 1 + draw.uniform(-SCALE, SCALE)
    shift = torch.from_numpy(draw.uniform(-SHIFT, SHIFT, 2)).float()

    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    turned = torch.tensor([[cosine, -sine], [sine, cosine]])  # from the new picture's middle to the old one's
    transform = torch.cat([turned, 2 * shift[:, None]], dim=1).expand(len(images), 2, 3)
    grid = F.affine_grid(transform, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    coloured = (moved + 1) * torch.from_numpy(factor).float().view(3, 1, 1) - 1 + level
    return coloured.clamp(-1, 1), (points - 0.5 - shift) @ turned.inverse().T + 0.5

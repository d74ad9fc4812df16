"""Exchanging the mouth of a face for another one of the same person."""

import torch
from torch import Tensor

from fctfg.ops.precision import float32_island, precise
from fctfg.ops.similarity import (
    ARCFACE_TEMPLATE,
    invert_similarity,
    pixel_points,
    similarity_from_points,
    transform_points,
    warp,
)

RIGID = (0, 1, 2)  # eyes and nose tip: the points that speech does not move
# The region of a 112 x 112 ArcFace crop that speech moves, from under the nose to below the chin.
CENTER, RADIUS, EDGE = (56.0, 103.0), (31.0, 25.0), 0.25


@float32_island
def mouth_mask(points: Tensor, height: int, width: int) -> Tensor:
    """Where the mouth and the chin are: 1 inside, 0 outside, with a soft edge.

    Args:
        points: [N, 5, 2], (x, y) as fractions of the picture, ArcFace order.
        height, width: of the picture, in pixels.

    Returns:
        [N, 1, height, width] in [0, 1], float32 or finer.
    """
    template = ARCFACE_TEMPLATE.to(points)[list(RIGID)]
    matrix = similarity_from_points(pixel_points(points[:, list(RIGID)], height, width), template)  # frame -> template
    y, x = torch.meshgrid(
        torch.arange(height, device=points.device, dtype=points.dtype),
        torch.arange(width, device=points.device, dtype=points.dtype),
        indexing="ij",
    )
    grid = torch.stack([x, y], dim=-1).view(1, -1, 2)  # [1, H*W, 2]
    where = transform_points(grid, matrix)  # [N, H*W, 2]
    distance = ((where - where.new_tensor(CENTER)) / where.new_tensor(RADIUS)).norm(dim=-1)  # 1 on the ellipse
    return ((1 + EDGE - distance) / (2 * EDGE)).clamp(0, 1).view(-1, 1, height, width)


def transplant_mouth(frames: Tensor, points: Tensor, donor: Tensor, donor_points: Tensor) -> Tensor:
    """Give faces the mouths of other frames: the donor is brought into place by eyes and nose, and blended in.

    Args:
        frames: [N, 3, H, W].
        points: [N, 5, 2], (x, y) as fractions of the picture, ArcFace order.
        donor: [N, 3, H, W], the same people.
        donor_points: [N, 5, 2].

    Returns:
        [N, 3, H, W] of the frames' type, which are unchanged outside of the mouth's region.

    Raises:
        ValueError: if the shapes do not fit.
    """
    if frames.shape != donor.shape or points.shape != (len(frames), 5, 2) or donor_points.shape != points.shape:
        raise ValueError(
            f"frames and donor must be [N, 3, H, W] and their points [N, 5, 2], not {list(frames.shape)}, "
            f"{list(donor.shape)}, {list(points.shape)} and {list(donor_points.shape)}"
        )
    height, width = frames.shape[-2:]
    there = pixel_points(precise(donor_points[:, list(RIGID)]), height, width)
    here = pixel_points(precise(points[:, list(RIGID)]), height, width)
    placed = warp(donor, invert_similarity(similarity_from_points(there, here)), (height, width))
    return torch.lerp(frames, placed, mouth_mask(points, height, width).to(frames.dtype))

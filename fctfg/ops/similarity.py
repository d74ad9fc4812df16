"""Similarity transforms from facial points, and warping by them.

Coordinates are pixel indices: the center of the top left pixel is (0, 0). Points given as fractions of an image are
converted by :func:`pixel_points`. Everything here is float32 or finer, under autocast too: bfloat16 would misplace a
face by pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from fctfg.ops.precision import float32_island, precise

# Viewer's left eye, right eye, nose tip, left and right mouth corner of a 112 x 112 ArcFace crop, (x, y) in pixels.
ARCFACE_TEMPLATE = torch.tensor(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)


def pixel_points(points: Tensor, height: int, width: int) -> Tensor:
    """Points [..., 2] as fractions (x, y) of an image in [0, 1] to pixel indices."""
    return points * points.new_tensor([width, height]) - 0.5


@float32_island
def similarity_from_points(src: Tensor, dst: Tensor) -> Tensor:
    """The rotation, uniform scale and translation that bring points closest to others in the least squares.

    In complex numbers, with p and q the points less their means: a = sum(conj(p) q) / sum |p|^2, b = mean(dst) - a
    mean(src). It minimizes sum |a src + b - dst|^2 without reflections, which is Umeyama's solution in two dimensions.

    Args:
        src: [B, N, 2] (x, y).
        dst: [N, 2] or [B, N, 2].

    Returns:
        [B, 2, 3]: dst = matrix[:, :, :2] @ src + matrix[:, :, 2].
    """
    dst = dst.to(src).expand_as(src)
    src_mean, dst_mean = src.mean(1, keepdim=True), dst.mean(1, keepdim=True)
    p, q = src - src_mean, dst - dst_mean
    energy = p.square().sum((1, 2)).clamp_min(1e-12)  # [B]
    real = (p * q).sum((1, 2)) / energy
    imaginary = (p[..., 0] * q[..., 1] - p[..., 1] * q[..., 0]).sum(1) / energy
    linear = torch.stack([real, -imaginary, imaginary, real], dim=1).view(-1, 2, 2)  # [B, 2, 2]
    offset = dst_mean.transpose(1, 2) - linear @ src_mean.transpose(1, 2)  # [B, 2, 1]
    return torch.cat([linear, offset], dim=2)


@float32_island
def invert_similarity(matrix: Tensor) -> Tensor:
    """The inverse of similarity transforms [B, 2, 3], in the same form."""
    linear, offset = matrix[:, :, :2], matrix[:, :, 2:]
    inverse = linear.transpose(1, 2) / linear.square().sum((1, 2), keepdim=True).div(2).clamp_min(1e-12)
    return torch.cat([inverse, -inverse @ offset], dim=2)


@float32_island
def transform_points(points: Tensor, matrix: Tensor) -> Tensor:
    """Points [B or 1, N, 2] where similarity transforms [B, 2, 3] bring them, [B, N, 2]."""
    return points @ matrix[:, :, :2].transpose(1, 2) + matrix[:, None, :, 2]


def warp(images: Tensor, matrix: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample images bilinearly; differentiable in the images and the matrix.

    Args:
        images: [B, C, H, W].
        matrix: [B, 2, 3] maps a pixel index (x, y) of the output to one of the input.
        size: (height, width) of the output.

    Returns:
        [B, C, height, width] of the images' type; the border's color is repeated outside of the image.
    """
    in_height, in_width = images.shape[-2:]
    height, width = size
    matrix = precise(matrix)
    y, x = torch.meshgrid(
        torch.arange(height, device=images.device, dtype=matrix.dtype),
        torch.arange(width, device=images.device, dtype=matrix.dtype),
        indexing="ij",
    )
    grid = torch.stack([x, y], dim=-1).view(1, -1, 2)  # [1, h*w, 2]
    where = transform_points(grid, matrix)  # [B, h*w, 2] input pixel indices
    where = (2 * where + 1) / where.new_tensor([in_width, in_height]) - 1  # to grid_sample's [-1, 1]
    pictures = precise(images)
    where = where.view(-1, height, width, 2).to(pictures.dtype)
    with torch.autocast(images.device.type, enabled=False):
        warped = F.grid_sample(pictures, where, mode="bilinear", padding_mode="border", align_corners=False)
    return warped.to(images.dtype)


def align(frames: Tensor, points: Tensor, template: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring faces to where a template has them; differentiable in the frames and the points.

    Args:
        frames: [N, 3, H, W].
        points: [N, 5, 2] (x, y) fractions of the frame, in the template's order.
        template: [5, 2] (x, y) in pixels of the result, such as `ARCFACE_TEMPLATE`.
        size: (height, width) of the result.

    Returns:
        [N, 3, height, width] of the frames' type.
    """
    matrix = similarity_from_points(pixel_points(precise(points), *frames.shape[-2:]), template)  # frame -> face
    return warp(frames, invert_similarity(matrix), size)

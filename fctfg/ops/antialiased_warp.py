"""Affine warps without aliasing, differentiable twice: sampled at twice the resolution, between half-band filters."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from fctfg.ops.precision import precise

# The low-pass filter of Daubechies' least asymmetric wavelet with six vanishing moments (Daubechies 1992, Table 6.3).
# Its even translates are orthonormal, so that filtering down undoes filtering up.
_SYM6 = (
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
)
_CENTER = sum(k * tap for k, tap in enumerate(_SYM6)) / sum(_SYM6)  # where the filter puts what is smooth
_MARGIN = len(_SYM6) // 2  # pixels


def reflected(position: Tensor, size: int) -> Tensor:
    """Positions outside an axis of pixels, mirrored into it at the edges -1/2 and size - 1/2; of any shape and type."""
    period = 2 * size
    position = torch.remainder(position, period)  # as -1 to the pixel 2 size - 1
    return torch.where(position > size - 0.5, period - 1 - position, position)


def antialiased_warp(images: Tensor, matrix: Tensor) -> Tensor:
    """Warp square images about their centers.

    As in StyleGAN2-ADA (Karras et al. 2020b, Appendix B): up-sampled twofold with an orthogonal filter, sampled
    bilinearly there, and down-sampled with the same filter. Outside of an image is its mirror image.

    Args:
        images: [B, C, S, S].
        matrix: [B, 2, 3] maps the position (x, y) of an output pixel to that of the input, in pixels from the center;
            no gradient reaches it.

    Returns:
        the same shape, float32 (or finer).
    """
    images = precise(images)
    size, device, dtype = images.shape[-1], images.device, images.dtype
    up, down = _filter(size, _MARGIN, device, dtype), _filter(size, 0, device, dtype)
    with torch.autocast(device.type, enabled=False):
        fine = up @ (images @ up.T) * 2  # pixel i of the images is its index 2 (i + margin) + center
        axis = (torch.arange(len(down), device=device, dtype=dtype) - _CENTER) / 2 - (size - 1) / 2
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        matrix = matrix.to(dtype)
        where = torch.stack([x, y], dim=-1).view(1, -1, 2) @ matrix[:, :, :2].transpose(1, 2) + matrix[:, None, :, 2]
        where = reflected(where + (size - 1) / 2, size)
        where = (2 * (where + _MARGIN) + _CENTER) * (2 / (len(up) - 1)) - 1  # grid_sample's [-1, 1]
        sampled: Tensor = _Sampled.apply(fine, where.view(-1, len(down), len(down), 2))
        return down.T @ (sampled @ down) / 2


@functools.cache
@torch.inference_mode(False)  # what is kept may be needed outside of it
def _filter(size: int, margin: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Zeros between the pixels of an axis, then the filter, as a matrix; its transpose is filtering and dropping.

    Dense products beat convolutions here: one channel at a time is slow, on CPUs most of all.

    Args:
        size: of the axis, N.
        margin: pixels of the mirror image on either side that are filtered too.
        device, dtype: of the result.

    Returns:
        [2 (N + 2 margin - 1) + 12, N]; without a margin its columns are orthonormal.
    """
    pixels = torch.arange(size + 2 * margin)
    rows = 2 * pixels[:, None] + torch.arange(len(_SYM6))  # [n, 12]
    columns = reflected(pixels - margin, size)[:, None].expand_as(rows)
    matrix = torch.zeros(int(rows.max()) + 1, size, dtype=torch.float64)
    matrix.index_put_((rows, columns), torch.tensor(_SYM6, dtype=torch.float64).expand(rows.shape), accumulate=True)
    return matrix.to(device, dtype)


class _Sampled(Function):
    """Bilinear sampling with a constant grid: linear in the images, so that its adjoint's derivative is itself.

    Autograd's own backward pass of `grid_sample` cannot be differentiated, which R1 asks for.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.shape = images.shape
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=True)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (grid,) = ctx.saved_tensors
        return _Spread.apply(gradient, grid, ctx.shape), None


class _Spread(Function):
    """The adjoint of `_Sampled`."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, grid: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        values = gradient.new_zeros(shape)
        border, bilinear, wanted = 1, 0, (True, False)
        spread, _ = torch.ops.aten.grid_sampler_2d_backward(gradient, values, grid, bilinear, border, True, wanted)
        return spread

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (grid,) = ctx.saved_tensors
        return _Sampled.apply(gradient, grid), None, None

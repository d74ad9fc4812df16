"""Affine warps without aliasing, differentiable twice: sampled at twice the resolution, between half-band filters."""

from __future__ import annotations

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
    size = images.shape[-1]
    with torch.autocast(images.device.type, enabled=False):
        index = reflected(torch.arange(-_MARGIN, size + _MARGIN, device=images.device), size).long()
        fine = _filtered(images[..., index, :][..., index], up=True)
        # pixel i of the images is index 2 (i + margin) + center of `fine`, and 2 i + center of what is filtered down
        count = 2 * (size - 1) + len(_SYM6)
        axis = (torch.arange(count, device=images.device, dtype=images.dtype) - _CENTER) / 2 - (size - 1) / 2
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        matrix = matrix.to(images.dtype)
        where = torch.stack([x, y], dim=-1).view(1, -1, 2) @ matrix[:, :, :2].transpose(1, 2) + matrix[:, None, :, 2]
        where = reflected(where + (size - 1) / 2, size)
        where = (2 * (where + _MARGIN) + _CENTER) * (2 / (fine.shape[-1] - 1)) - 1  # grid_sample's [-1, 1]
        sampled: Tensor = _Sampled.apply(fine, where.view(-1, count, count, 2))
        return _filtered(sampled, up=False)


def _filtered(images: Tensor, up: bool) -> Tensor:
    """Both axes up-sampled twofold ([.., N] -> [.., 2 (N - 1) + 12]), or its adjoint, which undoes it."""
    taps = images.new_tensor(_SYM6) * (2**0.5 if up else 0.5**0.5)
    convolve = F.conv_transpose2d if up else F.conv2d
    flat = images.flatten(0, 1)[:, None]  # [B*C, 1, H, W]
    flat = convolve(flat, taps.view(1, 1, 1, -1), stride=(1, 2))
    flat = convolve(flat, taps.view(1, 1, -1, 1), stride=(2, 1))
    return flat.view(*images.shape[:2], *flat.shape[-2:])


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

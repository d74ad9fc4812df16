"""StyleGAN2's modulated convolution without per-sample weights."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from fctfg.ops.convolution import convolution
from fctfg.ops.precision import float32_island
from fctfg.ops.recompute import recomputed

EPS = 1e-8


@float32_island
def demodulation(weight: Tensor, style: Tensor, scale: float) -> Tensor:
    """The factor that brings the modulated filters to unit norm, in float32 or better whatever the inputs are.

    d[n, o] = (sum over i, k of (scale * s[n, i] * W[o, i, k])^2 + eps)^(-1/2)       (StyleGAN2, Eq. 3)

    Args:
        weight: [O, I, k, k] shared, or [S, O, I, k, k] one per source image.
        style: [N, I]; with S weights, N is a multiple of S and each weight serves N / S consecutive styles.
        scale: the equalized learning rate's constant that belongs to ``weight``.

    Returns:
        [N, O].
    """
    energy = weight.square().sum((-2, -1))  # [O, I] or [S, O, I]
    squared = style.square()
    if weight.ndim == 4:
        total = squared @ energy.t()
    else:
        total = (squared.unflatten(0, (weight.shape[0], -1)) @ energy.transpose(1, 2)).flatten(0, 1)
    return (total * scale**2 + EPS).rsqrt()


def modulated_conv2d(x: Tensor, weight: Tensor, style: Tensor, scale: float = 1.0, up: bool = False) -> Tensor:
    """Convolve with the filters scaled per input channel by the style, by scaling the input instead.

    y[n, o] = sum over i of W[o, i] * (s[n, i] x[n, i]) is the same sum as with the weights W s, but its weights are
    shared by the batch. Demodulation is a factor on the output: multiply by :func:`demodulation`.

    Args:
        x: [N, I, H, W].
        weight: [O, I, k, k] shared, or [S, O, I, k, k] one per source image (weights offset by HyperStyle); then
            each serves N / S consecutive images, in one convolution with S groups.
        style: [N, I].
        scale: a factor on the result (the constant of the equalized learning rate, where nothing else applies it).
        up: transposed convolution with stride 2; otherwise "same" padding. The caller filters the up-sampled result.

    Returns:
        [N, O, H, W], or [N, O, 2H + k - 2, 2W + k - 2] when up-sampled.
    """
    style = style if scale == 1.0 else style * scale
    padding = weight.shape[-1] // 2

    def scaled() -> Tensor:
        return x * style.to(x.dtype)[:, :, None, None]

    if weight.ndim == 4:
        modulated = scaled()
        with recomputed(modulated, scaled):
            if up:
                return convolution(modulated, weight.transpose(0, 1), stride=2, transposed=True)
            return convolution(modulated, weight, padding=padding)
    # [S*T, I, H, W] -> [T, S*I, H, W]: the sources become groups, their images the batch.
    sources = weight.shape[0]
    modulated = scaled().unflatten(0, (sources, -1)).transpose(0, 1).flatten(1, 2)
    if up:
        y = F.conv_transpose2d(modulated, weight.transpose(1, 2).flatten(0, 1), stride=2, groups=sources)
    else:
        y = F.conv2d(modulated, weight.flatten(0, 1), padding=padding, groups=sources)
    return y.unflatten(1, (sources, -1)).transpose(0, 1).flatten(0, 1)


def modulated_rgb(x: Tensor, weight: Tensor, style: Tensor, scale: float) -> Tensor:
    """The 1x1 modulated convolution to RGB (no demodulation) as one small batched matrix product.

    Args:
        x: [N, I, H, W].
        weight: [3, I], or [S, 3, I] one per source image as in :func:`modulated_conv2d`.
        style: [N, I].
        scale: the equalized learning rate's constant that belongs to ``weight``.

    Returns:
        [N, 3, H, W].
    """
    n = x.shape[0]
    if weight.ndim == 3:
        weight = weight.repeat_interleave(n // weight.shape[0], dim=0)  # [N, 3, I]
    modulated = (weight * (style * scale)[:, None, :]).to(x.dtype)
    if x.is_contiguous(memory_format=torch.channels_last):
        return _PixelProduct.apply(x, modulated)
    return torch.bmm(modulated, x.flatten(2)).unflatten(2, x.shape[2:])


class _PixelProduct(Function):
    """Each pixel of x [N, I, H, W] times a matrix [N, O, I]; x and its gradient stay in channels_last, without copies.

    Autograd's own gradients are in the plain layout, with which everything that follows is several times as slow.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor) -> Tensor:
        ctx.save_for_backward(x, matrix)
        product = x.permute(0, 2, 3, 1).flatten(1, 2) @ matrix.transpose(1, 2)  # [N, H W, O]
        return product.transpose(1, 2).contiguous().unflatten(2, x.shape[2:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, matrix = ctx.saved_tensors
        gradient = gradient.flatten(2).contiguous()  # [N, O, H W]
        by_x = (gradient.transpose(1, 2) @ matrix).unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)
        return by_x, gradient @ x.permute(0, 2, 3, 1).flatten(1, 2)

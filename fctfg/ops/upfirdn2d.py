"""Up-sample, filter with a FIR kernel, down-sample: StyleGAN2's resampling, in plain torch."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

Pad = tuple[int, int, int, int]  # left, right, top, bottom


def fir_kernel(taps: Sequence[float] = (1.0, 3.0, 3.0, 1.0), gain: float = 1.0) -> Tensor:
    """The separable 2-D filter of some taps, normalized to the sum ``gain``.

    Args:
        taps: the 1-D filter.
        gain: the sum of the result; ``factor**2`` keeps the brightness when zeros are inserted by ``factor``.

    Returns:
        float32 [len(taps), len(taps)].
    """
    taps_1d = torch.tensor(taps, dtype=torch.float32)
    kernel = torch.outer(taps_1d, taps_1d)
    return kernel * (gain / kernel.sum())


def upfirdn2d(x: Tensor, kernel: Tensor, up: int = 1, down: int = 1, pad: tuple[int, int] = (0, 0)) -> Tensor:
    """Insert zeros, pad, convolve every channel with one kernel, and keep every ``down``-th pixel.

    Differentiable by ``x`` any number of times; the kernel is a constant.

    Args:
        x: [B, C, H, W].
        kernel: [k, k], square; a true convolution, i.e. the kernel is flipped.
        up: zeros are inserted so that each pixel becomes up x up.
        down: the step with which the result is kept.
        pad: zeros before and after, in pixels of the up-sampled image, the same for both axes.

    Returns:
        [B, C, (H*up + pad0 + pad1 - k) // down + 1, likewise for W], of x's type, with autocast too.
    """
    with torch.autocast(x.device.type, enabled=False):
        return _Upfirdn2d.apply(x, kernel, up, down, (*pad, *pad))


class _Upfirdn2d(Function):
    """The operation with its adjoint, which is the operation again with the kernel turned and up and down swapped.

    Autograd's own second derivative of a depthwise convolution is a loop over the channels.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, up: int, down: int, pad: Pad) -> Tensor:
        y = _apply(x, kernel, up, down, pad)
        size = kernel.shape[0]
        left, _, top, _ = pad
        right = x.shape[3] * up - y.shape[3] * down + left - up + 1
        bottom = x.shape[2] * up - y.shape[2] * down + top - up + 1
        ctx.save_for_backward(kernel)
        ctx.adjoint = down, up, (size - 1 - left, right, size - 1 - top, bottom)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (kernel,) = ctx.saved_tensors
        with torch.autocast(gradient.device.type, enabled=False):  # on or off, where the backward pass is called
            return _Upfirdn2d.apply(gradient, kernel.flip(0, 1), *ctx.adjoint), None, None, None, None


def _apply(x: Tensor, kernel: Tensor, up: int, down: int, pad: Pad) -> Tensor:
    """One depthwise convolution, transposed where ``up`` > 1: the fastest of six forms measured on CPUs."""
    channels, size = x.shape[1], kernel.shape[0]
    kernel = kernel.to(x.dtype)
    if up == 1:
        weight = kernel.flip(0, 1).expand(channels, 1, size, size)
        if pad[0] >= 0 and pad == (pad[0],) * 4:
            return F.conv2d(x, weight, stride=down, padding=pad[0], groups=channels)
        return F.conv2d(F.pad(x, pad), weight, stride=down, groups=channels)
    # A transposed convolution is the full response; what upfirdn pads less than k - 1 is cropped from it.
    left, right, top, bottom = pad
    extra = (left - size + 1, right - size + up, top - size + 1, bottom - size + up)
    crop = -extra[0] if extra[0] <= 0 and extra == (extra[0],) * 4 else 0
    precision = x.dtype
    if x.device.type == "cpu" and precision == torch.bfloat16:  # 17 times as fast, and no less precise
        x, kernel = x.float(), kernel.float()
    weight = kernel.expand(channels, 1, size, size)
    y = F.conv_transpose2d(x, weight, stride=up, padding=crop, groups=channels).to(precision)
    if crop == 0:
        y = F.pad(y, extra)
    return y if down == 1 else y[:, :, ::down, ::down]

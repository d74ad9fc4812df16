"""What follows a demodulated convolution: factor, noise, bias and leaky ReLU, of which only the result is kept."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function


def epilogue(y: Tensor, factor: Tensor, noise: Tensor, strength: Tensor, bias: Tensor, slope: float) -> Tensor:
    """lrelu(factor * y + strength * noise + bias), which keeps no y; differentiable any number of times.

    Args:
        y: [N, C, H, W].
        factor: [N, C], nowhere zero; float32 or finer, as ``strength`` and ``bias`` are. Its gradient is as precise as
            factor * y is large beside noise and bias.
        noise: [1 or N, 1, H, W]; gets no gradient.
        strength: [1].
        bias: [C].
        slope: of the leaky ReLU, above zero.

    Returns:
        [N, C, H, W], of y's type.
    """
    return _Epilogue.apply(y, factor, noise.to(y.dtype).expand(len(y), -1, -1, -1), strength, bias, slope)


class _Epilogue(Function):
    """The gradients by factor, strength and bias need no y.

    Let z = factor * y + strength * noise + bias, and g the gradient by z. Leaky ReLU is homogeneous, hence
    sum(g z) = sum(gradient * result) and sum(g y) = (sum(g z) - strength * sum(g noise) - bias * sum(g)) / factor.
    """

    @staticmethod
    def forward(
        ctx: Any, y: Tensor, factor: Tensor, noise: Tensor, strength: Tensor, bias: Tensor, slope: float
    ) -> Tensor:
        shift, scale = bias.to(y.dtype)[:, None, None], factor.to(y.dtype)[:, :, None, None]
        result = torch.addcmul(shift, y, scale).add_(strength.to(y.dtype) * noise)
        result = F.leaky_relu_(result, slope)
        ctx.save_for_backward(result, factor, noise, strength, bias)
        ctx.slope = slope
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        result, factor, noise, strength, bias = ctx.saved_tensors
        g = torch.ops.aten.leaky_relu_backward(gradient, result, ctx.slope, True)
        by_y = g * factor.to(g.dtype)[:, :, None, None]
        ones = torch.ones_like(noise)
        total, of_noise = _sums(torch.cat((ones, noise), dim=1), g, factor.dtype).unbind(1)  # [N, C] each
        of_z = _sums(ones, gradient * result, factor.dtype)[:, 0]
        by_factor = (of_z - strength * of_noise - bias * total) / factor
        return by_y, by_factor, None, of_noise.sum().view_as(strength), total.sum(0), None


def _sums(weights: Tensor, x: Tensor, precision: torch.dtype) -> Tensor:
    """The sums over all pixels of weights [N, K, H, W] times x [N, C, H, W]: [N, K, C].

    Matrix products, for which x need not be copied, as it is by a sum of bf16 with another ``dtype``; in channels_last
    one for each row, and the rows are added in ``precision``.
    """
    n, _, height, _ = x.shape
    if not x.is_contiguous(memory_format=torch.channels_last):
        return (weights.flatten(2) @ x.flatten(2).transpose(1, 2)).to(precision)
    left = weights.permute(0, 2, 1, 3).flatten(0, 1)  # [N H, K, W]
    right = x.permute(0, 2, 3, 1).flatten(0, 1)  # [N H, W, C]
    return (left @ right).unflatten(0, (n, height)).sum(1, dtype=precision)

"""The layers of StyleGAN2: equalized learning rate, fused activation, fixed filters."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fctfg.ops.convolution import convolution
from fctfg.ops.upfirdn2d import fir_kernel, upfirdn2d

SQRT2 = math.sqrt(2.0)
SLOPE = 0.2  # of every leaky ReLU


class PixelNorm(nn.Module):
    """x / rms(x) over the channels; [B, C] -> [B, C]."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


class EqualLinear(nn.Module):
    """A linear layer with equalized learning rate: the weight is stored with unit variance and scaled when used.

    Args:
        in_features, out_features: sizes.
        bias_init: the bias at the start.
        lr_multiplier: weight and bias are stored divided by it, so that they learn this much more slowly.
        activate: apply the leaky ReLU with gain sqrt 2.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias_init: float = 0.0,
        lr_multiplier: float = 1.0,
        activate: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), bias_init / lr_multiplier))
        self.lr_multiplier = lr_multiplier
        self.scale = lr_multiplier / math.sqrt(in_features)
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_features] -> [B, out_features]."""
        gain = SQRT2 if self.activate else 1.0  # leaky ReLU is homogeneous: its gain goes into the product
        y = torch.addmm(self.bias, x, self.weight.t(), beta=self.lr_multiplier * gain, alpha=self.scale * gain)
        return F.leaky_relu(y, SLOPE) if self.activate else y


class EqualConv2d(nn.Module):
    """The weight of a convolution with equalized learning rate and without bias; ``scale`` belongs to the weight."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.scale = 1.0 / math.sqrt(in_channels * kernel_size**2)

    def forward(self, x: Tensor, gain: float = 1.0, stride: int = 1, bias: Tensor | None = None) -> Tensor:
        """Convolve; the constants go into the weight, which is smaller than the images.

        Args:
            x: [B, in, H, W].
            gain: a factor on the result.
            stride: 1 pads to the "same" size, others do not pad.
            bias: [out], added to the result as it is.

        Returns:
            [B, out, ...].
        """
        padding = self.weight.shape[-1] // 2 if stride == 1 else 0
        return convolution(x, self.weight, bias, stride=stride, padding=padding, scale=self.scale * gain)


class FusedLeakyReLU(nn.Module):
    """An activation's bias, under its published key; the layer that owns it applies bias and leaky ReLU itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))


class FIR(nn.Module):
    """A fixed [1, 3, 3, 1] filter kept as a buffer under the published key ``kernel``.

    Args:
        up, down: resampling factors.
        pad: zeros before and after, see :func:`fctfg.ops.upfirdn2d.upfirdn2d`.
        gain: the filter's sum.
    """

    kernel: Tensor

    def __init__(self, up: int = 1, down: int = 1, pad: tuple[int, int] = (0, 0), gain: float = 1.0) -> None:
        super().__init__()
        self.up, self.down, self.pad = up, down, pad
        self.register_buffer("kernel", fir_kernel(gain=gain))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> filtered and resampled."""
        return upfirdn2d(x, self.kernel, self.up, self.down, self.pad)

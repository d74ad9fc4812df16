"""The generator with its weights at rest: for many frames of one source.

What does not depend on the codes is computed once: scaled weights with their offsets, sums of their squares, noise
times its strength. Style and demodulation then scale whichever is smaller, a layer's weights or its images.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fctfg.models.hypernetwork import Deltas
from fctfg.models.layers import SLOPE, SQRT2, EqualLinear
from fctfg.models.stylegan2 import Generator, StyledConv, ToRGB
from fctfg.ops.convolution import convolution
from fctfg.ops.modulated_conv import EPS, modulated_rgb
from fctfg.ops.upfirdn2d import fir_kernel, upfirdn2d

AT_ONCE = 1 << 23  # elements of a layer's images; more do not fit a processor's cache and are made in turns


class FrozenGenerator(nn.Module):
    """A copy of a generator for inference; later changes of the generator do not reach it.

    Args:
        generator: whose weights, offsets and fixed noise are taken; on its device.
        deltas: weight offsets of one source, [1, O, I, k, k] each, see :meth:`Generator.forward`.
        precision: of weights and images inside; styles, demodulation and the sum of the RGB images stay float32 (or
            float64, where that is the precision).

    Raises:
        ValueError: if there are offsets of several sources, or not one for each convolution.
    """

    @torch.no_grad()
    def __init__(
        self, generator: Generator, deltas: Deltas | None = None, precision: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.config = generator.config
        expected = len(self.config.convolutions)
        deltas = [None] * expected if deltas is None else deltas
        if len(deltas) != expected:
            raise ValueError(f"{len(deltas)} weight offsets for {expected} convolutions")
        if any(delta is not None and len(delta) != 1 for delta in deltas):
            raise ValueError("the weight offsets must be those of one source")
        styled = [generator.conv1, *generator.convs]
        places = [0] + [3 * i + k for i in range(len(generator.to_rgbs)) for k in (2, 3)]
        self.convs = nn.ModuleList(
            FrozenConv(layer, getattr(generator.noises, f"noise_{i}"), deltas[place], precision)
            for i, (layer, place) in enumerate(zip(styled, places, strict=True))
        )
        self.to_rgbs = nn.ModuleList(
            FrozenRGB(layer, deltas[3 * i + 1]) for i, layer in enumerate([generator.to_rgb1, *generator.to_rgbs])
        )
        constant = generator.input.input.detach().to(precision)
        self.register_buffer("constant", constant.contiguous(memory_format=torch.channels_last))
        self.eval()

    constant: Tensor

    def forward(self, w_plus: Tensor) -> Tensor:
        """Synthesize images with the fixed noise.

        Args:
            w_plus: [B, n_styles, style_dim].

        Returns:
            [B, 3, resolution, resolution], as :class:`Generator` gives.

        Raises:
            ValueError: if the codes have another shape.
        """
        if w_plus.ndim != 3 or w_plus.shape[1:] != (self.config.n_styles, self.config.style_dim):
            raise ValueError(
                f"codes must be [B, {self.config.n_styles}, {self.config.style_dim}], not {list(w_plus.shape)}"
            )
        x = self.convs[0](self.constant, w_plus[:, 0])
        return self._enlarge(x, self.to_rgbs[0](x, w_plus[:, 1], None), w_plus, 1)

    def _enlarge(self, x: Tensor, image: Tensor, codes: Tensor, block: int) -> Tensor:
        """The blocks from ``block`` on: x [N, C, H, W], image [N, 3, H, W] -> [N, 3, resolution, resolution]."""
        if block == len(self.to_rgbs):
            return image
        first, second = self.convs[2 * block - 1 : 2 * block + 1]
        assert isinstance(second, FrozenConv)
        at_once = max(1, AT_ONCE // second.elements)
        if len(x) > at_once:
            parts = zip(x.split(at_once), image.split(at_once), codes.split(at_once), strict=True)
            return torch.cat([self._enlarge(*part, block) for part in parts])
        x = first(x, codes[:, 2 * block - 1])
        x = second(x, codes[:, 2 * block])
        return self._enlarge(x, self.to_rgbs[block](x, codes[:, 2 * block + 1], image), codes, block + 1)


class FrozenStyle(nn.Module):
    """The affine map from a style to input scales, times a constant."""

    def __init__(self, layer: EqualLinear, factor: float) -> None:
        super().__init__()
        self.register_buffer("matrix", (layer.weight.detach() * (layer.scale * factor)).t().contiguous())
        self.register_buffer("bias", layer.bias.detach() * (layer.lr_multiplier * factor))

    matrix: Tensor  # [style_dim, I]
    bias: Tensor  # [I]

    def forward(self, style: Tensor) -> Tensor:
        """[N, style_dim] -> [N, I]."""
        return torch.addmm(self.bias, style.to(self.bias), self.matrix)


class FrozenConv(nn.Module):
    """A :class:`StyledConv` at rest.

    Args:
        layer: whose weights are taken.
        noise: [1, 1, H, W], the layer's fixed noise.
        delta: [1, O, I, k, k], the weights' offsets.
        precision: of weights and images.
    """

    def __init__(self, layer: StyledConv, noise: Tensor, delta: Tensor | None, precision: torch.dtype) -> None:
        super().__init__()
        weight = layer.conv.weight.squeeze(0) if delta is None else layer.conv.weight.squeeze(0) * (1 + delta[0])
        self.up = layer.conv.up
        self.modulation = FrozenStyle(layer.conv.modulation, layer.conv.scale)
        self.register_buffer("energy", weight.square().sum((2, 3)).t().contiguous())
        weight = weight.transpose(0, 1) if self.up else weight
        self.register_buffer("weight", weight.to(precision).contiguous(memory_format=torch.channels_last))
        self.register_buffer("noise", (noise * layer.noise.weight * SQRT2).to(precision))
        self.register_buffer("bias", (layer.activate.bias * SQRT2).to(precision))
        kernel = fir_kernel(gain=4.0).expand(len(self.bias), 1, 4, 4) if self.up else torch.empty(0)
        self.register_buffer("kernel", kernel.to(self.weight))
        self.elements = len(self.bias) * self.noise.numel()  # of an image

    energy: Tensor  # [I, O]
    weight: Tensor  # [O, I, 3, 3], or [I, O, 3, 3] when up-sampling
    noise: Tensor  # [1, 1, H, W]
    bias: Tensor  # [O]
    kernel: Tensor  # [O, 1, 4, 4], symmetric

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """x [N or 1, I, H, W], style [N, style_dim] -> [N, O, H or 2H, W or 2W]."""
        scales = self.modulation(style)  # [N, I]
        factor = (scales.square() @ self.energy + EPS).rsqrt() * SQRT2  # [N, O]
        scales, factor = scales.to(x.dtype), factor.to(x.dtype)
        weight = self.weight
        light = len(style) == 1 and weight.numel() < self.elements  # then scale the weights, not the image
        if light:
            weight = weight * (scales.t() * factor if self.up else factor.t() * scales)[:, :, None, None]
        else:
            x = x * scales[:, :, None, None]
        bias = self.bias if light else None
        if self.up:
            y = convolution(x, weight, stride=2, transposed=True)
            y = F.conv2d(y, self.kernel, bias, padding=1, groups=len(self.bias))
        else:
            y = F.conv2d(x, weight, bias, padding=1)
        if not light:
            y = torch.addcmul(self.bias[:, None, None], y, factor[:, :, None, None])
        return F.leaky_relu_(y.add_(self.noise), SLOPE)


class FrozenRGB(nn.Module):
    """A :class:`ToRGB` at rest; arguments as of :class:`FrozenConv`."""

    def __init__(self, layer: ToRGB, delta: Tensor | None) -> None:
        super().__init__()
        weight = layer.conv.weight.squeeze(0) if delta is None else layer.conv.weight.squeeze(0) * (1 + delta[0])
        self.modulation = FrozenStyle(layer.conv.modulation, layer.conv.scale)
        self.register_buffer("weight", weight.detach()[:, :, 0, 0].clone())
        self.register_buffer("bias", layer.bias.detach().clone())
        self.register_buffer("kernel", fir_kernel(gain=4.0).to(self.weight))

    weight: Tensor  # [3, I]
    bias: Tensor  # [1, 3, 1, 1]
    kernel: Tensor  # [4, 4]

    def forward(self, x: Tensor, style: Tensor, skip: Tensor | None) -> Tensor:
        """x [N, I, H, W], style [N, style_dim], skip [N, 3, H/2, W/2] -> [N, 3, H, W]."""
        rgb = modulated_rgb(x, self.weight, self.modulation(style), scale=1.0)
        image = rgb.to(self.bias.dtype) + self.bias
        return image if skip is None else image + upfirdn2d(skip, self.kernel, up=2, pad=(2, 1))

"""StyleGAN2's generator with skip connections (Karras et al. 2020).

State-dict keys and numbers are those of the rosinality layout, so that published checkpoints load as they are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from fctfg.models.layers import FIR, SLOPE, SQRT2, EqualLinear, FusedLeakyReLU, PixelNorm
from fctfg.ops.draws import Draws
from fctfg.ops.epilogue import epilogue
from fctfg.ops.modulated_conv import demodulation, modulated_conv2d, modulated_rgb
from fctfg.ops.precision import precise
from fctfg.ops.recompute import Segmented
from fctfg.randomness import generator


def check_resolution(resolution: int) -> None:
    """Raises ValueError for a side that StyleGAN2's networks cannot have."""
    if resolution < 8 or resolution & (resolution - 1):
        raise ValueError(f"resolution must be a power of two of at least 8, not {resolution}")


@dataclass(frozen=True)
class GeneratorConfig:
    """The generator's sizes; the defaults are the paper's 256 px network (channel multiplier 2).

    Attributes:
        resolution: side of the square image, px.
        style_dim: length of z and w.
        n_mlp: layers of the mapping network.
        lr_mlp: learning rate multiplier of the mapping network.
        channel_base: a resolution has min(channel_max, channel_base // resolution) channels.
        channel_max: most channels of a resolution.

    Raises:
        ValueError: for a resolution that is not a power of two from 8 on, or a size below 1.
    """

    resolution: int = 256
    style_dim: int = 512
    n_mlp: int = 8
    lr_mlp: float = 0.01
    channel_base: int = 32768
    channel_max: int = 512

    def __post_init__(self) -> None:
        check_resolution(self.resolution)
        if min(self.style_dim, self.n_mlp, self.channel_max) < 1 or self.channel_base < self.resolution:
            raise ValueError(f"sizes must be positive and channel_base at least the resolution: {self}")
        if not 0 < self.lr_mlp < math.inf:
            raise ValueError(f"lr_mlp must be positive: {self}")

    def channels(self, resolution: int) -> int:
        """Feature channels at a resolution."""
        return min(self.channel_max, self.channel_base // resolution)

    @property
    def n_styles(self) -> int:
        """Modulation layers, i.e. rows of a W+ code: 14 at 256 px."""
        return 2 * int(math.log2(self.resolution)) - 2

    @property
    def convolutions(self) -> tuple["Convolution", ...]:
        """Every convolution in HyperStyle's order: conv1, to_rgb1, then two convolutions and a toRGB per resolution."""
        first = self.channels(4)
        found = [Convolution(first, first, 3), Convolution(first, 3, 1)]
        resolution = 8
        while resolution <= self.resolution:
            before, here = self.channels(resolution // 2), self.channels(resolution)
            found += [Convolution(before, here, 3), Convolution(here, here, 3), Convolution(here, 3, 1)]
            resolution *= 2
        return tuple(found)


class Convolution(NamedTuple):
    """The shape of one of the generator's convolutions."""

    in_channels: int
    out_channels: int
    kernel_size: int

    @property
    def to_rgb(self) -> bool:
        """Whether it is a 1x1 convolution to RGB."""
        return self.kernel_size == 1


class ModulatedConv2d(nn.Module):
    """The weight of a modulated convolution and the affine map from a style to its input scales.

    Args:
        in_channels, out_channels, kernel_size: of the convolution.
        style_dim: of the style vector.
        up: up-sample by two (transposed convolution and FIR filter).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, style_dim: int, up: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, out_channels, in_channels, kernel_size, kernel_size))
        self.scale = 1.0 / math.sqrt(in_channels * kernel_size**2)
        self.up = up
        if up:
            self.blur = FIR(pad=(1, 1), gain=4.0)
        self.modulation = EqualLinear(style_dim, in_channels, bias_init=1.0)

    def offset_weight(self, delta: Tensor | None) -> Tensor:
        """W [O, I, k, k], or W(1 + delta) [S, O, I, k, k] for offsets [S, O, I, k, k] of HyperStyle."""
        return self.weight.squeeze(0) if delta is None else self.weight * (1 + delta)

    def forward(self, x: Tensor, style: Tensor, delta: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Convolution, still to be demodulated.

        Args:
            x: [N, in_channels, H, W].
            style: [N, style_dim].
            delta: [S, out_channels, in_channels, k, k], each for N / S consecutive images.

        Returns:
            [N, out_channels, H, W], twice as large when up-sampling, and its demodulating factor [N, out_channels].
        """
        weight = self.offset_weight(delta)
        with torch.autocast(x.device.type, enabled=False):
            scales = self.modulation(precise(style))  # [N, I]
            factor = demodulation(weight, scales, self.scale) * self.scale  # [N, O]
        y = modulated_conv2d(x, weight, scales, up=self.up)
        return self.blur(y) if self.up else y, factor


class NoiseInjection(nn.Module):
    """The learned strength of a layer's noise."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


class StyledConv(nn.Module):
    """Modulated 3x3 convolution, noise, bias and leaky ReLU; the gain sqrt 2 is folded into the three summands."""

    def __init__(self, in_channels: int, out_channels: int, style_dim: int, up: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(in_channels, out_channels, 3, style_dim, up)
        self.noise = NoiseInjection()
        self.activate = FusedLeakyReLU(out_channels)

    def forward(self, x: Tensor, style: Tensor, noise: Tensor, delta: Tensor | None = None) -> Tensor:
        """[N, in, h, w], [N, style_dim], noise [1 or N, 1, H, W] -> [N, out, H, W].

        H and W are h and w, or twice as large when up-sampling.
        """
        y, factor = self.conv(x, style, delta)
        return epilogue(y, factor * SQRT2, noise, self.noise.weight * SQRT2, self.activate.bias * SQRT2, SLOPE)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to RGB, added to the up-sampled image of the resolution below."""

    def __init__(self, in_channels: int, style_dim: int, up: bool = True) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        if up:
            self.upsample = FIR(up=2, pad=(2, 1), gain=4.0)
        self.conv = ModulatedConv2d(in_channels, 3, 1, style_dim)

    def forward(self, x: Tensor, style: Tensor, skip: Tensor | None, delta: Tensor | None = None) -> Tensor:
        """[N, C, H, W], style [N, style_dim], skip [N, 3, H/2, W/2] -> [N, 3, H, W]."""
        weight = self.conv.offset_weight(delta)[..., 0, 0]
        with torch.autocast(x.device.type, enabled=False):
            scales = self.conv.modulation(precise(style))
        rgb = modulated_rgb(x, weight, scales, self.conv.scale)
        with torch.autocast(x.device.type, enabled=False):  # the image adds up in float32
            image = precise(rgb) + self.bias
            return image if skip is None else image + self.upsample(skip)


class ConstantInput(nn.Module):
    """The learned 4 x 4 input of the synthesis network."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, 4, 4))

    def forward(self, batch: int) -> Tensor:
        """[batch, C, 4, 4]."""
        return self.input.repeat(batch, 1, 1, 1)


class Generator(Segmented):
    """StyleGAN2's generator: z -> w (mapping), W+ -> image (forward).

    Attributes:
        latent_avg: [style_dim], the mean of w; zero until :meth:`update_latent_avg` or a checkpoint sets it.
    """

    latent_avg: Tensor

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.style_dim
        mapping = [EqualLinear(dim, dim, lr_multiplier=config.lr_mlp, activate=True) for _ in range(config.n_mlp)]
        self.style = nn.Sequential(PixelNorm(), *mapping)
        self.input = ConstantInput(config.channels(4))
        self.conv1 = StyledConv(config.channels(4), config.channels(4), dim)
        self.to_rgb1 = ToRGB(config.channels(4), dim, up=False)
        self.convs, self.to_rgbs, self.noises = nn.ModuleList(), nn.ModuleList(), nn.Module()
        self.noises.register_buffer("noise_0", torch.randn(1, 1, 4, 4))
        for level in range(3, int(math.log2(config.resolution)) + 1):
            size = 2**level
            before, here = config.channels(size // 2), config.channels(size)
            self.convs.append(StyledConv(before, here, dim, up=True))
            self.convs.append(StyledConv(here, here, dim))
            self.to_rgbs.append(ToRGB(here, dim))
            for index in (2 * level - 5, 2 * level - 4):
                self.noises.register_buffer(f"noise_{index}", torch.randn(1, 1, size, size))
        self.register_buffer("latent_avg", torch.zeros(dim))

    @property
    def n_styles(self) -> int:
        """Rows of a W+ code."""
        return self.config.n_styles

    def mapping(self, z: Tensor) -> Tensor:
        """z [B, style_dim] (standard normal) -> w [B, style_dim]."""
        return self.style(z)

    @torch.no_grad()
    def update_latent_avg(self, n: int = 100_000, seed: int = 0) -> None:
        """Set ``latent_avg`` to the mean of ``n`` mapped latents, drawn on the CPU so that devices agree."""
        source, total, batch = generator("latent_avg", seed), torch.zeros_like(self.latent_avg), 10_000
        for start in range(0, n, batch):
            z = torch.randn(min(batch, n - start), self.config.style_dim, generator=source)
            total += self.mapping(z.to(total)).sum(0)
        self.latent_avg.copy_(total / n)

    def forward(
        self,
        w_plus: Tensor,
        noise: Literal["fixed", "random"] | Draws = "fixed",
        deltas: Sequence[Tensor | None] | None = None,
    ) -> Tensor:
        """Synthesize images.

        Args:
            w_plus: [B, n_styles, style_dim], one code per modulation layer.
            noise: "fixed" uses the stored noise images (for video), "random" draws new ones from torch's global
                generator; or what they are to be drawn from, one seed for each code.
            deltas: weight offsets by the order of ``config.convolutions``, each None or [S, O, I, k, k]: the weights
                are W(1 + delta), and each offset serves B / S consecutive codes (the frames of one source image).

        Returns:
            [B, 3, resolution, resolution], nominally in [-1, 1].

        Raises:
            ValueError: if the shapes of the codes or the number of offsets do not fit.
        """
        if w_plus.ndim != 3 or w_plus.shape[1:] != (self.n_styles, self.config.style_dim):
            raise ValueError(f"codes must be [B, {self.n_styles}, {self.config.style_dim}], not {list(w_plus.shape)}")
        expected = 2 + 3 * len(self.to_rgbs)
        if deltas is None:
            deltas = [None] * expected
        elif len(deltas) != expected:
            raise ValueError(f"{len(deltas)} weight offsets for {expected} convolutions")
        noises = [getattr(self.noises, f"noise_{i}") for i in range(self.n_styles - 1)]
        if noise != "fixed":
            draws = Draws.fresh(len(w_plus), w_plus.device) if noise == "random" else noise
            noises = [draws.normal(f"noise_{i}", *fixed.shape[1:]) for i, fixed in enumerate(noises)]
        styles = w_plus.unbind(1)

        x = self.conv1(self.input(w_plus.shape[0]), styles[0], noises[0], deltas[0])
        image = self.to_rgb1(x, styles[1], None, deltas[1])
        for i in range(len(self.to_rgbs)):
            k, d = 2 * i + 1, 3 * i + 2
            x, image = self.segment(self._level, i, x, image, styles[k : k + 3], noises[k : k + 2], deltas[d : d + 3])
        return image

    def _level(
        self,
        index: int,
        x: Tensor,
        image: Tensor,
        styles: Sequence[Tensor],
        noises: Sequence[Tensor | None],
        deltas: Sequence[Tensor | None],
    ) -> tuple[Tensor, Tensor]:
        """From one resolution to the next: features [B, C, H, W] and image [B, 3, H, W], both twice as large."""
        x = self.convs[2 * index](x, styles[0], noises[0], deltas[0])
        x = self.convs[2 * index + 1](x, styles[1], noises[1], deltas[1])
        return x, self.to_rgbs[index](x, styles[2], image, deltas[2])

"""HyperStyle (Alaluf et al. 2022): weight offsets that make a generator reproduce one image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fctfg.models.layers import EqualLinear
from fctfg.models.stylegan2 import Convolution, Generator, GeneratorConfig

Deltas = list[Tensor | None]  # one per generator convolution, each [B, O, I, k, k]


@dataclass(frozen=True)
class HypernetworkConfig:
    """The hypernetwork's sizes; the defaults are HyperStyle's network with shared weights at 256 px.

    Attributes:
        resolution: side of the square images that it looks at, px.
        channels: of the residual stages (ResNet-34).
        blocks: of the residual stages.
        code_dim: length of the code that each convolution's offsets are made from.
        shared_width: inner channels of the blocks that use the shared hypernetwork.
        own_width: inner channels of the blocks with an output of their own.
        generator: whose convolutions get the offsets.
        layers: the convolutions that get them, by their index; None takes all but toRGB.

    Raises:
        ValueError: for a resolution that is not a power of two from 32 on or is above the generator's, unless there are
            four positive widths and depths, or for layers that the generator does not have.
    """

    resolution: int = 256
    channels: tuple[int, ...] = (64, 128, 256, 512)
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    code_dim: int = 512
    shared_width: int = 128
    own_width: int = 256
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    layers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        object.__setattr__(self, "blocks", tuple(self.blocks))
        if self.resolution < 32 or self.resolution & (self.resolution - 1):
            raise ValueError(f"resolution must be a power of two of at least 32, not {self.resolution}")
        if self.resolution > self.generator.resolution:
            raise ValueError(f"resolution {self.resolution} is above the generator's {self.generator.resolution}")
        if len(self.channels) != 4 or len(self.blocks) != 4 or min(*self.channels, *self.blocks) < 1:
            raise ValueError(f"four stages of positive width and depth are needed: {self}")
        if min(self.code_dim, self.shared_width, self.own_width) < 1:
            raise ValueError(f"sizes must be positive: {self}")
        if self.layers is not None:
            object.__setattr__(self, "layers", tuple(self.layers))
            possible = [i for i, each in enumerate(self.generator.convolutions) if not each.to_rgb]
            if not self.layers or not set(self.layers) <= set(possible):
                raise ValueError(f"layers must be some of {possible}, not {self.layers}")

    def shares(self, convolution: Convolution) -> bool:
        """Whether a convolution's offsets come from the shared hypernetwork: all of the full width on both sides."""
        widest = self.generator.channel_max
        return not convolution.to_rgb and convolution.in_channels == convolution.out_channels == widest


class ResidualBlock(nn.Module):
    """ResNet's basic block."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Sequential | None = None
        if stride > 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, H, W] -> [B, out, H/stride, W/stride]."""
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y))
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class SharedWeights(nn.Module):
    """A code to the offsets of a full-width 3x3 convolution: h = z w2 + b2 per input channel, then h w1 + b1."""

    def __init__(self, channels: int, code_dim: int) -> None:
        super().__init__()
        self.channels, self.code_dim = channels, code_dim
        self.w1 = nn.Parameter(torch.randn(code_dim, channels * 9) / 40)
        self.b1 = nn.Parameter(torch.randn(channels * 9) / 40)
        self.w2 = nn.Parameter(torch.randn(code_dim, channels * code_dim) / 40)
        self.b2 = nn.Parameter(torch.randn(channels * code_dim) / 40)

    def forward(self, code: Tensor) -> Tensor:
        """[B, code_dim] -> [B, channels, channels, 3, 3]."""
        h = torch.addmm(self.b2, code, self.w2).unflatten(1, (self.channels, self.code_dim))  # [B, C, code_dim]
        return (h @ self.w1 + self.b1).view(-1, self.channels, self.channels, 3, 3)


def _convs(widths: Sequence[int], strides: Sequence[int]) -> nn.Sequential:
    """3x3 convolutions, each followed by a leaky ReLU with slope 0.01."""
    layers: list[nn.Module] = []
    for before, after, stride in zip(widths, widths[1:], strides, strict=False):
        layers += [nn.Conv2d(before, after, 3, stride, 1), nn.LeakyReLU(0.01)]
    return nn.Sequential(*layers)


class SharedBlock(nn.Module):
    """Features to a code, by one block per convolution; the code to offsets, by the network they all share.

    Args:
        in_channels, inner: widths of the convolutions.
        size: side of the feature map, in pixels.
        hypernet: the shared network.
    """

    def __init__(self, in_channels: int, inner: int, size: int, hypernet: SharedWeights) -> None:
        super().__init__()
        halvings, dim = int(math.log2(size)), hypernet.code_dim
        self.convs = _convs([in_channels, *[inner] * halvings, dim], [1, *[2] * halvings])
        self.linear = EqualLinear(dim, dim)
        self.hypernet = hypernet

    def forward(self, features: Tensor) -> Tensor:
        """[B, in_channels, size, size] -> offsets [B, C, C, 3, 3]."""
        return self.hypernet(self.linear(self.convs(features).flatten(1)))


class OwnBlock(nn.Module):
    """Features to one offset per pair of input and output channel, the same for all nine taps.

    Args:
        in_channels, inner, dim: widths of the convolutions.
        size: side of the feature map, in pixels.
        convolution: whose offsets these are.
    """

    def __init__(self, in_channels: int, inner: int, dim: int, size: int, convolution: Convolution) -> None:
        super().__init__()
        between = max(0, int(math.log2(size)) - 3)
        self.convs = _convs([in_channels, *[inner] * (between + 1), dim], [2] * (between + 2))
        self.in_channels, self.out_channels, self.kernel_size = convolution
        self.output = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(dim, convolution.in_channels * convolution.out_channels, 1)
        )

    def forward(self, features: Tensor) -> Tensor:
        """[B, in_channels, size, size] -> offsets [B, O, I, k, k], one value for all taps."""
        offsets = self.output(self.convs(features)).view(-1, self.out_channels, self.in_channels, 1, 1)
        return offsets.expand(-1, -1, -1, self.kernel_size, self.kernel_size)


class Hypernetwork(nn.Module):
    """An image and its reconstruction to weight offsets; keys are those of a HyperStyle checkpoint's ``hypernet.``

    There, the shared network's four tensors stand once more under every block that uses it; so they do here.
    """

    def __init__(self, config: HypernetworkConfig) -> None:
        super().__init__()
        self.config = config
        width = config.channels[0]
        self.conv1 = nn.Conv2d(6, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.PReLU(width)
        body: list[nn.Module] = []
        for stage, (channels, blocks) in enumerate(zip(config.channels, config.blocks, strict=True)):
            for block in range(blocks):
                body.append(ResidualBlock(width, channels, 2 if stage > 0 and block == 0 else 1))
                width = channels
        self.body = nn.Sequential(*body)
        self.shared_weight_hypernet = SharedWeights(config.generator.channel_max, config.code_dim)
        size = config.resolution // 16
        self.refinement_blocks = nn.ModuleDict()  # by the convolution's index
        for index, convolution in enumerate(config.generator.convolutions):
            if config.layers is not None and index not in config.layers:
                continue
            if config.shares(convolution):
                shared = SharedBlock(width, config.shared_width, size, self.shared_weight_hypernet)
                self.refinement_blocks[str(index)] = shared
            elif not convolution.to_rgb:
                own = OwnBlock(width, config.own_width, config.code_dim, size, convolution)
                self.refinement_blocks[str(index)] = own

    @property
    def n_deltas(self) -> int:
        """Entries of what :meth:`forward` returns: the generator's convolutions."""
        return len(self.config.generator.convolutions)

    def forward(self, images: Tensor, reconstruction: Tensor) -> Deltas:
        """Weight offsets that bring the generator's image closer to the given one.

        Args:
            images: [B, 3, H, W] in [-1, 1].
            reconstruction: [B, 3, H, W], what the generator gives now.

        Returns:
            one entry per generator convolution in the order of ``GeneratorConfig.convolutions``: [B, O, I, 3, 3], or
            None where it has none.

        Raises:
            ValueError: if the images have another size.
        """
        expected = (3, self.config.resolution, self.config.resolution)
        if images.shape != reconstruction.shape or images.shape[1:] != expected:
            raise ValueError(
                f"images and reconstruction must both be [B, {', '.join(map(str, expected))}], "
                f"not {list(images.shape)} and {list(reconstruction.shape)}"
            )
        x = self.relu(self.bn1(self.conv1(torch.cat([images, reconstruction], dim=1))))
        features = self.body(x)
        blocks = self.refinement_blocks
        return [blocks[str(i)](features) if str(i) in blocks else None for i in range(self.n_deltas)]


def add_deltas(deltas: Deltas | None, more: Deltas) -> Deltas:
    """The sum of two sets of offsets (None for no offsets yet)."""
    if deltas is None:
        return more
    return [b if a is None else a if b is None else a + b for a, b in zip(deltas, more, strict=True)]


def refine(
    hypernetwork: Hypernetwork, generator: Generator, images: Tensor, codes: Tensor, iterations: int = 5
) -> Deltas:
    """HyperStyle's iterative refinement: offsets add up over several looks at the current reconstruction.

    Args:
        hypernetwork: the network.
        generator: whose weights are offset; its fixed noise is used, and larger images of it are looked at in means of
            pixels (HyperStyle: 256 px of 1024).
        images: [B, 3, H, W] in [-1, 1], of the hypernetwork's resolution.
        codes: [B, n_styles, style_dim], their inversion.
        iterations: number of looks.

    Returns:
        the offsets of all iterations together.
    """
    deltas: Deltas | None = None
    for _ in range(iterations):
        with torch.no_grad():  # what is looked at; gradients reach each iteration's offsets through their sum
            reconstruction = F.adaptive_avg_pool2d(generator(codes, deltas=deltas), hypernetwork.config.resolution)
        deltas = add_deltas(deltas, hypernetwork(images, reconstruction))
    assert deltas is not None, "at least one iteration"
    return deltas

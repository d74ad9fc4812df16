"""StyleGAN2's residual discriminator (Karras et al. 2020).

State-dict keys and numbers are those of the rosinality layout, so that published checkpoints load as they are.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fctfg.models.layers import FIR, SLOPE, SQRT2, EqualConv2d, EqualLinear, FusedLeakyReLU
from fctfg.models.stylegan2 import check_resolution
from fctfg.ops.recompute import Segmented, recomputed


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The discriminator's sizes; see :class:`fctfg.models.stylegan2.GeneratorConfig`.

    Attributes:
        resolution: side of the square image, px.
        channel_base: a resolution has min(channel_max, channel_base // resolution) channels.
        channel_max: most channels of a resolution.
        stddev_group: images that share one statistic.

    Raises:
        ValueError: for a resolution that is not a power of two from 8 on, or a size below 1.
    """

    resolution: int = 256
    channel_base: int = 32768
    channel_max: int = 512
    stddev_group: int = 4

    def __post_init__(self) -> None:
        check_resolution(self.resolution)
        if min(self.channel_max, self.stddev_group) < 1 or self.channel_base < self.resolution:
            raise ValueError(f"sizes must be positive and channel_base at least the resolution: {self}")

    def channels(self, resolution: int) -> int:
        """Feature channels at a resolution."""
        return min(self.channel_max, self.channel_base // resolution)


class ConvLayer(nn.Sequential):
    """[FIR,] convolution, bias, leaky ReLU, with all constant gains folded into weight and bias.

    Args:
        in_channels, out_channels, kernel_size: of the convolution.
        down: filter and keep every second pixel.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, down: bool = False) -> None:
        blur: list[nn.Module] = [FIR(pad=(2, 2))] if down else []
        super().__init__(*blur, EqualConv2d(in_channels, out_channels, kernel_size), FusedLeakyReLU(out_channels))
        self.down = down

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """[B, in, H, W] -> [B, out, H or H/2, W or W/2], times ``gain``."""
        *blur, conv, activate = self
        assert isinstance(conv, EqualConv2d) and isinstance(activate, FusedLeakyReLU)
        gain *= SQRT2
        bias = activate.bias * gain
        if not blur:
            return F.leaky_relu_(conv(x, gain, bias=bias), SLOPE)
        filtered = blur[0](x)
        with recomputed(filtered, lambda: blur[0](x)):
            y = conv(filtered, gain, stride=2, bias=bias)
        return F.leaky_relu_(y, SLOPE)


class ResBlock(nn.Module):
    """(conv2(conv1(x)) + skip(x)) / sqrt 2 at half the resolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = ConvLayer(in_channels, in_channels, 3)
        self.conv2 = ConvLayer(in_channels, out_channels, 3, down=True)
        # The 1x1 convolution follows the down-sampling filter, which computes only the pixels that are kept.
        self.skip = nn.Sequential(FIR(down=2, pad=(1, 1)), EqualConv2d(in_channels, out_channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, H, W] -> [B, out, H/2, W/2]."""
        blur, conv = self.skip
        filtered = blur(x)
        with recomputed(filtered, lambda: blur(x)):
            skip = conv(filtered, gain=1 / SQRT2)
        return self.conv2(self.conv1(x), gain=1 / SQRT2) + skip


def minibatch_stddev(x: Tensor, group: int) -> Tensor:
    """Append a channel with the mean standard deviation over groups of images.

    Image n belongs to the group of all images n' = n modulo (B / group size).

    Args:
        x: [B, C, H, W].
        group: images per group; where it does not divide B, the largest divisor below it is used.

    Returns:
        [B, C + 1, H, W].
    """
    batch, _, height, width = x.shape
    group = next(size for size in range(min(group, batch), 0, -1) if batch % size == 0)
    grouped = x.to(torch.promote_types(x.dtype, torch.float32)).unflatten(0, (group, -1))  # [G, B/G, C, H, W]
    deviation = (grouped.var(0, correction=0) + 1e-8).sqrt().mean((1, 2, 3))  # [B/G]
    channel = deviation.to(x.dtype).repeat(group)[:, None, None, None].expand(-1, 1, height, width)
    return torch.cat([x, channel], dim=1)


class Discriminator(Segmented):
    """StyleGAN2's residual discriminator on single images."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        blocks: list[nn.Module] = [ConvLayer(3, config.channels(config.resolution), 1)]
        size = config.resolution
        while size > 4:
            blocks.append(ResBlock(config.channels(size), config.channels(size // 2)))
            size //= 2
        last = config.channels(4)
        self.convs = nn.Sequential(*blocks)
        self.final_conv = ConvLayer(last + 1, last, 3)
        self.final_linear = nn.Sequential(EqualLinear(last * 16, last, activate=True), EqualLinear(last, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Judge images.

        Args:
            images: [B, 3, resolution, resolution] in [-1, 1].

        Returns:
            logits [B, 1], high for real images.

        Raises:
            ValueError: if the images have another size.
        """
        size = self.config.resolution
        if images.ndim != 4 or images.shape[1:] != (3, size, size):
            raise ValueError(f"images must be [B, 3, {size}, {size}], not {list(images.shape)}")
        x = images
        for block in self.convs:
            x = self.segment(block, x)
        x = minibatch_stddev(x, self.config.stddev_group)
        return self.final_linear(self.final_conv(x).flatten(1))

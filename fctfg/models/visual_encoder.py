"""pSp (Richardson et al. 2021): an image to W+ codes through a feature pyramid. E_inv of the paper."""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fctfg.models.irse import IRSEConfig, body, input_layer, stage_ends
from fctfg.models.layers import EqualLinear

COARSE, MIDDLE = 3, 7  # styles below COARSE come from 1/16 of the resolution, below MIDDLE from 1/8, the rest from 1/4


@dataclass(frozen=True)
class VisualEncoderConfig:
    """The encoder's sizes; the defaults are pSp at 256 px.

    Attributes:
        resolution: side of the square image, px.
        style_dim: length of each style; the generator's.
        n_styles: rows of a W+ code; the generator's modulation layers.
        body: residual network that the styles are read from.

    Raises:
        ValueError: for a resolution that is not a power of two from 32 on, or a size below 1.
    """

    resolution: int = 256
    style_dim: int = 512
    n_styles: int = 14
    body: IRSEConfig = field(default_factory=IRSEConfig)

    def __post_init__(self) -> None:
        if self.resolution < 32 or self.resolution & (self.resolution - 1):
            raise ValueError(f"resolution must be a power of two of at least 32, not {self.resolution}")
        if self.style_dim < 1 or self.n_styles < 1:
            raise ValueError(f"style_dim and n_styles must be positive: {self}")

    def tap_size(self, style: int) -> int:
        """Side of the feature map that a style is read from, in pixels."""
        return self.resolution // (16 if style < COARSE else 8 if style < MIDDLE else 4)


class MapToStyle(nn.Module):
    """log2(size) convolutions with stride 2 down to one pixel, then an equalized linear layer. No batch norm."""

    def __init__(self, in_channels: int, style_dim: int, size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(int(math.log2(size))):
            layers += [nn.Conv2d(in_channels, style_dim, 3, 2, 1), nn.LeakyReLU(0.01)]
            in_channels = style_dim
        self.convs = nn.Sequential(*layers)
        self.linear = EqualLinear(style_dim, style_dim)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, size, size] -> [B, style_dim]."""
        return self.linear(self.convs(x).flatten(1))


def _upsample_add(x: Tensor, lateral: Tensor) -> Tensor:
    """x enlarged to the lateral feature map's size, plus that map."""
    return F.interpolate(x, size=lateral.shape[-2:], mode="bilinear", align_corners=True) + lateral


class VisualEncoder(nn.Module):
    """pSp's encoder; keys are those of a pSp checkpoint's ``encoder.`` and the body those of ``model_ir_se50.pth``.

    Attributes:
        latent_avg: [style_dim], added to all codes; the generator's mean of w.
    """

    latent_avg: Tensor

    def __init__(self, config: VisualEncoderConfig) -> None:
        super().__init__()
        self.config = config
        _, fine, middle, coarse = config.body.channels
        self.input_layer = input_layer(config.body)
        self.body = body(config.body)
        self.styles = nn.ModuleList(
            MapToStyle(coarse, config.style_dim, config.tap_size(style)) for style in range(config.n_styles)
        )
        self.latlayer1 = nn.Conv2d(middle, coarse, 1)
        self.latlayer2 = nn.Conv2d(fine, coarse, 1)
        self.register_buffer("latent_avg", torch.zeros(config.style_dim))

    def set_latent_avg(self, latent_avg: Tensor) -> None:
        """Copy the generator's mean of w [style_dim]."""
        self.latent_avg.copy_(latent_avg)

    def forward(self, images: Tensor) -> Tensor:
        """Invert images.

        Args:
            images: [B, 3, resolution, resolution] in [-1, 1], RGB.

        Returns:
            codes [B, n_styles, style_dim].

        Raises:
            ValueError: if the images have another size.
        """
        size = self.config.resolution
        if images.ndim != 4 or images.shape[1:] != (3, size, size):
            raise ValueError(f"images must be [B, 3, {size}, {size}], not {list(images.shape)}")
        ends = stage_ends(self.config.body)
        x, taps = self.input_layer(images), []
        for index, block in enumerate(self.body):
            x = block(x)
            if index in ends[1:]:
                taps.append(x)
        fine, middle, coarse = taps  # [B, C, size/4, size/4], size/8, size/16
        pyramid_middle = _upsample_add(coarse, self.latlayer1(middle))
        pyramid_fine = _upsample_add(pyramid_middle, self.latlayer2(fine))
        codes = [
            style(coarse if index < COARSE else pyramid_middle if index < MIDDLE else pyramid_fine)
            for index, style in enumerate(self.styles)
        ]
        return torch.stack(codes, dim=1) + self.latent_avg

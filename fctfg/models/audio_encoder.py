"""Wav2Lip's audio encoder: a mel window to a vector. E_a of the paper."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from fctfg.models.spec_augment import SpecAugment
from fctfg.ops.draws import Draws


class ConvSpec(NamedTuple):
    """One of Wav2Lip's convolutions."""

    channels: int
    kernel: int
    stride: int | tuple[int, int]
    padding: int
    residual: bool = False


class ConvBlock(nn.Module):
    """Convolution and batch norm, an optional residual, ReLU: the block of all Wav2Lip networks."""

    def __init__(self, in_channels: int, spec: ConvSpec) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.Conv2d(in_channels, spec.channels, spec.kernel, spec.stride, spec.padding),
            nn.BatchNorm2d(spec.channels),
        )
        self.residual = spec.residual

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, H, W] -> [B, channels, ...], not negative."""
        y = self.conv_block(x)
        return (y + x if self.residual else y).relu()


def conv_stack(in_channels: int, specs: Sequence[ConvSpec], width: float, dim: int) -> nn.Sequential:
    """Wav2Lip's blocks in sequence, with all channels multiplied by ``width`` and the last replaced by ``dim``."""
    blocks = []
    for index, spec in enumerate(specs):
        channels = dim if index == len(specs) - 1 else max(1, round(spec.channels * width))
        blocks.append(ConvBlock(in_channels, spec._replace(channels=channels)))
        in_channels = channels
    return nn.Sequential(*blocks)


# 80 x 16 -> 27 x 16 -> 9 x 6 -> 3 x 3 -> 1 x 1
LAYERS = (
    ConvSpec(32, 3, 1, 1),
    ConvSpec(32, 3, 1, 1, residual=True),
    ConvSpec(32, 3, 1, 1, residual=True),
    ConvSpec(64, 3, (3, 1), 1),
    ConvSpec(64, 3, 1, 1, residual=True),
    ConvSpec(64, 3, 1, 1, residual=True),
    ConvSpec(128, 3, 3, 1),
    ConvSpec(128, 3, 1, 1, residual=True),
    ConvSpec(128, 3, 1, 1, residual=True),
    ConvSpec(256, 3, (3, 2), 1),
    ConvSpec(256, 3, 1, 1, residual=True),
    ConvSpec(512, 3, 1, 0),
    ConvSpec(512, 1, 1, 0),
)


@dataclass(frozen=True)
class AudioEncoderConfig:
    """The encoder's sizes; the defaults are Wav2Lip's generator's audio encoder.

    Attributes:
        width: multiplies all channels.
        dim: length of the embedding.
        time_mask: longest mask of SpecAugment, mel frames; 0: off (not in the paper).
        freq_mask: highest mask of SpecAugment, mel bins; 0: off (not in the paper).

    Raises:
        ValueError: for a size that is not positive or a negative mask.
    """

    width: float = 1.0
    dim: int = 512
    time_mask: int = 4
    freq_mask: int = 16

    def __post_init__(self) -> None:
        if not 0 < self.width < math.inf or self.dim < 1 or min(self.time_mask, self.freq_mask) < 0:
            raise ValueError(f"width and dim must be positive, masks not negative: {self}")


class AudioEncoder(nn.Module):
    """Keys are those of Wav2Lip's ``audio_encoder.`` under ``layers.``"""

    def __init__(self, config: AudioEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.augment = SpecAugment(config.time_mask, config.freq_mask)
        self.layers = conv_stack(1, LAYERS, config.width, config.dim)

    def forward(self, mel: Tensor, draws: Draws | None = None) -> Tensor:
        """Encode mel windows.

        Args:
            mel: [B, 1, 80, 16] in [-4, 4].
            draws: of each window, for SpecAugment in training; None draws from torch's global generator.

        Returns:
            [B, dim], not negative.

        Raises:
            ValueError: if the windows have another shape.
        """
        if mel.ndim != 4 or mel.shape[1:] != (1, 80, 16):
            raise ValueError(f"mel windows must be [B, 1, 80, 16], not {list(mel.shape)}")
        return self.layers(self.augment(mel, draws)).flatten(1)

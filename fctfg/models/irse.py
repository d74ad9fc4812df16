"""IR-SE: the residual body with squeeze-and-excitation that ArcFace and pSp share (keys of ``model_ir_se50.pth``)."""

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class IRSEConfig:
    """Widths and depths of the four stages, each of which halves the resolution; the defaults are IR-SE50.

    Attributes:
        channels: of the four stages.
        blocks: of the four stages.
        se_reduction: squeeze-and-excitation has this many times fewer inner channels.

    Raises:
        ValueError: unless there are four positive widths and depths, and the reduction fits the widths.
    """

    channels: tuple[int, ...] = (64, 128, 256, 512)
    blocks: tuple[int, ...] = (3, 4, 14, 3)
    se_reduction: int = 16

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        object.__setattr__(self, "blocks", tuple(self.blocks))
        if len(self.channels) != 4 or len(self.blocks) != 4 or min(self.blocks) < 1:
            raise ValueError(f"IR-SE has four stages of at least one block: {self}")
        if self.se_reduction < 1 or min(self.channels) < self.se_reduction:
            raise ValueError(f"se_reduction must be between 1 and the smallest width: {self}")


class SqueezeExcitation(nn.Module):
    """Scale every channel by a gate computed from all channels' means."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same."""
        gate = self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return x * gate


class PReLU(nn.PReLU):
    """PReLU as relu(x) + w (x - relu(x)), whose backward pass on CPUs is three times as fast as the built-in one."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same."""
        return x.relu().lerp(x, self.weight.to(x.dtype)[:, None, None])


class Subsample(nn.Module):
    """Every ``stride``-th pixel; [B, C, H, W] -> [B, C, H/stride, W/stride]."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride]


class Bottleneck(nn.Module):
    """BN, conv, PReLU, conv, BN, squeeze-and-excitation, added to the (strided, projected) input."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, se_reduction: int) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module
        if in_channels == out_channels:
            self.shortcut_layer = Subsample(stride)
        else:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, out_channels, 3, 1, 1, bias=False),
            PReLU(out_channels),
            nn.Conv2d(out_channels, out_channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            SqueezeExcitation(out_channels, se_reduction),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, H, W] -> [B, out, H/stride, W/stride]."""
        return self.res_layer(x) + self.shortcut_layer(x)


def input_layer(config: IRSEConfig) -> nn.Sequential:
    """RGB to the first stage's width, at full resolution."""
    width = config.channels[0]
    return nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), PReLU(width))


def body(config: IRSEConfig) -> nn.Sequential:
    """All bottlenecks in one sequence, as in the published key layout; the first of each stage has stride 2."""
    layers, width = [], config.channels[0]
    for channels, blocks in zip(config.channels, config.blocks, strict=True):
        for block in range(blocks):
            layers.append(Bottleneck(width, channels, 2 if block == 0 else 1, config.se_reduction))
            width = channels
    return nn.Sequential(*layers)


def stage_ends(config: IRSEConfig) -> tuple[int, ...]:
    """Index of each stage's last bottleneck in :func:`body`: (2, 6, 20, 23) for IR-SE50."""
    return tuple(sum(config.blocks[: stage + 1]) - 1 for stage in range(4))

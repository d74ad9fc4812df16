"""SyncNet v2 (Chung and Zisserman 2016), the judge behind LSE-C and LSE-D."""

import math
from dataclasses import dataclass

from torch import Tensor, nn

FRAMES = 5  # video frames of one window, at 25 fps
FACE_SIZE = 224  # px
MFCC_SHAPE = (13, 20)  # coefficients and frames of one window


@dataclass(frozen=True)
class SyncNetV2Config:
    """The network's size; the default is the published one.

    Attributes:
        width: multiplies all channels but the embedding's.

    Raises:
        ValueError: for a width that is not positive.
    """

    width: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.width < math.inf:
            raise ValueError(f"width must be positive: {self}")

    def channels(self, published: int) -> int:
        """How many channels stand for ``published`` ones."""
        return max(1, round(published * self.width))


def _conv2d(before: int, after: int, kernel: int | tuple[int, int] = 3, padding: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(before, after, kernel, padding=padding), nn.BatchNorm2d(after), nn.ReLU()]


def _conv3d(
    before: int, after: int, kernel: tuple[int, int, int] = (1, 3, 3), stride: int = 1, padding: int = 1
) -> list[nn.Module]:
    """Stride and padding are those of the picture; time has stride 1 and no padding."""
    convolution = nn.Conv3d(before, after, kernel, (1, stride, stride), (0, padding, padding))
    return [convolution, nn.BatchNorm3d(after), nn.ReLU()]


def _pool3d(padding: int = 0) -> nn.Module:
    return nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, padding, padding))


def _head(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 1024))


class SyncNetV2(nn.Module):
    """Embeds mouths and sound so that what belongs together is close; keys are those of ``syncnet_v2.model``."""

    def __init__(self, config: SyncNetV2Config) -> None:
        super().__init__()
        self.config = config
        c = config.channels
        # 13 x 20 -> 11 x 9 -> 5 x 4 -> 1 x 1
        self.netcnnaud = nn.Sequential(
            *_conv2d(1, c(64)),
            nn.Identity(),  # a pooling of one pixel
            *_conv2d(c(64), c(192)),
            nn.MaxPool2d(3, (1, 2)),
            *_conv2d(c(192), c(384)),
            *_conv2d(c(384), c(256)),
            *_conv2d(c(256), c(256)),
            nn.MaxPool2d(3, 2),
            *_conv2d(c(256), c(512), (5, 4), padding=0),
        )
        self.netfcaud = _head(c(512))
        self.netfclip = _head(c(512))
        # 5 x 224 x 224 -> 1 x 109 x 109 -> 54 -> 26 -> 13 -> 6 -> 1
        self.netcnnlip = nn.Sequential(
            *_conv3d(3, c(96), (5, 7, 7), stride=2, padding=0),
            _pool3d(),
            *_conv3d(c(96), c(256), (1, 5, 5), stride=2),
            _pool3d(padding=1),
            *_conv3d(c(256), c(256)),
            *_conv3d(c(256), c(256)),
            *_conv3d(c(256), c(256)),
            _pool3d(),
            *_conv3d(c(256), c(512), (1, 6, 6), padding=0),
        )

    def audio(self, mfcc: Tensor) -> Tensor:
        """Embed sound.

        Args:
            mfcc: [B, 1, 13, 20], windows of :func:`fctfg.ops.mfcc.mfcc`.

        Returns:
            [B, 1024], of any length.

        Raises:
            ValueError: if the windows have another shape.
        """
        if mfcc.ndim != 4 or mfcc.shape[1:] != (1, *MFCC_SHAPE):
            raise ValueError(f"MFCC windows must be [B, 1, 13, 20], not {list(mfcc.shape)}")
        return self.netfcaud(self.netcnnaud(mfcc).flatten(1))

    def lips(self, frames: Tensor) -> Tensor:
        """Embed faces.

        Args:
            frames: [B, 3, 5, 224, 224], five frames of a whole face, BGR in [0, 255].

        Returns:
            [B, 1024], of any length.

        Raises:
            ValueError: if the frames have another shape.
        """
        if frames.ndim != 5 or frames.shape[1:] != (3, FRAMES, FACE_SIZE, FACE_SIZE):
            raise ValueError(f"face windows must be [B, 3, 5, 224, 224], not {list(frames.shape)}")
        return self.netfclip(self.netcnnlip(frames).flatten(1))

    def forward(self, mfcc: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Both embeddings: ([B, 1024] of the sound, [B, 1024] of the faces)."""
        return self.audio(mfcc), self.lips(frames)

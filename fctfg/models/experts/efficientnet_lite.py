"""EfficientNet-Lite0: a small network trained on ImageNet, whose features compare sets of pictures."""

import torch.nn.functional as F
from torch import Tensor, nn

from fctfg.models.experts.frozen import freeze

SIZE = 224  # px, of the pictures that it was trained on
DIMENSIONS = 1280
# Groups of blocks: how many, kernel, stride of the first, expansion, channels.
PLAN = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM = 32


class SameConv2d(nn.Conv2d):
    """A convolution without bias whose output is the input's size over the stride, rounded up.

    As in TensorFlow ("SAME"): of an odd number of zeros around the picture, the one too many is below or right.
    """

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(before, after, kernel, stride, groups=groups, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', ceil(H / stride), ceil(W / stride)]."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        zeros = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in images.shape[-2:]]
        tall, wide = zeros
        padded = F.pad(images, (wide // 2, wide - wide // 2, tall // 2, tall - tall // 2))
        return super().forward(padded)


def _layer(before: int, after: int, kernel: int, stride: int = 1, groups: int = 1, linear: bool = False) -> nn.Module:
    layers = [SameConv2d(before, after, kernel, stride, groups), nn.BatchNorm2d(after, eps=1e-3)]
    return nn.Sequential(*layers) if linear else nn.Sequential(*layers, nn.ReLU6())


class InvertedResidual(nn.Module):
    """Expansion, one convolution per channel, projection (Sandler et al. 2018); the input added where it fits."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = before * expansion
        self.expand = _layer(before, wide, 1) if expansion > 1 else nn.Identity()
        self.depthwise = _layer(wide, wide, kernel, stride, groups=wide)
        self.project = _layer(wide, after, 1, linear=True)
        self.adds = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', ceil(H / stride), ceil(W / stride)]."""
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.adds else y


class EfficientNetLite0(nn.Module):
    """Frozen EfficientNet-Lite0 (Tan and Le 2019, without squeeze-and-excitation and with ReLU6) up to its pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _layer(3, STEM, 3, 2)
        blocks: list[nn.Module] = []
        before = STEM
        for count, kernel, stride, expansion, after in PLAN:
            for number in range(count):
                blocks.append(InvertedResidual(before, after, kernel, 1 if number else stride, expansion))
                before = after
        self.blocks = nn.Sequential(*blocks)
        self.head = _layer(before, DIMENSIONS, 1)
        freeze(self)

    def forward(self, images: Tensor) -> Tensor:
        """Features.

        Args:
            images: [B, 3, H, W] RGB, (level - 127) / 128 with levels of 0 to 255; trained at 224 px.

        Returns:
            [B, 1280], at least 0: the mean over places of what the classifier would get.
        """
        return self.head(self.blocks(self.stem(images))).mean((2, 3))

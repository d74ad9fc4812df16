"""VGG19 features for the perceptual loss."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fctfg.models.experts.frozen import freeze
from fctfg.randomness import generator

# torchvision's vgg19().features up to relu5_1: channels of the convolutions, with 0 for a pooling
PLAN = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512)
TAPS = (1, 6, 11, 20, 29)  # relu1_1, relu2_1, relu3_1, relu4_1, relu5_1
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)  # of ImageNet, for images in [0, 1]
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


@dataclass(frozen=True)
class VGGConfig:
    """Which features.

    Attributes:
        width: multiplies all channels; only for random weights.
        weights: torchvision's state dict, as a file or a name of the catalogue (`fctfg weights list`), or "random":
            seeded, for runs without real images.

    Raises:
        ValueError: if a width other than 1 is asked of published weights.
    """

    width: float = 1.0
    weights: str = "random"

    def __post_init__(self) -> None:
        if not 0 < self.width < math.inf or (self.weights != "random" and self.width != 1.0):
            raise ValueError(f"the width must be positive, and 1 for published weights: {self}")


class VGG19(nn.Module):
    """Frozen VGG19 up to relu5_1; keys are torchvision's ``features.{i}.weight|bias``.

    Published weights are not read here but by :func:`fctfg.weights.opening.perceptual_judge`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: VGGConfig) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        before = 3
        for channels in PLAN:
            if channels == 0:
                layers.append(nn.MaxPool2d(2, 2))
                continue
            after = max(1, round(channels * config.width))
            layers += [nn.Conv2d(before, after, 3, 1, 1), nn.ReLU()]
            before = after
        self.features = nn.Sequential(*layers)
        self.register_buffer("mean", MEAN.clone(), persistent=False)
        self.register_buffer("std", STD.clone(), persistent=False)
        if config.weights == "random":
            self._fill_randomly()
        freeze(self)

    @property
    def description(self) -> str:
        """One line on the weights, for logs and cards."""
        if self.config.weights == "random":
            return f"seeded random VGG19 features (width {self.config.width:g}), not trained on images"
        return f"VGG19 trained on ImageNet, {Path(self.config.weights).name}"

    @torch.no_grad()
    def _fill_randomly(self) -> None:
        """He's initialization, from a generator of its own so that every run compares by the same features."""
        source = generator("vgg19", str(self.config.width))
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):
                fan_in = layer.weight[0].numel()
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=source) * (2 / fan_in) ** 0.5)
                assert layer.bias is not None
                layer.bias.zero_()

    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps.

        Args:
            images: [B, 3, H, W] RGB in [-1, 1], at least 16 px.

        Returns:
            relu1_1, relu2_1, relu3_1, relu4_1, relu5_1: [B, C, H/2^i, W/2^i].
        """
        x = ((images + 1) / 2 - self.mean) / self.std
        found = []
        for index, layer in enumerate(self.features):
            x = F.relu(x) if isinstance(layer, nn.ReLU) else layer(x)
            if index in TAPS:
                found.append(x)
        return found

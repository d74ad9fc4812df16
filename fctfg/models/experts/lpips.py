"""LPIPS (Zhang et al. 2018), the perceptual distance of stage 2 and of the evaluation."""

import math
import warnings
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from fctfg.models.experts.frozen import freeze
from fctfg.models.experts.vgg import TAPS, VGG19, VGGConfig
from fctfg.ops.precision import float32_island, precise


@dataclass(frozen=True)
class LPIPSConfig:
    """By which features images are compared.

    Attributes:
        trunk: "alex" or "vgg", the published trunks with their heads; "random": seeded VGG19 features without heads,
            for runs without real images.
        width: of the random features, as a share of VGG19's.

    Raises:
        ValueError: for another trunk, or a width that is not positive.
    """

    trunk: Literal["alex", "vgg", "random"] = "random"
    width: float = 0.25

    def __post_init__(self) -> None:
        if self.trunk not in ("alex", "vgg", "random") or not 0 < self.width < math.inf:
            raise ValueError(f"trunk must be alex, vgg or random, and the width positive: {self}")


class LPIPS(nn.Module):
    """The distance of two images by LPIPS, or by random VGG19 features in its place.

    Published weights are not read here but by :func:`fctfg.weights.opening.lpips_judge`.
    """

    def __init__(self, config: LPIPSConfig) -> None:
        super().__init__()
        self.config = config
        if config.trunk == "random":
            self.features = VGG19(VGGConfig(width=config.width, weights="random"))
        else:
            import lpips  # heavy

            with warnings.catch_warnings():  # it calls torchvision by names that have changed
                warnings.simplefilter("ignore", UserWarning)
                self.distance = lpips.LPIPS(net=config.trunk, pretrained=False, pnet_rand=True, verbose=False)
        freeze(self)

    @property
    def description(self) -> str:
        """One line on what is measured, for logs and cards."""
        if self.config.trunk == "random":
            return f"not LPIPS: distance by {self.features.description}"
        return f"LPIPS ({self.config.trunk})"

    def forward(self, images: Tensor, target: Tensor) -> Tensor:
        """Mean distance of image pairs [B, 3, H, W] RGB in [-1, 1]; a scalar."""
        if self.config.trunk != "random":
            return precise(self.distance(images, target)).mean()
        pairs = zip(self.features(images), self.features(target), strict=True)
        return torch.stack([_distance(a, b) for a, b in pairs]).sum() / len(TAPS)


@float32_island
def _distance(features: Tensor, target: Tensor) -> Tensor:
    """The mean squared distance of features [B, C, H, W] of unit length, a scalar."""
    return (_unit(features) - _unit(target)).square().sum(1).mean()


def _unit(features: Tensor) -> Tensor:
    """Features [B, C, H, W] with unit length over the channels, as LPIPS compares them."""
    return features / (features.square().sum(1, keepdim=True) + 1e-10).sqrt()

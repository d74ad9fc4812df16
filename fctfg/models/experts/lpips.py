"""LPIPS (Zhang et al. 2018), the perceptual distance of stage 2 and of the evaluation."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from fctfg.errors import FctfgError
from fctfg.models.experts.frozen import freeze
from fctfg.models.experts.vgg import VGG19, VGGConfig

# torchvision's alexnet().features -> the slices of the lpips package
TRUNK = {0: "slice1.0", 3: "slice2.3", 6: "slice3.6", 8: "slice4.8", 10: "slice5.10"}
WHERE = (
    "torchvision's alexnet-owt-7be5be79.pth from https://download.pytorch.org/models/alexnet-owt-7be5be79.pth "
    "(BSD-3-Clause; trained on ImageNet, whose terms allow non-commercial research only)"
)


class LPIPS(nn.Module):
    """The distance of two images by AlexNet's features, or by random VGG19 features in its place.

    Args:
        weights: path of torchvision's AlexNet state dict, or "random".
        width: of the random features, as a share of VGG19's; without effect on published weights.

    Attributes:
        description: one line on what is measured, for logs and cards.

    Raises:
        FctfgError: if the weight file is missing or is not torchvision's AlexNet.
    """

    def __init__(self, weights: str, width: float = 0.25) -> None:
        super().__init__()
        self.random = weights == "random"
        if self.random:
            self.features = VGG19(VGGConfig(width=width, weights="random"))
            self.description = f"not LPIPS: distance by {self.features.description}"
        else:
            import lpips  # heavy; its linear heads are part of the package, the trunk is not

            trunk = _trunk(Path(weights))
            with warnings.catch_warnings():  # it calls torchvision by names that have changed
                warnings.simplefilter("ignore", UserWarning)
                self.distance = lpips.LPIPS(net="alex", pretrained=True, pnet_rand=True, verbose=False)
            self.distance.net.load_state_dict(trunk)
            self.description = f"LPIPS (AlexNet, {Path(weights).name})"
        freeze(self)

    def forward(self, images: Tensor, target: Tensor) -> Tensor:
        """Mean distance of image pairs [B, 3, H, W] RGB in [-1, 1]; a scalar."""
        if not self.random:
            return self.distance(images, target).mean()
        total = images.new_zeros(())
        for a, b in zip(self.features(images), self.features(target), strict=True):
            total = total + (_unit(a) - _unit(b)).square().sum(1).mean()
        return total / len(TRUNK)


def _unit(features: Tensor) -> Tensor:
    """Features [B, C, H, W] with unit length over the channels, as LPIPS compares them."""
    return features / (features.square().sum(1, keepdim=True) + 1e-10).sqrt()


def _trunk(path: Path) -> dict[str, Tensor]:
    """AlexNet's convolutions under the keys of the lpips package."""
    if not path.is_file():
        raise FctfgError(
            f"{path}: no such file; LPIPS needs {WHERE}. Put it there, or set `networks.lpips` to its path, "
            f'or to "random" for a run without real images'
        )
    try:
        state = dict(torch.load(path, map_location="cpu", weights_only=True))
        return {
            f"{to}.{kind}": state[f"features.{index}.{kind}"]
            for index, to in TRUNK.items()
            for kind in ("weight", "bias")
        }
    except Exception as error:
        raise FctfgError(f"{path}: not AlexNet's weights ({error!r}); get {WHERE}") from error

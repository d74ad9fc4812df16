"""torchvision's VGG19, whose features the perceptual loss compares."""

from __future__ import annotations

from torch import nn

from fctfg.errors import FctfgError
from fctfg.models.experts.vgg import VGG19, VGGConfig
from fctfg.weights.checkpoint import Checkpoint
from fctfg.weights.key_table import Table, load_keys
from fctfg.weights.sources.source import Source

KEYS: Table = {
    "features.*": "features.*",
    "features.30.*": None,  # behind relu5_1
    "features.32.*": None,
    "features.34.*": None,
    "classifier.*": None,
}


def perceptual(checkpoint: Checkpoint) -> nn.Module | None:
    """The features up to relu5_1."""
    state = checkpoint.state()
    if state is None:
        raise FctfgError(f"{checkpoint.path} is no state dict; torchvision's VGG19 is one: is the source right?")
    config = VGGConfig(weights=checkpoint.path.name)
    return load_keys(checkpoint.path, lambda: VGG19(config), state, KEYS)


VGG19_TORCHVISION = Source(
    "vgg19-torchvision",
    "torchvision's VGG19, for the perceptual loss",
    lambda checkpoint: "features.34.weight" in (checkpoint.state() or {}),
    {"perceptual": perceptual},
)

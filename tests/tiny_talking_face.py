"""The real networks at a tiny size with seeded random weights, and the weights file they make."""

from pathlib import Path
from typing import Literal

import torch
from torch import nn

from fctfg.models.audio_encoder import AudioEncoder, AudioEncoderConfig
from fctfg.models.discriminator import Discriminator, DiscriminatorConfig
from fctfg.models.fctfg import FCTFG, FCTFGConfig
from fctfg.models.hypernetwork import Hypernetwork, HypernetworkConfig
from fctfg.models.irse import IRSEConfig
from fctfg.models.stylegan2 import Generator, GeneratorConfig
from fctfg.models.visual_encoder import VisualEncoder, VisualEncoderConfig
from fctfg.weights.artifact import write_export

CARD = {
    "config": {"seed": 0},
    "dataset_hash": "0" * 64,
    "metrics": {"val/psnr": 20.0},
    "licences": {"data": "CC0-1.0", "weights": "Apache-2.0"},
}
BODY = IRSEConfig(channels=(8, 8, 8, 8), blocks=(1, 1, 1, 1), se_reduction=4)


def generator(resolution: int = 32) -> Generator:
    return Generator(GeneratorConfig(resolution, style_dim=16, n_mlp=2, channel_base=512, channel_max=16))


def discriminator(resolution: int = 32) -> Discriminator:
    return Discriminator(DiscriminatorConfig(resolution, channel_base=512, channel_max=16))


def talking_face(
    resolution: int = 32, seed: int = 0, hypernetwork: Literal["off", "frozen", "finetuned"] = "off"
) -> FCTFG:
    """FC-TFG whose every weight is random (also those that start at zero or at the identity), in eval mode."""
    torch.manual_seed(seed)
    made = generator(resolution)
    encoder = VisualEncoder(VisualEncoderConfig(resolution, style_dim=16, n_styles=made.n_styles, body=BODY))
    audio = AudioEncoder(AudioEncoderConfig(width=0.125, dim=16))
    config = FCTFGConfig.for_styles(made.n_styles, style_dim=16, audio_dim=16, hypernetwork=hypernetwork, refinements=2)
    offsets = None
    if hypernetwork != "off":
        offsets = Hypernetwork(
            HypernetworkConfig(resolution, (8, 8, 8, 8), (1, 1, 1, 1), 8, 8, 8, generator=made.config)
        )
    model = FCTFG(config, made, encoder, audio, offsets)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        model.visual_encoder.set_latent_avg(torch.randn(16))
    return model.eval()


def run_folder(folder: Path, resolution: int = 32, seed: int = 0, **others: nn.Module) -> Path:
    """A run of stage `talking_face` with its export."""
    write_export(folder, {"fctfg": talking_face(resolution, seed), **others}, "talking_face", CARD)
    return folder

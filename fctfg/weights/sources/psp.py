"""pSp: an encoder, and the StyleGAN2 that it inverts."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fctfg.errors import FctfgError
from fctfg.models.stylegan2 import Generator
from fctfg.models.visual_encoder import VisualEncoder, VisualEncoderConfig
from fctfg.weights.checkpoint import Checkpoint
from fctfg.weights.key_table import Table, load_keys
from fctfg.weights.sources.sizes import count, irse_config, need
from fctfg.weights.sources.source import Source
from fctfg.weights.sources.stylegan2_rosinality import generator_config, one_row, read_generator, state_of

ENCODER_KEYS: Table = {
    "input_layer.*": "input_layer.*",
    "body.*": "body.*",
    "styles.*": "styles.*",
    "latlayer1.*": "latlayer1.*",
    "latlayer2.*": "latlayer2.*",
}
ENCODER = "GradualStyleEncoder"


def parts_of(checkpoint: Checkpoint) -> dict[str, dict[str, Tensor]]:
    """The state dict of an inversion by its networks: "encoder", "hypernet", "decoder" -> key -> tensor.

    Raises:
        FctfgError: there is no state dict, or a network that the layout does not have.
    """
    state = checkpoint.state("state_dict") or {}
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        name, _, rest = key.partition(".")
        parts.setdefault(name, {})[rest] = tensor
    if not parts:
        raise FctfgError(f"{checkpoint.path} has no state_dict of an inversion; is the source right?")
    parts.pop("w_encoder", None)  # HyperStyle's own inversion, which has a file of its own
    if unknown := sorted(parts.keys() - {"encoder", "hypernet", "decoder"}):
        raise FctfgError(
            f"{checkpoint.path} holds networks that this layout does not have ({', '.join(unknown)}); "
            f"is the source right?"
        )
    return parts


def options(checkpoint: Checkpoint) -> dict[str, Any]:
    """The settings that an inversion was trained with, a table or an argparse.Namespace in the file."""
    found = checkpoint.part("opts")
    found = vars(found) if isinstance(found, argparse.Namespace) else found
    if not isinstance(found, Mapping | None):
        raise FctfgError(f"{checkpoint.path}: its opts are not a table of settings; get another copy")
    return dict(found or {})


def encoder(checkpoint: Checkpoint) -> nn.Module | None:
    """The encoder, with the mean of w that it adds, if its options say that it adds one."""
    path, parts, opts = checkpoint.path, parts_of(checkpoint), options(checkpoint)
    state = parts.get("encoder", {})
    kind = opts.get("encoder_type", ENCODER)
    if kind != ENCODER or opts.get("learn_in_w", False):
        raise FctfgError(
            f"{path} is an encoder of another kind ({kind}); fctfg has pSp's {ENCODER} to W+; get one of those"
        )
    if (channels := need(path, state, "input_layer.0.weight").shape[1]) != 3:
        raise FctfgError(f"{path} encodes {channels} channels (a sketch or segmentation model); fctfg's takes RGB")
    styles = count(state, r"styles\.\d+\.linear\.weight")
    if "decoder" in parts and (wanted := generator_config(path, parts["decoder"]).n_styles) != styles:
        raise FctfgError(
            f"{path} has an encoder of {styles} styles, but its generator takes {wanted}; they are of different sizes"
        )
    config = VisualEncoderConfig(
        resolution=16 * 2 ** count(state, r"styles\.0\.convs\.\d+\.weight"),
        style_dim=need(path, state, "styles.0.linear.weight").shape[0],
        n_styles=styles,
        body=irse_config(path, state),
    )
    adds, average = opts.get("start_from_latent_avg", True), checkpoint.part("latent_avg")
    if adds and average is None:
        raise FctfgError(f"{path} adds latent_avg to its codes, but holds none; take it from its generator's file")
    mean = one_row(path, average) if adds else torch.zeros(config.style_dim)
    return load_keys(path, lambda: VisualEncoder(config), state, ENCODER_KEYS, given={"latent_avg": mean})


def decoder(checkpoint: Checkpoint) -> nn.Module | None:
    """The generator, where the file has it."""
    state = parts_of(checkpoint).get("decoder")
    return None if state is None else read_generator(checkpoint.path, state, checkpoint.part("latent_avg"))


def write(networks: Mapping[str, nn.Module]) -> dict[str, Any]:
    """{"state_dict": encoder.*, decoder.*; "opts"; "latent_avg" [L, style_dim]}."""
    encoder, generator = networks["visual_encoder"], networks["generator"]
    assert isinstance(encoder, VisualEncoder) and isinstance(generator, Generator)
    mean, theirs = encoder.latent_avg.detach(), generator.latent_avg.detach()
    adds = bool(mean.any()) or not bool(theirs.any())
    if adds and not torch.equal(mean, theirs):
        raise FctfgError("the encoder adds another mean of w than the generator's; pSp's layout has room for one")
    if encoder.config.n_styles != generator.n_styles:
        raise FctfgError(
            f"the encoder has {encoder.config.n_styles} styles, but the generator takes {generator.n_styles}; "
            f"pSp's layout needs two that fit"
        )
    state = {f"encoder.{key}": tensor for key, tensor in state_of(encoder).items()}
    state |= {f"decoder.{key}": tensor for key, tensor in state_of(generator).items()}
    opts = {  # what pixel2style2pixel's loader and its inference script look up
        "device": "cuda:0",
        "dataset_type": "ffhq_encode",
        "encoder_type": ENCODER,
        "input_nc": 3,
        "label_nc": 0,
        "output_size": generator.config.resolution,
        "n_styles": encoder.config.n_styles,
        "start_from_latent_avg": adds,
        "learn_in_w": False,
    }
    return {"state_dict": state, "opts": opts, "latent_avg": theirs.repeat(generator.n_styles, 1)}


def _recognise(checkpoint: Checkpoint) -> bool:
    return any(key.startswith("encoder.styles.") for key in checkpoint.state("state_dict") or {})


PSP = Source(
    "psp",
    "pSp: encoder and generator",
    _recognise,
    {"visual_encoder": encoder, "generator": decoder},
    write,
    needs=("visual_encoder", "generator"),
)

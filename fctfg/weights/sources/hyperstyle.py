"""HyperStyle: a hypernetwork, and the StyleGAN2 whose weights it offsets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from fctfg.errors import FctfgError
from fctfg.models.hypernetwork import Hypernetwork, HypernetworkConfig
from fctfg.models.stylegan2 import GeneratorConfig
from fctfg.weights.checkpoint import Checkpoint
from fctfg.weights.key_table import Table, load_keys
from fctfg.weights.sources.psp import decoder, options, parts_of
from fctfg.weights.sources.sizes import count, need
from fctfg.weights.sources.source import Source
from fctfg.weights.sources.stylegan2_rosinality import generator_config

HYPERNETWORK_KEYS: Table = {
    "conv1.*": "conv1.*",
    "bn1.*": "bn1.*",
    "relu.*": "relu.*",
    "body.*": "body.*",
    "shared_weight_hypernet.*": "shared_weight_hypernet.*",
    "refinement_blocks.*": "refinement_blocks.*",
}
NETWORK = "SharedWeightsHyperNetResNet"


def _stages(path: Path, state: Mapping[str, Tensor]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Widths and depths of the residual body; every stage but the first begins with a projected shortcut."""
    channels, blocks = [need(path, state, "body.0.conv1.weight").shape[0]], [0]
    for index in range(count(state, r"body\.\d+\.conv1\.weight")):
        if index > 0 and f"body.{index}.downsample.0.weight" in state:
            channels.append(need(path, state, f"body.{index}.conv1.weight").shape[0])
            blocks.append(0)
        blocks[-1] += 1
    return tuple(channels), tuple(blocks)


def _config(path: Path, state: Mapping[str, Tensor], generator: GeneratorConfig) -> HypernetworkConfig:
    """The sizes of a hypernetwork, and which convolutions it offsets (HyperStyle's `layers_to_tune`)."""
    blocks_of = sorted({int(m[1]) for key in state if (m := re.match(r"refinement_blocks\.(\d+)\.", key))})
    every = [index for index, convolution in enumerate(generator.convolutions) if not convolution.to_rgb]
    shared = next((i for i in blocks_of if f"refinement_blocks.{i}.hypernet.w1" in state), None)
    own = next((i for i in blocks_of if f"refinement_blocks.{i}.output.1.weight" in state), None)
    if shared is None:
        raise FctfgError(
            f"{path} has no block that shares weights (refinement_blocks.*.hypernet.*); is the source right?"
        )

    def width(block: int) -> int:
        return need(path, state, f"refinement_blocks.{block}.convs.0.weight").shape[0]

    channels, blocks = _stages(path, state)
    halvings = count(state, rf"refinement_blocks\.{shared}\.convs\.\d+\.weight") - 1
    try:
        return HypernetworkConfig(
            resolution=16 * 2**halvings,
            channels=channels,
            blocks=blocks,
            code_dim=need(path, state, "shared_weight_hypernet.w1").shape[0],
            shared_width=width(shared),
            own_width=HypernetworkConfig.own_width if own is None else width(own),
            layers=None if blocks_of == every else tuple(blocks_of),
            generator=generator,
        )
    except ValueError as error:
        raise FctfgError(f"{path} is not HyperStyle: {error}; is the source right?") from error


def hypernetwork(checkpoint: Checkpoint) -> nn.Module | None:
    """The hypernetwork, for the generator in the same file."""
    path, parts = checkpoint.path, parts_of(checkpoint)
    kind = options(checkpoint).get("encoder_type", NETWORK)
    if kind != NETWORK:
        raise FctfgError(
            f"{path} is a hypernetwork of another kind ({kind}); fctfg has HyperStyle's {NETWORK}; get one of those"
        )
    if "hypernet" not in parts or "decoder" not in parts:
        raise FctfgError(f"{path} lacks hypernet.* or decoder.*, which HyperStyle's files hold; is the source right?")
    config = _config(path, parts["hypernet"], generator_config(path, parts["decoder"]))
    return load_keys(path, lambda: Hypernetwork(config), parts["hypernet"], HYPERNETWORK_KEYS)


def _recognise(checkpoint: Checkpoint) -> bool:
    return any(key.startswith("hypernet.") for key in checkpoint.state("state_dict") or {})


HYPERSTYLE = Source(
    "hyperstyle",
    "HyperStyle: hypernetwork and generator",
    _recognise,
    {"hypernetwork": hypernetwork, "generator": decoder},
)

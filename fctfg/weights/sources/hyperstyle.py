"""HyperStyle: a hypernetwork, and the StyleGAN2 whose weights it offsets."""

from __future__ import annotations

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
    """The sizes of a hypernetwork; the first block is shared, as the generator's first convolution has full width."""
    own = next((k for k in state if k.startswith("refinement_blocks.") and k.endswith(".output.1.weight")), None)
    channels, blocks = _stages(path, state)
    try:
        return HypernetworkConfig(
            resolution=16 * 2 ** (count(state, r"refinement_blocks\.0\.convs\.\d+\.weight") - 1),
            channels=channels,
            blocks=blocks,
            code_dim=need(path, state, "shared_weight_hypernet.w1").shape[0],
            shared_width=need(path, state, "refinement_blocks.0.convs.0.weight").shape[0],
            own_width=1 if own is None else need(path, state, own.replace("output.1", "convs.0")).shape[0],
            generator=generator,
        )
    except ValueError as error:
        raise FctfgError(f"{path} is not HyperStyle: {error}") from error


def hypernetwork(checkpoint: Checkpoint) -> nn.Module | None:
    """The hypernetwork, for the generator in the same file."""
    path, parts = checkpoint.path, parts_of(checkpoint)
    kind = options(checkpoint).get("encoder_type", NETWORK)
    if kind != NETWORK:
        raise FctfgError(f"{path} is a hypernetwork of another kind ({kind}); fctfg has HyperStyle's {NETWORK}")
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

"""StyleGAN2 as rosinality's stylegan2-pytorch saves it: the layout of our own networks."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fctfg.errors import FctfgError
from fctfg.models.discriminator import Discriminator, DiscriminatorConfig
from fctfg.models.stylegan2 import Generator, GeneratorConfig
from fctfg.randomness import generator as random_generator
from fctfg.weights.checkpoint import Checkpoint
from fctfg.weights.key_table import Table, load_keys
from fctfg.weights.sources.sizes import channel_rule, count, need
from fctfg.weights.sources.source import Source

GENERATOR_KEYS: Table = {
    "style.*": "style.*",  # the mapping network
    "input.input": "input.input",
    "conv1.*": "conv1.*",
    "to_rgb1.*": "to_rgb1.*",
    "convs.*": "convs.*",
    "to_rgbs.*": "to_rgbs.*",
    "noises.*": "noises.*",
    "latent_avg": None,  # some ports keep it in the state dict, too
}
DISCRIMINATOR_KEYS: Table = {
    "convs.*": "convs.*",
    "final_conv.*": "final_conv.*",
    "final_linear.*": "final_linear.*",
}
log = logging.getLogger("fctfg")
SAMPLES = 100_000  # mapped latents whose mean stands in for a missing latent_avg


def generator_config(path: Path, state: Mapping[str, Tensor]) -> GeneratorConfig:
    """The sizes of a generator in this layout.

    Raises:
        FctfgError: a tensor that tells a size is missing, or the channels are not StyleGAN2's.
    """
    levels = count(state, r"to_rgbs\.\d+\.bias")
    channels = {4: need(path, state, "input.input").shape[1]}
    for level in range(levels):
        channels[8 * 2**level] = need(path, state, f"convs.{2 * level + 1}.conv.weight").shape[1]
    base, most = channel_rule(path, channels)
    return _checked(
        path,
        GeneratorConfig,
        resolution=4 * 2**levels,
        style_dim=need(path, state, "style.1.weight").shape[0],
        n_mlp=count(state, r"style\.\d+\.weight"),
        channel_base=base,
        channel_max=most,
    )


def discriminator_config(path: Path, state: Mapping[str, Tensor]) -> DiscriminatorConfig:
    """The sizes of a discriminator in this layout.

    Raises:
        FctfgError: as `generator_config`.
    """
    levels = count(state, r"convs\.\d+\.conv1\.0\.weight")
    resolution = 4 * 2**levels
    channels = {resolution: need(path, state, "convs.0.0.weight").shape[0]}
    for level in range(levels):
        channels[resolution // 2 ** (level + 1)] = need(path, state, f"convs.{level + 1}.conv2.1.weight").shape[0]
    base, most = channel_rule(path, channels)
    return _checked(path, DiscriminatorConfig, resolution=resolution, channel_base=base, channel_max=most)


def _checked(path: Path, config: type, **sizes: int) -> Any:
    try:
        return config(**sizes)
    except ValueError as error:
        raise FctfgError(f"{path} is not StyleGAN2: {error}; is the source right?") from error


def read_generator(path: Path, state: Mapping[str, Tensor], latent_avg: Tensor | None) -> Generator:
    """A generator from a state dict in this layout.

    Args:
        path: the file, for errors.
        state: key -> tensor.
        latent_avg: the mean of w, [style_dim] or the same row for each style; None computes it.

    Raises:
        FctfgError: unknown, missing or reshaped tensors, or rows of `latent_avg` that differ.
    """
    config = generator_config(path, state)
    given = {"latent_avg": torch.zeros(config.style_dim) if latent_avg is None else one_row(path, latent_avg)}
    if not any(key.startswith("noises.") for key in state):
        given |= _drawn_noise(path, config)
    network = load_keys(path, lambda: Generator(config), state, GENERATOR_KEYS, given)
    assert isinstance(network, Generator)
    if latent_avg is None:
        compute_latent_avg(path, network)
    return network


def _drawn_noise(path: Path, config: GeneratorConfig) -> dict[str, Tensor]:
    """Noise images for files of the time before this layout kept them; says so."""
    sizes = [4] + [2**level for level in range(3, config.resolution.bit_length()) for _ in (0, 1)]
    log.warning("%s holds no noise images (noises.*): they are drawn (seed 0)", path)
    draw = random_generator("noises", 0)
    return {f"noises.noise_{i}": torch.randn(1, 1, size, size, generator=draw) for i, size in enumerate(sizes)}


def compute_latent_avg(path: Path, network: Generator) -> None:
    """Sets the mean of w where the file has none, and says so."""
    network.update_latent_avg(SAMPLES)
    log.warning("%s holds no latent_avg: computed as the mean of %s mapped latents (seed 0)", path, f"{SAMPLES:,}")


def one_row(path: Path, latent_avg: Tensor) -> Tensor:
    """The mean of w, [style_dim], from it or from rows of it, [L, style_dim].

    Raises:
        FctfgError: it is no such tensor, or the rows differ.
    """
    if not isinstance(latent_avg, Tensor) or latent_avg.ndim not in (1, 2, 3):
        raise FctfgError(f"{path}: its latent_avg is not a tensor [style_dim] or [L, style_dim]; get another copy")
    rows = latent_avg.float().reshape(-1, latent_avg.shape[-1])
    if not bool((rows == rows[0]).all()):
        raise FctfgError(
            f"{path}: its latent_avg differs from style to style; fctfg adds one mean of w to all styles; "
            f"put one row of it into the file"
        )
    return rows[0].clone()


def _state_of(checkpoint: Checkpoint, *names: str) -> dict[str, Tensor] | None:
    """A generator's state dict: an entry, the bare file, or the decoder of a pSp or HyperStyle file."""
    if (state := checkpoint.state(*names)) is not None:
        return state
    if (inversion := checkpoint.state("state_dict")) is not None:
        decoder = {key.removeprefix("decoder."): t for key, t in inversion.items() if key.startswith("decoder.")}
        return decoder or None
    bare = checkpoint.state()
    return bare if bare and "style.1.weight" in bare else None


def generator(checkpoint: Checkpoint) -> nn.Module | None:
    """The moving average of the generator, or the generator where there is none."""
    state = _state_of(checkpoint, "g_ema", "g")
    if state is None:
        raise FctfgError(f"{checkpoint.path} has no generator under g_ema or g; is the source right?")
    return read_generator(checkpoint.path, state, checkpoint.part("latent_avg"))


def generator_raw(checkpoint: Checkpoint) -> nn.Module | None:
    """The weights that the optimiser moves, where the file has them beside their average."""
    state = checkpoint.state("g")
    if state is None or checkpoint.part("g_ema") is None:
        return None
    average = checkpoint.part("latent_avg")
    mean = torch.zeros(generator_config(checkpoint.path, state).style_dim) if average is None else average
    return read_generator(checkpoint.path, state, mean)


def discriminator(checkpoint: Checkpoint) -> nn.Module | None:
    """The discriminator, where the file has one."""
    state = checkpoint.state("d")
    if state is None:
        bare = checkpoint.state() or {}
        if "final_linear.0.weight" not in bare:
            return None
        state = bare
    config = discriminator_config(checkpoint.path, state)
    return load_keys(checkpoint.path, lambda: Discriminator(config), state, DISCRIMINATOR_KEYS)


def only_discriminator(checkpoint: Checkpoint) -> nn.Module | None:
    """The discriminator, which must be there."""
    network = discriminator(checkpoint)
    if network is None:
        raise FctfgError(f"{checkpoint.path} has no discriminator (no entry d); name a file of a training run")
    return network


def state_of(network: nn.Module) -> dict[str, Tensor]:
    """A network's tensors without `latent_avg`, which this layout keeps beside the state dict."""
    return {key: tensor.detach() for key, tensor in network.state_dict().items() if key != "latent_avg"}


def write(networks: Mapping[str, nn.Module]) -> dict[str, Any]:
    """{"g_ema", "latent_avg"} and, where given, "g" and "d"."""
    average = networks["generator"]
    assert isinstance(average, Generator)
    content: dict[str, Any] = {"g_ema": state_of(average), "latent_avg": average.latent_avg.detach()}
    if "generator_raw" in networks:
        content["g"] = state_of(networks["generator_raw"])
    if "discriminator" in networks:
        content["d"] = state_of(networks["discriminator"])
    return content


def write_discriminator(networks: Mapping[str, nn.Module]) -> dict[str, Any]:
    """{"d"}."""
    return {"d": state_of(networks["discriminator"])}


def _recognise(checkpoint: Checkpoint) -> bool:
    entries = (checkpoint.state("g_ema", "g"), checkpoint.state())
    return any(state is not None and "style.1.weight" in state for state in entries)


def _recognise_discriminator(checkpoint: Checkpoint) -> bool:
    entries = (checkpoint.state("d"), checkpoint.state())
    return any(state is not None and "final_linear.0.weight" in state for state in entries)


STYLEGAN2_ROSINALITY = Source(
    "stylegan2-rosinality",
    "StyleGAN2 of rosinality's stylegan2-pytorch: g_ema or g, d, latent_avg",
    _recognise,
    {"generator": generator, "generator_raw": generator_raw, "discriminator": discriminator},
    write,
    needs=("generator",),
)
STYLEGAN2_ROSINALITY_D = Source(
    "stylegan2-rosinality-d",
    "the discriminator in a file of stylegan2-rosinality",
    _recognise_discriminator,
    {"discriminator": only_discriminator},
    write_discriminator,
    needs=("discriminator",),
)

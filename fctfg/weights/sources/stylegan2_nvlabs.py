"""StyleGAN2 of NVlabs' stylegan2-ada-pytorch (and the same networks of stylegan3): other names for the same tensors.

Their convolutions run with the same orientation as ours, in the up-sampling form too, and no gain is stored
in the weights of either layout; so values go over as they are, and shapes differ in dimensions of size 1 only.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fctfg.errors import FctfgError
from fctfg.models.discriminator import Discriminator, DiscriminatorConfig
from fctfg.models.stylegan2 import Generator, GeneratorConfig
from fctfg.ops.upfirdn2d import fir_kernel
from fctfg.weights.checkpoint import Checkpoint
from fctfg.weights.inert_pickle import module_settings
from fctfg.weights.key_table import load_keys
from fctfg.weights.sources.sizes import channel_rule, count, need
from fctfg.weights.sources.source import Source
from fctfg.weights.sources.stylegan2_rosinality import compute_latent_avg

log = logging.getLogger("fctfg")
UP_GAIN = 4.0  # of our stored filters that follow an up-sampling by two; theirs have the sum 1


def generator_keys(config: GeneratorConfig) -> dict[str, str]:
    """Their key -> our key, of every tensor of a generator."""
    table = {"mapping.w_avg": "latent_avg", "synthesis.b4.const": "input.input"}
    for layer in range(config.n_mlp):
        for kind in ("weight", "bias"):
            table[f"mapping.fc{layer}.{kind}"] = f"style.{layer + 1}.{kind}"  # style.0 is the normalization
    table |= _styled("synthesis.b4.conv1", "conv1", "noises.noise_0") | _to_rgb("synthesis.b4.torgb", "to_rgb1")
    levels = [2**n for n in range(3, config.resolution.bit_length())]
    for level, size in enumerate(levels):
        for half in (0, 1):
            index = 2 * level + half
            table |= _styled(f"synthesis.b{size}.conv{half}", f"convs.{index}", f"noises.noise_{index + 1}")
        table |= _to_rgb(f"synthesis.b{size}.torgb", f"to_rgbs.{level}")
    return table


def discriminator_keys(config: DiscriminatorConfig) -> dict[str, str]:
    """Their key -> our key, of every tensor of a discriminator."""
    top = f"b{config.resolution}"
    table = {f"{top}.fromrgb.weight": "convs.0.0.weight", f"{top}.fromrgb.bias": "convs.0.1.bias"}
    size, index = config.resolution, 1
    while size > 4:
        table |= {
            f"b{size}.conv0.weight": f"convs.{index}.conv1.0.weight",
            f"b{size}.conv0.bias": f"convs.{index}.conv1.1.bias",
            f"b{size}.conv1.weight": f"convs.{index}.conv2.1.weight",
            f"b{size}.conv1.bias": f"convs.{index}.conv2.2.bias",
            f"b{size}.skip.weight": f"convs.{index}.skip.1.weight",
        }
        size, index = size // 2, index + 1
    for theirs, ours in (("b4.conv.weight", "final_conv.0.weight"), ("b4.conv.bias", "final_conv.1.bias")):
        table[theirs] = ours
    for theirs, ours in (("b4.fc", "final_linear.0"), ("b4.out", "final_linear.1")):
        table |= {f"{theirs}.{kind}": f"{ours}.{kind}" for kind in ("weight", "bias")}
    return table


def _styled(theirs: str, ours: str, noise: str) -> dict[str, str]:
    return {
        f"{theirs}.weight": f"{ours}.conv.weight",
        f"{theirs}.affine.weight": f"{ours}.conv.modulation.weight",
        f"{theirs}.affine.bias": f"{ours}.conv.modulation.bias",
        f"{theirs}.noise_strength": f"{ours}.noise.weight",
        f"{theirs}.noise_const": noise,
        f"{theirs}.bias": f"{ours}.activate.bias",
    }


def _to_rgb(theirs: str, ours: str) -> dict[str, str]:
    return {
        f"{theirs}.weight": f"{ours}.conv.weight",
        f"{theirs}.affine.weight": f"{ours}.conv.modulation.weight",
        f"{theirs}.affine.bias": f"{ours}.conv.modulation.bias",
        f"{theirs}.bias": f"{ours}.bias",
    }


def _filters(config: GeneratorConfig | DiscriminatorConfig) -> tuple[list[str], dict[str, Tensor]]:
    """Keys of their resampling filters, which are all alike, and our filters by our keys."""
    with torch.device("meta"):
        network = Generator(config) if isinstance(config, GeneratorConfig) else Discriminator(config)
    gain = UP_GAIN if isinstance(config, GeneratorConfig) else 1.0
    ours = {key: fir_kernel(gain=gain) for key in network.state_dict() if key.endswith(".kernel")}
    sizes = [2**n for n in range(2, config.resolution.bit_length())]
    if isinstance(config, GeneratorConfig):
        theirs = [f"synthesis.b{size}.resample_filter" for size in sizes]
        theirs += [f"synthesis.b{size}.conv{half}.resample_filter" for size in sizes for half in (0, 1)]
        theirs.remove("synthesis.b4.conv0.resample_filter")
        return theirs, ours
    theirs = []
    for size in sizes[1:]:
        layers = [".conv0", ".conv1", ".skip", ""] + ([".fromrgb"] if size == config.resolution else [])
        theirs += [f"b{size}{layer}.resample_filter" for layer in layers]
    return [*theirs, "b4.conv.resample_filter"], ours


def _without_filters(path: Path, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state without the resampling filters, which must be StyleGAN2's."""
    usual, rest = fir_kernel(), {}
    for key, tensor in state.items():
        if not key.endswith("resample_filter"):
            rest[key] = tensor
        elif tensor.shape != usual.shape or not torch.allclose(tensor.float(), usual, atol=1e-4):
            raise FctfgError(f"{path} resamples with another filter than [1, 3, 3, 1] ({key}); fctfg has that one only")
    return rest


def _channels(path: Path, state: Mapping[str, Tensor], key: str) -> dict[int, int]:
    """Resolution -> output channels of the layer `key`, which has one `{}` for the resolution."""
    pattern = re.escape(key).replace(r"\{\}", r"(\d+)")
    return {int(m[1]): need(path, state, k).shape[0] for k in state if (m := re.fullmatch(pattern, k))}


def _refuse_others(path: Path, state: Mapping[str, Tensor]) -> None:
    """Names networks that look alike."""
    if any(key.startswith(("synthesis.L", "synthesis.input.")) for key in state):
        raise FctfgError(f"{path} is StyleGAN3, another network; fctfg reads StyleGAN2 (files named stylegan2-*)")
    if "mapping.embed.weight" in state or ("b4.out.weight" in state and "mapping.fc0.weight" in state):
        raise FctfgError(f"{path} is conditioned on classes, which fctfg's StyleGAN2 is not; get an unconditional one")


def _state_of(checkpoint: Checkpoint, *names: str, mark: str | None) -> dict[str, Tensor] | None:
    """A network's state dict: an entry, a bare file that has the key `mark`, or a part of a flat file under `NAME.`."""
    for name in names:
        if (state := checkpoint.state(name)) is not None:
            return state
    bare = checkpoint.state() or {}
    if mark in bare:
        return bare
    for name in names:
        if part := {key.removeprefix(f"{name}."): t for key, t in bare.items() if key.startswith(f"{name}.")}:
            return part
    return None


def _read_generator(checkpoint: Checkpoint, *names: str) -> nn.Module | None:
    path, state = checkpoint.path, _state_of(checkpoint, *names, mark="synthesis.b4.const")
    if state is None:
        return None
    _refuse_others(path, state)
    channels = _channels(path, state, "synthesis.b{}.conv1.weight")
    if 4 not in channels:
        need(path, state, "synthesis.b4.conv1.weight")
    base, most = channel_rule(path, channels)
    config = _config(
        path,
        GeneratorConfig,
        resolution=max(channels),
        style_dim=need(path, state, "mapping.fc0.weight").shape[0],
        n_mlp=count(state, r"mapping\.fc\d+\.weight"),
        channel_base=base,
        channel_max=most,
    )
    _say_clamp(checkpoint, *names)
    given = _filters(config)[1]
    if "mapping.w_avg" not in state:
        given["latent_avg"] = torch.zeros(config.style_dim)
    table = generator_keys(config)
    network = load_keys(path, lambda: Generator(config), _without_filters(path, state), table, given, ones=True)
    assert isinstance(network, Generator)
    if "mapping.w_avg" not in state:
        compute_latent_avg(path, network)
    return network


def generator(checkpoint: Checkpoint) -> nn.Module | None:
    """The moving average of the generator."""
    network = _read_generator(checkpoint, "G_ema", "G")
    if network is None:
        raise FctfgError(f"{checkpoint.path} has no generator (G_ema, G) of NVlabs' StyleGAN2{_hint(checkpoint)}")
    return network


def generator_raw(checkpoint: Checkpoint) -> nn.Module | None:
    """The weights that the optimiser moves, where the file has them beside their average."""
    both = [_state_of(checkpoint, name, mark=None) is not None for name in ("G_ema", "G")]
    return _read_generator(checkpoint, "G") if all(both) else None


def discriminator(checkpoint: Checkpoint) -> nn.Module | None:
    """The discriminator, where the file has one."""
    path, state = checkpoint.path, _state_of(checkpoint, "D", mark="b4.out.weight")
    if state is None:
        return None
    _refuse_others(path, state)
    _say_clamp(checkpoint, "D")
    channels = {4: need(path, state, "b4.conv.weight").shape[0]}
    for size, out in _channels(path, state, "b{}.conv1.weight").items():
        channels[size // 2] = out
    resolution = 2 * max(channels)
    channels[resolution] = need(path, state, f"b{resolution}.fromrgb.weight").shape[0]
    base, most = channel_rule(path, channels)
    config = _config(path, DiscriminatorConfig, resolution=resolution, channel_base=base, channel_max=most)
    groups = module_settings(checkpoint.part("D"), "group_size")  # a pickle says it, a state dict does not
    if len(groups) == 1 and (group := groups.pop()):
        config = replace(config, stddev_group=group)
    table, given = discriminator_keys(config), _filters(config)[1]
    return load_keys(path, lambda: Discriminator(config), _without_filters(path, state), table, given, ones=True)


def only_discriminator(checkpoint: Checkpoint) -> nn.Module | None:
    """The discriminator, which must be there."""
    network = discriminator(checkpoint)
    if network is None:
        raise FctfgError(f"{checkpoint.path} has no discriminator (D) of NVlabs' StyleGAN2{_hint(checkpoint)}")
    return network


def _config(path: Path, kind: type, **sizes: int) -> Any:
    try:
        return kind(**sizes)
    except ValueError as error:
        raise FctfgError(f"{path} is not StyleGAN2: {error}; is the source right?") from error


def _say_clamp(checkpoint: Checkpoint, *names: str) -> None:
    """Says when a pickled network limits its activations, which ours does not."""
    limits = module_settings(checkpoint.part(*names), "conv_clamp") - {None}
    if limits:
        log.warning(
            "%s was trained with activations limited to +-%g, which fctfg does not do", checkpoint.path, max(limits)
        )


def _hint(checkpoint: Checkpoint) -> str:
    if any(name.startswith("dnnlib.tflib") for name in checkpoint.recorded):
        return "; it is a pickle of the TensorFlow version: convert it with legacy.py of stylegan2-ada-pytorch first"
    if checkpoint.recorded:
        return f"; it names {', '.join(checkpoint.recorded[:3])}, none of which was run"
    return ""


def state_for_nvlabs(network: nn.Module) -> dict[str, Tensor]:
    """A generator's or discriminator's tensors under their keys, in their order of dimensions."""
    config = network.config
    assert isinstance(config, GeneratorConfig | DiscriminatorConfig)
    table = generator_keys(config) if isinstance(config, GeneratorConfig) else discriminator_keys(config)
    ours = network.state_dict()
    state = {theirs: _less_ones(theirs, ours[key].detach()) for theirs, key in table.items()}
    return state | {key: fir_kernel() for key in _filters(config)[0]}


def _less_ones(key: str, tensor: Tensor) -> Tensor:
    """Our tensor without the dimensions of size 1 that theirs lacks."""
    if key.endswith("noise_strength"):
        return tensor.reshape(())
    if key.endswith("noise_const"):  # [1, 1, H, W]
        return tensor[0, 0]
    if key.endswith(".const") or tensor.ndim == 5:  # [1, C, 4, 4], [1, O, I, k, k]
        return tensor[0]
    return tensor.flatten() if key.endswith(".bias") else tensor


def write(networks: Mapping[str, nn.Module]) -> dict[str, Any]:
    """{"G_ema"} and, where given, "G" and "D": state dicts under the names that their pickles use."""
    names = (("G_ema", "generator"), ("G", "generator_raw"), ("D", "discriminator"))
    return {theirs: state_for_nvlabs(networks[ours]) for theirs, ours in names if ours in networks}


def write_discriminator(networks: Mapping[str, nn.Module]) -> dict[str, Any]:
    """{"D"}."""
    return {"D": state_for_nvlabs(networks["discriminator"])}


STYLEGAN2_NVLABS = Source(
    "stylegan2-nvlabs",
    "StyleGAN2 of NVlabs' stylegan2-ada-pytorch: the .pkl itself, or state dicts G_ema, G, D",
    lambda checkpoint: _state_of(checkpoint, "G_ema", "G", mark="synthesis.b4.const") is not None,
    {"generator": generator, "generator_raw": generator_raw, "discriminator": discriminator},
    write,
    needs=("generator",),
    flat=True,
)
STYLEGAN2_NVLABS_D = Source(
    "stylegan2-nvlabs-d",
    "the discriminator in a file of stylegan2-nvlabs",
    lambda checkpoint: _state_of(checkpoint, "D", mark="b4.out.weight") is not None,
    {"discriminator": only_discriminator},
    write_discriminator,
    needs=("discriminator",),
    flat=True,
)

"""Stage exports: trained networks, their configs and a card in one safetensors file.

The file's header holds `format`, `stage`, `configs`, `card` and `aliases` (JSON each), its tensors are named
`<network>.<key>`; a tensor that a network has under several keys is stored under the first, and `aliases` says which
others are the same. Reading a file executes nothing that it contains.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fctfg.atomic import atomic_path, write_json
from fctfg.errors import FctfgError
from fctfg.file_hash import sha256
from fctfg.models.audio_encoder import AudioEncoder, AudioEncoderConfig
from fctfg.models.discriminator import Discriminator, DiscriminatorConfig
from fctfg.models.experts.arcface import ArcFace, ArcFaceConfig
from fctfg.models.experts.arcface_onnx import ArcFaceONNX, ArcFaceONNXConfig
from fctfg.models.experts.landmark_sync import LandmarkSync, LandmarkSyncConfig
from fctfg.models.experts.lpips import LPIPS, LPIPSConfig
from fctfg.models.experts.syncnet import SyncNet, SyncNetConfig
from fctfg.models.experts.syncnet_v2 import SyncNetV2, SyncNetV2Config
from fctfg.models.experts.vgg import VGG19, VGGConfig
from fctfg.models.fctfg import FCTFG, FCTFGConfig, Latent
from fctfg.models.hypernetwork import Hypernetwork, HypernetworkConfig
from fctfg.models.stylegan2 import Generator, GeneratorConfig
from fctfg.models.video_discriminator import VideoDiscriminator, VideoDiscriminatorConfig
from fctfg.models.visual_encoder import VisualEncoder, VisualEncoderConfig
from fctfg.weights.card import complete_card
from fctfg.weights.checkpoint import OUR_FORMAT
from fctfg.weights.config_json import config_differences, config_from_dict, config_to_dict
from fctfg.weights.file_kind import file_kind
from fctfg.weights.key_table import some

NETWORKS: dict[str, tuple[type[nn.Module], type]] = {
    "generator": (Generator, GeneratorConfig),  # the moving average of the weights: what is used
    "generator_raw": (Generator, GeneratorConfig),  # the weights that the optimizer moves
    "discriminator": (Discriminator, DiscriminatorConfig),
    "video_discriminator": (VideoDiscriminator, VideoDiscriminatorConfig),
    "visual_encoder": (VisualEncoder, VisualEncoderConfig),
    "hypernetwork": (Hypernetwork, HypernetworkConfig),
    "audio_encoder": (AudioEncoder, AudioEncoderConfig),
    "latent": (Latent, FCTFGConfig),
    "sync_expert": (SyncNet, SyncNetConfig),
    "identity_expert": (ArcFace, ArcFaceConfig),
    "identity_expert_onnx": (ArcFaceONNX, ArcFaceONNXConfig),
    "syncnet_v2": (SyncNetV2, SyncNetV2Config),
    "perceptual": (VGG19, VGGConfig),
    "lpips": (LPIPS, LPIPSConfig),
    "landmark_sync": (LandmarkSync, LandmarkSyncConfig),
}
"""Name in a file -> (network, its config)."""

FCTFG_PARTS = ("generator", "visual_encoder", "audio_encoder", "latent", "hypernetwork")
"""What `fctfg`, the whole network, is stored as: its parts under their own names, so that another stage can take one of
them alone. The hypernetwork is among them only when the configuration uses it."""


@dataclass(frozen=True)
class Artifact:
    """What a weights file holds.

    Attributes:
        path: the file that was read.
        stage: name of the stage that wrote it.
        configs: name of each network -> its config.
        card: see `fctfg.weights.card`.
        state_dicts: name of each network -> its tensors (floating point ones as float32).
        sha256: of the file.
    """

    path: Path
    stage: str
    configs: dict[str, Any]
    card: dict[str, Any]
    state_dicts: dict[str, dict[str, Tensor]]
    sha256: str


def save_artifact(
    path: Path,
    networks: Mapping[str, nn.Module],
    stage: str,
    card: Mapping[str, Any],
    dtype: Literal["float32", "float16"] = "float32",
) -> None:
    """Writes networks to one file, atomically.

    Args:
        path: target; its folder is created when it is missing.
        networks: by names of `NETWORKS`, or `fctfg` for the whole network.
        stage: name of the stage.
        card: JSON-able.
        dtype: how floating point tensors are stored; "float16" halves the file (tensors with a value beyond its range
            stay float32).

    Raises:
        ValueError: unknown name, wrong class, nothing to save, or a part given beside the `fctfg` that contains it.
        FctfgError: the file cannot be written.
    """
    networks = _with_parts(networks)
    if not networks:
        raise ValueError("no network to save")
    tensors: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    written: dict[tuple[Any, ...], str] = {}  # where a tensor lies in memory -> its first key
    for name, network in networks.items():
        for key, tensor in network.state_dict().items():
            place = tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype
            first = written.setdefault(place, f"{name}.{key}") if tensor.numel() else f"{name}.{key}"
            if first == f"{name}.{key}":
                tensors[first] = _stored(tensor, dtype)
            else:
                aliases[f"{name}.{key}"] = first
    metadata = {
        "format": OUR_FORMAT,
        "stage": stage,
        "configs": json.dumps({name: config_to_dict(network.config) for name, network in networks.items()}),
        "card": json.dumps(dict(card)),
        "aliases": json.dumps(aliases),
    }
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, str(temporary), metadata=metadata)
        except SafetensorError as error:
            if number := re.search(r"os error (\d+)", str(error)):  # a full disk, for instance
                raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
            raise


def load_artifact(path: str | Path) -> Artifact:
    """Reads a weights file, or the export of a run.

    Args:
        path: a file that `save_artifact` wrote, or a run folder (its `export/weights.safetensors` is read).

    Returns:
        Everything in it, on the CPU.

    Raises:
        FctfgError: missing, truncated, not safetensors (a pickle or `.ckpt` is refused, never executed), not written
            by fctfg, or with a config this version does not know.
    """
    path = _weights_file(Path(path))
    if (kind := file_kind(path)) != "safetensors":
        raise FctfgError(
            f"{path} is {'an ONNX graph' if kind == 'onnx' else 'a pickle (a PyTorch checkpoint?)'}, not a weights "
            f"file of fctfg; pass a run folder or its export/weights.safetensors, or read a published file with "
            f"`fctfg weights import`"
        )
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise FctfgError(
            f"{path} is truncated or is not a safetensors file ({error}); copy, download or export it again"
        ) from error
    if metadata.get("format") != OUR_FORMAT:
        raise FctfgError(
            f"{path} is a safetensors file that fctfg did not write (format {metadata.get('format', 'unknown')!r}, "
            f"expected {OUR_FORMAT!r}); pass a run folder or its export/weights.safetensors, or read a published file "
            f"with `fctfg weights import`"
        )
    stage, plain_configs, card, aliases = _header(path, metadata)
    tensors |= {key: tensors[first] for key, first in aliases.items() if first in tensors}
    state_dicts: dict[str, dict[str, Tensor]] = {name: {} for name in plain_configs}
    for key, tensor in tensors.items():
        name, _, rest = key.partition(".")
        if name not in state_dicts:
            raise FctfgError(f"{path} holds the tensor {key}, which belongs to no network of its header; export again")
        state_dicts[name][rest] = tensor.float() if tensor.is_floating_point() else tensor
    configs = {
        name: config_from_dict(NETWORKS[name][1], values, f"{path}, {name}") for name, values in plain_configs.items()
    }
    return Artifact(path, stage, configs, card, state_dicts, sha256(path))


def require(artifact: Artifact, stage: str) -> None:
    """Raises FctfgError, naming both stages, unless the artifact was written by `stage`."""
    if artifact.stage != stage:
        raise FctfgError(
            f"{artifact.path} holds weights of stage {artifact.stage!r} ({', '.join(artifact.configs)}), but weights "
            f"of stage {stage!r} are needed; pass the run folder or the export of a {stage!r} run"
        )


def build(artifact: Artifact, name: str) -> nn.Module:
    """Instantiates a network as it was exported, with its weights.

    Args:
        artifact: what `load_artifact` returned.
        name: of `NETWORKS`, or `fctfg`, composed of its parts.

    Returns:
        The network, on the CPU, in training mode as constructed.

    Raises:
        FctfgError: the artifact lacks the network, or its tensors do not cover the network completely.
    """
    if name == "fctfg":
        config = _config(artifact, "latent")
        parts: dict[str, Any] = {part: build(artifact, part) for part in _parts_of(config)}
        try:
            return FCTFG(config, **parts)
        except ValueError as error:
            raise FctfgError(f"{artifact.path}: the networks do not fit together: {error}") from error
    network = _network_class(name)(_config(artifact, name))
    load_into(artifact, name, network)
    return network


def load_into(artifact: Artifact, name: str, network: nn.Module) -> int:
    """Copies weights into an existing network; all or nothing.

    Args:
        artifact: what `load_artifact` returned.
        name: of `NETWORKS`.
        network: receives the tensors, on its device and in its dtype.

    Returns:
        Number of tensors loaded.

    Raises:
        FctfgError: keys are missing or unexpected, or shapes differ; the message names them and the fields in which
            the configs differ. The network is unchanged then.
    """
    wanted, state = network.state_dict(), _fitting(artifact, name, network)
    with torch.no_grad():
        for key, tensor in wanted.items():
            tensor.copy_(state[key])
    return len(state)


def fits(artifact: Artifact, name: str) -> int:
    """Makes sure that a network's tensors cover it completely, without building it in memory.

    Returns:
        Number of its parameters.

    Raises:
        FctfgError: as `load_into`.
    """
    config = _config(artifact, name)
    with torch.device("cpu" if isinstance(config, ArcFaceONNXConfig) else "meta"):  # onnx2torch needs memory
        network = _network_class(name)(config)
    _fitting(artifact, name, network)
    return sum(parameter.numel() for parameter in network.parameters())


def _fitting(artifact: Artifact, name: str, network: nn.Module) -> dict[str, Tensor]:
    """The tensors of a network, all of them and of its shapes."""
    theirs = _config(artifact, name)
    state, wanted = artifact.state_dicts[name], network.state_dict()
    missing, unexpected = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    reshaped = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in sorted(wanted.keys() & state.keys())
        if state[key].shape != wanted[key].shape
    ]
    if missing or unexpected or reshaped:
        kinds = (
            ("other configuration", config_differences(network.config, theirs)),
            ("missing", missing),
            ("unexpected", unexpected),
            ("other shape", reshaped),
        )
        text = "; ".join(f"{kind}: {some(lines)}" for kind, lines in kinds if lines)
        raise FctfgError(
            f"{artifact.path} does not fit {name} ({text}); configure the network as it was exported, or pass weights "
            f"of this configuration"
        )
    return state


def write_export(
    run_dir: Path,
    networks: Mapping[str, nn.Module],
    stage: str,
    card: Mapping[str, Any],
    dtype: Literal["float32", "float16"] = "float32",
) -> Path:
    """Writes a stage's export into its run folder: `export/weights.safetensors` and `export/card.json`.

    Args:
        run_dir: the run's folder.
        networks: as for `save_artifact`.
        stage: name of the stage.
        card: JSON-able with the keys of `fctfg.weights.card.REQUIRED`; completed here. `card.json` also holds the
            sha256 of the weights and the number of parameters of each network.
        dtype: as for `save_artifact`.

    Returns:
        Path of the weights file.

    Raises:
        ValueError: the card is incomplete, or as `save_artifact`.
        FctfgError: the folder cannot be written.
    """
    parameters = {name: sum(p.numel() for p in net.parameters()) for name, net in _with_parts(networks).items()}
    full = {**complete_card(card, stage), "parameters": parameters}
    weights = run_dir / "export" / "weights.safetensors"
    save_artifact(weights, networks, stage, full, dtype)
    write_json(weights.with_name("card.json"), {**full, "weights_sha256": sha256(weights)})
    return weights


def _parts_of(config: FCTFGConfig) -> tuple[str, ...]:
    return tuple(part for part in FCTFG_PARTS if part != "hypernetwork" or config.hypernetwork != "off")


def _with_parts(networks: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Checks names and classes, and puts the parts of `fctfg` in its place."""
    flat = dict(networks)
    whole = flat.pop("fctfg", None)
    if whole is not None:
        if not isinstance(whole, FCTFG):
            raise ValueError(f"fctfg must be a FCTFG, got {type(whole).__name__}")
        for part in _parts_of(whole.config):
            if flat.setdefault(part, getattr(whole, part)) is not getattr(whole, part):
                raise ValueError(f"{part} is given beside an fctfg that contains another one")
    for name, network in flat.items():
        expected = _network_class(name)
        if not isinstance(network, expected):
            raise ValueError(f"{name} must be a {expected.__name__}, got {type(network).__name__}")
    return flat


def _stored(tensor: Tensor, dtype: Literal["float32", "float16"]) -> Tensor:
    """The tensor as it is stored; a copy only where its type changes or it is a part of a larger one."""
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = tensor.float()
        if dtype == "float16":
            half = tensor.half()
            fits = bool(torch.isfinite(half).all()) or not bool(torch.isfinite(tensor).all())
            tensor = half if fits else tensor
    alone = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor.contiguous() if alone else tensor.clone(memory_format=torch.contiguous_format)


def _weights_file(path: Path) -> Path:
    if path.is_dir():
        file = path / "export" / "weights.safetensors"
        if not file.is_file():
            raise FctfgError(
                f"the folder {path} has no export/weights.safetensors; pass the folder of a run whose stage has been "
                f"exported, or a .safetensors file"
            )
        return file
    if not path.is_file():
        raise FctfgError(f"the weights {path} do not exist; pass a run folder or a .safetensors file")
    return path


def _header(path: Path, metadata: Mapping[str, str]) -> tuple[str, dict[str, Any], dict[str, Any], dict[str, str]]:
    """(stage, configs, card, aliases)."""
    try:
        stage, configs, card = metadata["stage"], json.loads(metadata["configs"]), json.loads(metadata["card"])
        aliases = json.loads(metadata.get("aliases", "{}"))
    except (KeyError, json.JSONDecodeError) as error:
        raise FctfgError(f"the header of {path} is damaged ({error!r}); export it again") from error
    if not all(isinstance(table, dict) for table in (configs, card, aliases)):
        raise FctfgError(f"the header of {path} is damaged (configs and card must be tables); export it again")
    unknown = sorted(configs.keys() - NETWORKS.keys())
    if unknown:
        raise FctfgError(
            f"{path} holds networks that this version of fctfg does not know ({', '.join(unknown)}); update fctfg"
        )
    return stage, configs, card, aliases


def _network_class(name: str) -> type[nn.Module]:
    if name not in NETWORKS:
        raise ValueError(f"unknown network {name!r}; one of {', '.join(NETWORKS)}")
    return NETWORKS[name][0]


def _config(artifact: Artifact, name: str) -> Any:
    if name not in artifact.configs:
        raise FctfgError(
            f"{artifact.path} (stage {artifact.stage!r}) holds no {name}, only {', '.join(artifact.configs)}; pass the "
            f"export of a stage that trains it"
        )
    return artifact.configs[name]

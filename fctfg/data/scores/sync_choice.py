"""Another sync expert than the package's: one that somebody has trained or imported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from fctfg.data.scores.sync import Floats, SyncExpert, compare, lips_seen, speech_heard
from fctfg.demo_corpus import root, truth
from fctfg.errors import FctfgError
from fctfg.faces.detector import DlibDetector
from fctfg.faces.track import Tracker, landmarks_of
from fctfg.media import Pixels, read_audio, read_frames
from fctfg.models.experts.landmark_sync import LandmarkSync
from fctfg.models.experts.syncnet import SyncNet
from fctfg.weights.artifact import build
from fctfg.weights.opening import open_weights

KEY = "--sync-expert"
_NETWORKS = ("sync_expert", "landmark_sync")  # of a weights file, that can be used
_AROUND = 15  # frames of sound before and after what is seen


class OpenExpert(NamedTuple):
    """An expert that was read from a file.

    Attributes:
        network: in eval mode, on the CPU.
        weights: its file.
        sha256: of the file.
    """

    network: SyncNet | LandmarkSync
    weights: Path
    sha256: str


class SyncChoice(NamedTuple):
    """What an expert is loaded by, in this process or another one.

    Attributes:
        weights: its file.
        sha256: of the file.
        chance: the unit of its confidence, of `chance_of`.
    """

    weights: Path
    sha256: str
    chance: float

    def load(self) -> SyncExpert:
        """The network.

        Raises:
            FctfgError: the file is not here, or not any more what was chosen.
        """
        expert = open_sync_expert(self.weights)
        if expert.sha256 != self.sha256:
            raise FctfgError(f"{self.weights} was changed while it was in use ({KEY}); run the command again")
        return expert.network


def open_sync_expert(reference: str | Path) -> OpenExpert:
    """Read an expert.

    Args:
        reference: a run folder of stage 0, a weights file, or a name of the catalogue.

    Raises:
        FctfgError: the file is missing or damaged, or holds no sync expert.
    """
    artifact = open_weights(str(reference), KEY)
    name = next((name for name in _NETWORKS if name in artifact.configs), None)
    if name is None:
        raise FctfgError(
            f"{artifact.path} holds no sync expert, only {', '.join(artifact.configs)} ({KEY}); name a run of stage 0 "
            f"(configs/sync_expert.yaml), Wav2Lip's expert, or what scripts/train_landmark_sync.py wrote"
        )
    network = build(artifact, name)
    assert isinstance(network, SyncNet | LandmarkSync)
    return OpenExpert(network.eval().requires_grad_(False), artifact.path.absolute(), artifact.sha256)


def cut_mouths(expert: SyncNet, pictures: Pixels, points: Floats) -> npt.NDArray[np.float16]:
    """What `SyncNet` looks at in pictures.

    Args:
        expert: says where a mouth is to lie.
        pictures: uint8 [N, S, S, 3] RGB.
        points: float32 [N, 5, 2] (x, y) fractions of the picture, ArcFace order.

    Returns:
        [N, 3, 48, 96] BGR in [0, 1]; in half precision, which is finer than the pictures.
    """
    with torch.inference_mode():
        frames = torch.from_numpy(pictures).to(expert.device).permute(0, 3, 1, 2) / 127.5 - 1
        return expert.mouths_of(frames, torch.from_numpy(points).to(expert.device)).half().cpu().numpy()


def people() -> list[Path]:
    """The embedded clips that `chance_of` compares: the first of each person."""
    return sorted(root().glob("*/*/c0.mp4"))


def chance_of(expert: SyncNet | LandmarkSync, advance: Callable[[int], None] = lambda _: None) -> float:
    """What one clip in twenty reaches with the sound of somebody else: the unit of an expert's confidence.

    (max curve - median curve) sqrt(T) of `compare`, of every embedded clip's lips with the sound of every other person
    there; all shifts are heard completely.

    Args:
        expert: in eval mode.
        advance: called with the number of clips that were embedded.

    Returns:
        The 95th percentile, in steps of 0.01, so that machines agree.
    """
    lips, heard = [], []
    for path in people():
        pictures = np.stack(list(read_frames(path)))[_AROUND:-_AROUND]
        if isinstance(expert, SyncNet):
            points = truth(path)["points"][_AROUND:-_AROUND]  # of pixels
            mouths = cut_mouths(expert, pictures, points / np.array(pictures.shape[2:0:-1], np.float32))
        else:
            mouths = _landmarks(pictures)
        lips.append(lips_seen(mouths, expert))
        heard.append(speech_heard(read_audio(path), expert))
        advance(len(lips))
    reached = [
        compare(seen, sound, _AROUND, _AROUND, chance=1.0).confidence
        for i, seen in enumerate(lips)
        for k, sound in enumerate(heard)
        if i != k
    ]
    return max(0.01, round(float(np.quantile(reached, 0.95)), 2))


def _landmarks(pictures: Pixels) -> np.ndarray:
    """float32 [T, 68, 2] of the face in pictures uint8 [T, H, W, 3]."""
    tracker = Tracker(DlibDetector())
    for picture in pictures:
        tracker.update(picture)
    return landmarks_of(max(tracker.finish(), key=lambda track: len(track.faces)))

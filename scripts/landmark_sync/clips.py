"""Talking clips as the expert sees them: a detector's landmarks and the sound."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fctfg.faces.detector import DlibDetector, Face, box_iou
from fctfg.media import read_audio, read_frames

_EVERY, _DRIFTED = 5, 0.6  # as fctfg.faces.track


class Clip(NamedTuple):
    """One clip: who speaks, landmarks [T, 68, 2] in pixels at 25 fps, wave [N] at 16 kHz from the first frame on."""

    person: str
    landmarks: Tensor
    wave: Tensor


def detect(path: Path, detector: DlibDetector) -> np.ndarray:
    """Landmarks float32 [T, 68, 2] of the largest face in each frame, followed as `fctfg prepare` does.

    Raises:
        ValueError: there is no face in the first frame.
    """
    face: Face | None = None
    landmarks = []
    for k, rgb in enumerate(read_frames(path)):
        if face is None or k % _EVERY == 0:
            found = detector.detect(rgb)
            if found and (face is None or box_iou(found[0].box, face.box) < _DRIFTED):
                face = found[0]
        if face is None:
            raise ValueError(f"{path}: no face in the first frame")
        landmarks.append(detector.landmarks68(rgb, face.box))
        face = detector.follow(rgb, face)
    return np.stack(landmarks)


def read_split(corpus: Path, split: str, cache: Path) -> list[Clip]:
    """The clips of one split of a corpus of scripts/render_corpus.py; what was detected is kept in `cache`."""
    cache.mkdir(parents=True, exist_ok=True)
    detector, clips = DlibDetector(), []
    for path in sorted((corpus / split).glob("*/*.mp4")):
        kept = cache / f"{corpus.name}_{split}_{path.parent.name}_{path.stem}.npz"
        if not kept.exists():
            np.savez(kept, landmarks=detect(path, detector), wave=read_audio(path))
            print(f"detected {path}", flush=True)
        with np.load(kept) as found:
            landmarks, wave = torch.from_numpy(found["landmarks"]), torch.from_numpy(found["wave"])
        clips.append(Clip(f"{corpus.name}/{path.parent.name}", landmarks, wave))
    return clips

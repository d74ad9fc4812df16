"""How far the mouth is open, from 68 landmarks, and how two such curves agree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fctfg.faces.detector import DlibDetector

INNER_UPPER_LIP = (61, 62, 63)
INNER_LOWER_LIP = (67, 66, 65)  # each below its partner of the upper lip
LEFT_EYE = tuple(range(36, 42))
RIGHT_EYE = tuple(range(42, 48))


def jaw_opening(landmarks: np.ndarray) -> np.ndarray:
    """Distance between the inner lips, in units of the distance between the eyes.

    Args:
        landmarks: [..., 68, 2], iBUG 300-W order, any unit of length.

    Returns:
        [...], float64: the mean of three lip distances over the distance of the eye centers; 0 = closed, about 0.5 =
        wide open. Does not change when the face is moved, turned in the picture plane or scaled.

    Raises:
        ValueError: the last axes are not [68, 2].
    """
    points = np.asarray(landmarks, dtype=np.float64)
    if points.shape[-2:] != (68, 2):
        raise ValueError(f"jaw_opening needs [..., 68, 2], got {points.shape}")
    gap = points[..., INNER_UPPER_LIP, :] - points[..., INNER_LOWER_LIP, :]  # [..., 3, 2]
    eyes = points[..., LEFT_EYE, :].mean(-2) - points[..., RIGHT_EYE, :].mean(-2)  # [..., 2]
    return np.linalg.norm(gap, axis=-1).mean(-1) / np.linalg.norm(eyes, axis=-1)


def measure_jaw_opening(frames: Iterable[np.ndarray], detector: DlibDetector) -> np.ndarray:
    """Jaw opening of the largest face in each frame.

    Args:
        frames: uint8 [H, W, 3] RGB each.
        detector: finds the face and its 68 landmarks.

    Returns:
        [T], float64, NaN where no face was found.
    """
    openings = []
    for frame in frames:
        faces = detector.detect(frame)
        if not faces:
            openings.append(np.nan)
            continue
        openings.append(float(jaw_opening(detector.landmarks68(frame, faces[0].box))))  # the largest comes first
    return np.asarray(openings, dtype=np.float64)


def pearson(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> float:
    """Pearson correlation over the positions where both series have a value.

    Args:
        a: [T], NaN = no value.
        b: [T], NaN = no value.

    Returns:
        In [-1, 1]; NaN when fewer than two positions are left or one series is constant there.

    Raises:
        ValueError: the lengths differ.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"pearson needs two series of one length, got {x.shape} and {y.shape}")
    both = np.isfinite(x) & np.isfinite(y)
    x, y = x[both], y[both]
    if len(x) < 2:
        return float("nan")
    x, y = x - x.mean(), y - y.mean()
    scale = np.linalg.norm(x) * np.linalg.norm(y)
    return float(np.clip(x @ y / scale, -1.0, 1.0)) if scale > 0 else float("nan")

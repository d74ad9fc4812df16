"""Temporal jitter: how much landmarks tremble from frame to frame."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def jitter(landmarks: npt.NDArray[np.floating], side: float = 256) -> float:
    """Mean length of the second difference of landmarks.

    J = mean over frames and points of |p[t + 1] - 2 p[t] + p[t - 1]| * 256 / side

    A still face has 0, and so has one that moves evenly; white noise of standard deviation s on each coordinate has
    s sqrt(6) sqrt(pi / 2). Speech and quick movements have some too: compare it with the real video's, by the same
    detector.

    Args:
        landmarks: [T, 68, 2] in pixels, NaN where no face was found.
        side: of the pictures, pixels.

    Returns:
        Pixels at 256 px per frame squared; lower is steadier; NaN where no three frames in a row have a face.

    Raises:
        ValueError: another shape.
    """
    if landmarks.ndim != 3 or landmarks.shape[2] != 2:
        raise ValueError(f"jitter needs [T, K, 2], got {list(landmarks.shape)}")
    lengths = np.linalg.norm(np.diff(landmarks.astype(np.float64), n=2, axis=0), axis=-1)
    known = np.isfinite(lengths).all(1)
    return float(lengths[known].mean() * 256 / side) if known.any() else float("nan")

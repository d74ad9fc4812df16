"""Landmark distance (LMD): how far the landmarks of a result are from those of the real frames."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

MOUTH = slice(48, 68)
UNIT = 256  # pixels, to which the picture's side is brought


class LandmarkDistance(NamedTuple):
    """Mean distance of landmarks; lower is better, 0 for equal ones.

    Attributes:
        mouth: of the 20 points of the mouth, pixels at 256 px.
        face: of all 68 points, likewise.
        frames: in which both have a face; NaN above where there is none.
    """

    mouth: float
    face: float
    frames: int


def landmark_distance(
    made: npt.NDArray[np.floating], real: npt.NDArray[np.floating], side: float = UNIT
) -> LandmarkDistance:
    """LMD of Chen et al. 2018 ("Lip movements generation at a glance", Section 4.2), per point.

    With points p of the result and q of the real frame, each less its centroid over the points that count:

        LMD = mean over frames and points of |p - q| * 256 / side

    The public code sums over the points; the 1.58 that FC-TFG's paper prints can only be a mean. Subtracting the
    centroid leaves out where the mouth is, and compares its shape; turning and scaling do count.

    Args:
        made: [T, 68, 2] (x, y) in pixels, iBUG 300-W order, NaN where no face was found.
        real: the same shape.
        side: of the pictures, pixels.

    Raises:
        ValueError: the shapes differ or are not [T, 68, 2].
    """
    if made.shape != real.shape or made.shape[1:] != (68, 2):
        raise ValueError(f"landmark_distance needs two [T, 68, 2], got {list(made.shape)} and {list(real.shape)}")
    both = np.isfinite(made).all((1, 2)) & np.isfinite(real).all((1, 2))
    if not both.any():
        return LandmarkDistance(np.nan, np.nan, 0)
    one, other = made[both].astype(np.float64), real[both].astype(np.float64)

    def distance(points: slice) -> float:
        difference = one[:, points] - other[:, points]
        centered = difference - difference.mean(1, keepdims=True)
        return float(np.linalg.norm(centered, axis=-1).mean() * UNIT / side)

    return LandmarkDistance(distance(MOUTH), distance(slice(None)), int(both.sum()))

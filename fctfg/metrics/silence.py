"""Whether a mouth rests while nobody speaks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

LOUD = 0.95  # quantile of the frames' loudness that a clip's speech has
QUIET = 30.0  # dB below it, a frame is silent
LEAST = 5  # frames of a kind, without which nothing is said of it


class MouthMotion(NamedTuple):
    """Mean absolute change of the mouth opening from frame to frame.

    Attributes:
        silent: where the sound is silent; lower is better. NaN where fewer than 5 frames are.
        speech: elsewhere, to compare with.
    """

    silent: float
    speech: float


def mouth_in_silence(opening: npt.NDArray[np.floating], loudness: npt.NDArray[np.floating]) -> MouthMotion:
    """How much a mouth moves in silence and in speech.

    A step between two frames is silent where both are 30 dB and more below the clip's loud frames (their 95th
    percentile).

    Args:
        opening: [T], any unit, NaN where no face was found.
        loudness: [T], root mean square of the sound of each frame.

    Raises:
        ValueError: the lengths differ.
    """
    if opening.shape != loudness.shape or opening.ndim != 1:
        raise ValueError(f"mouth_in_silence needs two [T], got {list(opening.shape)} and {list(loudness.shape)}")
    if len(opening) < 2:
        return MouthMotion(np.nan, np.nan)
    quiet = loudness <= np.quantile(loudness, LOUD) * 10 ** (-QUIET / 20)
    change = np.abs(np.diff(opening.astype(np.float64)))
    silent, known = quiet[1:] & quiet[:-1], np.isfinite(change)

    def mean(where: npt.NDArray[np.bool_]) -> float:
        return float(change[where].mean()) if where.sum() >= LEAST else float("nan")

    return MouthMotion(mean(silent & known), mean(~silent & known))

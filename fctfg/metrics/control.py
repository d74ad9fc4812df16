"""Whether what is to be controlled separately is: two results that differ in one input only."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_MOUTH = slice(48, 68)
_MARGIN = 0.5  # of the mouth's width and height, by which its region reaches beyond its landmarks


class Moved(NamedTuple):
    """Mean absolute difference of two results, in levels of 255.

    Attributes:
        mouth: within the mouth's region.
        elsewhere: outside of it.
    """

    mouth: float
    elsewhere: float


def moved(
    one: npt.NDArray[np.uint8],
    other: npt.NDArray[np.uint8],
    landmarks: tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]],
) -> Moved:
    """Where two results differ.

    With other sound and the same driver, only the mouth should. The region is the box around the mouth's 20 landmarks
    of both results, grown by half its width and height to each side.

    Args:
        one: uint8 [T, H, W, 3].
        other: the same shape.
        landmarks: of `one` and of `other`, [T, 68, 2] in pixels, NaN where no face was found.

    Returns:
        Both means, over the frames in which both have a face; NaN where there is none.

    Raises:
        ValueError: the shapes differ.
    """
    shapes = [each.shape for each in (one, other, *landmarks)]
    if one.shape != other.shape or shapes[2:] != [(len(one), 68, 2)] * 2:
        raise ValueError(f"moved needs two [T, H, W, 3] and two [T, 68, 2], got {', '.join(map(str, shapes))}")
    mouths = np.concatenate([each[:, _MOUTH] for each in landmarks], axis=1)  # [T, 40, 2]
    there = np.isfinite(mouths).all((1, 2))
    if not there.any():
        return Moved(np.nan, np.nan)
    difference = np.abs(one[there].astype(np.int16) - other[there]).mean(-1)  # [n, H, W]
    low, high = mouths[there].min(1), mouths[there].max(1)  # [n, 2]
    margin = _MARGIN * (high - low)
    low, high = (low - margin)[:, :, None, None], (high + margin)[:, :, None, None]
    y, x = np.indices(difference.shape[1:]) + 0.5
    inside = (x >= low[:, 0]) & (x <= high[:, 0]) & (y >= low[:, 1]) & (y <= high[:, 1])
    return Moved(float(difference[inside].mean()), float(difference[~inside].mean()))


def spread(images: npt.NDArray[np.uint8]) -> float:
    """How much images that should be one differ: the standard deviation of each value, averaged.

    FC-TFG's canonical images of all frames of a clip are nearly one (Jang et al. 2023, Section 4.4).

    Args:
        images: uint8 [N, H, W, 3], N >= 2.

    Returns:
        In levels of 255; lower is better, 0 for equal images.
    """
    return float(images.astype(np.float64).std(0).mean())

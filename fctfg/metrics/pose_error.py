"""How well the head of a result follows its driver's."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class PoseError(NamedTuple):
    """Mean absolute differences of head poses in degrees; lower is better.

    Attributes:
        yaw, pitch, roll: NaN where no frame has both.
    """

    yaw: float
    pitch: float
    roll: float


def pose_error(made: npt.NDArray[np.floating], driver: npt.NDArray[np.floating], centred: bool = False) -> PoseError:
    """Mean absolute difference of two pose tracks by one estimator.

    What the estimator always does wrong is the same in both, so it cancels where both show one person; of two people it
    does not (a short nose looks like a nose turned up: pitch by up to 6 degrees).

    Args:
        made: [T, 3] yaw, pitch, roll in degrees, NaN where no face was found.
        driver: the same shape.
        centred: the mean difference is subtracted first, for two people; a head that is always turned too far goes
            unnoticed then.

    Raises:
        ValueError: the shapes differ or are not [T, 3].
    """
    if made.shape != driver.shape or made.shape[1:] != (3,):
        raise ValueError(f"pose_error needs two [T, 3], got {list(made.shape)} and {list(driver.shape)}")
    difference = (made.astype(np.float64) - driver + 180) % 360 - 180
    difference = difference[np.isfinite(difference).all(1)]
    if not len(difference):
        return PoseError(np.nan, np.nan, np.nan)
    if centred:
        difference -= difference.mean(0)
    return PoseError(*map(float, np.abs(difference).mean(0)))

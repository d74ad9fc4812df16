"""Whether brows and eyes of a result do what its driver's do."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fctfg.faces.head_pose import RIGID
from fctfg.faces.openings import EYES

UPPER = (*range(17, 27), 37, 38, 40, 41, 43, 44, 46, 47)  # brows and lids


def expression_track(landmarks: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """What brows and lids do in a clip, freed of where the head is, how large, how it is turned, and whose it is.

    Each frame is brought to the first one by the affine map that fits its rigid points best, and all of them to level
    eyes at distance 1; what is left of brows and lids, less the clip's mean, is the expression.

    Args:
        landmarks: [T, 68, 2], iBUG 300-W order, NaN where no face was found.

    Returns:
        [T, 18, 2] in units of the distance between the eyes' centers; NaN where no face was found.

    Raises:
        ValueError: another shape.
    """
    if landmarks.ndim != 3 or landmarks.shape[1:] != (68, 2):
        raise ValueError(f"expression_track needs [T, 68, 2], got {list(landmarks.shape)}")
    found = np.full((len(landmarks), len(UPPER), 2), np.nan)
    there = np.isfinite(landmarks).all((1, 2))
    if not there.any():
        return found
    points = landmarks[there].astype(np.float64)
    points = points - points[:, RIGID].mean(1, keepdims=True)
    # least squares for each frame: its rigid points times a 2 x 2 matrix are those of the first frame
    points = points @ (np.linalg.pinv(points[:, RIGID]) @ points[0, RIGID])
    across = points[:, EYES[1]].mean((0, 1)) - points[:, EYES[0]].mean((0, 1))
    upright = np.array([[across[0], -across[1]], [across[1], across[0]]]) / (across @ across)
    upper = points[:, UPPER] @ upright
    found[there] = upper - upper.mean(0)
    return found


def expression_error(made: npt.NDArray[np.floating], driver: npt.NDArray[np.floating]) -> float:
    """Mean distance of the expressions of two clips, frame by frame.

    Args:
        made: [T, 68, 2] landmarks of the result, NaN where no face was found.
        driver: those of its driver.

    Returns:
        In distances of the eyes, lower is better; NaN where no frame has both faces. A result that never moves its
        brows has the driver's own mean movement.

    Raises:
        ValueError: the shapes differ or are not [T, 68, 2].
    """
    if made.shape != driver.shape:
        raise ValueError(f"expression_error needs two of one shape, got {list(made.shape)} and {list(driver.shape)}")
    both = np.isfinite(made).all((1, 2)) & np.isfinite(driver).all((1, 2))
    if not both.any():
        return float("nan")
    one, other = expression_track(made[both]), expression_track(driver[both])
    return float(np.linalg.norm(one - other, axis=-1).mean())

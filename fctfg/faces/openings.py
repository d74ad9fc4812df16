"""How far mouth and eyes are open, from the 68 landmarks of iBUG 300-W."""

import numpy as np
import numpy.typing as npt

EYES = np.arange(36, 48).reshape(2, 6)  # the viewer's left and right: corner, two above, corner, two below
_UPPER_LIP, _LOWER_LIP = (61, 62, 63), (67, 66, 65)  # inner edge, each above its partner


def _check(landmarks: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    if landmarks.ndim != 3 or landmarks.shape[1:] != (68, 2):
        raise ValueError(f"landmarks must be [T, 68, 2], got {list(landmarks.shape)}")
    return landmarks.astype(np.float64)


def mouth_opening(landmarks: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """How far the mouth is open: gap of the inner lips over the distance of the eyes' centres.

    The eyes' distance is the unit because speech and smiles do not change it, while they change the mouth's width by a
    third; the mean of three gaps is steadier than one, as landmarks are rounded to pixels. Correlation with
    the true gap of rendered lips (36 clips, `python scripts/fit_face_template.py`): 0.84, within a clip 0.91.

    Args:
        landmarks: [T, 68, 2] (x, y), any unit; NaN where no face was found.

    Returns:
        [T]; 0 closed, about 0.5 wide open, NaN where no face was found. Turning the head by 25 degrees lengthens it by
        a tenth; moving, rolling or scaling the face changes nothing.

    Raises:
        ValueError: `landmarks` has another shape.
    """
    points = _check(landmarks)
    gap = np.linalg.norm(points[:, _UPPER_LIP] - points[:, _LOWER_LIP], axis=-1).mean(axis=1)
    centers = points[:, EYES].mean(axis=2)  # [T, 2, 2]
    opening: npt.NDArray[np.float64] = gap / np.linalg.norm(centers[:, 0] - centers[:, 1], axis=-1)
    return opening


def eye_aspect_ratio(landmarks: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Height of the eyes over their width, the mean of both (Soukupova and Cech 2016, eq. 1).

        EAR = (|p2 - p6| + |p3 - p5|) / (2 |p1 - p4|)

    Correlation with the true closing of rendered lids (36 clips, `python scripts/fit_face_template.py`): -0.81, within
    a clip -0.89.

    Args:
        landmarks: [T, 68, 2] (x, y), any unit; NaN where no face was found.

    Returns:
        [T]; 0.25 to 0.45 open, by the person; below 0.2 closed; NaN where no face was found.

    Raises:
        ValueError: `landmarks` has another shape.
    """
    eyes = _check(landmarks)[:, EYES]  # [T, eye, 6, 2]
    heights = np.linalg.norm(eyes[:, :, [1, 2]] - eyes[:, :, [5, 4]], axis=-1).mean(axis=-1)
    widths = np.linalg.norm(eyes[:, :, 0] - eyes[:, :, 3], axis=-1)
    ratio: npt.NDArray[np.float64] = (heights / widths).mean(axis=1)
    return ratio

"""Where the pupils are in the eyes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from fctfg.faces.openings import EYES

_ACROSS, _DOWN = 24, 12  # samples of an eye
_CLOSED = 0.1  # height of an eye over its width, below which nothing is seen of the pupil
_SHARP = 4  # power by which the darkest samples count most


def gaze_track(pictures: npt.NDArray[np.uint8], landmarks: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Where the dark of the eyes lies, from the middle between their corners.

    Each eye is sampled along the line through its corners, within the ellipse that its lids leave open; what is dark
    there is weighed by its darkness, and the centroid is the mean over both eyes. It sees the iris against the white of
    the eye, a fifth of an eye's width at most; it does not see where in the room somebody looks, since the head's pose
    is not in it, and shadows of lids, lashes and glasses pull it their way, in driver and result alike.

    Args:
        pictures: uint8 [N, S, S, 3].
        landmarks: [N, 68, 2] (x, y) in pixels of the pictures, NaN where no face was found.

    Returns:
        [N, 2]: to the viewer's right and down, in widths of the eye; NaN without a face or with closed eyes.

    Raises:
        ValueError: the shapes do not fit.
    """
    count = len(pictures)
    if pictures.ndim != 4 or landmarks.shape != (count, 68, 2):
        raise ValueError(f"gaze_track needs [N, S, S, 3] and [N, 68, 2], got {pictures.shape} and {landmarks.shape}")
    found = np.full((count, 2), np.nan)
    there = np.flatnonzero(np.isfinite(landmarks).all((1, 2)))
    if not len(there):
        return found
    points = torch.from_numpy(landmarks[there][:, EYES].astype(np.float32)).flatten(0, 1)  # [2 n, 6, 2]
    grey = torch.from_numpy(np.ascontiguousarray(pictures[there])).float().mean(-1)[:, None]  # [n, 1, S, S]
    center, along = (points[:, 0] + points[:, 3]) / 2, points[:, 3] - points[:, 0]
    across = torch.stack([-along[:, 1], along[:, 0]], 1)  # downwards in the picture
    width = along.square().sum(1)  # squared
    lids = ((points[:, [1, 2, 4, 5]] - center[:, None]) * across[:, None]).sum(2) / width[:, None]  # in eye widths
    upper, lower = lids[:, :2].mean(1), lids[:, 2:].mean(1)
    u = torch.linspace(-0.5, 0.5, _ACROSS)[None, None, :]
    v = torch.linspace(-0.5, 0.5, _DOWN)[None, :, None] * (lower - upper)[:, None, None]
    v = v + ((upper + lower) / 2)[:, None, None]
    places = center[:, None, None] + u[..., None] * along[:, None, None] + v[..., None] * across[:, None, None]
    grid = 2 * places / torch.tensor([pictures.shape[2], pictures.shape[1]]) - 1
    seen = F.grid_sample(grey.repeat_interleave(2, 0), grid, padding_mode="border", align_corners=False)[:, 0]
    middle, half = ((upper + lower) / 2)[:, None, None], ((lower - upper) / 2).clamp_min(1e-6)[:, None, None]
    inside = (2 * u).square() + ((v - middle) / half).square() <= 1
    low = seen.masked_fill(~inside, torch.inf).amin((1, 2), keepdim=True)
    high = seen.masked_fill(~inside, -torch.inf).amax((1, 2), keepdim=True)
    dark = ((high - seen) / (high - low).clamp_min(1e-6)).clamp(0, 1).pow(_SHARP) * inside
    total = dark.sum((1, 2))
    place = torch.stack([(dark * u).sum((1, 2)), (dark * v).sum((1, 2))], 1) / total[:, None]
    place = place.masked_fill(((lower - upper) < _CLOSED)[:, None], torch.nan)
    found[there] = place.unflatten(0, (-1, 2)).mean(1).double().numpy()
    return found


def gaze_error(made: npt.NDArray[np.floating], driver: npt.NDArray[np.floating]) -> float:
    """Mean distance of the pupils' places in two clips.

    Args:
        made: [T, 2] of `gaze_track`, of the result.
        driver: of its driver.

    Returns:
        In widths of the eye, lower is better; NaN where no frame has both.

    Raises:
        ValueError: the shapes differ.
    """
    if made.shape != driver.shape:
        raise ValueError(f"gaze_error needs two [T, 2], got {made.shape} and {driver.shape}")
    distance = np.linalg.norm(made - driver, axis=1)
    known = np.isfinite(distance)
    return float(distance[known].mean()) if known.any() else float("nan")

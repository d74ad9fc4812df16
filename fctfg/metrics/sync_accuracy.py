"""Two-way accuracy of a lip-sync expert: does it prefer the true sound to a shifted one?"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def two_way_accuracy(in_sync: Tensor, shifted: Tensor) -> Tensor:
    """How often the in-sync pair is the more similar one.

    Args:
        in_sync: [N], similarity of each face window to its own sound.
        shifted: [N], similarity of the same face window to a shifted sound.

    Returns:
        Scalar in [0, 1]; a tie counts one half, so that chance (and a constant embedding) is 0.5.

    Raises:
        ValueError: the shapes differ or are empty.
    """
    if in_sync.shape != shifted.shape or in_sync.numel() == 0:
        raise ValueError(f"two_way_accuracy needs two equal shapes, got {in_sync.shape} and {shifted.shape}")
    return ((in_sync > shifted).float() + 0.5 * (in_sync == shifted).float()).mean()


def sync_accuracy(faces: Tensor, audio: Tensor, min_shift: int = 5, max_shift: int = 15) -> Tensor:
    """Two-way accuracy within one clip, over every pair of a window and an admissible shift.

    Averaging over all shifts is what drawing one at random gives in the mean, without the noise of the draw.

    Args:
        faces: [T, D], face embeddings of consecutive frames (25 a second).
        audio: [T, D], audio embeddings of the same frames.
        min_shift: smallest shift, in frames, to either side.
        max_shift: largest shift, in frames, to either side.

    Returns:
        Scalar in [0, 1], chance 0.5.

    Raises:
        ValueError: the shapes differ, or the clip has no two windows `min_shift` frames apart.
    """
    if faces.ndim != 2 or faces.shape != audio.shape:
        raise ValueError(f"sync_accuracy needs two [T, D], got {tuple(faces.shape)} and {tuple(audio.shape)}")
    if len(faces) <= min_shift:
        raise ValueError(f"a clip of {len(faces)} windows has none that are {min_shift} frames apart")
    similarity = F.normalize(faces.float(), dim=1) @ F.normalize(audio.float(), dim=1).T  # [T face, T audio]
    time = torch.arange(len(faces), device=faces.device)
    distance = (time[:, None] - time[None, :]).abs()
    face, sound = torch.nonzero((distance >= min_shift) & (distance <= max_shift), as_tuple=True)
    return two_way_accuracy(similarity[face, face], similarity[face, sound])

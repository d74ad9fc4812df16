"""What one training step sees."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """A batch of moments, each from one clip; without the leading `B` it is one sample.

    A `NamedTuple`, so that torch's collation, pinning and device moves work on it as they are. Images are RGB in
    [-1, 1]; points are (x, y) as fractions of the picture, in ArcFace's order (eyes, nose tip, mouth corners; the
    viewer's left first).
    """

    source: Tensor  # [B, 3, H, W]         the frame that gives identity
    source_points: Tensor  # [B, 5, 2]
    driving: Tensor  # [B, T, 3, H, W]      consecutive frames that give pose, eyes and expression; also the target
    points: Tensor  # [B, T, 5, 2]
    decoy: Tensor  # [B, T or 0, 3, H, W] another moment of the same clip, whose mouths hide the driving frames' own
    decoy_points: Tensor  # [B, T or 0, 5, 2]
    mel: Tensor  # [B, T, 1, 80, 16]    one window of the driving frames' own sound per frame
    identity: Tensor  # [B] int64            index into the split's sorted identities
    clip: Tensor  # [B] int64            row in the split
    start: Tensor  # [B] int64            first driving frame

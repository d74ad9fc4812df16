"""What SyncNet v2 sees in a stream of frames, for LSE-C and LSE-D."""

from __future__ import annotations

from collections import deque

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fctfg.faces.boxes import Box, Pixels
from fctfg.media import FPS, SAMPLE_RATE, Samples
from fctfg.metrics.lse import LipSync, lip_sync, sync_windows
from fctfg.models.experts.syncnet_v2 import FRAMES, SyncNetV2

SIDE = 224  # pixels
MARGIN = 0.4  # of half the face's larger side, that the crop reaches beyond it; downwards twice that
GREY = 110  # beyond the picture
BATCH = 20  # windows
AROUND = 6  # frames before and after, over which the demonstration takes medians of size and place

Square = tuple[float, float, float]


def square(box: Box) -> Square:
    """Half the larger side of a box (x0, y0, x1, y1), and its center: (b, x, y)."""
    x0, y0, x1, y1 = box
    return max(x1 - x0, y1 - y0) / 2, (x0 + x1) / 2, (y0 + y1) / 2


def face_crop(frame: Pixels, box: Square) -> Pixels:
    """The face as the demonstration of SyncNet v2 cuts it out.

    With half the larger side of the box b and its center (x, y): from x - b (1 + m) to x + b (1 + m), and from y - b to
    y + b (1 + 2 m), m = 0.4, grey where that is outside of the picture.

    Args:
        frame: uint8 [H, W, 3].
        box: (b, x, y) in pixels, see `square`.

    Returns:
        uint8 [224, 224, 3].
    """
    half, x, y = box
    edges = x - half * (1 + MARGIN), y - half, x + half * (1 + MARGIN), y + half * (1 + 2 * MARGIN)
    left, top, right, bottom = (round(edge) for edge in edges)
    height, width = frame.shape[:2]
    pad = max(0, -left, -top, right - width, bottom - height)
    padded = np.pad(frame, ((pad, pad), (pad, pad), (0, 0)), constant_values=GREY)
    part = padded[top + pad : bottom + pad, left + pad : right + pad]
    return np.asarray(Image.fromarray(part).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


class LipFeatures:
    """Embeds windows of five frames as the frames come; few frames are in memory.

    As the demonstration does, each frame is cut at the median place and size of 13 frames, where zeros stand before the
    first and after the last one. Its faces are found by another detector (S3FD), whose boxes differ from dlib's.

    Args:
        network: SyncNet v2.
    """

    def __init__(self, network: SyncNetV2) -> None:
        self._network = network
        self._coming: deque[Pixels] = deque()  # frames whose neighbours are not all known
        self._squares: list[Square] = [(0.0, 0.0, 0.0)] * AROUND
        self._waiting: list[Pixels] = []
        self._found: list[Tensor] = []

    def update(self, frame: Pixels, box: Box | None) -> None:
        """Take the next frame, uint8 [H, W, 3]; without a box, the one before stands for it."""
        self._coming.append(frame)
        self._squares.append(self._squares[-1] if box is None else square(box))
        if len(self._coming) > AROUND:
            self._cut()

    def _cut(self) -> None:
        """The crop of the first frame that is coming, grey where no face was seen yet."""
        frame = self._coming.popleft()
        around = self._squares[: 2 * AROUND + 1]
        del self._squares[0]
        if around[AROUND][0] > 0:
            half, x, y = np.median(around, axis=0).tolist()
            self._waiting.append(face_crop(frame, (half, x, y)))
        else:
            self._waiting.append(np.full((SIDE, SIDE, 3), GREY, np.uint8))
        if len(self._waiting) == BATCH + FRAMES - 1:
            self._embed()

    def _embed(self) -> None:
        """The windows of the frames that wait; the last four begin the next ones."""
        frames = torch.from_numpy(np.stack(self._waiting)).permute(0, 3, 1, 2).flip(1).float()  # BGR, 0 to 255
        with torch.inference_mode():
            windows = frames.unfold(0, FRAMES, 1).movedim(-1, 2)  # [n, 3, 5, H, W]
            self._found.append(self._network.lips(windows))
        self._waiting = self._waiting[1 - FRAMES :]

    def judge(self, sound: Samples) -> LipSync | None:
        """How well sound and lips agree; None where there are fewer than 6 frames.

        Args:
            sound: float32 [N] at 16 kHz, from the first frame on.
        """
        self._squares += [(0.0, 0.0, 0.0)] * AROUND
        while self._coming:
            self._cut()
        if len(self._waiting) >= FRAMES:
            self._embed()
        if sum(map(len, self._found)) < 2 or len(sound) < (FRAMES + 1) * SAMPLE_RATE // FPS:
            return None
        lips = torch.cat(self._found)
        blank = torch.zeros(len(lips) + FRAMES - 1, 3, 1, 1)  # their number matters only
        _, windows = sync_windows(blank, torch.from_numpy(sound))
        count = min(len(lips), len(windows))
        with torch.inference_mode():
            return lip_sync(lips[:count], self._network.audio(windows[:count]))

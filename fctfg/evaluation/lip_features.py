"""What SyncNet v2 sees in a stream of frames, for LSE-C and LSE-D."""

from __future__ import annotations

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


def face_crop(frame: Pixels, box: Box) -> Pixels:
    """The face as the demonstration of SyncNet v2 cuts it out.

    With half the larger side of the box b and its center (x, y): from x - b (1 + m) to x + b (1 + m), and from y - b to
    y + b (1 + 2 m), m = 0.4, grey where that is outside of the picture. The demonstration smooths the boxes of its
    detector over 13 frames; ours come from landmarks, which do not jump.

    Args:
        frame: uint8 [H, W, 3].
        box: (x0, y0, x1, y1) in pixels.

    Returns:
        uint8 [224, 224, 3].
    """
    x0, y0, x1, y1 = box
    half = max(x1 - x0, y1 - y0) / 2
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    edges = x - half * (1 + MARGIN), y - half, x + half * (1 + MARGIN), y + half * (1 + 2 * MARGIN)
    left, top, right, bottom = (round(edge) for edge in edges)
    height, width = frame.shape[:2]
    pad = max(0, -left, -top, right - width, bottom - height)
    padded = np.pad(frame, ((pad, pad), (pad, pad), (0, 0)), constant_values=GREY)
    part = padded[top + pad : bottom + pad, left + pad : right + pad]
    return np.asarray(Image.fromarray(part).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


class LipFeatures:
    """Embeds windows of five frames as the frames come; few frames are in memory.

    Args:
        network: SyncNet v2.
    """

    def __init__(self, network: SyncNetV2) -> None:
        self._network = network
        self._waiting: list[Pixels] = []
        self._found: list[Tensor] = []

    def update(self, frame: Pixels, box: Box | None) -> None:
        """Take the next frame, uint8 [H, W, 3]; without a box, the crop before stands for it."""
        if box is not None:
            self._waiting.append(face_crop(frame, box))
        elif self._waiting:
            self._waiting.append(self._waiting[-1])
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

"""Sharpness, exposure and movement of pictures, per frame on batches of a clip."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from fctfg.faces.detector import Floats, Pixels
from fctfg.media.units import FPS

DARK, BRIGHT = 10, 245  # luma of 0..255; at and beyond it nothing can be made out
STILL = 0.12  # of `changes`; a re-encoded still picture stays below it, a living face above
REPEATS = 3  # pictures in a row that equal the one before them, when a source has 7 frames a second or more

_SIDE = 256  # pixels; the scale on which sharpness is measured
_CELLS = 32  # of a picture's side; noise averages out in them

_LAPLACE = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])[None, None]
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def _luma(frames: Pixels) -> Tensor:
    """float32 [N, 1, H, W] in 0..255."""
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise ValueError(f"frames must be uint8 [N, H, W, 3], got {frames.dtype} {list(frames.shape)}")
    return torch.from_numpy(frames @ _LUMA)[:, None]


def sharpness(frames: Pixels) -> Floats:
    """Variance of the Laplacian of luma (Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy, 2000).

    Only the middle half of the crop is looked at, where the face is: a sharp background says nothing of it. That is
    brought to the scale of a crop of 256 pixels first, with anti-aliasing, so that large crops are not called softer
    and small ones, which have been enlarged, are not called sharp.

    Args:
        frames: uint8 [N, H, W, 3], face crops as `fctfg.faces.crop` cuts them, at least 8 pixels high and wide.

    Returns:
        float32 [N], in squared steps of 0..255; grows with contrast. Below 10 soft: a face that was 96 pixels wide
        at most, or out of focus by 2 pixels of 256.

    Raises:
        ValueError: Another type or shape, or too small.
    """
    height, width = frames.shape[1:3]
    if min(height, width) < 8:
        raise ValueError(f"frames must be at least 8 x 8 pixels, got {height} x {width}")
    middle = _luma(frames[:, height // 4 : height - height // 4, width // 4 : width - width // 4])
    scaled = F.interpolate(middle, (_SIDE // 2, _SIDE // 2), mode="bilinear", antialias=True, align_corners=False)
    return np.asarray(F.conv2d(scaled, _LAPLACE).var(dim=(1, 2, 3), unbiased=False))


def exposure(frames: Pixels) -> Floats:
    """How bright pictures are, and how much of them is lost in black and white.

    Args:
        frames: uint8 [N, H, W, 3].

    Returns:
        float32 [N, 3]: mean luma (ITU-R BT.601) in 0..255; share of pixels with luma of at most 10; share with at least
        245.

    Raises:
        ValueError: Another type or shape.
    """
    luma = _luma(frames)
    parts = [luma.mean(dim=(1, 2, 3)), *((m.float().mean(dim=(1, 2, 3))) for m in (luma <= DARK, luma >= BRIGHT))]
    return torch.stack(parts, dim=1).numpy()


def changes(frames: Pixels, previous: Pixels | None) -> Floats:
    """Mean absolute difference of each picture to the one before, on 32 x 32 cells of luma.

    In the cells the noise of sensors and codecs averages out, while a mouth that moves stays visible.

    Args:
        frames: uint8 [N, H, W, 3], consecutive.
        previous: uint8 [H, W, 3], the one before the first; None at the beginning of a clip.

    Returns:
        float32 [N] in 0..255; the first is NaN without `previous`.

    Raises:
        ValueError: Another type or shape.
    """
    together = frames if previous is None else np.concatenate([previous[None], frames])
    cells = F.adaptive_avg_pool2d(_luma(together), _CELLS)
    found = cells.diff(dim=0).abs().mean(dim=(1, 2, 3)).numpy()
    return np.concatenate([np.full(1, np.nan, np.float32), found])[: len(frames)] if previous is None else found


def frozen(change: npt.NDArray[np.floating], fps: float = FPS) -> float:
    """Longest time that the picture stands still.

    A source of fewer frames a second repeats pictures rightly: one at 15, two at 10, three at 7 frames a second. So up
    to three repetitions in a row are not counted.

    Args:
        change: [T] of `changes` of the whole clip.
        fps: Frames per second of the clip.

    Returns:
        Seconds from a picture to the last one like it; 0 if no picture is repeated more than three times.
    """
    still = np.concatenate([[False], change < STILL, [False]])  # NaN is not still
    edges = np.flatnonzero(np.diff(still))  # beginnings and ends in turn
    longest = int((edges[1::2] - edges[::2]).max(initial=0))
    return longest / fps if longest > REPEATS else 0.0

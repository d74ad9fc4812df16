"""Where a video cuts from one shot to the next."""

from collections import deque

import numpy as np
import numpy.typing as npt

from fctfg.media.units import Pixels

_DOWN, _ACROSS, _SAMPLES = 18, 32, 4  # cells of a thumbnail, and samples of a cell in each direction
_NOISE = 4.0  # of 255; a picture with less contrast shows nothing but noise
_LARGEST = 0.5  # change of one cell that counts, in contrasts: a caption that appears is no cut

_BEFORE, _AFTER = 2, 2  # frames on each side of a cut that must all differ across it
_HISTORY = 12  # frames before a cut that say how much the shot moves
_LEAST, _RATIO = 0.15, 2.0  # of a cut's change: by itself, in contrasts, and to the largest change around it

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)

Thumbnail = npt.NDArray[np.float32]


class ShotCuts:
    """Finds hard cuts in a stream of frames.

    Each frame becomes a thumbnail of luma, 18 x 32 cells of 16 samples each, less its mean and in units of its own
    contrast, so that light that is dimmed or flickers hardly counts. The change between two frames is the mean absolute
    difference of the cells. A shot begins at frame t when

    - the two frames before t differ from t and the two after it, each from each, by 0.15 and more: a flash of one or
      two frames has the same picture on both sides;
    - the least of these changes is twice the largest change from one frame to the next within the two shots (12
      frames before, 2 after): fast heads, pans and zooms move in the frames around as well, and a source of fewer
      frames a second repeats some, but not 12.

    So an answer comes two frames late. Cross-fades are not cuts for it, nor jumps within one camera setting that are as
    small as a head's movement.
    """

    def __init__(self) -> None:
        self._count = 0
        self._recent: deque[Thumbnail] = deque(maxlen=_BEFORE + 1 + _AFTER)
        # from the frame before each one, in the same shot: up to `_HISTORY` before the next candidate, and those after
        self._changes: deque[float] = deque(maxlen=_HISTORY + 1 + _AFTER)
        self._begin = 0

    def update(self, frame: Pixels) -> list[int]:
        """Take the next frame.

        Args:
            frame: uint8 [H, W, 3] of any size; the same size as the others.

        Returns:
            Numbers of the frames, counted from 0, at which a new shot is now known to begin; frame 0 is not named.
        """
        seen = _thumbnail(frame)
        self._changes.append(_change(self._recent[-1], seen) if self._recent else 0.0)
        self._recent.append(seen)
        self._count += 1
        return self._judge(self._count - 1 - _AFTER)

    def finish(self) -> list[int]:
        """As `update`, for the last frames, after which fewer than two are left."""
        return [cut for t in range(max(1, self._count - _AFTER), self._count) for cut in self._judge(t)]

    def _judge(self, t: int) -> list[int]:
        """[t] when a shot begins at frame t."""
        after = self._count - t  # frames from t on
        before = min(len(self._recent) - after, _BEFORE, t - self._begin)
        if before < 1:
            return []
        thumbnails = list(self._recent)
        left, right = thumbnails[-after - before : -after], thumbnails[-after:]
        across = min(_change(a, b) for a in left for b in right)
        inside = min(_HISTORY, t - self._begin - 1)  # changes before t within its shot
        changes = list(self._changes)
        middle = len(changes) - after  # the change at t itself
        around = changes[middle - inside : middle] + changes[middle + 1 :]
        if across < max(_LEAST, _RATIO * max(around, default=0.0)):
            return []
        self._begin = t
        return [t]


def _thumbnail(frame: Pixels) -> Thumbnail:
    """float32 [18 * 32]."""
    rows, columns = (
        (np.arange(n * _SAMPLES) * 2 + 1) * length // (2 * n * _SAMPLES)
        for n, length in zip((_DOWN, _ACROSS), frame.shape[:2], strict=True)
    )
    luma = frame[rows[:, None], columns] @ _LUMA
    cells = luma.reshape(_DOWN, _SAMPLES, _ACROSS, _SAMPLES).mean(axis=(1, 3)).ravel()
    return np.asarray((cells - cells.mean()) / (cells.std() + _NOISE), np.float32)


def _change(a: Thumbnail, b: Thumbnail) -> float:
    return float(np.minimum(np.abs(a - b), _LARGEST).mean())

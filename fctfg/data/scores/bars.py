"""Black bars around the picture of a video."""

import numpy as np
import numpy.typing as npt

from fctfg.media.units import Pixels

_EVERY = 10  # frames
_SAMPLES = 64  # of a row or column
_IGNORED = 2  # brightest of them, for the ringing of a codec
_BLACK = 10  # of 0..255; limited-range black is decoded to 0..3, and compression adds some


class BlackBars:
    """Finds letter and pillar boxes: rows and columns at the edges that stay near black in all frames.

    One frame in ten is looked at, 64 samples of each row and column, the largest of the three colours each; the two
    brightest samples do not count. A dark scene does not matter as long as some other one is lit up to the edge.
    """

    def __init__(self) -> None:
        self._count = 0
        self._rows: npt.NDArray[np.uint8] | None = None  # brightest seen
        self._columns: npt.NDArray[np.uint8] | None = None

    def update(self, frame: Pixels) -> None:
        """Take the next frame, uint8 [H, W, 3], of the same size as the others."""
        if self._count % _EVERY == 0:
            height, width = frame.shape[:2]
            rows = _brightest(frame[:, _places(width)])
            columns = _brightest(frame[_places(height)].swapaxes(0, 1))
            if self._rows is None or self._columns is None:
                self._rows, self._columns = rows, columns
            else:
                self._rows, self._columns = np.maximum(self._rows, rows), np.maximum(self._columns, columns)
        self._count += 1

    def finish(self) -> tuple[int, int, int, int]:
        """Widths of the left, top, right and bottom bar in pixels; 0 where there is none.

        All are 0 where no frame was seen, or nothing but black.
        """
        if self._rows is None or self._columns is None:
            return 0, 0, 0, 0
        rows, columns = np.flatnonzero(self._rows > _BLACK), np.flatnonzero(self._columns > _BLACK)
        if not len(rows) or not len(columns):
            return 0, 0, 0, 0
        right, bottom = len(self._columns) - 1 - columns[-1], len(self._rows) - 1 - rows[-1]
        return int(columns[0]), int(rows[0]), int(right), int(bottom)


def _places(length: int) -> npt.NDArray[np.int64]:
    return (np.arange(_SAMPLES) * 2 + 1) * length // (2 * _SAMPLES)


def _brightest(lines: Pixels) -> npt.NDArray[np.uint8]:
    """[L, 64, 3] to [L]."""
    return np.asarray(np.partition(lines.max(axis=2), -1 - _IGNORED, axis=1)[:, -1 - _IGNORED])

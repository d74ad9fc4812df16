"""The face in a stream of frames: its landmarks, frame by frame."""

from __future__ import annotations

import numpy as np

from fctfg.faces.boxes import Floats, Pixels
from fctfg.faces.detector import Face, FaceDetector
from fctfg.faces.track import Track, Tracker, landmarks_of


class Seen:
    """Follows the face of a clip.

    Args:
        detector: finds it, every few frames; in between it is followed by its landmarks.
    """

    def __init__(self, detector: FaceDetector) -> None:
        self._tracker = Tracker(detector)

    def update(self, frame: Pixels) -> Face | None:
        """Take the next frame, uint8 [S, S, 3], of at least 256 px; the face that was followed longest, so far."""
        self._tracker.update(frame)
        return self._tracker.followed

    def landmarks(self) -> Floats:
        """float32 [T, 68, 2] in pixels of the frames taken, NaN where no face was found; no frames can follow."""

        def length(track: Track) -> int:
            return len(track.faces)

        found = np.full((self._tracker.frame, 68, 2), np.nan, np.float32)
        for track in sorted(self._tracker.finish(), key=length):  # the longest last: it wins where two faces are seen
            found[track.start : track.end] = landmarks_of(track)
        return found

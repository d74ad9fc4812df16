"""Following every face through a video and cutting its track into chunks (First Order Motion Model's rule)."""

from dataclasses import dataclass, field

import numpy as np

from fctfg.faces.boxes import Box, Pixels, box_iou
from fctfg.faces.crop import head_box
from fctfg.faces.detector import Face, FaceDetector

_SAME = 0.3  # least IoU of a detection with the track that it belongs to
_DRIFTED = 0.6  # below this IoU the landmarks start again from the detection


@dataclass
class Track:
    """One face in consecutive frames.

    Attributes:
        start: Number of the first frame.
        faces: One per frame.
        slot: Rank among the faces seen at the same time, 0 for the first or largest; tracks that overlap in time
            have different slots, so within a video one slot never names two people at once.
    """

    start: int
    faces: list[Face]
    slot: int = 0

    @property
    def end(self) -> int:
        """One past the last frame."""
        return self.start + len(self.faces)


@dataclass
class _Live:
    track: Track
    confirmed: int
    missed: int = 0


@dataclass
class Tracker:
    """Tracks all faces of a stream of frames.

    A detection every few frames; in between, the detector follows each face by its landmarks. A face that the
    detection does not confirm is followed on for `patience` detections; if it is not found again, its track ends with
    the last confirmed frame. Points are not smoothed.

    Attributes:
        detector: Finds and follows.
        every: Frames from one detection to the next.
        patience: Detections in a row that may miss a face.
    """

    detector: FaceDetector
    every: int = 5
    patience: int = 2
    frame: int = 0
    _live: list[_Live] = field(default_factory=list)
    _ended: list[Track] = field(default_factory=list)
    _search: bool = False  # at the next frame, whatever its number

    def update(self, rgb: Pixels) -> None:
        """Take the next frame, uint8 [H, W, 3]."""
        for live in list(self._live):
            followed = self.detector.follow(rgb, live.track.faces[-1])
            if followed is None:
                self._end(live)
            else:
                live.track.faces.append(followed)
        if self.frame % self.every == 0 or self._search:
            self._search = False
            self._confirm(self.detector.detect(rgb))
        self.frame += 1

    @property
    def followed(self) -> Face | None:
        """The face, in the last frame taken, that has been followed longest; None when none is."""
        live = max(self._live, key=lambda one: len(one.track.faces), default=None)
        return None if live is None else live.track.faces[-1]

    def _confirm(self, found: list[Face]) -> None:
        pairs = sorted(
            (
                (box_iou(live.track.faces[-1].box, face.box), i, k)
                for i, live in enumerate(self._live)
                for k, face in enumerate(found)
            ),
            reverse=True,
        )
        matched: dict[int, int] = {}
        for overlap, i, k in pairs:
            if overlap >= _SAME and i not in matched and k not in matched.values():
                matched[i] = k
                live, face = self._live[i], found[k]
                followed = live.track.faces[-1]
                live.track.faces[-1] = face if overlap < _DRIFTED else followed._replace(confidence=face.confidence)
                live.confirmed, live.missed = self.frame, 0
        for i, live in reversed(list(enumerate(self._live))):
            if i not in matched:
                live.missed += 1
                if live.missed > self.patience:
                    self._end(live)
        for k, face in enumerate(found):
            if k not in matched.values():
                taken = {live.track.slot for live in self._live}
                slot = next(s for s in range(len(taken) + 1) if s not in taken)
                self._live.append(_Live(Track(self.frame, [face], slot), self.frame))

    def cut(self, at: int) -> None:
        """A new shot begins at frame `at`, which is one of the last few: no track goes on across it."""
        for live in [live for live in self._live if live.track.start < at]:
            live.confirmed = at - 1 if not live.missed else min(live.confirmed, at - 1)
            self._end(live)
        self._search = True

    def _end(self, live: _Live) -> None:
        self._live.remove(live)
        del live.track.faces[live.confirmed + 1 - live.track.start :]
        self._ended.append(live.track)

    def finish(self) -> list[Track]:
        """All tracks, by first frame and slot, less those with a doubtful face (median confidence below 0).

        Frames after the last detection stay where that confirmed the face.
        """
        for live in list(self._live):
            if live.missed:
                self._end(live)
        tracks = self._ended + [live.track for live in self._live]
        self._live.clear()
        sure = [track for track in tracks if np.median([face.confidence for face in track.faces]) >= 0]
        return sorted(sure, key=lambda track: (track.start, track.slot))


def chunks(track: Track, growth: Box, min_iou: float = 0.25, max_frames: int = 1024) -> list[Track]:
    """Cut a track where the head has left the place it had at the chunk's beginning.

    FOMM's rule: a chunk ends when the IoU of the head's box with the chunk's first one falls below `min_iou`, or at
    `max_frames`.

    Args:
        track: One face.
        growth: `FaceDetector.head`.
        min_iou: In [0, 1].
        max_frames: Longest chunk.

    Returns:
        Tracks that follow each other without a gap.
    """
    heads = [head_box(face.box, growth) for face in track.faces]
    starts = [0]
    for k in range(1, len(heads)):
        if k - starts[-1] >= max_frames or box_iou(heads[starts[-1]], heads[k]) < min_iou:
            starts.append(k)
    ends = [*starts[1:], len(heads)]
    return [
        Track(track.start + begin, track.faces[begin:end], track.slot) for begin, end in zip(starts, ends, strict=True)
    ]


def boxes_of(track: Track) -> np.ndarray:
    """The detector's boxes, float32 [T, 4] in pixels."""
    return np.array([face.box for face in track.faces], np.float32)


def points_of(track: Track) -> np.ndarray:
    """The five points, float32 [T, 5, 2] in pixels."""
    return np.stack([face.points for face in track.faces]).astype(np.float32)


def landmarks_of(track: Track) -> np.ndarray:
    """The 68 landmarks, float32 [T, 68, 2] in pixels."""
    return np.stack([face.landmarks for face in track.faces]).astype(np.float32)

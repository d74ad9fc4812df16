"""What is seen and heard in a case: frames of the result beside those of the driver, one after the other."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fctfg.data.manifest import Manifest
from fctfg.data.shards import ClipReader
from fctfg.errors import FctfgError
from fctfg.evaluation.cases import Case, Drive, Pair
from fctfg.faces.boxes import Pixels
from fctfg.faces.crop import Crop, NoCropError, cut_out, tube
from fctfg.faces.detector import FaceDetector
from fctfg.faces.track import Tracker, boxes_of
from fctfg.inference import TalkingFace
from fctfg.media import FPS, SAMPLE_RATE, Samples, probe, read_audio, read_frames


@dataclass
class Footage:
    """A case, ready to be measured; frames can be taken once.

    Attributes:
        made: frames of the result, uint8 [S, S, 3] at 25 per second.
        shown: those of the driver, one for each; also what the result should be, where `is_reference`.
        source: the portrait, uint8 [S, S, 3].
        sound: what the result says, float32 [N] at 16 kHz; None where it has no sound.
        is_reference: whether `shown` is what `made` should be.
        says_drivers: whether the sound is what the driver says.
        is_made: whether the frames are made now, by weights.
        skipped: frames at the beginning that do not count: the portrait itself is the first one.
        notes: what somebody who reads the figures has to know.
    """

    made: Iterator[Pixels]
    shown: Iterator[Pixels]
    source: Pixels
    sound: Samples | None
    is_reference: bool
    says_drivers: bool
    is_made: bool
    skipped: int = 0
    notes: list[str] = field(default_factory=list)


def drive(case: Drive, model: TalkingFace, reader: ClipReader, batch: int = 8) -> Footage:
    """What weights make of a case.

    Args:
        case: from a data set whose clips are as large as the network's frames.
        model: the weights.
        reader: of the data set.
        batch: windows of five frames in a forward pass.

    Raises:
        FctfgError: a clip is lost or damaged.
    """
    track = reader.track(case.driver, 0, case.frames)
    source = reader.frames(case.source, reader.track(case.source, 0, 1)).movedim(1, -1).numpy()[0]

    def driver() -> Iterator[Pixels]:
        for begin in range(0, case.frames, 32):
            yield from reader.frames(case.driver, track[begin : begin + 32]).movedim(1, -1).numpy()

    sound = reader.sound(case.sound, 0, round(case.frames * SAMPLE_RATE / FPS))
    shown, driven = itertools.tee(driver())
    same = case.source == case.driver == case.sound
    made, spoken = model.animate(source, sound, driven, batch=batch), case.driver == case.sound
    return Footage(made, shown, source, sound, same, spoken, is_made=True, skipped=int(same))


def pair(case: Pair, size: int, detector: FaceDetector, crop: bool = True) -> Footage:
    """Two videos, brought to one size, one rate and one length.

    Both are read at 25 frames a second; the longer one's rest is left out. With `crop`, the face of the real video is
    followed through it, and one square, as `fctfg prepare` cuts it, is taken out of both at the same place.

    Args:
        case: the files.
        size: side of the pictures that are compared, pixels.
        detector: finds the face.
        crop: False for videos that are crops of a face already.

    Raises:
        FctfgError: a video cannot be read, its picture has another shape than its partner's, or the real one shows no
            face that can be cropped.
    """
    (made_size, made_length), (real_size, real_length) = _shape(case.made), _shape(case.real)
    notes = []
    if abs(made_size[0] / made_size[1] - real_size[0] / real_size[1]) > 0.02:
        raise FctfgError(
            f"{case.made} has {made_size[0]} x {made_size[1]} px and {case.real} {real_size[0]} x {real_size[1]}: "
            f"pictures of another shape cannot be compared; crop both alike"
        )
    if made_size != real_size:
        notes.append(f"{made_size[0]} x {made_size[1]} px against {real_size[0]} x {real_size[1]} of the real video")
    if abs(made_length - real_length) >= 1:
        notes.append(f"{made_length} frames against {real_length} of the real video; the common ones count")
    box = _face(case.real, detector) if crop else _square(case.real, real_size)
    left, top, right, bottom = (round(edge * made_size[0] / real_size[0]) for edge in box)
    made, shown = _cut(case.made, (left, top, right, bottom), size), _cut(case.real, box, size)
    first = cut_out(next(read_frames(case.real)), box, size)
    sound = read_audio(case.made) if probe(case.made).has_audio else None
    if sound is None:
        notes.append("no sound")
    return Footage(made, shown, first, sound, is_reference=True, says_drivers=True, is_made=False, notes=notes)


def _cut(path: Path, box: Crop, size: int) -> Iterator[Pixels]:
    return (cut_out(frame, box, size) for frame in read_frames(path))


def _shape(path: Path) -> tuple[tuple[int, int], int]:
    """((width, height) in pixels, frames at 25 a second); the whole video is read once."""
    size, count = (0, 0), 0
    for frame in read_frames(path):
        size, count = (frame.shape[1], frame.shape[0]), count + 1
    if not count:
        raise FctfgError(f"{path} has no frames")
    return size, count


def _face(path: Path, detector: FaceDetector) -> Crop:
    tracker, size = Tracker(detector), (0, 0)
    for frame in read_frames(path):
        size = frame.shape[1], frame.shape[0]
        tracker.update(frame)
    tracks = tracker.finish()
    if not tracks:
        raise FctfgError(f"no face was found in the real video {path}; is it already a crop? (--no-crop)")
    try:
        return tube(boxes_of(max(tracks, key=lambda track: len(track.faces))), detector.head, *size)
    except NoCropError as error:
        raise FctfgError(f"{path}: {error}; crop both videos by hand and use --no-crop") from error


def _square(path: Path, size: tuple[int, int]) -> Crop:
    if size[0] != size[1]:
        raise FctfgError(f"{path} has {size[0]} x {size[1]} px, but --no-crop is for square videos of a face")
    return 0, 0, size[0], size[1]


class Projector:
    """Turns cases into footage, in one process.

    Args:
        detector: finds faces.
        manifest: of the data set, for weights.
        model: the weights.
        size: side of the pictures that are compared, for pairs.
        crop: whether pairs are cropped.
    """

    def __init__(
        self,
        detector: FaceDetector,
        manifest: Manifest | None = None,
        model: TalkingFace | None = None,
        size: int = 256,
        crop: bool = True,
    ) -> None:
        self._detector, self._model, self._size, self._crop = detector, model, size, crop
        self._reader = None if manifest is None else ClipReader(manifest)

    def __call__(self, case: Case) -> Footage:
        """The footage of a case; raises as `drive` and `pair`."""
        if isinstance(case, Pair):
            return pair(case, self._size, self._detector, self._crop)
        assert self._model is not None and self._reader is not None
        return drive(case, self._model, self._reader)


def stacked(frames: Iterator[Pixels], count: int) -> np.ndarray:
    """The next frames of an iterator, at most `count`: uint8 [n, S, S, 3]."""
    taken = list(itertools.islice(frames, count))
    return np.stack(taken) if taken else np.zeros((0, 0, 0, 3), np.uint8)

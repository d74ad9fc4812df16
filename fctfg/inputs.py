"""What generation takes in: the portrait's and the driver's faces, cropped as in training."""

from __future__ import annotations

import itertools
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from fctfg.errors import FctfgError
from fctfg.faces.crop import NoCropError, cut_out, tube
from fctfg.faces.detector import FaceDetector
from fctfg.faces.track import Tracker, boxes_of
from fctfg.media import FPS, read_frames, read_image

logger = logging.getLogger(__name__)

SPOOL_BYTES = 256 * 2**20  # driving frames kept in memory before they go to a temporary file

Progress = Callable[[int, int], None]
"""Called with the steps done and the steps in all. A step is a frame made, or a frame of the driver looked at."""


def read_portrait(path: Path) -> np.ndarray:
    """Reads a picture, or the first frame of a video.

    Returns:
        uint8 [H, W, 3] RGB.

    Raises:
        FctfgError: it is neither, or missing.
    """
    try:
        return read_image(path)
    except FctfgError as error:
        with suppress(FctfgError, StopIteration):
            return next(read_frames(path))
        raise error


def crop_portrait(picture: np.ndarray, size: int, detector: FaceDetector, name: str) -> np.ndarray:
    """Crops the largest face of a picture as `fctfg prepare` crops a clip of one frame.

    Args:
        picture: uint8 [H, W, 3] RGB.
        size: side of the crop.
        detector: finds the faces.
        name: of the picture, for the errors.

    Returns:
        uint8 [size, size, 3].

    Raises:
        FctfgError: no face was found, or it is cut off by the picture's edge.
    """
    faces = detector.detect(picture)
    if not faces:
        raise FctfgError(
            f"no face was found in {name}; pass a sharp picture of a face from the front, at least 80 pixels high"
        )
    if len(faces) > 1:
        logger.warning("%s shows %d faces; the largest is used", name, len(faces))
    height, width = picture.shape[:2]
    try:
        crop = tube(np.array([faces[0].box], np.float32), detector.head, width, height)
    except NoCropError as error:
        raise FctfgError(f"{name}: {error}; pass a picture with some space around the face") from error
    return cut_out(picture, crop, size)


def crop_driver(
    path: Path, total: int, size: int, detector: FaceDetector, progress: Progress | None = None
) -> Iterator[np.ndarray]:
    """Crops the face of a driving video with one fixed box, as `fctfg prepare` does; the video is read twice.

    The face that can be followed for the most frames is taken, and only the frames in which it is seen.

    Args:
        path: video.
        total: frames that are wanted; what comes after them is not looked at.
        size: side of the crop.
        detector: finds and follows the faces.
        progress: called after each frame of the search, as the first half of twice `total` steps.

    Returns:
        Frames, uint8 [size, size, 3], at 25 per second; at most `total`.

    Raises:
        FctfgError: the video cannot be read, shows no face, or its face leaves the picture or moves too far.
    """
    tracker = Tracker(detector)
    height = width = 0
    frames = read_frames(path, end=total / FPS)
    for frame in frames if progress is None else reporting(frames, 0, 2 * total, progress):
        height, width = frame.shape[:2]
        tracker.update(frame)
    tracks = tracker.finish()
    if not tracks:
        raise FctfgError(f"no face was found in the driver {path}; pass a video of a face from the front")
    track = max(tracks, key=lambda track: len(track.faces))
    if len(tracks) > 1:
        logger.warning("%s shows %d faces or loses one; the longest track drives", path, len(tracks))
    if track.start > 0 or track.end < tracker.frame:
        seen = f"{track.start / FPS:.2f} to {track.end / FPS:.2f} s"
        logger.warning("the face of %s is seen from %s; only these frames drive", path, seen)
    try:
        crop = tube(boxes_of(track), detector.head, width, height)
    except NoCropError as error:
        raise FctfgError(f"the driver {path}: {error}; pass a steadier video") from error
    again = itertools.islice(read_frames(path), track.start, track.end)
    return (cut_out(frame, crop, size) for frame in again)


def back_and_forth(frames: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Repeats frames without end: 0, 1, ..., n-1, n-2, ..., 0, 1, ...

    Args:
        frames: uint8 [size, size, 3] each; read once, kept in a temporary file once they are many.
        size: height and width.

    Yields:
        uint8 [size, size, 3].

    Raises:
        FctfgError: there are no frames.
    """
    bytes_per_frame = size * size * 3
    with tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES) as spool:
        count = 0
        for frame in frames:
            spool.write(frame.tobytes())
            count += 1
            yield frame
        if count == 0:
            raise FctfgError("the driver has no frames; pass a video, or no driver")
        for index in itertools.cycle(itertools.chain(range(count - 2, -1, -1), range(1, count)) if count > 1 else [0]):
            spool.seek(index * bytes_per_frame)
            yield np.frombuffer(spool.read(bytes_per_frame), np.uint8).reshape(size, size, 3)


def reporting(frames: Iterator[np.ndarray], before: int, total: int, progress: Progress) -> Iterator[np.ndarray]:
    """The same frames; `progress` is called after each, with `before` more steps done, of `total`."""
    for done, frame in enumerate(frames, start=before + 1):
        yield frame
        progress(done, total)

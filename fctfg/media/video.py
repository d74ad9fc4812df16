"""Frames of a video, picked by their time stamps."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from fctfg.errors import FctfgError
from fctfg.media.container import open_media, video_stream
from fctfg.media.units import FPS, Pixels

CLOCK_ERROR = 1e-3  # s; containers with millisecond clocks (Matroska) round each stamp by up to half of it
JUMP = 10.0  # s; a stamp further off than this is a reset clock (joined transport streams), not a pause


def _square_width(frame: av.VideoFrame, stream: av.VideoStream) -> int:
    """Width of the picture in square pixels (differs from the stored one in anamorphic video, as DV and DVD)."""
    aspect = stream.sample_aspect_ratio
    if not aspect or abs(float(aspect) - 1) < 0.01:
        return frame.width
    return round(frame.width * float(aspect))


def _pixels(frame: av.VideoFrame, stream: av.VideoStream) -> Pixels:
    """The decoded frame as uint8 [H, W, 3] RGB, square pixels, turned upright."""
    array = frame.reformat(width=_square_width(frame, stream), format="rgb24").to_ndarray()
    return np.ascontiguousarray(np.rot90(array, round(frame.rotation / 90) % 4))


class _Clock:
    """Times of decoded frames in seconds: never backwards, and going on through missing or reset stamps."""

    def __init__(self, duration: float) -> None:
        self.duration = duration  # of one frame, used where the file does not say
        self.time: float | None = None
        self._shift = 0.0

    def read(self, frame: av.VideoFrame) -> float:
        """Time at which `frame` is shown; keeps the frame's duration for the one after it."""
        expected = None if self.time is None else self.time + self.duration
        if frame.pts is None or frame.time_base is None:
            time = expected or 0.0
        else:
            time = float(frame.pts * frame.time_base) + self._shift
            if expected is not None and self.time is not None and not self.time <= time < self.time + JUMP:
                self._shift += expected - time
                time = expected
            if frame.duration:
                self.duration = float(frame.duration * frame.time_base)
        self.time = time
        return time


def _timed(
    container: av.container.InputContainer, stream: av.VideoStream
) -> Iterator[tuple[float, float, av.VideoFrame]]:
    """(time since the first picture, duration, frame) of every picture."""
    clock = _Clock(1 / float(stream.average_rate or stream.guessed_rate or FPS))
    origin: float | None = None
    for frame in container.decode(stream):
        time = clock.read(frame)
        origin = time if origin is None else origin
        yield time - origin, clock.duration, frame


def read_frames(path: str | Path, fps: float = FPS, end: float | None = None) -> Iterator[Pixels]:
    """Stream the pictures of a video at a fixed rate, picked by time stamps.

    Frame k is the picture on screen at time ``k / fps``; so a 60 fps video is thinned out, a 15 fps one
    repeats pictures, and a variable frame rate keeps its timing. Rotation flags are applied, anamorphic pixels made
    square. Only one picture is in memory at a time.

    Args:
        path: Any container that PyAV reads (also a still picture: one frame).
        fps: Frames per second to deliver.
        end: Stop before this time (seconds); None reads to the end.

    Yields:
        uint8 [H, W, 3] RGB.

    Raises:
        FctfgError: Missing file, no pictures, damaged, or cut off.
    """
    path = Path(path)
    if fps <= 0:
        raise ValueError(f"fps must be positive, got {fps}")
    index = 0
    with open_media(path) as container:
        stream = video_stream(container)
        if stream is None:
            raise FctfgError(f"{path} has no pictures; give a video file")
        shown: av.VideoFrame | None = None
        shown_until = 0.0
        for time, duration, frame in _timed(container, stream):
            while shown is not None and (now := index / fps) < time - CLOCK_ERROR:
                if end is not None and now >= end - CLOCK_ERROR:
                    return
                yield _pixels(shown, stream)
                index += 1
            shown, shown_until = frame, time + duration
        if shown is None:
            raise FctfgError(f"{path} is damaged or cut off: no picture can be decoded; copy or download it again")
        while (now := index / fps) < shown_until - CLOCK_ERROR:
            if end is not None and now >= end - CLOCK_ERROR:
                return
            yield _pixels(shown, stream)
            index += 1

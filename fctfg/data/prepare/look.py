"""The first look at a raw video: its sound, its shots, its black bars, and every face in it."""

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from fctfg.data.prepare.rejected import Rejected
from fctfg.data.prepare.settings import Settings
from fctfg.data.prepare.sources import Source
from fctfg.data.prepare.workers import Beat
from fctfg.data.scores.bars import BlackBars
from fctfg.data.scores.shots import ShotCuts
from fctfg.errors import FctfgError
from fctfg.faces.detector import FaceDetector
from fctfg.faces.track import Track, Tracker
from fctfg.media import FPS, Pixels, Samples, probe, read_audio, read_frames

_THUMBNAIL = 96  # px, the longer side
_GLIMPSE = 5  # frames; shorter tracks are false alarms of the detector and not worth a row


@dataclass(frozen=True)
class Seen:
    """What a video holds.

    Attributes:
        sound: float32 [N] at 16 kHz, from the first picture on.
        tracks: Every face that was followed, never across a cut.
        frames: Length at 25 frames a second.
        width, height: Size of the picture, upright and with square pixels.
        bars: Widths of black bars at the left, upper, right and lower edge in pixels.
        thumbnails: Small JPEGs, one a second, by frame number.
    """

    sound: Samples
    tracks: list[Track]
    frames: int
    width: int
    height: int
    bars: tuple[int, int, int, int]
    thumbnails: Mapping[int, bytes]

    def thumbnail(self, frame: int) -> bytes:
        """A small JPEG of what is seen within half a second of a frame."""
        return self.thumbnails[min(self.thumbnails, key=lambda number: abs(number - frame))]


def look(source: Source, settings: Settings, detector: FaceDetector, beat: Beat) -> Seen:
    """Stream a video once and follow its faces; one picture is in memory at a time.

    Raises:
        Rejected: there is nothing to cut from it.
    """
    try:
        info = probe(source.path)
        if not info.has_video:
            raise Rejected("read", "no pictures: a sound file")
        if source.sound is None and not info.has_audio:
            raise Rejected("sound", "no sound track: nothing can be heard")
        beat()
        sound = read_audio(source.sound or source.path)
        check_heard(sound, settings)
        tracker, shots, bars = Tracker(detector, settings.detect_every), ShotCuts(), BlackBars()
        thumbnails: dict[int, bytes] = {}
        width = height = 0
        for frame in read_frames(source.path):
            beat()
            if tracker.frame and frame.shape[:2] != (height, width):
                raise Rejected("read", f"size changes: {width} x {height}, from frame {tracker.frame} on another")
            height, width = frame.shape[:2]
            if tracker.frame % FPS == 0:
                thumbnails[tracker.frame] = _thumbnail(frame)
            bars.update(frame)
            for cut in shots.update(frame):
                tracker.cut(cut)
            tracker.update(frame)
        for cut in shots.finish():
            tracker.cut(cut)
    except FctfgError as error:
        reason = str(error).replace(str(source.path), source.name)
        if source.sound is not None:
            reason = reason.replace(str(source.sound), source.sound.name)
        raise Rejected("read", f"unreadable: {reason}") from error
    check_length(tracker.frame, settings)
    tracks = [track for track in tracker.finish() if len(track.faces) >= min(_GLIMPSE, settings.min_frames)]
    if not tracks:
        raise Rejected("faces", f"no face: none found in {tracker.frame} frames", thumbnails[0])
    return Seen(sound, tracks, tracker.frame, width, height, bars.finish(), thumbnails)


def _thumbnail(frame: Pixels) -> bytes:
    picture = Image.fromarray(frame)
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=75)
    return file.getvalue()


def _rms(sound: Samples) -> float:
    """Root mean square, full scale = 1."""
    return float(np.sqrt(np.mean(np.square(sound, dtype=np.float64)))) if len(sound) else 0.0


def check_heard(sound: Samples, settings: Settings) -> None:
    """Raise Rejected where nothing is heard at all."""
    if _rms(sound) < settings.silence:
        raise Rejected("sound", f"silence: the sound has {_rms(sound):.5f} rms, {settings.silence} is the least")


def check_length(frames: int, settings: Settings) -> None:
    """Raise Rejected for what is too short to be a clip."""
    if frames < settings.min_frames:
        raise Rejected("track", f"too short: {frames} frames at {FPS:g} a second, {settings.min_frames} are the least")


def stretch(sound: Samples, begin: int, end: int) -> Samples:
    """A stretch of the sound, with zeros beyond its ends."""
    piece = sound[max(begin, 0) : max(end, 0)]
    before = min(max(-begin, 0), end - begin)
    return np.pad(piece, (before, end - begin - before - len(piece)))

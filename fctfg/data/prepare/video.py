"""One raw video to clips."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fctfg.data.manifest import Clip
from fctfg.data.prepare.settings import Settings
from fctfg.data.prepare.sources import Rights, Source
from fctfg.errors import FctfgError
from fctfg.faces.crop import Crop, NoCropError, cut_out, in_crop, tube
from fctfg.faces.detector import FaceDetector
from fctfg.faces.track import Track, Tracker, boxes_of, chunks, points_of
from fctfg.media import FPS, SAMPLE_RATE, Samples, probe, read_audio, read_frames, write_video, write_wav

_GLIMPSE = 5  # frames; shorter tracks are false alarms of the detector and not worth a row


class _Rejected(Exception):
    """The video or the clip is not used; the message is the reason, ``kind: details``."""


@dataclass(frozen=True)
class _Plan:
    """A clip that is going to be cut."""

    track: Track
    crop: Crop
    sound: Samples


def file_hash(*paths: Path) -> str:
    """sha256 over the bytes of the files, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def blank_row(source: Source, source_sha256: str, settings: Settings, rights: Rights, reason: str = "") -> Clip:
    """The row of a video of which nothing is known yet, or which is rejected for `reason`."""
    return Clip(
        id=source.id,
        identity=source.identity,
        split=source.split or "train",
        source=source.name,
        source_sha256=source_sha256,
        fps=FPS,
        size=settings.size,
        detector=settings.detector,
        licence=rights.licence,
        consent=rights.consent,
        provenance=rights.provenance,
        reject_reason=reason,
    )


def cut_clips(
    source: Source, source_sha256: str, settings: Settings, rights: Rights, detector: FaceDetector, root: Path
) -> list[Clip]:
    """Find the faces of a video and write one clip per chunk and person.

    The video is streamed twice, to find and to cut, so its length does not matter for memory. Two people in the
    picture give two clips; which of them speaks is not decided here.

    Args:
        source: The video.
        source_sha256: Its hash, for the rows.
        settings: How to cut.
        rights: For the rows.
        detector: Finds the faces.
        root: Folder that gets ``clips/ID.mp4`` and ``clips/ID.wav``.

    Returns:
        Rows of kept and rejected clips; their split is still to be decided where the folder does not say it.

    Raises:
        FctfgError: The clips cannot be written. (A video that cannot be read is a rejected row.)
    """
    blank = blank_row(source, source_sha256, settings, rights)
    try:
        sound, tracks, width, height = _look(source, settings, detector)
    except _Rejected as reason:
        return [replace(blank, reject_reason=str(reason))]
    pieces = [
        piece for track in tracks for piece in chunks(track, detector.head, settings.min_iou, settings.max_frames)
    ]
    rows = []
    for piece in pieces:
        row = _describe(blank, piece)
        try:
            plan = _plan(piece, [t for t in tracks if t.slot != piece.slot], sound, width, height, settings, detector)
            rows.append(_write(row, plan, source, settings, root))
        except _Rejected as reason:
            rows.append(replace(row, reject_reason=str(reason)))
    return rows


def _look(source: Source, settings: Settings, detector: FaceDetector) -> tuple[Samples, list[Track], int, int]:
    """(sound, tracks, width, height) of a video; raises _Rejected when there is nothing to cut from it."""
    tracker = Tracker(detector, settings.detect_every)
    width = height = 0
    try:
        info = probe(source.path)
        if not info.has_video:
            raise _Rejected("no pictures")
        if not info.has_audio:
            raise _Rejected("no sound track")
        sound = read_audio(source.path)
        _check_silence(sound, settings)
        for frame in read_frames(source.path):
            height, width = frame.shape[:2]
            tracker.update(frame)
    except FctfgError as error:
        raise _Rejected("unreadable: " + str(error).replace(str(source.path), source.name)) from error
    _check_length(tracker.frame, settings)
    tracks = [track for track in tracker.finish() if len(track.faces) >= min(_GLIMPSE, settings.min_frames)]
    if not tracks:
        raise _Rejected(f"no face: none found in {tracker.frame} frames")
    return sound, tracks, width, height


def _rms(sound: Samples) -> float:
    return float(np.sqrt(np.mean(np.square(sound, dtype=np.float64)))) if len(sound) else 0.0


def _check_silence(sound: Samples, settings: Settings) -> None:
    if _rms(sound) < settings.silence:
        raise _Rejected(f"silence: the sound has {_rms(sound):.5f} rms, {settings.silence} is the least")


def _check_length(frames: int, settings: Settings) -> None:
    if frames < settings.min_frames:
        raise _Rejected(f"too short: {frames} frames at {FPS:g} a second, {settings.min_frames} are the least")


def _describe(blank: Clip, track: Track) -> Clip:
    """The row of a chunk, without what only a cut clip has."""
    boxes = boxes_of(track)
    return replace(
        blank,
        id=f"{blank.id}-p{track.slot + 1}-{track.start:06d}",
        identity=blank.identity if track.slot == 0 else f"{blank.id}-p{track.slot + 1}",
        start=track.start / FPS,
        n_frames=len(track.faces),
        face_px=float(np.median(boxes[:, 2] - boxes[:, 0])),
        confidence=float(np.median([face.confidence for face in track.faces])),
    )


def _plan(
    track: Track,
    others: list[Track],
    sound: Samples,
    width: int,
    height: int,
    settings: Settings,
    detector: FaceDetector,
) -> _Plan:
    _check_length(len(track.faces), settings)
    # Sound that ends early cuts the clip; less than one missing frame is filled with zeros.
    heard = int(len(sound) / SAMPLE_RATE * FPS - track.start) + 1
    if heard < settings.min_frames:
        raise _Rejected(
            f"too little sound: it ends at {len(sound) / SAMPLE_RATE:.2f} s, which leaves {max(heard, 0)} frames of "
            f"the clip, {settings.min_frames} are the least"
        )
    track = replace(track, faces=track.faces[:heard])
    try:
        crop = tube(boxes_of(track), detector.head, width, height, settings.margin)
    except NoCropError as reason:
        raise _Rejected(f"no crop: {reason}") from reason
    side, least = crop[2] - crop[0], settings.size / settings.max_enlargement
    if side < least:
        raise _Rejected(f"face too small: the crop is {side} px, {least:g} are the least for {settings.size}")
    _check_alone(track, others, crop)
    begin, end = (round(k * SAMPLE_RATE / FPS) for k in (track.start, track.end))
    piece = sound[begin:end]
    _check_silence(piece, settings)
    return _Plan(track, crop, np.pad(piece, (0, end - begin - len(piece))))


def _check_alone(track: Track, others: list[Track], crop: Crop) -> None:
    """Reject a crop that shows the middle of somebody else's face in more than a tenth of its frames."""
    seen = set()
    for other in others:
        for frame in range(max(track.start, other.start), min(track.end, other.end)):
            x0, y0, x1, y1 = other.faces[frame - other.start].box
            if crop[0] < (x0 + x1) / 2 < crop[2] and crop[1] < (y0 + y1) / 2 < crop[3]:
                seen.add(frame)
    if len(seen) > 0.1 * len(track.faces):
        raise _Rejected(f"two faces: another face is in the crop in {len(seen)} frames")


def _write(row: Clip, plan: _Plan, source: Source, settings: Settings, root: Path) -> Clip:
    count = len(plan.track.faces)
    path, audio = f"clips/{row.id}.mp4", f"clips/{row.id}.wav"
    first = plan.track.start
    frames = (
        cut_out(frame, plan.crop, settings.size)
        for frame in read_frames(source.path, start=first / FPS, end=(first + count) / FPS)
    )
    written = write_video(root / path, frames, audio=plan.sound, crf=settings.crf, gop=settings.gop)
    if written != count:
        raise FctfgError(f"{source.path} gave {written} of {count} frames when read again; is it being changed?")
    write_wav(root / audio, plan.sound)
    return replace(
        row,
        path=path,
        audio=audio,
        sha256=file_hash(root / path, root / audio),
        n_frames=count,
        crop=plan.crop,
        points=in_crop(points_of(plan.track), plan.crop),
        boxes=in_crop(boxes_of(plan.track), plan.crop),
        audio_rms=_rms(plan.sound),
        reject_reason=None,
    )

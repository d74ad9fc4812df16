"""The second look at a raw video: the planned clips are cut out, measured and written, one after the other."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from fctfg.atomic import atomic_path
from fctfg.data.clip_file import TRACK, Track, body_bytes, clip_file, encode_frame
from fctfg.data.ledger import KeptClip
from fctfg.data.manifest import Clip
from fctfg.data.pack import loose_path
from fctfg.data.prepare.look import Seen
from fctfg.data.prepare.measure import Measure
from fctfg.data.prepare.plan import Plan
from fctfg.data.prepare.rejected import Rejected
from fctfg.data.prepare.settings import Settings
from fctfg.data.prepare.sources import Source
from fctfg.data.prepare.workers import Beat
from fctfg.faces.crop import cut_out, in_crop
from fctfg.faces.track import boxes_of, landmarks_of, points_of
from fctfg.media import FPS, SAMPLE_RATE, read_frames

_BATCH = 32  # frames that are measured together


class _Cutting:
    """One clip that is being cut: its stored frames, and what is measured of them."""

    def __init__(self, row: Clip, plan: Plan, settings: Settings, measure: Measure) -> None:
        self.row, self.plan, self._settings = row, plan, settings
        self.stored: list[bytes] = []
        self.track = _track(plan)
        self.pictures = measure.pictures(self.track["points"])
        self._waiting: list[np.ndarray] = []

    def add(self, frame: np.ndarray) -> None:
        """Take the next frame of the raw video, uint8 [H, W, 3]."""
        picture = cut_out(frame, self.plan.crop, self._settings.size)
        self.stored.append(encode_frame(picture, self._settings.form))
        self._waiting.append(picture)
        if len(self._waiting) == _BATCH or len(self.stored) == len(self.plan.track.faces):
            self.pictures.add(np.stack(self._waiting))
            self._waiting.clear()


def _track(plan: Plan) -> Track:
    track = np.zeros(len(plan.track.faces), TRACK)
    track["box"] = in_crop(boxes_of(plan.track), plan.crop)
    track["points"] = in_crop(points_of(plan.track), plan.crop)
    track["landmarks"] = in_crop(landmarks_of(plan.track), plan.crop)
    return track


def cut(
    source: Source,
    plans: Sequence[tuple[Clip, Plan]],
    seen: Seen,
    settings: Settings,
    measure: Measure,
    root: Path,
    beat: Beat,
) -> Iterator[KeptClip]:
    """Stream a video once more and write its clips; frames are held as they are stored, never decoded.

    Args:
        source: the video.
        plans: rows of the clips, without what only a cut clip has, and where to cut them.
        seen: what the first look found.
        settings: how to cut.
        measure: takes the scores.
        root: the data set.
        beat: called with every frame.

    Yields:
        Each clip when its file stands.

    Raises:
        WriteError: a clip cannot be written.
        Rejected: the video gives other frames than before.
    """
    waiting = sorted(plans, key=lambda pair: pair[1].track.start)
    if not waiting:
        return
    first, last = waiting[0][1].track.start, max(p.track.end for _, p in plans)
    open_clips: list[_Cutting] = []
    # from the beginning, without a seek: behind a jump of the clock the file's times are not those of the first look
    frames = islice(read_frames(source.path, end=last / FPS), first, None)
    for number, frame in enumerate(frames, start=first):
        beat()
        while waiting and waiting[0][1].track.start == number:
            open_clips.append(_Cutting(*waiting.pop(0), settings, measure))
        for clip in open_clips:
            clip.add(frame)
        for clip in [clip for clip in open_clips if clip.plan.track.end == number + 1]:
            open_clips.remove(clip)
            yield _write(clip, seen, settings, measure, root, beat)
    if open_clips or waiting:
        raise Rejected("read", "unsteady: it gave fewer frames when it was read again; is it being changed?")


def _write(
    clip: _Cutting, seen: Seen, settings: Settings, measure: Measure, root: Path, beat: Callable[[], None]
) -> KeptClip:
    begin, end = (round(k * SAMPLE_RATE / FPS) for k in (clip.plan.track.start, clip.plan.track.end))
    measured = measure(clip.plan, clip.pictures, seen, begin, end)
    beat()
    clip.track["pose"] = measured.pose
    kept = slice(measured.first, measured.last)
    stored = clip.stored[kept]
    row = {name: value for name, value in clip.row.row().items() if name not in _PLACED}
    scores = {name: None if np.isnan(value) else round(float(value), 6) for name, value in measured.scores.items()}
    row |= {
        "n_frames": len(stored),
        "start": row["start"] + measured.first / FPS,
        "embedding": measured.embedding,
        "prints": measured.prints,
    } | scores
    file = clip_file(row, stored, measured.wave, clip.track[kept], settings.size, settings.form)
    with atomic_path(loose_path(root, clip.row.id)) as temporary:
        temporary.write_bytes(file)
    size = body_bytes(file)
    return KeptClip(clip.row.id, hashlib.sha256(file[:size]).hexdigest(), size, len(stored))


# columns that are known when the clip is packed
_PLACED = ("sha256", "bytes", "shard", "at", "film_at", "sound_at", "mel_at", "track_at", "repeats")

"""The scores of a clip: what it looks and sounds like, how lips and sound agree, and whose face it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from fctfg.data.prepare.look import Seen, stretch
from fctfg.data.prepare.plan import Plan
from fctfg.data.prepare.settings import Settings
from fctfg.data.scores.duplicates import PRINT_FRAMES, clip_print
from fctfg.data.scores.identity import agreement
from fctfg.data.scores.pictures import changes, exposure, frozen, sharpness
from fctfg.data.scores.sound import bandwidth, clipping_share, loudness, silence_ratio, speech_likeness
from fctfg.data.scores.sync import CHANCE, MIN_FRAMES, SAMPLES, SyncExpert, audio_video_offset, sync_expert
from fctfg.data.scores.sync_choice import SyncChoice, cut_mouths
from fctfg.faces.head_pose import head_pose
from fctfg.faces.openings import eye_aspect_ratio, mouth_opening
from fctfg.faces.recogniser import DlibRecogniser
from fctfg.faces.track import boxes_of, landmarks_of
from fctfg.media import Samples
from fctfg.models.experts.syncnet import SyncNet

_AROUND = 15 * SAMPLES  # samples of sound before and after a clip in which its own is looked for
_FACES = 5  # frames of a clip whose faces are recognised, evenly spread


class PictureScores:
    """What is measured of a clip's pictures while they stream by.

    Args:
        points: float32 [T, 5, 2] of the clip's frames, (x, y) fractions of them.
        mouths: cuts out of frames [N, S, S, 3] with their points what the sync expert looks at; None for an expert that
            does not look at pictures.
    """

    def __init__(self, points: np.ndarray, mouths: Callable[[np.ndarray, np.ndarray], np.ndarray] | None) -> None:
        self._points, self._cut_mouths = points, mouths
        self._mouths: list[np.ndarray] = []
        self._count = 0
        self._last: np.ndarray | None = None
        self._columns: list[dict[str, np.ndarray]] = []
        last = len(points) - 1
        self._recognised = set(np.linspace(0, last, _FACES).round().astype(int).tolist())
        self._printed = [round(place * last) for place in PRINT_FRAMES]
        self._kept: dict[int, np.ndarray] = {}

    def add(self, frames: np.ndarray) -> None:
        """Take the next frames, uint8 [N, S, S, 3]."""
        exposed = exposure(frames)
        self._columns.append(
            {
                "sharpness": sharpness(frames),
                "brightness": exposed[:, 0],
                "dark": exposed[:, 1],
                "bright": exposed[:, 2],
                "changes": changes(frames, self._last),
            }
        )
        for number in {*self._recognised, *self._printed} & set(range(self._count, self._count + len(frames))):
            self._kept[number] = frames[number - self._count]
        if self._cut_mouths is not None:
            self._mouths.append(self._cut_mouths(frames, self._points[self._count : self._count + len(frames)]))
        self._last = frames[-1]
        self._count += len(frames)

    @property
    def faces(self) -> dict[int, np.ndarray]:
        """Frames whose faces are to be recognised, uint8 [S, S, 3], by their numbers."""
        return {number: self._kept[number] for number in sorted(self._recognised)}

    @property
    def printed(self) -> np.ndarray:
        """The frames at `PRINT_FRAMES`, uint8 [2, S, S, 3]."""
        return np.stack([self._kept[number] for number in self._printed])

    @property
    def mouths(self) -> np.ndarray:
        """What the sync expert looks at, [T, 3, 48, 96]."""
        return np.concatenate(self._mouths)

    def column(self, name: str) -> np.ndarray:
        """One figure per frame, [T]."""
        return np.concatenate([column[name] for column in self._columns])


@dataclass(frozen=True)
class Measured:
    """All that is measured of a clip.

    Attributes:
        scores: by the names of `fctfg.data.scores.table.SCORES`.
        pose: float32 [T, 3] yaw, pitch, roll in degrees.
        embedding: of the face, JSON's numbers.
        prints: of `fctfg.data.scores.duplicates.clip_print`.
        wave: float32 [640 * frames], the sound that belongs to the frames.
        first, last: the frames that are kept, one past the last: those that the sound reaches.
    """

    scores: dict[str, float]
    pose: np.ndarray
    embedding: list[float]
    prints: list[int]
    wave: Samples
    first: int
    last: int


class Measure:
    """Takes the scores of clips; holds the networks that this needs.

    Args:
        settings: how clips are cut.
        choice: the sync expert; None takes the one in the package.

    Raises:
        FctfgError: the sync expert is not what was chosen.
    """

    def __init__(self, settings: Settings, choice: SyncChoice | None = None) -> None:
        self._settings = settings
        self._recogniser = DlibRecogniser()
        self._sync_expert: SyncExpert = choice.load() if choice else sync_expert()
        self._chance = choice.chance if choice else CHANCE

    def pictures(self, points: np.ndarray) -> PictureScores:
        """What measures the pictures of a clip while they stream by, given the points of its frames [T, 5, 2]."""
        expert = self._sync_expert
        return PictureScores(points, partial(cut_mouths, expert) if isinstance(expert, SyncNet) else None)

    def __call__(self, plan: Plan, pictures: PictureScores, seen: Seen, begin: int, end: int) -> Measured:
        """Measure a clip.

        Args:
            plan: where it is cut.
            pictures: what was measured of its pictures.
            seen: of the whole video.
            begin, end: the clip's part of the video's sound, in samples.
        """
        landmarks = landmarks_of(plan.track)
        pose = head_pose(landmarks)
        scores, moved = self._sync(landmarks, pictures, seen, begin, end)
        begin += moved * SAMPLES
        first, last = _heard(len(landmarks), begin, len(seen.sound)) if moved else (0, len(landmarks))
        wave = stretch(seen.sound, begin + first * SAMPLES, begin + last * SAMPLES)
        embeddings = self._embed(plan, pictures)
        scores |= {
            "face_px": float(np.median(np.ptp(boxes_of(plan.track)[:, [0, 2]], axis=1))),
            "crop_px": plan.crop[2] - plan.crop[0],
            "detection": float(np.median([face.confidence for face in plan.track.faces])),
            "bars": _covered(plan, seen),
            "frozen": frozen(pictures.column("changes")),
            "silence": silence_ratio(wave),
            "loudness": loudness(wave),
            "clipping": clipping_share(wave),
            "speech": speech_likeness(wave),
            "bandwidth": bandwidth(wave),
            "agreement": agreement(embeddings),
        }
        scores |= {name: float(np.median(pictures.column(name))) for name in ("sharpness", "brightness")}
        scores |= {name: float(pictures.column(name).mean()) for name in ("dark", "bright")}
        for name, values in (
            *zip(("yaw", "pitch", "roll"), pose.T, strict=True),
            ("mouth", mouth_opening(landmarks)),
            ("eyes", eye_aspect_ratio(landmarks)),
        ):
            scores[f"{name}_min"], scores[f"{name}_max"] = (float(v) for v in np.percentile(values, (5, 95)))
        prints: list[int] = clip_print(pictures.printed, wave).tolist()
        embedding = [round(float(v), 5) for v in np.median(embeddings, axis=0)]
        return Measured(scores, pose, embedding, prints, wave, first, last)

    def _sync(
        self, landmarks: np.ndarray, pictures: PictureScores, seen: Seen, begin: int, end: int
    ) -> tuple[dict[str, float], int]:
        """(scores of sync, frames by which the sound is to be moved)."""
        first = max(0, begin - _AROUND)
        wave = seen.sound[first : end + _AROUND]
        if len(landmarks) < MIN_FRAMES or len(wave) - (begin - first) < MIN_FRAMES * SAMPLES:
            return {"offset": np.nan, "raw_offset": np.nan, "confidence": np.nan}, 0
        expert = self._sync_expert
        mouths = pictures.mouths if isinstance(expert, SyncNet) else landmarks
        found = audio_video_offset(mouths, wave, expert, before=begin - first, chance=self._chance)
        moved = found.offset if self._settings.correct_offset and found.confidence >= 1 else 0
        heard, silent = _heard(len(landmarks), begin + moved * SAMPLES, len(seen.sound))
        if silent - heard < self._settings.min_frames:
            moved = 0
        return {
            "offset": found.offset - moved,
            "raw_offset": found.offset,
            "confidence": found.confidence,
        }, moved

    def _embed(self, plan: Plan, pictures: PictureScores) -> np.ndarray:
        """Embeddings of the chosen frames' faces, [K, D]."""
        corner, side = np.array(plan.crop[:2]), plan.crop[2] - plan.crop[0]
        numbers = sorted(pictures.faces)
        scale = self._settings.size / side
        points = [(plan.track.faces[k].landmarks - corner) * scale for k in numbers]
        return self._recogniser.embed_many([pictures.faces[k] for k in numbers], [p.astype(np.float32) for p in points])


def _heard(frames: int, begin: int, samples: int) -> tuple[int, int]:
    """The frames of a clip that have some sound, (first, one past the last), when theirs begins at a sample `begin`."""
    return max(0, -begin // SAMPLES), min(frames, -((begin - samples) // SAMPLES))


def _covered(plan: Plan, seen: Seen) -> float:
    """Share of the crop that lies in black bars."""
    x0, y0, x1, y1 = plan.crop
    left, top, right, bottom = seen.bars
    width = min(x1, seen.width - right) - max(x0, left)
    height = min(y1, seen.height - bottom) - max(y0, top)
    return 1 - max(width, 0) * max(height, 0) / ((x1 - x0) * (y1 - y0))

"""One case, measured: every figure of a clip, and what the figures of the whole are computed from."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from fctfg.data.scores.sync import MIN_FRAMES, MIN_OVERLAP, SAMPLES, audio_video_offset
from fctfg.data.scores.sync_choice import cut_mouths
from fctfg.errors import FctfgError
from fctfg.evaluation.faces import Seen
from fctfg.evaluation.footage import Footage, stacked
from fctfg.evaluation.judges import Judges
from fctfg.evaluation.lip_features import LipFeatures
from fctfg.evaluation.motion import motion_figures
from fctfg.faces.boxes import Floats, Pixels
from fctfg.faces.detector import Face
from fctfg.faces.landmarks import enlarged
from fctfg.host_memory import forget_peak, peak_resident
from fctfg.media import Samples
from fctfg.metrics.csim import csim
from fctfg.metrics.gaze import gaze_error, gaze_track
from fctfg.metrics.l1 import l1
from fctfg.metrics.ms_ssim import both_ssim, ms_ssim_scales
from fctfg.metrics.psnr import psnr
from fctfg.metrics.sharpness import sharpness
from fctfg.models.experts.syncnet import SyncNet
from fctfg.ops.pixels import to_images

CHUNK = 16  # frames in memory at a time, of the result and of the driver
MOST_PSNR = 100.0  # dB: of frames that are equal
EMBED_EVERY = 4  # frames
FEATURE_FRAMES = 3 * CHUNK  # of each clip, that Fréchet distances are computed of
LEAST_FOUND = 0.8  # share of the frames with a face, below which lips are not compared with the sound


@dataclass
class Measurement:
    """What was measured of a case.

    Attributes:
        figures: by name; NaN where something could not be measured.
        curves: [T] by name, for pictures: `opening made`, `opening shown`, `loudness`.
        embeddings: float32 [n, D] by name: `made` and `shown`, of every fourth frame with a face, and `source`; of
            weights also the head poses `portrait pose` and `canonical pose`, [n, 3].
        features: float16 [n, D] by name, `made` and `shown`: what a Fréchet distance is computed of.
        seconds: that each part took.
        notes: what somebody who reads the figures has to know.
        memory: the most that the process has held during each part, bytes.
    """

    figures: dict[str, float] = field(default_factory=dict)
    curves: dict[str, Floats] = field(default_factory=dict)
    embeddings: dict[str, Floats] = field(default_factory=dict)
    features: dict[str, Floats] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def part(self, part: str) -> Iterator[None]:
        """Adds the seconds that the block takes to a part, and notes its memory."""
        forget_peak()
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start
            self.memory[part] = max(self.memory.get(part, 0), peak_resident())


class _Pictures:
    """Means over frames of what compares a result with real frames."""

    def __init__(self, judges: Judges) -> None:
        self._judges = judges
        self._values: dict[str, list[Tensor]] = {}

    def update(self, made: np.ndarray, real: np.ndarray) -> None:
        """Takes frames, uint8 [n, S, S, 3] each."""
        images, reference = to_images(made), to_images(real)
        scales = ms_ssim_scales(images.shape[-1])
        single, multiple = both_ssim(images, reference)
        values = {
            "SSIM": single,
            "MS-SSIM" if scales == 5 else f"MS-SSIM[{scales} scales]": multiple,
            "PSNR": psnr(images, reference).clamp_max(MOST_PSNR),
            "L1": l1(images, reference),
            "sharpness": sharpness(images) / sharpness(reference).clamp_min(1e-6),
        }
        if (judge := self._judges.lpips) is not None:
            with torch.inference_mode():
                values[f"LPIPS[{judge.config.trunk}]"] = judge(images, reference).expand(len(images))
        for name, each in values.items():
            self._values.setdefault(name, []).append(each.double())

    def figures(self) -> dict[str, float]:
        return {name: float(torch.cat(values).mean()) for name, values in self._values.items()}


class _Faces:
    """The face of a stream of frames: landmarks, what a recogniser says of every fourth one, and the mouths."""

    def __init__(self, judges: Judges, lips: bool) -> None:
        self._judges, self._seen, self._count = judges, Seen(judges.detector), 0
        self._faces: list[tuple[Pixels, Face]] = []
        self._mouths: list[np.ndarray] = []
        self._lips = LipFeatures(judges.syncnet) if lips and judges.syncnet is not None else None
        self._expert = judges.sync[0] if lips else None
        self.side = 0
        self.embedded: list[Floats] = []

    def update(self, frames: np.ndarray) -> list[Face | None]:
        """Takes frames, uint8 [n, S, S, 3]; returns the face in each, in pixels of the enlarged frame."""
        found: list[Face | None] = []
        for frame in map(enlarged, frames):
            self.side = frame.shape[0]
            face = self._seen.update(frame)
            if face is not None and self._count % EMBED_EVERY == 0:
                self._faces.append((frame, face))
            if self._lips is not None:
                self._lips.update(frame, None if face is None else face.box)
            if isinstance(self._expert, SyncNet):
                self._look_at_mouth(self._expert, frame, face)
            self._count += 1
            found.append(face)
        if self._faces:
            pictures, faces = zip(*self._faces, strict=True)
            shapes, places = [face.landmarks for face in faces], [face.points for face in faces]
            self.embedded.append(self._judges.embed(list(pictures), shapes, places))
            self._faces = []
        return found

    def _look_at_mouth(self, expert: SyncNet, frame: Pixels, face: Face | None) -> None:
        """Where a face is lost, its last mouth stands for it; before the first one, the first."""
        if face is not None:
            points = (face.points[None] / self.side).astype(np.float32)
            mouth = cut_mouths(expert, frame[None], points)
            self._mouths += [mouth] * (self._count + 1 - len(self._mouths))
        elif self._mouths:
            self._mouths.append(self._mouths[-1])

    def vectors(self) -> Floats:
        """What the recogniser says of every fourth frame with a face, float32 [n, D]."""
        return np.concatenate(self.embedded) if self.embedded else np.zeros((0, 1), np.float32)

    def landmarks(self) -> Floats:
        """[T, 68, 2] in pixels of the enlarged frames, NaN where no face was found."""
        return self._seen.landmarks()

    def lip_sync(self, landmarks: Floats, sound: Samples) -> dict[str, float]:
        """What the experts say of lips and sound; NaN where faces, frames or sound are too few."""
        nothing = dict.fromkeys(("sync confidence", "sync distance", "audio-video offset"), float("nan"))
        figures = {}
        if self._lips is not None:
            judged = self._lips.judge(sound)
            told = (np.nan, np.nan) if judged is None else (float(judged.confidence), float(judged.distance))
            figures = {"LSE-C": told[0], "LSE-D": told[1]}
        there = np.asarray(np.isfinite(landmarks).all((1, 2)))
        enough = len(there) >= MIN_FRAMES and there.mean() >= LEAST_FOUND and len(sound) >= MIN_OVERLAP * SAMPLES
        if not enough:
            return figures | nothing
        expert, chance = self._judges.sync
        if isinstance(expert, SyncNet):
            if len(self._mouths) < len(there):
                return figures | nothing
            mouths = np.concatenate(self._mouths)
        else:
            mouths = _bridged(landmarks, there)
        score = audio_video_offset(mouths, sound, expert, chance=chance)
        return figures | {
            "sync confidence": score.confidence,
            "sync distance": 1.0 - float(score.curve.max()),
            "audio-video offset": float(score.offset),
        }


def _bridged(landmarks: Floats, there: np.ndarray) -> Floats:
    """Landmarks without gaps: a straight line between the frames around each."""
    frames = np.arange(len(there))
    flat = landmarks.reshape(len(there), -1)
    filled = [np.interp(frames, frames[there], column[there]) for column in flat.T]
    return np.stack(filled, axis=1).reshape(landmarks.shape).astype(np.float32)


def loudness(sound: Samples, frames: int) -> Floats:
    """Root mean square of the sound of each frame, float32 [frames]; 0 beyond its end."""
    part = sound[: frames * SAMPLES].astype(np.float64)
    padded = np.pad(part, (0, frames * SAMPLES - len(part)))
    return np.sqrt(np.square(padded).reshape(frames, SAMPLES).mean(1)).astype(np.float32)


def _gaze(frames: np.ndarray, faces: Sequence[Face | None], side: int) -> np.ndarray:
    """Where the pupils are, [n, 2], in frames [n, S, S, 3] with faces in pixels of frames of another size."""
    nobody = np.full((68, 2), np.nan, np.float32)
    landmarks = np.stack([nobody if face is None else face.landmarks for face in faces])
    return gaze_track(frames, landmarks * (frames.shape[1] / side))


def measure(footage: Footage, judges: Judges) -> Measurement:
    """Measure a case, frame by frame.

    Args:
        footage: its frames are taken.
        judges: that measure.

    Returns:
        Every figure that a clip has. Where the result has no face, what needs one is NaN.

    Raises:
        FctfgError: frames or sound cannot be read or made.
    """
    found = Measurement(notes=list(footage.notes))
    pictures, made_face, shown_face = _Pictures(judges), _Faces(judges, True), _Faces(judges, False)
    features: dict[str, list[Floats]] = {"made": [], "shown": []}
    gazes: dict[str, list[np.ndarray]] = {"made": [], "shown": []}
    seen = 0
    while True:
        with found.part("generation" if footage.is_made else "reading"):
            made = stacked(footage.made, CHUNK)
        with found.part("reading"):
            shown = stacked(footage.shown, CHUNK)
        count = min(len(made), len(shown))
        if not count:
            break
        made, shown = made[:count], shown[:count]
        skip = 0 if seen else footage.skipped
        if footage.is_reference and count > skip:
            with found.part("pictures"):
                pictures.update(made[skip:], shown[skip:])
        for name, part, faces in (("made", made, made_face), ("shown", shown, shown_face)):
            with found.part("faces"):
                gazes[name].append(_gaze(part, faces.update(part), faces.side))
            if judges.features is not None and seen < FEATURE_FRAMES:
                with found.part("features"):
                    features[name].append(judges.features(part))
        seen += count
    if not seen:
        raise FctfgError("there are no frames to measure")
    landmarks, driving = made_face.landmarks(), shown_face.landmarks()
    frames, there = len(landmarks), np.isfinite(landmarks).all((1, 2))
    with found.part("motion"):
        heard = None if footage.sound is None else loudness(footage.sound, frames)
        settings = made_face.side, footage.is_reference, footage.says_drivers, footage.skipped, heard
        moving, found.curves = motion_figures(landmarks, driving, *settings)
    with found.part("sync"):
        synced = {} if footage.sound is None else made_face.lip_sync(landmarks, footage.sound)
    with found.part("recogniser"):
        source = judges.portrait(footage.source)
    found.embeddings = {"made": made_face.vectors(), "shown": shown_face.vectors(), "source": source}
    found.features = {name: np.concatenate(each).astype(np.float16) for name, each in features.items() if each}
    vectors = found.embeddings["made"]
    kept = np.mean(csim(vectors, np.broadcast_to(source, vectors.shape))) if len(source) and len(vectors) else np.nan
    found.figures = {
        **pictures.figures(),
        **moving,
        "gaze error": gaze_error(*(np.concatenate(gazes[name])[footage.skipped :] for name in ("made", "shown"))),
        **synced,
        f"CSIM[{judges.recogniser_name}]": float(kept),
        "faces found": float(there.mean()),
    }
    if footage.is_made:
        found.figures["generation"] = 1000 * found.seconds["generation"] / frames
    if (lost := int((~np.isfinite(driving).all((1, 2))).sum())) > 0:
        found.notes.append(f"no face was found in {lost} of {frames} frames of the driver")
    if (lost := frames - int(there.sum())) > 0:
        found.notes.append(f"no face was found in {lost} of {frames} frames of the result")
    return found

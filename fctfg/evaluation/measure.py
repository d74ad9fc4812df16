"""One case, measured: every figure of a clip, and what the figures of the whole are computed from."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

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
FAINTEST = 1e-3  # of the range: what is below all the time is no sound
ON_GPU = " (GPU)"  # ends the names of a part's memory there
MOST_PSNR = 100.0  # dB: of frames that are equal
EMBED_EVERY = 4  # frames
FEATURE_FRAMES = 3 * CHUNK  # of each clip, that Fréchet distances are computed of
NOBODY: Floats = np.full((68, 2), np.nan, np.float32)
LEAST_FOUND = 0.8  # share of the frames with a face, below which lips are not compared with the sound


@dataclass
class Measurement:
    """What was measured of a case.

    Attributes:
        figures: by name; NaN where something could not be measured.
        curves: [T] by name, for pictures: `opening made`, `opening shown`, `loudness`.
        embeddings: float32 [n, D] by name: `made`, of every fourth frame with a face, and `source`; of weights also the
            head poses `portrait pose` and `canonical pose`, [n, 3].
        features: float16 [n, D] by name, `made` and `shown`: what a Fréchet distance is computed of.
        seconds: that each part took.
        notes: what somebody who reads the figures has to know.
        memory: the most that the process has held during each part, bytes; `PART (GPU)` on its GPUs, if it has any.
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
        gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
        for gpu in gpus:
            torch.cuda.reset_peak_memory_stats(gpu)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start
            held = {part: peak_resident()}
            if gpus:
                held[part + ON_GPU] = sum(map(torch.cuda.max_memory_allocated, gpus))
            self.memory |= {name: max(self.memory.get(name, 0), size) for name, size in held.items()}


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


class _Followed(NamedTuple):
    """The face of a whole stream of T frames."""

    landmarks: Floats  # [T, 68, 2] in pixels of the enlarged frames, NaN where no face was found
    gaze: np.ndarray  # [T, 2], likewise
    vectors: Floats  # [n, D], what the recogniser says of every fourth frame with a face


class _Faces:
    """The face of a stream of frames: landmarks and pupils; of a result also identity and lips.

    Args:
        judges: that look.
        of_result: whether the recogniser and the lip-sync experts look too.
    """

    def __init__(self, judges: Judges, of_result: bool) -> None:
        self._judges, self._seen, self._of_result = judges, Seen(judges.detector), of_result
        self._used: list[Floats] = []  # landmarks of each frame, as the others saw them
        self._gazes: list[np.ndarray] = []
        self._embedded: list[int] = []  # frames
        self._vectors: list[Floats] = []
        self._mouths: list[np.ndarray] = []
        self._lips = LipFeatures(judges.syncnet) if of_result and judges.syncnet is not None else None
        self._expert = judges.sync[0] if of_result else None
        self.side = 0

    def update(self, frames: np.ndarray) -> None:
        """Takes frames, uint8 [n, S, S, 3]."""
        shown: list[tuple[Pixels, Face]] = []
        for frame in map(enlarged, frames):
            self.side = frame.shape[0]
            face = self._seen.update(frame)
            if self._of_result and face is not None and len(self._used) % EMBED_EVERY == 0:
                self._embedded.append(len(self._used))
                shown.append((frame, face))
            if self._lips is not None:
                self._lips.update(frame, None if face is None else face.box)
            if isinstance(self._expert, SyncNet):
                self._look_at_mouth(self._expert, frame, face)
            self._used.append(NOBODY if face is None else face.landmarks.astype(np.float32))
        landmarks = np.stack(self._used[-len(frames) :]) * (frames.shape[1] / self.side)
        self._gazes.append(gaze_track(frames, landmarks))
        if shown:
            pictures, faces = zip(*shown, strict=True)
            shapes, places = [face.landmarks for face in faces], [face.points for face in faces]
            self._vectors.append(self._judges.embed(list(pictures), shapes, places))

    def finish(self) -> _Followed:
        """The face that was followed longest; what was seen of another, or of one lost since, is dropped."""
        landmarks = self._seen.landmarks()
        kept = (np.stack(self._used) == landmarks).all((1, 2))  # NaN equals nothing
        gaze = np.where(kept[:, None], np.concatenate(self._gazes), np.nan)
        if not self._vectors:
            return _Followed(landmarks, gaze, np.zeros((0, 1), np.float32))
        return _Followed(landmarks, gaze, np.concatenate(self._vectors)[kept[self._embedded]])

    def _look_at_mouth(self, expert: SyncNet, frame: Pixels, face: Face | None) -> None:
        """Where a face is lost, its last mouth stands for it; before the first one, the first."""
        if face is not None:
            points = (face.points[None] / self.side).astype(np.float32)
            mouth = cut_mouths(expert, frame[None], points)
            self._mouths += [mouth] * (len(self._used) + 1 - len(self._mouths))
        elif self._mouths:
            self._mouths.append(self._mouths[-1])

    def lip_sync(self, landmarks: Floats, sound: Samples) -> dict[str, float]:
        """What the experts say of lips and sound; NaN where faces, frames or sound are too few."""
        figures = dict.fromkeys(("sync confidence", "sync distance", "audio-video offset", "offset error"), np.nan)
        if self._lips is not None:
            figures |= {"LSE-C": np.nan, "LSE-D": np.nan}
        there = np.asarray(np.isfinite(landmarks).all((1, 2)))
        enough = len(there) >= MIN_FRAMES and there.mean() >= LEAST_FOUND and len(sound) >= MIN_OVERLAP * SAMPLES
        if not enough or is_silent(sound):
            return figures
        if self._lips is not None and (judged := self._lips.judge(sound)) is not None:
            figures |= {"LSE-C": float(judged.confidence), "LSE-D": float(judged.distance)}
        expert, chance = self._judges.sync
        mouths = np.concatenate(self._mouths) if isinstance(expert, SyncNet) else _bridged(landmarks, there)
        score = audio_video_offset(mouths, sound, expert, chance=chance)
        figures |= {"sync confidence": score.confidence, "sync distance": 1.0 - float(score.curve.max())}
        if score.confidence > 0:  # silence and a still mouth have no offset
            figures |= {"audio-video offset": float(score.offset), "offset error": float(abs(score.offset))}
        return figures


def _bridged(landmarks: Floats, there: np.ndarray) -> Floats:
    """Landmarks without gaps: a straight line between the frames around each."""
    frames = np.arange(len(there))
    flat = landmarks.reshape(len(there), -1)
    filled = [np.interp(frames, frames[there], column[there]) for column in flat.T]
    return np.stack(filled, axis=1).reshape(landmarks.shape).astype(np.float32)


def is_silent(sound: Samples) -> bool:
    """Whether a sound, float32 [N], never exceeds -60 dB."""
    return not np.abs(sound).max(initial=0.0) > FAINTEST


def loudness(sound: Samples, frames: int) -> Floats:
    """Root mean square of the sound of each frame, float32 [frames]; 0 beyond its end."""
    part = sound[: frames * SAMPLES].astype(np.float64)
    padded = np.pad(part, (0, frames * SAMPLES - len(part)))
    return np.sqrt(np.square(padded).reshape(frames, SAMPLES).mean(1)).astype(np.float32)


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
                faces.update(part)
            if judges.features is not None and seen < FEATURE_FRAMES:
                with found.part("features"):
                    features[name].append(judges.features(part))
        seen += count
    if not seen:
        raise FctfgError("there are no frames to measure")
    face, driver = made_face.finish(), shown_face.finish()
    landmarks, vectors = face.landmarks, face.vectors
    frames, there = len(landmarks), np.isfinite(landmarks).all((1, 2))
    with found.part("motion"):
        heard = None if footage.sound is None else loudness(footage.sound, frames)
        settings = made_face.side, footage.is_reference, footage.says_drivers, footage.skipped, heard
        moving, found.curves = motion_figures(landmarks, driver.landmarks, *settings)
    with found.part("sync"):
        synced = {} if footage.sound is None else made_face.lip_sync(landmarks, footage.sound)
    if footage.sound is not None and is_silent(footage.sound):
        found.notes.append("its sound is silent")
    with found.part("recogniser"):
        source = judges.portrait(footage.source)
    found.embeddings = {"made": vectors, "source": source}
    found.features = {name: np.concatenate(each).astype(np.float16) for name, each in features.items() if each}
    kept = np.mean(csim(vectors, np.broadcast_to(source, vectors.shape))) if len(source) and len(vectors) else np.nan
    found.figures = {
        **pictures.figures(),
        **moving,
        "gaze error": gaze_error(face.gaze[footage.skipped :], driver.gaze[footage.skipped :]),
        **synced,
        f"CSIM[{judges.recogniser_name}]": float(kept),
        "faces found": float(there.mean()),
    }
    if footage.is_made:
        found.figures["generation"] = 1000 * found.seconds["generation"] / frames
    if (lost := int((~np.isfinite(driver.landmarks).all((1, 2))).sum())) > 0:
        found.notes.append(f"no face was found in {lost} of {frames} frames of the driver")
    if (lost := frames - int(there.sum())) > 0:
        found.notes.append(f"no face was found in {lost} of {frames} frames of the result")
    return found

"""How good generated clips of rendered people are: against the true frames, and against the rendered jaw."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fctfg.data.manifest import Clip
from fctfg.data.shards import ClipReader
from fctfg.demo_corpus import truth
from fctfg.errors import FctfgError
from fctfg.faces.detector import DlibDetector
from fctfg.faces.landmarks import enlarged
from fctfg.faces.openings import mouth_opening
from fctfg.inference import TalkingFace
from fctfg.media import FPS, SAMPLE_RATE
from fctfg.metrics.correlation import pearson
from fctfg.metrics.psnr import psnr
from fctfg.metrics.ssim import ssim
from fctfg.ops.mouth import transplant_mouth
from fctfg.ops.pixels import to_images, to_pixels

TILE = 128  # pixels: side of a frame in the comparing picture


def measured_jaw(frames: Iterable[np.ndarray], detector: DlibDetector) -> np.ndarray:
    """Mouth opening of the largest face in each frame, uint8 [S, S, 3]: float64 [T], NaN where no face was found."""
    landmarks = []
    for picture in map(enlarged, frames):
        faces = detector.detect(picture)
        nobody = np.full((68, 2), np.nan, np.float32)
        landmarks.append(detector.landmarks68(picture, faces[0].box) if faces else nobody)
    return mouth_opening(np.stack(landmarks))


def rendered_jaw(corpus: Path, clip: Clip) -> np.ndarray:
    """Jaw opening with which the frames of a clip were rendered.

    Args:
        corpus: the corpus, with `NAME.json` beside `NAME.mp4`.
        clip: made from one of its videos.

    Returns:
        [n_frames], 0 = closed.

    Raises:
        FctfgError: the file is missing or shorter than the clip.
    """
    jaw: np.ndarray = truth(corpus / clip.source)["jaw"]
    first = round(clip.start * FPS)
    if len(jaw) < first + clip.n_frames:
        raise FctfgError(f"the ground truth of {corpus / clip.source} is shorter than the clip; prepare the data again")
    return jaw[first : first + clip.n_frames]


def _after_the_source(made: np.ndarray, true: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Generated frames, true ones, and the source in the place of each: [T - 1, 3, H, W], without the source itself,
    since copying it would be perfect there."""
    reference = to_images(true)
    return to_images(made)[1:], reference[1:], reference[:1].expand_as(reference[1:])


def compare_frames(made: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Generated against true frames, uint8 [T, H, W, 3] each, whose first one was the source.

    Returns:
        `psnr` (dB) and `ssim`, and `psnr_copy` and `ssim_copy` of showing the source all the time. The first frame
        does not count.
    """
    images, reference, copied = _after_the_source(made, true)
    return {
        "psnr": float(psnr(images, reference).mean()),
        "ssim": float(ssim(images, reference).mean()),
        "psnr_copy": float(psnr(copied, reference).mean()),
        "ssim_copy": float(ssim(copied, reference).mean()),
    }


def compare_faces(made: np.ndarray, true: np.ndarray, boxes: np.ndarray) -> dict[str, float]:
    """Generated against true frames within the box of the face, where most of what moves is.

    A background that stands still is perfect in the copied source, so that over whole frames the copy gains with every
    pixel that the face leaves free.

    Args:
        made: uint8 [T, H, W, 3].
        true: uint8 [T, H, W, 3], whose first one was the source and does not count.
        boxes: [T, 4], the face in the true frames as (x0, y0, x1, y1), fractions of the frame.

    Returns:
        `psnr_face` and `psnr_face_copy`, of showing the source all the time, in dB.
    """
    images, reference, copied = _after_the_source(made, true)
    x0, y0, x1, y1 = torch.from_numpy(boxes[1:]).unbind(1)
    rows, columns = ((torch.arange(size) + 0.5) / size for size in reference.shape[2:])
    inside_y = (rows >= y0[:, None]) & (rows <= y1[:, None])  # [T - 1, H]
    inside_x = (columns >= x0[:, None]) & (columns <= x1[:, None])  # [T - 1, W]
    face = (inside_y[:, None, :, None] & inside_x[:, None, None, :]).expand_as(reference)
    scale = 10 * face.float().mean((1, 2, 3)).log10()  # the error is averaged over the face only
    return {
        name: float((psnr(frames.where(face, reference), reference) + scale).mean())
        for name, frames in (("psnr_face", images), ("psnr_face_copy", copied))
    }


def _other_mouths(frames: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The frames with the mouths of half the clip away, as `data.decoys` shows them in training."""
    images, places = to_images(frames), torch.from_numpy(points)
    shift = len(frames) // 2
    return to_pixels(transplant_mouth(images, places, images.roll(shift, 0), places.roll(shift, 0)))


def measure_clip(
    model: TalkingFace, data: ClipReader, corpus: Path | None, clip: Clip, other: Clip | None, detector: DlibDetector
) -> dict[str, float]:
    """Generates a clip from its first frame, driven by itself, and measures it.

    Args:
        model: generates.
        data: reads the prepared data set; the clip is held in memory as a whole.
        corpus: the rendered corpus that it was prepared from; None measures no jaw, and needs no other clip.
        clip: source, driver, and the right sound.
        other: a clip of another person, whose sound is the wrong one.
        detector: finds the landmarks of the jaw.

    Returns:
        What `compare_frames` and `compare_faces` give for the clip driven by itself, with its own sound (`psnr`, ...),
        and with its own sound but the driver's mouths exchanged for those of another moment (`psnr_hidden_lips`).
        Correlations of the measured with the rendered jaw opening: `jaw` and `jaw_hidden_lips` likewise,
        `jaw_swapped_sound` and `jaw_hidden_lips_swapped_sound` when the driver stays and the sound is the other clip's,
        `jaw_of_swapped_sound` of the former's frames with that clip's jaw, and `jaw_true_frames`, what the measurement
        itself can reach; NaN where no face was found. `faces_found`: share of the frames with its own sound in which
        one was. With the other sound, the length is that of the shorter clip.

    Raises:
        FctfgError: a file is missing or damaged, or the ground truth is shorter than the clip.
    """
    true = data.whole(clip)
    hidden = _other_mouths(true, data.track(clip)["points"])

    def speaks(audio: np.ndarray, driver: np.ndarray) -> np.ndarray:
        samples = audio[: round(len(driver) * SAMPLE_RATE / FPS)]
        return np.stack(list(model.animate(true[0], samples, driver, batch=8)))

    sound = data.sound(clip)
    own, unseen = speaks(sound, true), speaks(sound, hidden)
    figures = compare_frames(own, true) | compare_faces(own, true, data.track(clip)["box"])
    figures["psnr_hidden_lips"] = compare_frames(unseen, true)["psnr"]
    if corpus is None or other is None:
        return figures
    wrong = data.sound(other)
    jaw, other_jaw = rendered_jaw(corpus, clip), rendered_jaw(corpus, other)
    both = min(clip.n_frames, other.n_frames)
    swapped, unseen_swapped = speaks(wrong, true[:both]), speaks(wrong, hidden[:both])
    opening, opening_swapped = measured_jaw(own, detector), measured_jaw(swapped, detector)
    return figures | {
        "jaw": pearson(opening, jaw),
        "jaw_hidden_lips": pearson(measured_jaw(unseen, detector), jaw),
        "jaw_swapped_sound": pearson(opening_swapped, jaw[:both]),
        "jaw_hidden_lips_swapped_sound": pearson(measured_jaw(unseen_swapped, detector), jaw[:both]),
        "jaw_of_swapped_sound": pearson(opening_swapped, other_jaw[:both]),
        "jaw_true_frames": pearson(measured_jaw(true, detector), jaw),
        "faces_found": float(np.isfinite(opening).mean()),
    }


def picture(model: TalkingFace, data: ClipReader, clips: Sequence[Clip], moments: int = 4) -> np.ndarray:
    """What a model makes of clips driven by themselves with their own sound, to be looked at.

    Args:
        model: generates.
        data: reads the prepared data set.
        clips: one pair of rows each: the true frames above, the generated ones below.
        moments: frames of each clip, evenly spread; they follow the source, its first frame, which stands above alone.

    Returns:
        uint8 [2 * len(clips) * 128, (1 + moments) * 128, 3].
    """
    rows = []
    for clip in clips:
        true = data.whole(clip)
        made = np.stack(list(model.animate(true[0], data.sound(clip), true, batch=8)))
        shown = np.linspace(0, clip.n_frames - 1, moments + 1).round().astype(int)[1:]
        blank = np.full_like(true[:1], 255)
        for first, frames in ((true[:1], true), (blank, made)):
            tiles = [Image.fromarray(tile) for tile in np.concatenate([first, frames[shown]])]
            rows.append(np.concatenate([tile.resize((TILE, TILE), Image.Resampling.BICUBIC) for tile in tiles], axis=1))
    return np.concatenate(rows)


def partners(clips: Sequence[Clip]) -> list[Clip]:
    """For each clip one of another person: the first one from half the list further on.

    Raises:
        FctfgError: there is only one person.
    """
    found = []
    for index, clip in enumerate(clips):
        turned = [clips[(index + len(clips) // 2 + step) % len(clips)] for step in range(len(clips))]
        other = next((one for one in turned if one.identity != clip.identity), None)
        if other is None:
            raise FctfgError(f"all {len(clips)} clips show '{clip.identity}'; swapped sound needs a second person")
        found.append(other)
    return found


def summary(rows: Sequence[Mapping[str, float]], people: Sequence[str]) -> dict[str, dict[str, float]]:
    """Mean over people of each figure, each person's being the mean of its clips; clips of one person are alike.

    Args:
        rows: figures of each clip, the same ones; what is not finite does not count.
        people: whose clip it is.

    Returns:
        `mean`, its `standard_error`, and how many `people` and `clips` could be measured, by figure.
    """
    result = {}
    for name in rows[0]:
        clips: dict[str, list[float]] = {}
        for row, person in zip(rows, people, strict=True):
            if math.isfinite(row[name]):
                clips.setdefault(person, []).append(row[name])
        values = np.array([np.mean(figures) for figures in clips.values()])
        n = len(values)
        mean = float(values.mean()) if n else math.nan
        error = float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
        measured = sum(map(len, clips.values()))
        result[name] = {"mean": mean, "standard_error": error, "people": n, "clips": measured}
    return result

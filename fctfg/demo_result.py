"""What the demo generates for a person and a voice that no stage has seen, and how good it is."""

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fctfg.atomic import atomic_path, make_folder, write_json
from fctfg.data.manifest import Clip, read_manifest
from fctfg.data.shards import ClipReader
from fctfg.errors import FctfgError
from fctfg.faces.detector import DlibDetector
from fctfg.faces.landmarks import enlarged
from fctfg.held_out import compare_frames, measured_jaw, rendered_jaw
from fctfg.media import FPS, SAMPLE_RATE, read_frames, write_image, write_video
from fctfg.metrics.correlation import pearson

Generate = Callable[[Path, Path, Path, Path], None]
"""Generates a video from portrait, sound and driver: `generate(portrait, audio, driver, video)`."""


@dataclass(frozen=True)
class Figures:
    """Measured on one generated clip.

    Attributes:
        clip: id of the clip whose first frame is the source, and which drives with its own sound.
        identity: the person.
        frames: frames compared.
        psnr, ssim: generated against true frames; dB and 1.
        psnr_copy, ssim_copy: the same when the source frame is shown all the time.
        jaw_generated: correlation of the jaw opening measured in the generated frames with the rendered one; None when
            it could not be measured.
        jaw_true: the same measured in the true frames: what the measurement itself can reach.
        faces_found: share of generated frames in which a face was found.
    """

    clip: str
    identity: str
    frames: int
    psnr: float
    ssim: float
    psnr_copy: float
    ssim_copy: float
    jaw_generated: float | None
    jaw_true: float | None
    faces_found: float


def make_result(data: Path, corpus: Path, out: Path, generate: Generate) -> Figures:
    """Generates the first clip of the test split from its first frame, and measures it.

    Args:
        data: the prepared data set.
        corpus: the folder it was prepared from, with the ground truth beside each clip.
        out: folder for `portrait.png`, `generated.mp4`, `compared.mp4` (source, truth and result side by side, with
            sound), `jaw.json` (the curves) and `figures.json`.
        generate: makes the video.

    Raises:
        FctfgError: there is no test clip, or a file is damaged.
    """
    manifest = read_manifest(data).kept("test")
    if not len(manifest):
        raise FctfgError(f"{data} has no clip in its test split; prepare it from a corpus that holds people out")
    clip, reader = manifest[0], ClipReader(manifest)
    make_folder(out)
    true = reader.whole(clip)
    portrait, video, film = out / "portrait.png", out / "generated.mp4", out / "driver.mov"
    write_image(portrait, true[0])
    with atomic_path(film) as temporary:
        temporary.write_bytes(reader.film(clip))
    generate(portrait, film, film, video)
    made = np.stack(list(read_frames(video)))
    count = min(len(made), len(true))
    true, made = true[:count], made[:count]
    figures, curves = _measure(clip, true, made, rendered_jaw(corpus, clip)[:count])
    sound = reader.sound(clip)
    write_video(out / "compared.mp4", _side_by_side(true, made), audio=sound[: round(count / FPS * SAMPLE_RATE)])
    write_json(out / "jaw.json", curves)
    write_json(out / "figures.json", asdict(figures))
    return figures


def read_figures(out: Path) -> Figures:
    """Reads what `make_result` has measured."""
    return Figures(**json.loads((out / "figures.json").read_text(encoding="utf-8")))


def _measure(clip: Clip, true: np.ndarray, made: np.ndarray, jaw: np.ndarray) -> tuple[Figures, dict[str, list[float]]]:
    """Compares frames, uint8 [T, H, W, 3] each, and the jaw opening [T]."""
    detector = DlibDetector()
    measured, possible = measured_jaw(made, detector), measured_jaw(true, detector)
    generated, reachable = (
        r if math.isfinite(r := pearson(opening, jaw)) else None for opening in (measured, possible)
    )
    figures = Figures(
        clip=clip.id,
        identity=clip.identity,
        frames=len(true),
        **compare_frames(made, true),
        jaw_generated=generated,
        jaw_true=reachable,
        faces_found=float(np.isfinite(measured).mean()),
    )
    curves = {"rendered": jaw, "true frames": possible, "generated frames": measured}
    return figures, {name: curve.tolist() for name, curve in curves.items()}


def _side_by_side(true: np.ndarray, made: np.ndarray) -> Iterable[np.ndarray]:
    source = enlarged(true[0])
    for true_frame, made_frame in zip(true, made, strict=True):
        yield np.concatenate([source, enlarged(true_frame), enlarged(made_frame)], axis=1)

"""What the demo's report says."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fctfg.data.manifest import SPLITS, read_manifest
from fctfg.demo_result import read_figures
from fctfg.errors import FctfgError
from fctfg.media import FPS
from fctfg.report import (
    Block,
    Chart,
    Curves,
    Facts,
    Gallery,
    Notice,
    Section,
    Table,
    Text,
    Timeline,
    duration_text,
    write_report,
)
from fctfg.report_media import Media

STATEMENT = (
    "This is a smoke run: small networks, a few minutes of training, faces that were rendered. It shows that every "
    "part works and fits the next. It says nothing about real faces, nor about what the networks reach at full size."
)

STAGES = {
    "sync_expert": (
        "Stage 0: the lip-sync expert",
        "Learns which sound belongs to five frames of a mouth. Accuracy: the true window of sound against one from "
        "another moment of the same clip, on people it has not seen; guessing gives 0.5.",
    ),
    "identity_expert": (
        "Stage 0: the identity expert",
        "Learns to tell the training people apart (ArcFace). Measured on other people: the cosine of two frames of one "
        "person (same) and, where there are several people, of two of them (different).",
    ),
    "generator": (
        "Stage 1: the generator",
        "StyleGAN2 learns to make faces from noise, against a discriminator.",
    ),
    "encoder": (
        "Stage 2: the encoder",
        "pSp learns to find the code from which the generator makes a given face; the generator learns with it.",
    ),
    "hypernetwork": (
        "Stage 2: the hypernetwork",
        "HyperStyle learns to adjust the generator's weights to a face, in a few refinements.",
    ),
    "talking_face": (
        "Stage 3: the talking face",
        "The whole network, end to end, with the paper's six terms: identity from one frame, motion from the driving "
        "frames, lips from the sound.",
    ),
}

CAPTIONS = {
    "mouths": "Mouths as the lip-sync expert sees them: five frames a row",
    "aligned": "Aligned faces: two frames of one person, one above the other",
    "samples_truncated_0.7": "Made from noise, truncation 0.7",
    "inversion": "Above: given faces. Below: their reconstructions",
    "source_driver_result_target": "Rows: source, driving frame, result, target",
    "source_canonical": "Above: source. Below: its canonical image (the motion left out; people should share a pose)",
    "video": "Validation clip: source, driver, result, canonical image",
    "mel": "Mel spectrogram of its sound, low frequencies below",
}

WIDE = ("video", "mel")


def write_demo_report(path: Path, out: Path, steps: Sequence[tuple[str, float]], stages: Sequence[str]) -> None:
    """Writes the report of a complete demo.

    Args:
        path: the HTML file.
        out: the demo's folder.
        steps: title and duration of each step, seconds.
        stages: names of the runs, in order.

    Raises:
        FctfgError: something in the folder is missing or damaged.
    """
    total = sum(seconds for _, seconds in steps)
    sections = [
        Section(
            "Result", [*_measured(out / "result"), Text(f"Everything but the installation: {duration_text(total)}.")]
        ),
        _steps(out / "data", steps),
        *(_stage(out / stage, *STAGES[stage]) for stage in stages),
        *_packaged(out / "packaged"),
        Section("What this shows and what not", [Notice(STATEMENT)]),
    ]
    lead = (
        "From talking clips to a talking face, once, with everything small: the clips were prepared, every stage was "
        "trained, and a person whom no stage has seen was made to speak with a voice that none has heard."
    )
    write_report(path, "fctfg: the whole road once", lead, sections)


def _measured(folder: Path) -> list[Block]:
    """What `make_result` has left in a folder: the video, the figures, the movement of the mouth."""
    figures = read_figures(folder)
    curves = json.loads((folder / "jaw.json").read_text(encoding="utf-8"))
    return [
        Media(
            folder / "compared.mp4",
            f"Held-out person {figures.identity}, clip {figures.clip}, with its sound. Left: the source, one frame. "
            "Middle: the true clip, which drives. Right: generated.",
        ),
        Facts(
            [
                (f"{figures.psnr:.1f} dB", "PSNR, generated"),
                (f"{figures.psnr_copy:.1f} dB", "PSNR, source frame copied"),
                (_number(figures.jaw_generated), "jaw correlation, generated"),
                (_number(figures.jaw_true), "jaw correlation, true frames"),
            ]
        ),
        Table(
            ("", "PSNR, dB", "SSIM", "jaw correlation"),
            [
                ("generated", f"{figures.psnr:.2f}", f"{figures.ssim:.3f}", _number(figures.jaw_generated)),
                ("source frame copied", f"{figures.psnr_copy:.2f}", f"{figures.ssim_copy:.3f}", _number(None)),
                ("true frames", _number(None), "1.000", _number(figures.jaw_true)),
            ],
            caption=f"{figures.frames - 1} frames of clip {figures.clip}, against the true ones",
        ),
        Text(
            "Jaw correlation: the opening of the mouth is measured from landmarks in every frame and compared with the "
            "one that the renderer used. What the measurement itself can reach stands in the last row. A face was "
            f"found in {100 * figures.faces_found:.0f} % of the generated frames."
        ),
        Chart(
            "Jaw opening over time (s), each curve with mean 0 and deviation 1",
            [(name, _standardized(curve)) for name, curve in curves.items()],
        ),
    ]


def _packaged(folder: Path) -> list[Section]:
    """The same clip with the weights that come with the package, where it has some."""
    if not folder.is_dir():
        return []
    about = "The same person, clip and measurement with the weights that come with the package, from a much longer run."
    return [Section("For comparison: the weights in the package", [Text(about), *_measured(folder)])]


def _steps(data: Path, steps: Sequence[tuple[str, float]]) -> Section:
    manifest = read_manifest(data)
    rows = []
    for split in SPLITS:
        kept = manifest.kept(split)
        seconds = sum(kept.column("n_frames")) / FPS
        rows.append((split, str(len(kept.identities)), str(len(kept)), duration_text(seconds)))
    rejected = [clip for clip in manifest if clip.reject_reason is not None]
    blocks: list[Block] = [
        Timeline(steps),
        Table(
            ("split", "people", "clips", "length"),
            rows,
            caption=f"The prepared clips, {manifest.size} x {manifest.size} pixels",
        ),
    ]
    if rejected:
        reasons = "; ".join(f"{clip.source}: {clip.reject_reason}" for clip in rejected)
        blocks.append(Text(f"Not used: {reasons}."))
    return Section("What was done", blocks)


def _stage(run: Path, title: str, about: str) -> Section:
    card = _card(run)
    blocks: list[Block] = [Text(about)]
    sizes = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in card["parameters"].items())
    blocks.append(Text(f"{card['iterations']} iterations. Parameters: {sizes}."))
    blocks += [Text(f"Note: {note}.") for note in card.get("notes", [])]
    blocks.append(Curves(run / "metrics.csv", leave_out=("step", "speed")))
    blocks.append(Gallery(_last_samples(run / "samples")))
    return Section(title, blocks)


def _card(run: Path) -> dict[str, Any]:
    file = run / "export" / "card.json"
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FctfgError(f"{file} is missing or damaged; delete {run} and run again") from error


def _last_samples(folder: Path) -> list[Media]:
    """The latest picture or video of each name."""
    latest: dict[str, Path] = {}
    for file in sorted(folder.iterdir()) if folder.is_dir() else []:
        if match := re.fullmatch(r"(.+)_(\d{6,})\.(png|mp4)", file.name):
            latest[match[1]] = file
    names = sorted(latest, key=lambda name: WIDE.index(name) if name in WIDE else len(WIDE))
    return [Media(latest[name], CAPTIONS.get(name, name.replace("_", " ")), wide=name in WIDE) for name in names]


def _standardized(curve: Sequence[float | None]) -> list[tuple[float, float]]:
    """(time in s, value) of each frame, the values with mean 0 and deviation 1; NaN where there is none."""
    values = np.asarray([np.nan if value is None else value for value in curve], np.float64)
    known = values[np.isfinite(values)]
    if known.size and known.std() > 0:
        values = (values - known.mean()) / known.std()
    return [(index / FPS, float(value)) for index, value in enumerate(values)]


def _number(value: float | None) -> str:
    return "\u2013" if value is None else f"{value:.2f}"

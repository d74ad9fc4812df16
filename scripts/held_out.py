"""Figures of a talking-face run on held-out people, with those of the jaw where they were rendered.

    python scripts/held_out.py --weights runs/big/talking_face --data data/big --corpus corpus --out held_out.json

Each test clip is generated from its first frame, driven by itself: with its own sound, with the sound of another
person, and both again with the driver's lips exchanged. `fctfg/held_out.py` says what each figure is.
"""

import argparse
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from fctfg.atomic import write_json
from fctfg.data.manifest import SPLITS, Clip, read_manifest
from fctfg.data.shards import ClipReader
from fctfg.errors import FctfgError
from fctfg.faces.detector import DlibDetector
from fctfg.held_out import measure_clip, partners, picture, summary
from fctfg.inference import TalkingFace
from fctfg.media import write_image

PEOPLE_SHOWN = 8  # in the picture


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, help="run folder or file; none: the weights in the package")
    parser.add_argument("--data", type=Path, required=True, help="prepared data set")
    parser.add_argument("--corpus", type=Path, help="rendered corpus that it was prepared from; none: no jaw figures")
    parser.add_argument("--split", choices=SPLITS, default="test", help="whose clips")
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    parser.add_argument("--picture", type=Path, help="PNG to write: true and generated frames of one clip a person")
    options = parser.parse_args()
    try:
        measure(options)
    except FctfgError as error:
        raise SystemExit(f"error: {error}") from error


def measure(options: argparse.Namespace) -> None:
    """Generates, measures and writes what the options ask for."""
    model, detector = TalkingFace.from_pretrained(options.weights), DlibDetector()
    manifest = read_manifest(options.data).kept(options.split)
    reader, clips = ClipReader(manifest), list(manifest)
    if not clips:
        raise FctfgError(f"{options.data} has no clip in its split '{options.split}'")
    others = [None] * len(clips) if options.corpus is None else partners(clips)
    pairs = list(zip(clips, others, strict=True))
    rows = [measure_clip(model, reader, options.corpus, clip, other, detector) for clip, other in track(pairs, "clips")]
    figures = summary(rows, [clip.identity for clip in clips])
    named = [
        {"clip": clip.id, "swapped_with": other and other.id} | row
        for (clip, other), row in zip(pairs, rows, strict=True)
    ]
    write_json(options.out, {"split": options.split, "summary": figures, "clips": named})
    if options.picture is not None:
        first: dict[str, Clip] = {}
        for clip in clips:
            first.setdefault(clip.identity, clip)
        write_image(options.picture, picture(model, reader, list(first.values())[:PEOPLE_SHOWN]))
    table = Table("figure", "mean over people", "standard error", "people", "clips")
    for name, figure in figures.items():
        values = (f"{figure[key]:.3f}" for key in ("mean", "standard_error"))
        table.add_row(name, *values, str(figure["people"]), str(figure["clips"]))
    Console().print(table)


if __name__ == "__main__":
    main()

"""Figures of a talking-face run on held-out people, with those of the jaw where they were rendered.

    python scripts/held_out.py --weights runs/big/talking_face --data data/big --corpus corpus --out held_out.json

Each test clip is generated from its first frame, driven by itself: with its own sound, with the sound of another
person, and with its own sound but the driver's lips exchanged. `fctfg/held_out.py` says what each figure is.
"""

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from fctfg.atomic import atomic_path
from fctfg.data.manifest import SPLITS, read_manifest
from fctfg.faces.detector import DlibDetector
from fctfg.held_out import for_json, measure_clip, partners, picture, summary
from fctfg.inference import TalkingFace
from fctfg.media import write_image


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
    model, detector = TalkingFace.from_pretrained(options.weights), DlibDetector()
    clips = list(read_manifest(options.data).kept(options.split))
    if not clips:
        raise SystemExit(f"{options.data} has no clip in its split '{options.split}'")
    others = clips if options.corpus is None else partners(clips)
    pairs = list(zip(clips, others, strict=True))
    rows = [
        measure_clip(model, options.data, options.corpus, clip, other, detector)
        for clip, other in track(pairs, "clips")
    ]
    figures = summary(rows)
    named = [{"clip": clip.id, "swapped_with": other.id} | row for (clip, other), row in zip(pairs, rows, strict=True)]
    content = for_json({"split": options.split, "summary": figures, "clips": named})
    with atomic_path(options.out) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n")
    if options.picture is not None:
        one_each = list({clip.identity: clip for clip in reversed(clips)}.values())[::-1]
        write_image(options.picture, picture(model, options.data, one_each))
    table = Table("figure", "mean", "standard error", "clips")
    for name, figure in figures.items():
        table.add_row(name, f"{figure['mean']:.3f}", f"{figure['standard_error']:.3f}", f"{figure['clips']:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()

"""Figures of a talking-face run on the held-out people of a rendered corpus.

    python scripts/held_out.py --weights runs/big/talking_face --data data/big --corpus corpus --out held_out.json

Each test clip is generated from its first frame, driven by itself: with its own sound, and with the sound of another
clip (the driver stays). The jaw opening is measured in the generated frames by dlib's landmarks and compared with the
one the clip was rendered with. PSNR and SSIM stand beside those of showing the first frame all the time.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from fctfg.data.clip import read_clip
from fctfg.data.manifest import Clip, read_manifest
from fctfg.demo_result import enlarged, rendered_jaw
from fctfg.faces.detector import DlibDetector
from fctfg.inference import TalkingFace
from fctfg.media import read_wav
from fctfg.metrics.jaw import measure_jaw_opening, pearson
from fctfg.metrics.psnr import psnr
from fctfg.metrics.ssim import ssim
from fctfg.ops.pixels import to_images


def compare(model: TalkingFace, data: Path, corpus: Path, clips: list[Clip]) -> list[dict[str, float]]:
    """One row of figures per clip; each clip's other sound is that of the clip half the list away."""
    detector = DlibDetector()
    rows = []
    for index, clip in enumerate(track(clips, "clips")):
        other = clips[(index + len(clips) // 2) % len(clips)]
        count = min(clip.n_frames, other.n_frames)
        true = read_clip(data / clip.path, range(count))
        samples = count * 640
        sounds = [read_wav(data / one.audio)[:samples] for one in (clip, other)]
        right, swapped = (np.stack(list(model.animate(true[0], sound, true, batch=8))) for sound in sounds)
        images, reference = to_images(right)[1:], to_images(true)[1:]
        copied = to_images(true)[:1].expand_as(reference)
        jaw, other_jaw = rendered_jaw(corpus, clip)[:count], rendered_jaw(corpus, other)[:count]
        measured, measured_swapped, measured_true = (
            measure_jaw_opening(map(enlarged, frames), detector) for frames in (right, swapped, true)
        )
        rows.append(
            {
                "psnr": float(psnr(images, reference).mean()),
                "psnr_copy": float(psnr(copied, reference).mean()),
                "ssim": float(ssim(images, reference).mean()),
                "ssim_copy": float(ssim(copied, reference).mean()),
                "jaw_right_sound": pearson(measured, jaw),
                "jaw_swapped_sound": pearson(measured_swapped, jaw),
                "jaw_of_the_swapped_sound": pearson(measured_swapped, other_jaw),
                "jaw_true_frames": pearson(measured_true, jaw),
            }
        )
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, help="run folder or file; none: the weights in the package")
    parser.add_argument("--data", type=Path, required=True, help="prepared data set")
    parser.add_argument("--corpus", type=Path, required=True, help="rendered corpus that it was prepared from")
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    options = parser.parse_args()
    torch.manual_seed(0)
    model = TalkingFace.from_pretrained(options.weights)
    clips = list(read_manifest(options.data).kept("test"))
    rows = compare(model, options.data, options.corpus, clips)
    mean = {name: float(np.nanmean([row[name] for row in rows])) for name in rows[0]}
    options.out.write_text(json.dumps({"clips": len(rows), "mean": mean, "rows": rows}, indent=2) + "\n")
    for name, value in mean.items():
        print(f"{name:26s} {value:7.3f}")


if __name__ == "__main__":
    main()

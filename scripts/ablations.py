"""The paper's ablations at tiny size on the rendered clips in the package, measured on held-out people.

    python scripts/ablations.py --out runs/ablations --iterations 100

Every variant is stage 3 from one start: generator, visual encoder and audio encoder of the weights in the package, new
latent networks, and a discriminator that has learned from that generator. A run that is complete is not done again.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from fctfg import config_files
from fctfg.atomic import write_json
from fctfg.data.manifest import Clip, read_manifest
from fctfg.data.shards import ClipReader
from fctfg.demo_corpus import root
from fctfg.faces.detector import DlibDetector
from fctfg.held_out import measure_clip, partners, summary
from fctfg.inference import DEFAULT_WEIGHTS, TalkingFace
from fctfg.losses.orthogonality import orthogonality
from fctfg.ops.pixels import to_images
from fctfg.ops.windows import mel_windows
from fctfg.weights.artifact import build, load_artifact, save_artifact

VARIANTS: dict[str, tuple[str, ...]] = {
    "paper": (),
    "no_orthogonality": ("ablations/no_orthogonality",),
    "cosine": ("ablations/cosine",),
    "video_discriminator": ("ablations/video_discriminator",),
    "lstm": ("ablations/lstm",),
    "lstm_video_discriminator": ("ablations/lstm", "ablations/video_discriminator"),
}
SHOWN = ("jaw", "jaw_hidden_lips", "jaw_swapped_sound", "psnr", "ssim", "orthogonality", "cosine", "canonical_spread")


def fctfg(*arguments: object) -> None:
    """One call of the command line."""
    subprocess.run([sys.executable, "-m", "fctfg", *map(str, arguments)], check=True)


def train(out: Path, run: str, configs: tuple[str, ...], epochs: int, batches: int, *settings: str) -> Path:
    """One run of `fctfg train` below `out`, unless it is complete."""
    exported = (out / run / "export" / "card.json").is_file()
    done = load_artifact(out / run).card["iterations"] if exported else 0
    if done < epochs * batches:
        files = [f"--config={config_files.path(name)}" for name in ("base", *configs)]
        length = f"--trainer.max_epochs={epochs}", f"--data.batches_per_epoch={batches}"
        fctfg("train", *files, f"--run={run}", f"--runs={out}", f"--data.root={out / 'data'}", *length, *settings)
    return out / run


@torch.no_grad()
def measure_codes(model: TalkingFace, data: ClipReader, clips: Sequence[Clip]) -> dict[str, float]:
    """What the canonical and the motion space hold, over clips driven by themselves (their first two seconds).

    Returns:
        `orthogonality` and `cosine`: the loss in both forms. `canonical_spread`: how much the canonical images of one
        clip's frames differ, as a share of how much the frames do (root mean squared differences from the mean); 0 is
        one canonical image for a whole clip.
    """
    network, rows = model.model, []
    for clip in clips:
        frames = to_images(data.whole(clip))[:50]
        mel = mel_windows(data.mel(clip), torch.arange(len(frames)))
        z_canonical = network.encode_source(frames[:1]).z_canonical
        z_motion = network.encode_motion(frames[None], mel[None])
        canonical = network.canonical_image(frames)
        spread = (canonical - canonical.mean(0)).norm() / (frames - frames.mean(0)).norm()
        forms = (orthogonality(z_canonical, z_motion, form) for form in ("mean", "cosine"))
        rows.append([*map(float, forms), float(spread)])
    return dict(zip(("orthogonality", "cosine", "canonical_spread"), np.mean(rows, axis=0).tolist(), strict=True))


def prepare(out: Path) -> tuple[str, ...]:
    """Data, experts and the discriminator; returns what stage 3 starts from, as arguments."""
    if not (out / "data").is_dir():
        fctfg("prepare", root(), "--out", out / "data", "--size", 64, "--licence", "CC0-1.0")
    settings = "--data.batch_size=4", "--model.learning_rate=1e-3"
    sync = train(out, "sync_expert", ("sync_expert", "tiny"), 1, 400, *settings)
    settings = "--data.batch_size=16", "--model.learning_rate=1e-3"
    identity = train(out, "identity_expert", ("identity_expert", "tiny"), 1, 100, *settings)
    start = f"--model.init_args.init_from.generator={DEFAULT_WEIGHTS}"
    settings = start, "--data.batch_size=4", "--model.init_args.r1_weight=0.1", "--model.learning_rate=1e-3"
    judged = train(out, "generator", ("generator", "tiny"), 1, 200, *settings)
    together = out / "start.safetensors"
    networks = {
        "generator": build(load_artifact(DEFAULT_WEIGHTS), "generator"),
        "discriminator": build(load_artifact(judged), "discriminator"),
    }
    save_artifact(together, networks, "generator", load_artifact(judged).card)
    roles = {
        "generator": together,
        "inversion": DEFAULT_WEIGHTS,
        "audio_encoder": DEFAULT_WEIGHTS,
        "sync_expert": sync,
        "identity_expert": identity,
    }
    return tuple(f"--model.init_args.init_from.{role}={path}" for role, path in roles.items())


def train_variant(out: Path, name: str, iterations: int, start: tuple[str, ...]) -> Path:
    """Stage 3 of one variant; its run."""
    settings = "--data.batch_size=4", "--model.generator_learning_rate=1e-3", "--model.ema_decay=0.98"
    return train(out, name, ("talking_face", "tiny", *VARIANTS[name]), 1, iterations, *start, *settings)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and of the table")
    parser.add_argument("--iterations", type=int, default=100, help="of each variant")
    options = parser.parse_args()
    start = prepare(options.out)
    runs = {name: train_variant(options.out, name, options.iterations, start) for name in VARIANTS}
    manifest, detector = read_manifest(options.out / "data").kept("test"), DlibDetector()
    reader, clips = ClipReader(manifest), list(manifest)
    found = {}
    for name, run in runs.items():
        model = TalkingFace.from_pretrained(run)
        pairs = zip(clips, partners(clips), strict=True)
        rows = [measure_clip(model, reader, root(), clip, other, detector) for clip, other in pairs]
        figures = summary(rows, [clip.identity for clip in clips])
        found[name] = {key: figure["mean"] for key, figure in figures.items()} | measure_codes(model, reader, clips)
        write_json(options.out / "ablations.json", {"iterations": options.iterations, "figures": found})
    table = Table("variant", *SHOWN)
    for name, values in found.items():
        table.add_row(name, *(f"{values[key]:.3f}" for key in SHOWN))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()

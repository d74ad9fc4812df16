"""The paper's ablations at tiny size on the rendered clips in the package, measured on held-out people.

    python scripts/ablations.py --out runs/ablations --iterations 300 --seeds 2

Every variant is stage 3 from one start: generator, visual encoder and audio encoder of the weights in the package, new
latent networks, and a discriminator that has learned from that generator. `fctfg evaluate` measures each, `fctfg
compare` the others with the paper's, seed by seed. A run or an evaluation that is complete is not done again.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from fctfg import config_files
from fctfg.data.manifest import Clip, read_manifest
from fctfg.data.shards import ClipReader
from fctfg.demo_corpus import root
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
def measure_codes(run: Path, data: ClipReader, clips: Sequence[Clip]) -> dict[str, float]:
    """`orthogonality` and `cosine`: the loss in both forms, mean of clips driven by themselves (two seconds)."""
    network, rows = TalkingFace.from_pretrained(run).model, []
    for clip in clips:
        frames = to_images(data.whole(clip))[:50]
        mel = mel_windows(data.mel(clip), torch.arange(len(frames)))
        z_canonical = network.encode_source(frames[:1]).z_canonical
        z_motion = network.encode_motion(frames[None], mel[None])
        rows.append(torch.stack([orthogonality(z_canonical, z_motion, form) for form in ("mean", "cosine")]))
    mean, cosine = torch.stack(rows).mean(0).tolist()
    return {"orthogonality": mean, "cosine": cosine}


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


def train_variant(out: Path, name: str, seed: int, iterations: int, start: tuple[str, ...]) -> Path:
    """Stage 3 of one variant; its run."""
    settings = "--data.batch_size=4", "--model.generator_learning_rate=1e-3", "--model.ema_decay=0.98"
    stage = "talking_face", "tiny", *VARIANTS[name]
    return train(out, f"{name}_{seed}", stage, 1, iterations, *start, *settings, f"--seed_everything={seed}")


def evaluate(run: Path, data: Path) -> None:
    """An evaluation of a run, beside it; only what is missing is measured."""
    fctfg("evaluate", "--weights", run, "--data", data, "--out", run / "evaluation", "--no-report")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and of the tables")
    parser.add_argument("--iterations", type=int, default=300, help="of each variant")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each variant")
    options = parser.parse_args()
    start = prepare(options.out)
    manifest = read_manifest(options.out / "data").kept("test")
    reader, clips = ClipReader(manifest), list(manifest)
    table = Table("variant", "seed", "orthogonality", "cosine", title="codes of held-out people")
    for seed in range(options.seeds):
        runs = []
        for name in VARIANTS:
            run = train_variant(options.out, name, seed, options.iterations, start)
            evaluate(run, options.out / "data")
            codes = measure_codes(run, reader, clips)
            table.add_row(name, str(seed), *(f"{value:.3f}" for value in codes.values()))
            runs.append(run)
        fctfg("compare", *runs, "--json", options.out / f"compared_{seed}.json")
    Console(width=160).print(table)


if __name__ == "__main__":
    main()

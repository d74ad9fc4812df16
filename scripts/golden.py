"""Compares fctfg's networks with what the reference implementations of published checkpoints give.

    python scripts/golden.py FOLDER [NAME ...]

FOLDER holds `golden.py` (inputs, golden outputs, the comparison), `weights.py` (checkpoints in the published layouts,
filled by a rule) and `layouts/`. Each checkpoint is written to a temporary file and loaded as a user would load it.
First the weights themselves are compared by their fingerprint. Where there are golden outputs, each one's error stands
beside its tolerance; for the other networks the layout must load completely and every output must be finite.
NAME limits the comparison to some of the checkpoints. The exit status is 1 when anything fails.
"""

import argparse
import importlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fctfg import weights as published
from fctfg.errors import FctfgError
from fctfg.losses.adversarial import r1_penalty
from fctfg.metrics.lse import lip_sync
from fctfg.models.hypernetwork import Deltas, add_deltas
from fctfg.ops.mel import mel_spectrogram
from fctfg.ops.mfcc import mfcc
from fctfg.ops.windows import MEL_FRAMES, window_start

TRUNCATION = 0.7  # of the golden image that is made with it
SHORT = slice(3000, 7321)  # samples of the sound whose mel spectrogram is the short one

LINE = "{:<28} {:<30} {:>9} {:>9}  {}"

Outputs = dict[str, Tensor]
Compute = Callable[[Path, Outputs, ModuleType], Outputs]  # checkpoint, inputs, the folder's `weights` -> outputs


class Row(NamedTuple):
    """One line of the report."""

    network: str
    output: str
    error: float | None
    tolerance: float | None
    verdict: str
    failed: bool


# ------------------------------------------------------------------------------------------------ what is computed


def _images_of_z(network: Any, z: Tensor, latent_avg: Tensor) -> Outputs:
    """What the mapping network gives, alone, truncated, and mixed at the third style."""
    w = network.mapping(z)
    truncated = latent_avg + TRUNCATION * (w[:1] - latent_avg)
    coarse, fine = w[:2, None].expand(-1, 3, -1), w[2:, None].expand(-1, network.n_styles - 3, -1)
    return {
        "w": w,
        "image_from_z_truncated": network(truncated[:, None].expand(-1, network.n_styles, -1)),
        "image_from_z_mixed_3": network(torch.cat([coarse, fine], dim=1)),
    }


def _path_lengths(network: nn.Module, codes: Tensor, noise: Tensor) -> Tensor:
    """|| J^T y || per image, the mean over styles under the root."""
    with torch.enable_grad():
        codes = codes.clone().requires_grad_()
        (gradient,) = torch.autograd.grad((network(codes) * noise).sum(), codes)
    return gradient.square().sum(2).mean(1).sqrt()


def rosinality_generator(path: Path, x: Outputs, weights: ModuleType) -> Outputs:
    """The moving average, and the generator beside it where the file has both."""
    networks = published.load_all(path, "stylegan2-rosinality")
    network = networks["generator"]
    found = {"image": network(x["w_plus"])} | _images_of_z(network, x["z"], weights.latent_avg())
    if "path_noise" in x:
        found["path_lengths"] = _path_lengths(network, x["w_plus"], x["path_noise"])
    if "generator_raw" in networks:
        found["image_of_g_not_ema"] = networks["generator_raw"](x["w_plus"])
    return found


def nvlabs_generator(path: Path, x: Outputs, _: ModuleType) -> Outputs:
    """NVIDIA's generator and discriminator, whose golden outputs are in one file."""
    network: Any = published.load(path, "stylegan2-nvlabs")
    found = {"image": network(x["w_plus"])} | _images_of_z(network, x["z"], network.latent_avg)
    return found | {"logits": published.load(path, "stylegan2-nvlabs-d")(x["images"])}


def rosinality_discriminator(path: Path, x: Outputs, _: ModuleType) -> Outputs:
    """Logits, their gradients at the images, and how R1 moves the parameters."""
    network, images = published.load(path, "stylegan2-rosinality-d"), x["images"].clone().requires_grad_()
    with torch.enable_grad():
        logits = network(images)
        (gradient,) = torch.autograd.grad(logits.sum(), images)
        r1 = r1_penalty(network, images)
        parameters = dict(network.named_parameters())
        gradients = torch.autograd.grad(r1, list(parameters.values()), allow_unused=True)
    norms = {key: torch.zeros(()) if g is None else g.norm() for key, g in zip(parameters, gradients, strict=True)}
    return {
        "logits": logits,
        "image_gradient": gradient,
        "r1": r1,
        "r1_per_image": gradient.square().sum((1, 2, 3)),
        "r1_parameter_gradient_norms": torch.stack([norms[key] for key in network.state_dict() if key in norms]),
    }


def psp(path: Path, x: Outputs, _: ModuleType) -> Outputs:
    """The inversion, and what the generator makes of it."""
    networks = published.load_all(path, "psp")
    codes = networks["visual_encoder"](x["image"])
    return {"codes": codes, "image": networks["generator"](codes)}


def hyperstyle(path: Path, x: Outputs, _: ModuleType) -> Outputs:
    """Two looks at the reconstruction; the offsets are those added up so far, one per convolution of the generator."""
    networks = published.load_all(path, "hyperstyle")
    found: Outputs = {}
    deltas: Deltas | None = None
    reconstruction = x["recon"]
    for iteration in (1, 2):
        deltas = add_deltas(deltas, networks["hypernetwork"](x["image"], reconstruction))
        reconstruction = networks["generator"](x["codes"], deltas=deltas)
        found[f"iteration_{iteration}.image"] = reconstruction
        found |= {f"iteration_{iteration}.delta_{i}": delta for i, delta in enumerate(deltas) if delta is not None}
    return found


def ir_se50(path: Path, x: Outputs, _: ModuleType) -> Outputs:
    """Aligned faces, and pSp's crop of a 256 px image."""
    network = published.load(path, "ir-se50")
    crop = F.adaptive_avg_pool2d(x["image"][:, :, 35:223, 32:220], 112)
    return {"embedding": network(x["face"]), "embedding_of_256px_image": network(crop)}


def wav2lip(path: Path, x: Outputs, _: ModuleType) -> Outputs:
    """The audio encoder of the generator."""
    return {"embedding": published.load(path, "wav2lip")(x["mel"])}


def wav2lip_syncnet(path: Path, x: Outputs, _: ModuleType) -> Outputs:
    """Both halves of the lip-sync expert."""
    audio, face = published.load(path, "wav2lip-syncnet")(x["mel"], x["face"])
    return {"audio": audio, "face": face}


def syncnet_v2(path: Path, x: Outputs, _: ModuleType) -> Outputs:
    """Both halves of SyncNet v2, what it hears, and the score of two feature tracks."""
    network: Any = published.load(path, "syncnet-v2")
    score = lip_sync(x["lip_track"], x["audio_track"])
    return {
        "audio": network.audio(x["mfcc"]),
        "lip": network.lips(x["lip"]),
        "mfcc": mfcc(x["wave"] / 32768.0),
        "track_offset": torch.tensor(score.offset),
        "track_confidence": score.confidence,
        "track_distance": score.distance,
    }


def mel(_: Path, x: Outputs, __: ModuleType) -> Outputs:
    """Wav2Lip's mel spectrogram, and where its inference starts the windows: the last one ends with the sound."""
    wave = x["wave"] / 32768.0
    found = {"mel": mel_spectrogram(wave), "mel_short": mel_spectrogram(wave[..., SHORT])}
    last = found["mel"].shape[-1] - MEL_FRAMES
    for fps in (25.0, 29.97):
        starts = [0]
        while starts[-1] < last:
            starts.append(min(window_start(len(starts), fps), last))
        found[f"window_starts_{fps:g}fps"] = torch.tensor(starts)
    return found


class Checkpoint(NamedTuple):
    """A published file: the layouts in it, and what is compared, by the name of the golden outputs."""

    layouts: tuple[str, ...]
    networks: dict[str, Compute]


CHECKPOINTS = {
    "mel": Checkpoint((), {"mel": mel}),
    "ir-se50": Checkpoint(("ir-se50",), {"ir-se50": ir_se50}),
    "wav2lip": Checkpoint(("wav2lip",), {"wav2lip": wav2lip}),
    "wav2lip-syncnet": Checkpoint(("wav2lip-syncnet",), {"wav2lip-syncnet": wav2lip_syncnet}),
    "syncnet-v2": Checkpoint(("syncnet-v2",), {"syncnet-v2": syncnet_v2}),
    "psp": Checkpoint(("psp",), {"psp": psp}),
    "hyperstyle": Checkpoint(("hyperstyle",), {"hyperstyle": hyperstyle}),
    "stylegan2-nvlabs-256": Checkpoint(
        ("stylegan2-nvlabs-256-g", "stylegan2-nvlabs-256-d"), {"stylegan2-nvlabs-256": nvlabs_generator}
    ),
} | {
    f"stylegan2-rosinality-{size}": Checkpoint(
        (f"stylegan2-rosinality-{size}-g", f"stylegan2-rosinality-{size}-d"),
        {
            f"stylegan2-rosinality-{size}": rosinality_generator,
            f"discriminator-rosinality-{size}": rosinality_discriminator,
        },
    )
    for size in (64, 256)
}


# ------------------------------------------------------------------------------------------------ how it is judged


def check_layout(folder: Path, name: str, weights: ModuleType) -> Row:
    """Whether the weights made here are those that the golden outputs were made with."""
    want = json.loads((folder / "layouts" / f"{name}.json").read_text(encoding="utf-8"))["sha256"]
    same = weights.fingerprint(weights.state_dict(name)) == want
    return Row(name, "fingerprint of the weights", None, None, "equal" if same else "DIFFERS", not same)


def check_outputs(name: str, compute: Compute, path: Path, golden: ModuleType, weights: ModuleType) -> Iterator[Row]:
    """One row for each golden output, or one for the network that has none."""
    try:
        with torch.no_grad():
            got = compute(path, golden.inputs(name), weights)
    except FctfgError as refusal:
        yield Row(name, "loading", None, None, f"FAILED: {refusal}", True)
        return
    if not Path(golden.path(name)).exists():
        wrong = [key for key, value in got.items() if not bool(value.isfinite().all())]
        verdict = f"NOT FINITE: {', '.join(wrong)}" if wrong else "loaded completely, all finite"
        yield Row(name, f"no golden outputs ({len(got)} outputs)", None, None, verdict, bool(wrong))
        return
    for output, want in golden.expected(name).items():
        tolerance = want["tolerance"]
        if output not in got:
            yield Row(name, output, None, tolerance, "FAILED: not computed by this script", True)
            continue
        try:
            error = golden.error(want, got[output])
        except ValueError as shapes:
            yield Row(name, output, None, tolerance, f"FAILED: {shapes}", True)
            continue
        passed = error <= tolerance
        yield Row(name, output, error, tolerance, "pass" if passed else "FAILED", not passed)


def rows(folder: Path, names: list[str]) -> Iterator[Row]:
    """Every row of the report, one checkpoint after the other."""
    sys.path.insert(0, str(folder))
    golden, weights = importlib.import_module("golden"), importlib.import_module("weights")
    for name in names:
        checkpoint = CHECKPOINTS[name]
        for layout in checkpoint.layouts:
            yield check_layout(folder, layout, weights)
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / f"{name}.pt"
            if checkpoint.layouts:
                weights.save_checkpoint(name, str(path))
            for network, compute in checkpoint.networks.items():
                yield from check_outputs(network, compute, path, golden, weights)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the golden folder")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(CHECKPOINTS)}; none: all")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in CHECKPOINTS]:
        parser.error(f"unknown: {', '.join(unknown)}; choose from {', '.join(CHECKPOINTS)}")
    for file in ("golden.py", "weights.py", "layouts"):
        if not (options.folder / file).exists():
            raise SystemExit(f"error: {options.folder} has no {file}; it is not a golden folder")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    failures = 0
    print(LINE.format("network", "output", "error", "tolerance", "verdict"))
    for row in rows(options.folder.resolve(), options.names or list(CHECKPOINTS)):
        figures = ("" if figure is None else f"{figure:.2g}" for figure in (row.error, row.tolerance))
        print(LINE.format(row.network, row.output, *figures, row.verdict), flush=True)
        failures += row.failed
    print(f"{failures} failed" if failures else "all pass")
    raise SystemExit(1 if failures else 0)


if __name__ == "__main__":
    main()

"""`fctfg bench train`: where the time of a training iteration goes, and how it scales."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from fctfg.atomic import write_json
from fctfg.bench_networks import Sizes
from fctfg.bench_peak import convolution_peak
from fctfg.errors import FctfgError, UsageError
from fctfg.host_memory import keep_freed_memory
from fctfg.models.discriminator import DiscriminatorConfig
from fctfg.models.fctfg import FCTFGConfig
from fctfg.models.hypernetwork import HypernetworkConfig
from fctfg.models.stylegan2 import GeneratorConfig
from fctfg.models.visual_encoder import VisualEncoderConfig
from fctfg.stages.dry_run import Phase
from fctfg.stages.networks import Networks
from fctfg.stages.timing import Name, PhaseTime, random_batch, time_stage, untrained_stage

STAGES: dict[str, Name] = {
    "1": "generator",
    "generator": "generator",
    "3": "talking_face",
    "talking_face": "talking_face",
}
LIGHTNING_PRECISION = {"float32": "32-true", "bf16": "bf16-mixed"}
GPUS = ((8, 200.0), (64, 25.0))  # in one machine, over its links; in eight, over 200 Gbit/s for each GPU; GB/s


@dataclass(frozen=True)
class Part:
    """A part of the mean iteration.

    Attributes:
        what: name.
        ms: when it is done.
        share: of the time of the mean iteration, 0 to 1.
    """

    what: str
    ms: float
    share: float


@dataclass(frozen=True)
class Result:
    """What `fctfg bench train` has found.

    Attributes:
        parts: of an iteration without lazy terms, and what each lazy term adds.
        ms: of the mean iteration.
        images_per_second: over all processes.
        gflop: of the mean iteration of a process, as carried out.
        share: of the convolution peak: the time that its operations would take there, divided by the time they took.
        gradients: bytes that each process has to add to the others', per iteration.
    """

    parts: list[Part]
    ms: float
    images_per_second: float
    gflop: float
    share: float
    gradients: int


def all_reduce_seconds(size: float, processes: int, bandwidth: float) -> float:
    """The least time to add up gradients over processes in a ring, where each passes on 2 (n - 1) / n of them.

    Args:
        size: of the gradients, bytes.
        processes: n.
        bandwidth: that each process sends with while it receives, bytes/s.
    """
    return 2 * (processes - 1) / processes * size / bandwidth


def summary(found: dict[Phase, PhaseTime], images: int, gradients: int, peak: float, float32_peak: float) -> Result:
    """The mean iteration of what was measured.

    Args:
        found: time and work of each phase; one of them has no lazy term.
        images: of an iteration, over all processes.
        gradients: bytes.
        peak: convolution peak of the precision, GFLOP/s.
        float32_peak: of float32, which the lazy terms are computed in.
    """
    plain = next(time for phase, time in found.items() if not phase.terms)
    seconds = sum(phase.share * time.seconds for phase, time in found.items())
    gflop = sum(phase.share * time.gflop for phase, time in found.items())
    parts = [Part(what, 1e3 * part, part / seconds) for what, part in plain.parts.items()]
    for term in dict.fromkeys(term for phase in found for term in phase.terms):
        phase = min((phase for phase in found if term in phase.terms), key=lambda phase: len(phase.terms))
        others = tuple(name for name in phase.terms if name != term)
        without = next((time for other, time in found.items() if other.terms == others), plain)
        added = found[phase].seconds - without.seconds
        share = sum(other.share for other in found if term in other.terms)
        parts.append(Part(f"{term}, every {1 / share:.0f}", 1e3 * added, share * added / seconds))
    ideal = plain.gflop / peak + (gflop - plain.gflop) / float32_peak
    return Result(parts, 1e3 * seconds, images / seconds, gflop, ideal / seconds, gradients)


def bench_train(
    stage: str,
    sizes: Sizes,
    precision: str = "float32",
    rounds: int = 3,
    threads: int | None = None,
    scaling: bool = False,
    compiled: bool = False,
    out: Path | None = None,
) -> Result:
    """Measure a stage with random weights and pictures, print a table and, if asked, write the figures as JSON.

    Started by torchrun, it measures all its processes together; the first one prints.

    Args:
        stage: "1" or "generator", "3" or "talking_face".
        sizes: networks, samples of each process, device, recomputation.
        precision: "float32" or "bf16".
        rounds: iterations of each phase; the least time counts, after a first one in which operations are counted.
        threads: of the CPU; None: as many as torch takes.
        scaling: also two processes with one thread each, against one with one thread.
        compiled: as with `networks.compile`; the first rounds compile, so there should be three or more.
        out: JSON file to write.

    Raises:
        UsageError: a setting is out of its range.
        FctfgError: a process fails, or the file cannot be written.
    """
    if stage not in STAGES:
        raise UsageError(f"--stage must be 1 (generator) or 3 (talking_face), not {stage}")
    if min(sizes.batch, rounds, 1 if threads is None else threads) < 1:
        raise UsageError("--batch, --rounds and --threads must be 1 or more")
    if threads is not None:
        torch.set_num_threads(threads)
    keep_freed_memory()
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*(many workers|LeafSpec|Grad strides|val_dataloader|limit_val|in eval mode).*")
    name, world = STAGES[stage], int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", world))  # as torchrun says
    torch.manual_seed(0)
    try:
        module = untrained_stage(name, _networks(sizes, compiled))
    except ValueError as error:
        raise UsageError(f"--size {sizes.size}: {error}") from error
    batch = random_batch(name, sizes.batch, sizes.size)
    options: dict[str, Any] = {
        "accelerator": "cpu" if sizes.device == "cpu" else "gpu",
        "devices": local,
        "num_nodes": world // local,
        "precision": LIGHTNING_PRECISION[precision],
    }
    found = time_stage(module, batch, options, rounds)
    images = world * sizes.batch * 2 if name == "generator" else world * batch.driving.shape[0] * batch.driving.shape[1]
    gradients = 4 * sum(p.numel() for p in module.parameters() if p.requires_grad)
    peaks = {kind: convolution_peak(kind, sizes.device, rounds) for kind in dict.fromkeys((precision, "float32"))}
    result = summary(found, images, gradients, peaks[precision], peaks["float32"])
    if int(os.environ.get("RANK", "0")):
        return result
    _print(result, f"stage {name}, {sizes.size} px, {world} x {sizes.batch} samples, {precision}, {sizes.device}")
    content: dict[str, Any] = {"stage": name, "processes": world, "peak_gflops": peaks, **asdict(result)}
    if scaling and world == 1:
        content["scaling"] = _scaling(stage, sizes, precision, rounds)
    if out is not None:
        write_json(out, content)
    return result


def _networks(sizes: Sizes, compiled: bool) -> Networks:
    dim = sizes.channel_max
    generator = GeneratorConfig(sizes.size, dim, channel_base=sizes.channel_base, channel_max=dim)
    return Networks(
        generator=generator,
        fctfg=FCTFGConfig.for_styles(generator.n_styles, style_dim=dim),
        discriminator=DiscriminatorConfig(sizes.size, sizes.channel_base, dim),
        visual_encoder=VisualEncoderConfig(sizes.size, dim, generator.n_styles),
        hypernetwork=HypernetworkConfig(sizes.size, code_dim=dim, generator=generator),
        recompute=sizes.recompute,
        compile=compiled,
    )


def _scaling(stage: str, sizes: Sizes, precision: str, rounds: int) -> float:
    """Images a second of two processes with one thread each, as a share of twice those of one."""
    settings = {
        "stage": stage,
        "size": sizes.size,
        "batch": sizes.batch,
        "channel-base": sizes.channel_base,
        "channel-max": sizes.channel_max,
        "device": sizes.device,
        "precision": precision,
        "rounds": rounds,
        "threads": 1,
    }
    command = ["-m", "fctfg", "bench", "train", *(f"--{name}={value}" for name, value in settings.items())]
    rates = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        for launcher in ([], ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]):
            done = subprocess.run(
                [sys.executable, *launcher, *command, "--json", str(file)],
                capture_output=True,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            if done.returncode:
                raise FctfgError(f"the measurement of scaling failed: {done.stderr.strip().splitlines()[-1]}")
            rates.append(json.loads(file.read_text())["images_per_second"])
    one, two = rates
    efficiency = two / (2 * one)
    told = f"two processes, a thread each: {two:.3g} images/s; one: {one:.3g}; efficiency {efficiency:.0%}"
    Console(width=120).print(told, highlight=False)
    return efficiency


def _print(result: Result, title: str) -> None:
    console = Console(width=None if Console().is_terminal else 120)
    console.print(f"{title}, {torch.get_num_threads()} threads, torch {torch.__version__}", highlight=False)
    table = Table()
    for column in ("part", "ms", "of an iteration"):
        table.add_column(column, justify="left" if column == "part" else "right", no_wrap=True)
    for part in result.parts:
        table.add_row(part.what, f"{part.ms:.1f}", f"{part.share:.1%}")
    table.add_row("mean iteration", f"{result.ms:.1f}", "")
    console.print(table)
    console.print(
        f"{result.images_per_second:.3g} images/s; {result.gflop:.4g} GFLOP an iteration, {result.share:.0%} of the "
        f"convolution peak",
        highlight=False,
    )
    console.print(f"data is not in it: fctfg bench data DIR --step-ms {result.ms:.0f} tells how long it is waited for")
    console.print(f"gradients: {result.gradients / 1e6:.1f} MB an iteration", highlight=False)
    for number, bandwidth in GPUS:
        seconds = all_reduce_seconds(result.gradients, number, bandwidth * 1e9)
        console.print(f"  {number} GPUs at {bandwidth:g} GB/s each: at least {1e3 * seconds:.2f} ms", highlight=False)

"""Two processes with batches of B are one process with batches of 2 B: gradients, weights, averages and logs."""

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from gradient_record import run_in_two
from torch import Tensor
from trained_runs import STAGES, Place, arguments, checkpoint

from fctfg.cli import main

pytestmark = pytest.mark.usefixtures("untracked")

BATCH = 4  # a multiple of the discriminator's groups
LAZY = ("--model.init_args.r1_every=2",)
MORE = {
    "generator": (*LAZY, "--model.init_args.path_length_every=2"),
    "talking_face": LAZY,
    "sync_expert": ("--data.frames=10",),
}
TOLERANCE = 1e-9  # of the largest gradient of a tensor; all is float64


def command(place: Place, stage: str, run: str, batch: int, *more: str, **recorder: Any) -> list[str]:
    """Three iterations in float64, all terms in the first and the third, and a validation."""
    settings = {"path": str(place[1] / run), **recorder}
    recording = [f"--trainer.callbacks.{name}={value}" for name, value in settings.items()]
    return [
        *arguments(place, stage, run, *MORE.get(stage, ())),
        "--trainer.precision=64-true",
        "--trainer.max_epochs=1",
        "--data.batches_per_epoch=3",
        "--data.val_samples=8",
        f"--data.batch_size={batch}",
        "--trainer.callbacks=gradient_record.Recorder",
        *recording,
        *more,
    ]


def gradients(place: Place, run: str, rank: int = 0) -> list[dict[str, Tensor]]:
    """Of each optimiser step, by parameter."""
    return torch.load(f"{place[1] / run}.{rank}.pt", weights_only=True)


def difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference, each tensor measured by the largest value of the tensor, or of a thousandth of all."""
    assert one.keys() == other.keys() and one
    size = max(float(value.abs().max()) for value in one.values())
    return max(
        float((value - other[name]).abs().max()) / max(float(value.abs().max()), 1e-3 * size)
        for name, value in one.items()
    )


def logged(place: Place, run: str) -> dict[tuple[str, str], float]:
    rows = [row.split(",") for row in (place[1] / run / "metrics.csv").read_text().splitlines()[1:]]
    return {(iteration, name): float(value) for iteration, name, value in rows}


@pytest.fixture(scope="module")
def pair(place: Place) -> Place:
    """All stages, trained by two processes; the second one has a folder for its runs that it should leave empty."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    lines = [command(place, stage, f"{stage}_ranks", BATCH, "--trainer.devices=2") for stage in STAGES]
    elsewhere = f"--runs={place[1] / 'second'}"
    run_in_two([lines, [[*line, elsewhere] for line in lines]], port, place[1], timeout=400)
    return place


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_have_the_gradients_of_one(pair: Place, stage: str) -> None:
    assert main(command(pair, stage, f"{stage}_alone", 2 * BATCH)) == 0
    alone, ranks = gradients(pair, f"{stage}_alone"), gradients(pair, f"{stage}_ranks")
    assert len(alone) == len(ranks) == (6 if stage in ("generator", "talking_face") else 3)
    worst = [difference(one, two) for one, two in zip(alone, ranks, strict=True)]
    print(stage, ["%.1e" % value for value in worst])
    assert max(worst) < TOLERANCE

"""Two processes with batches of B are one process with batches of 2 B: gradients, weights, averages and logs."""

import socket
from typing import Any

import pytest
import torch
from gradient_record import run_in_two
from torch import Tensor
from trained_runs import STAGES, Place, arguments, checkpoint, equal, numbers

from fctfg.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("untracked")]

BATCH = 4  # a multiple of the discriminator's groups
LAZY = ("--model.init_args.r1_every=2",)
MORE = {
    "generator": (*LAZY, "--model.init_args.path_length_every=2"),
    "talking_face": LAZY,
    "sync_expert": ("--data.frames=10",),
    "hypernetwork": ("--model.init_args.refinements=2",),
}
MIXED = ("--model.init_args.mixup=0.2",)
AUGMENTED = ("images=40", "every=1")  # the strength moves by 0.4 in an iteration
CASES = {stage: (stage, MORE.get(stage, ())) for stage in STAGES} | {
    "generator_mixed": ("generator", (*MORE["generator"], *MIXED)),
    "generator_augmented": (
        "generator",
        (*MORE["generator"], *(f"--model.init_args.augmentation.{setting}" for setting in AUGMENTED)),
    ),
    "talking_face_mixed": ("talking_face", (*LAZY, *MIXED)),
}
TOLERANCE = 1e-9  # of the largest gradient of a tensor; all is float64


def command(place: Place, case: str, run: str, batch: int, *more: str, **recorder: Any) -> list[str]:
    """Three iterations in float64, all terms in the first and the third, and a validation."""
    stage, own = CASES[case]
    settings = {"path": str(place[1] / run), **recorder}
    recording = [f"--trainer.callbacks.{name}={value}" for name, value in settings.items()]
    return [
        *arguments(place, stage, run, *own),
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
    rows = [row.split(",") for row in numbers(place, run)[1:]]
    return {(iteration, name): float(value) for iteration, name, value in rows}


@pytest.fixture(scope="module")
def pair(place: Place) -> Place:
    """All stages, trained by two processes; the second one has a folder for its runs that it should leave empty."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    lines = [command(place, case, f"{case}_ranks", BATCH, "--trainer.devices=2") for case in CASES]
    elsewhere = f"--runs={place[1] / 'second'}"
    run_in_two([lines, [[*line, elsewhere] for line in lines]], port, place[1], timeout=400)
    return place


@pytest.fixture(scope="module", params=CASES)
def case(pair: Place, request: pytest.FixtureRequest) -> str:
    """Each case in turn, trained by one process with batches of 2 B beside the two."""
    name: str = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "disabled")
        assert main(command(pair, name, f"{name}_alone", 2 * BATCH)) == 0
    return name


def test_two_processes_have_the_gradients_of_one(pair: Place, case: str) -> None:
    """At every optimiser step: that of the generator's side and of the discriminator's, with and without lazy terms."""
    alone, ranks = gradients(pair, f"{case}_alone"), gradients(pair, f"{case}_ranks")
    assert len(alone) == len(ranks) == (6 if case.startswith(("generator", "talking_face")) else 3)
    assert max(difference(one, two) for one, two in zip(alone, ranks, strict=True)) < TOLERANCE
    second = gradients(pair, f"{case}_ranks", rank=1)
    assert equal(ranks, second)  # to the bit: the processes never drift apart


def test_two_processes_have_the_weights_of_one(pair: Place, case: str) -> None:
    """And their moving averages, the running path length, the statistics of batch norms."""
    alone, ranks = (checkpoint(pair, f"{case}_{name}")["state_dict"] for name in ("alone", "ranks"))
    assert alone.keys() == ranks.keys()
    for name, value in alone.items():
        torch.testing.assert_close(ranks[name], value, rtol=1e-6, atol=1e-6, msg=name)


def test_two_processes_log_what_one_logs(pair: Place, case: str) -> None:
    """Terms of training and of validation are averaged over the processes (those of training in float32)."""
    alone, ranks = logged(pair, f"{case}_alone"), logged(pair, f"{case}_ranks")
    assert {name.split("/")[0] for _, name in alone} == {"train", "val"}
    assert ranks == pytest.approx(alone, rel=1e-5, abs=1e-6)


def test_only_the_first_process_writes(pair: Place, case: str) -> None:
    assert (pair[1] / f"{case}_ranks" / "export" / "card.json").is_file()
    assert [path for path in (pair[1] / "second").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("kind", ["generator", "encoder", "hypernetwork", "talking_face"])
def test_accumulated_batches_have_the_gradients_of_one(place: Place, kind: str) -> None:
    """Two batches of B in an iteration against one of 2 B, but for what batch norms see of a batch."""
    split = ("--data.accumulate=2", "--data.batch_size=4")
    # the running path length takes a batch at a time, which moves the penalty's target by a hundredth of a difference
    steady = ("--model.init_args.path_length_decay=0",) if kind == "generator" else ()
    for name, more in (("whole", ()), ("parts", split)):
        assert main(command(place, kind, f"{kind}_{name}", 2 * BATCH, *steady, *more, still_norms=True)) == 0
    whole, parts = gradients(place, f"{kind}_whole"), gradients(place, f"{kind}_parts")
    assert len(whole) == len(parts) == (6 if kind in ("generator", "talking_face") else 3)
    assert max(difference(one, two) for one, two in zip(whole, parts, strict=True)) < TOLERANCE
    one, two = (checkpoint(place, f"{kind}_{name}") for name in ("whole", "parts"))
    counts = [state["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["completed"] for state in (one, two)]
    assert counts == [3, 3]  # an iteration is one step, whatever it adds up
    for name, value in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][name], value, rtol=1e-6, atol=1e-6, msg=name)
    trained = [
        {key: x for key, x in logged(place, f"{kind}_{name}").items() if key[1].startswith("train/")}
        for name in ("whole", "parts")
    ]
    assert trained[1] == pytest.approx(trained[0], rel=1e-5, abs=1e-6)

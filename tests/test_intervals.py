"""Whatever a user counts in steps is counted in iterations, however many optimisers a stage has."""

import pytest
from trained_runs import Place, arguments, checkpoint, equal

from fctfg.cli import main

pytestmark = pytest.mark.usefixtures("untracked")

ONE_OPTIMISER, ONE_BY_HAND, TWO_OPTIMISERS = "identity_expert", "hypernetwork", "generator"


def logged_at(place: Place, run: str, prefix: str) -> list[int]:
    """The iterations at which a run has logged anything whose name starts so."""
    rows = (row.split(",") for row in (place[1] / run / "metrics.csv").read_text().splitlines()[1:])
    return sorted({int(row[0]) for row in rows if row[1].startswith(prefix)})


def iterations(place: Place, run: str) -> int:
    return int(checkpoint(place, run)["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["completed"])


@pytest.mark.parametrize("stage", [ONE_OPTIMISER, ONE_BY_HAND, TWO_OPTIMISERS])
def test_intervals_are_iterations(place: Place, stage: str) -> None:
    run = f"{stage}_counted"
    every = "--trainer.log_every_n_steps=3", "--trainer.val_check_interval=2", "--trainer.max_epochs=9"
    assert main(arguments(place, stage, run, *every, "--trainer.max_steps=7")) == 0
    saved = checkpoint(place, run)
    assert iterations(place, run) == saved["global_step"] == 7
    assert logged_at(place, run, "train/grad_norm_") == logged_at(place, run, "train/skipped") == [0, 3, 6]
    assert logged_at(place, run, "val/") == [2, 4, 6]
    steps = [int(p["step"]) for state in saved["optimizer_states"] for p in state["state"].values()]
    assert set(steps) == {7}


@pytest.mark.parametrize("stage", [ONE_OPTIMISER, TWO_OPTIMISERS])
def test_a_number_of_steps_inside_an_epoch_can_be_raised(place: Place, stage: str) -> None:
    straight, cut = f"{stage}_to_8", f"{stage}_3_and_5"
    assert main(arguments(place, stage, straight, "--trainer.max_epochs=9", "--trainer.max_steps=8")) == 0
    for steps in (3, 8):
        assert main(arguments(place, stage, cut, "--trainer.max_epochs=9", f"--trainer.max_steps={steps}")) == 0
        assert iterations(place, cut) == steps
    one, other = checkpoint(place, straight), checkpoint(place, cut)
    assert equal(one["state_dict"], other["state_dict"]) and equal(one["optimizer_states"], other["optimizer_states"])

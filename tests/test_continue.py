"""A run that is cut and continued ends as one that is left alone: the same bits in the whole checkpoint."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from cut_runs import Processes, assert_same_run, iterations_logged, killed_at, run_until
from trained_runs import STAGES, Place, arguments

from fctfg.cli import main
from fctfg.stages.base import Stage
from fctfg.stages.checkpoint_files import CheckpointFiles

CUTS = int(os.environ.get("FCTFG_CUTS", "2"))  # of each stage and number of processes, in chains of up to five
KILLS = int(os.environ.get("FCTFG_KILLS_TRAIN", "4"))

pytestmark = [pytest.mark.usefixtures("untracked"), pytest.mark.timeout(36000)]

LENGTH = ("--data.batches_per_epoch=6", "--trainer.max_epochs=2")
EVALUATIONS = {  # 12 iterations, evaluated after these
    "sync_expert": ("--trainer.val_check_interval=4",),  # 4 and 10
    "identity_expert": ("--trainer.check_val_every_n_epoch=2",),  # 12
    "generator": ("--trainer.val_check_interval=3",),  # 3, 6, 9, 12
    "encoder": ("--trainer.val_check_interval=5", "--trainer.check_val_every_n_epoch=null"),  # 5 and 10
    "hypernetwork": (),  # 6 and 12
    "talking_face": ("--trainer.val_check_interval=3", "--model.init_args.warm_up=5", "--cool_down=0.7"),
}
OWN = {
    "identity_expert": ("--data.accumulate=2",),
    "generator": ("--model.init_args.r1_every=5", "--model.init_args.path_length_every=3"),
    "encoder": ("--data.augment=true", "--model.init_args.generator_learning_rate=1e-3"),
    "talking_face": ("--model.init_args.r1_every=5", "--data.decoys=true"),
}


def command(place: Place, stage: str, run: str, *more: str) -> list[str]:
    return arguments(place, stage, run, *LENGTH, *EVALUATIONS[stage], *OWN.get(stage, ()), *more)


def chains(cuts: int) -> list[int]:
    """Chains of five cuts, and a shorter last one."""
    return [5] * (cuts // 5) + [cuts % 5] * bool(cuts % 5)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_cut_anywhere(place: Place, stage: str) -> None:
    """Cut at random moments: in a batch, after it, before, in and after an evaluation, at an epoch's end."""
    draw = np.random.default_rng(STAGES.index(stage))
    straight = f"{stage}_straight"
    with killed_at(10**9) as moments:
        assert main(command(place, stage, straight)) == 0
    for number, cuts in enumerate(chains(CUTS)):
        run = f"{stage}_chain_{number}"
        for cut in range(cuts):
            options = f"--checkpoint_every={draw.integers(1, 5)}", f"--data.num_workers={draw.choice([0, 2])}"
            last = len(moments) // (cuts - cut + 1)  # shorter legs before a longer chain
            run_until(command(place, stage, run, *options), int(draw.integers(1, 2 * last)))
        assert main(command(place, stage, run, "--data.num_workers=2")) == 0
        assert_same_run(place, straight, run)


def test_a_run_ends_at_the_iteration_that_it_is_told_and_goes_on_there(place: Place) -> None:
    """`max_steps` within an epoch: the epoch is finished when the run goes on."""
    assert main(command(place, "sync_expert", "steps_straight")) == 0
    for steps in (4, 8, 11):
        assert main(command(place, "sync_expert", "steps_cut", f"--trainer.max_steps={steps}")) == 0
    assert main(command(place, "sync_expert", "steps_cut")) == 0
    assert_same_run(place, "steps_straight", "steps_cut")


@pytest.fixture(scope="module")
def undisturbed(place: Place) -> str:
    """A run of six iterations in two epochs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "disabled")
        assert main(signalled(place, "signals_straight")) == 0
    return "signals_straight"


def signalled(place: Place, run: str) -> list[str]:
    return arguments(place, "identity_expert", run, "--data.batches_per_epoch=3", "--trainer.max_epochs=2")


@pytest.mark.parametrize(
    ("number", "status", "batch"),
    [(signal.SIGINT, 130, 1), (signal.SIGTERM, 143, 2), (signal.SIGUSR1, 143, 4), (signal.SIGTERM, 143, 5)],
)
def test_a_signal_saves_after_the_batch_in_hand(
    place: Place, undisturbed: str, number: signal.Signals, status: int, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches 2 and 5 are the last of their epochs, whose evaluations come when the run goes on."""
    run = f"signal_{batch}"
    begin = Stage.on_train_batch_start
    before = signal.getsignal(number)

    def on_train_batch_start(self: Stage, *rest: object) -> None:
        if self.iteration == batch:
            os.kill(os.getpid(), number)
        begin(self, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Stage, "on_train_batch_start", on_train_batch_start)
        assert main(signalled(place, run)) == status
    assert signal.getsignal(number) == before
    files = CheckpointFiles(place[1] / run / "checkpoints")
    assert files.newest().path == files.folder / f"iteration-{batch + 1:08d}.ckpt"
    assert main(signalled(place, run)) == 0
    assert_same_run(place, undisturbed, run)


def test_a_signal_in_an_evaluation_saves_at_once(
    place: Place, undisturbed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What follows of the evaluation comes again when the run goes on."""
    epoch: list[int] = []

    def on_validation_batch_end(self: Stage, *rest: object) -> None:
        if self.current_epoch == 1 and not epoch:
            epoch.append(1)
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Stage, "on_validation_batch_end", on_validation_batch_end)
    assert main(signalled(place, "evaluating")) == 143
    rows = (place[1] / "evaluating" / "metrics.csv").read_text()
    assert "\n3,val/" in rows and "\n6,val/" not in rows
    assert main(signalled(place, "evaluating")) == 0
    assert_same_run(place, undisturbed, "evaluating")


@pytest.mark.slow
def test_killed_at_random_moments(place: Place, tmp_path: Path) -> None:
    """SIGKILL while nearly always a checkpoint is being written: at most one interval is lost, and no bit differs."""
    straight, draw = "killed_straight", np.random.default_rng(7)
    more = "--data.batches_per_epoch=20", "--trainer.max_epochs=3", "--checkpoint_every=1", "--data.val_samples=2"
    assert main(arguments(place, "generator", straight, *more)) == 0
    lives, number = 0, 0
    for kill in range(KILLS):
        run = place[1] / f"killed_{number}"
        lives += 1
        process = Processes(arguments(place, "generator", run.name, *more), tmp_path / "log.txt")
        begun, deadline = iterations_logged(run), time.monotonic() + 120
        while not process.wait(0.005) and iterations_logged(run) == begun and time.monotonic() < deadline:
            pass  # until it trains
        ended = process.wait(float(draw.uniform(0, 0.5)))
        process.kill()
        newest = CheckpointFiles(run / "checkpoints").newest()
        assert newest.path is None or not newest.damaged
        saved = int(newest.path.stem.split("-")[1]) if newest.path else 0
        assert iterations_logged(run) - 1 <= saved <= iterations_logged(run)
        if ended or lives == 12 or kill == KILLS - 1:
            assert process.statuses == {0} if ended else True, (tmp_path / "log.txt").read_text()
            assert main(arguments(place, "generator", run.name, *more)) == 0
            assert_same_run(place, straight, run.name)
            lives, number = 0, number + 1


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES if CUTS > 2 else ["talking_face"])
def test_two_processes_killed(place: Place, tmp_path: Path, stage: str) -> None:
    """SIGKILL to both ranks, and first SIGTERM to one; statistics of batch norms differ between ranks within a step."""
    draw, log = np.random.default_rng(STAGES.index(stage)), tmp_path / "log.txt"
    straight = f"{stage}_two_straight"
    process = Processes(command(place, stage, straight), log, count=2)
    assert process.wait(300) and process.statuses == {0}, log.read_text()
    for number, cuts in enumerate(chains(CUTS)):
        run = f"{stage}_two_{number}"
        for cut in range(cuts):
            options = f"--checkpoint_every={draw.integers(1, 4)}", f"--data.num_workers={draw.choice([0, 2])}"
            process = Processes(command(place, stage, run, *options), log, count=2)
            wanted = max(1, int(draw.integers(1, 13)) * (cut + 1) // cuts)
            while not process.wait(0.01) and iterations_logged(place[1] / run) < wanted:
                pass
            if cut == 0:
                process.ranks[1].terminate()
                assert process.wait(100) and process.statuses <= {0, 143}, log.read_text()
            process.kill()
        process = Processes(command(place, stage, run), log, count=2)
        assert process.wait(300) and process.statuses == {0}, log.read_text()
        assert_same_run(place, straight, run)

"""Numbers that are not finite: put into batches, weights and gradients of all stages, and what becomes of the run."""

import json
import os
import re
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from faults import Fault, finite
from trained_runs import Place, arguments, checkpoint, equal

from fctfg.cli import main
from fctfg.stages import spikes
from fctfg.stages.finite import Safety
from fctfg.stages.rollbacks import Rollbacks

pytestmark = pytest.mark.usefixtures("untracked")

NETWORKS = {  # of each optimiser
    "sync_expert": [["sync_expert"]],
    "identity_expert": [["centers", "identity_expert"]],
    "generator": [["generator"], ["discriminator"]],
    "encoder": [["visual_encoder"]],
    "hypernetwork": [["hypernetwork"]],
    "talking_face": [["audio_encoder", "generator", "latent", "visual_encoder"], ["discriminator"]],
}
LENGTH = "--data.batches_per_epoch=10", "--trainer.max_epochs=1"
OWN = {  # lazy terms come in the iterations with faults
    "generator": ("--model.init_args.r1_every=3", "--model.init_args.path_length_every=2"),
    "hypernetwork": ("--model.refinements=2",),
    "talking_face": ("--model.init_args.r1_every=3",),
}


def faulty(place: Place, stage: str, run: str, *more: str, **fault: Any) -> tuple[int, Fault]:
    """A run with faults: its exit status, and what the callback has seen."""
    callback = json.dumps([{"class_path": "faults.Fault", "init_args": fault}])
    status = main(arguments(place, stage, run, *more, f"--trainer.callbacks={callback}"))
    return status, Fault.runs[-1]


@pytest.mark.parametrize("stage", NETWORKS)
def test_a_step_that_is_not_finite_leaves_everything_as_it_was(place: Place, stage: str) -> None:
    run, last = f"{stage}_faulty", len(NETWORKS[stage]) - 1
    plan = {2: "batch:nan", 4: "batch:inf", 6: "gradient:nan", 7: "gradient:inf", 9: "gradient:nan"}
    short = (*LENGTH, *OWN.get(stage, ()))
    status, fault = faulty(place, stage, run, *short, plan=plan, optimizer={7: last, 9: last})
    assert status == 0

    everything = list(range(last + 1))
    in_batch = [1] if stage == "generator" else everything  # its generator does not look at the batch
    skipped = {2: in_batch, 4: in_batch, 6: [0], 7: [last], 9: [last]}
    if stage == "sync_expert":
        skipped[4] = []  # its variation of the batch clamps pictures, and so heals the infinite
    for iteration, optimizers in skipped.items():
        before, after = fault.states[iteration]
        assert finite(after)
        for number, names in enumerate(NETWORKS[stage]):
            mine = [k for k in before["module"] if set(k.replace("_ema", "").split(".")) & set(names)]
            assert mine
            same = equal([before["module"][k] for k in mine], [after["module"][k] for k in mine])
            same_state = equal(before["optimizers"][number], after["optimizers"][number])
            assert same == same_state == (number in optimizers), (iteration, number)
        if 0 in optimizers and stage == "generator":
            assert equal(before["module"]["mean_path_length"], after["module"]["mean_path_length"])
        path = place[1] / run / "troubles" / f"skipped-{iteration}.json"
        assert path.exists() == bool(optimizers)
        if optimizers:
            dump = json.loads(path.read_text())
            wrong = {name for name, norm in dump["gradient_norms"].items() if isinstance(norm, str)}
            assert wrong and wrong == set(dump["not_finite"])
            assert all(wrong & set(NETWORKS[stage][number]) for number in optimizers)
            assert wrong <= set(chain(*(NETWORKS[stage][number] for number in optimizers)))
            assert dump["samples"] == [[0, 2 * iteration], [0, 2 * iteration + 1]]
            assert any(isinstance(v, str) for v in dump["terms"].values()) == (iteration in (2, 4))

    saved = checkpoint(place, run)
    assert finite(saved["state_dict"]) and finite(saved["optimizer_states"])
    assert next(s for name, s in saved["callbacks"].items() if name.startswith("SkippedSteps")) == {
        "skipped": sum(map(bool, skipped.values()))
    }
    for number, state in enumerate(saved["optimizer_states"]):
        steps = {int(parameter["step"]) for parameter in state["state"].values()}
        assert steps == {10 - sum(number in optimizers for optimizers in skipped.values())}


@pytest.mark.parametrize(("stage", "number"), [("generator", 0), ("generator", 1), ("encoder", 0), ("talking_face", 0)])
def test_a_run_with_a_skipped_step_is_one_in_which_it_did_not_happen(place: Place, stage: str, number: int) -> None:
    saved = []
    for fault in ("gradient:nan", "refuse"):
        run = f"{stage}_{number}_{fault[:6]}"
        short = "--trainer.max_epochs=1"  # of four iterations
        assert faulty(place, stage, run, short, plan={1: fault}, optimizer={1: number})[0] == 0
        saved.append(checkpoint(place, run))
    one, other = saved
    assert equal(one["state_dict"], other["state_dict"])
    assert equal(one["optimizer_states"], other["optimizer_states"])


def test_an_attempt_that_cannot_be_written_down_is_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "troubles").write_text("a file in the way of the folder")
    rollbacks = Rollbacks(tmp_path, None)
    with caplog.at_level("INFO", "fctfg"):
        rollbacks.go_back("a weight is not finite", tmp_path / "last.ckpt", Safety())
    assert rollbacks.attempt == 1 and "The attempt is not written down: cannot write" in caplog.text


def test_a_spoilt_weight_leads_back_to_the_checkpoint(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    run, folder = "spoilt", place[1] / "spoilt"
    with caplog.at_level("INFO", "fctfg"):
        status, fault = faulty(place, "generator", run, "--safety.max_skipped=2", plan={5: "weight:nan"})
    assert status == 0
    assert f"goes back to {folder / 'checkpoints' / 'iteration-00000004.ckpt'}" in caplog.text
    assert json.loads((folder / "troubles" / "rollbacks.json").read_text()) == [
        "2 iterations in a row were skipped, up to 6"
    ]
    saved = checkpoint(place, run)
    assert finite(saved["state_dict"]) and finite(saved["optimizer_states"])
    assert saved["fctfg"]["attempt"] == 1
    assert saved["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["completed"] == 8
    assert len(fault.clips) == 8 + 4 and fault.clips[4:8] != fault.clips[8:]  # the second epoch again, with others
    rows = [row.split(",")[0] for row in (folder / "metrics.csv").read_text().splitlines() if "/discriminator," in row]
    assert rows == [str(i) for i in range(8)]  # one continuing file
    assert main(arguments(place, "generator", run, "--trainer.max_epochs=3")) == 0
    assert checkpoint(place, run)["fctfg"]["attempt"] == 1


def test_a_run_goes_back_while_the_weights_of_stage_2_rest(place: Place) -> None:
    """They take no step before iteration 7, and the last one after it, as without the fault."""
    run, warm_up = "spoilt_warm_up", ("--safety.max_skipped=2", "--model.init_args.warm_up=7")
    status, _ = faulty(place, "talking_face", run, *warm_up, plan={4: "weight:nan"})
    assert status == 0
    saved = checkpoint(place, run)
    assert saved["fctfg"]["attempt"] == 1 and finite(saved["state_dict"])
    steps = [int(parameter["step"]) for parameter in saved["optimizer_states"][0]["state"].values()]
    assert set(steps) == {1, 8}


def test_a_run_that_keeps_failing_stops_with_a_report(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    limits = "--safety.max_skipped=2", "--safety.max_rollbacks=2"
    plan = {5: "batch:nan", 6: "batch:nan"}
    status, _ = faulty(place, "sync_expert", "hopeless", *limits, plan=plan, attempts=9)
    assert status == 1
    assert "has gone back 2 times" in capsys.readouterr().err
    report = (place[1] / "hopeless" / "troubles" / "report.md").read_text()
    assert report.count("2 iterations in a row were skipped") == 3 and "contrastive" in report
    assert finite(checkpoint(place, "hopeless")["state_dict"])
    # what was last saved stands, and the same command may try again
    assert checkpoint(place, "hopeless")["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["completed"] == 4


def test_without_a_checkpoint_a_failing_run_stops_at_once(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    status, _ = faulty(place, "sync_expert", "stillborn", "--safety.max_skipped=1", plan={0: "weight:inf"})
    assert status == 1
    assert "has no checkpoint to go back to" in capsys.readouterr().err
    assert not (place[1] / "stillborn" / "checkpoints" / "last.ckpt").exists()


def test_a_weight_that_is_not_finite_is_never_saved(place: Place) -> None:
    """The fault is in the last iteration of an epoch, right before the checkpoint."""
    status, _ = faulty(place, "encoder", "late", plan={7: "weight:nan"})
    assert status == 0
    saved = checkpoint(place, "late")
    assert saved["fctfg"]["attempt"] == 1 and finite(saved["state_dict"])


def first_values(place: Place, run: str) -> dict[str, float]:
    """What training has logged for its first iteration."""
    rows = (row.split(",") for row in (place[1] / run / "metrics.csv").read_text().splitlines()[1:])
    return {name: float(value) for iteration, name, value in rows if iteration == "0" and name.startswith("train/")}


@pytest.mark.parametrize("stage", [stage for stage in NETWORKS if stage != "hypernetwork"])  # its terms: the encoder's
def test_terms_are_float32_in_bfloat16_runs(place: Place, stage: str) -> None:
    """The same first iteration as in float32: within 1e-4 what is float32 all through; within 5 % what judges the
    outputs of networks that compute in bfloat16."""
    run = f"{stage}_islands"
    short = "--trainer.precision=bf16-mixed", "--data.batches_per_epoch=1", "--trainer.max_epochs=1"
    status, watcher = faulty(place, stage, run, *short, plan={})
    assert status == 0
    assert watcher.types and set(watcher.types.values()) == {torch.float32}
    exact, coarse = first_values(place, stage), first_values(place, run)
    assert exact.keys() == coarse.keys()
    islands = {"train/r1", "train/path_length"} if stage == "generator" else set()
    for name in exact.keys() - {"train/accuracy"}:
        if "grad_norm" not in name:
            assert coarse[name] == pytest.approx(exact[name], rel=1e-4 if name in islands else 0.05, abs=2e-3), name


def test_gradients_are_clipped_where_it_is_asked_for(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    one = "--data.batches_per_epoch=1", "--trainer.max_epochs=1"
    moments = []
    for run, *more in (("unclipped",), ("clipped", "--safety.gradient_clip=1e-3")):
        assert main(arguments(place, "generator", run, *one, *more)) == 0
        states = checkpoint(place, run)["optimizer_states"]
        moments.append([torch.cat([p["exp_avg_sq"].flatten() for p in s["state"].values()]) for s in states])
        assert first_values(place, run)["train/grad_norm_generator"] > 1e-3  # what is logged is not clipped
    for unclipped, clipped in zip(*moments, strict=True):  # of one step: 0.01 g^2
        assert float(unclipped.sum()) > 1e-8
        assert float(clipped.sum() / 0.01) == pytest.approx(1e-6, rel=1e-3)
    assert main(arguments(place, "generator", "refused", "--trainer.gradient_clip_val=1")) == 2
    assert "set safety.gradient_clip" in capsys.readouterr().err


def test_a_spike_is_named(place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(spikes, "FIRST", 4)
    with caplog.at_level("INFO", "fctfg"):
        assert faulty(place, "encoder", "spiky", plan={6: "batch:50"})[0] == 0
    said = [record.message for record in caplog.records if record.message.startswith("Spike: ")]
    assert any(
        re.fullmatch(r"Spike: l2 is \d+\.\d, usually [01]\.\S+ to \S+, in iteration 6", text) for text in said
    ), said


@pytest.mark.slow
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_spoilt_weight_of_any_network_leads_back(place: Place, value: str) -> None:
    for stage, optimizers in NETWORKS.items():
        for number in range(len(optimizers)):
            run = f"{stage}_{number}_{value}"
            short = "--data.batches_per_epoch=2", "--safety.max_skipped=2"
            status, _ = faulty(place, stage, run, *short, plan={2: f"weight:{value}"}, optimizer={2: number})
            assert status == 0, run
            saved = checkpoint(place, run)
            assert finite(saved["state_dict"]) and finite(saved["optimizer_states"]), run
            assert saved["fctfg"]["attempt"] == 1, run


@pytest.mark.slow
def test_two_processes_skip_and_go_back_together(place: Place) -> None:
    """The fault is with the second process only; agreement of the weights is checked at each checkpoint."""
    run, folder = "two_faulty", place[1] / "two_faulty"
    plan = {1: "batch:nan", 3: "gradient:inf", 5: "weight:nan"}
    callback = json.dumps([{"class_path": "faults.Fault", "init_args": {"plan": plan, "rank": 1}}])
    more = "--trainer.devices=2", "--safety.max_skipped=2", f"--trainer.callbacks={callback}"
    command = [sys.executable, "-m", "fctfg", *arguments(place, "generator", run, *more)]
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    saved = checkpoint(place, run)
    assert finite(saved["state_dict"]) and finite(saved["optimizer_states"])
    assert saved["fctfg"]["attempt"] == 1
    assert saved["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["completed"] == 8
    names = {path.name for path in (folder / "troubles").iterdir()}
    assert {f"skipped-{i}.json" for i in (1, 3, 5, 6)} <= names and "skipped-0.json" not in names
    theirs = json.loads((folder / "troubles" / "skipped-1-rank1.json").read_text())
    assert theirs["samples"] == [[0, 5], [0, 7]] and theirs["not_finite"] == ["discriminator"]
    for state, skipped in zip(saved["optimizer_states"], (1, 1), strict=True):  # of the first four; then none
        assert {int(parameter["step"]) for parameter in state["state"].values()} == {8 - skipped}

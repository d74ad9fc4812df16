"""Training through the command line: every stage, hand-off, continuation, two processes."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import faces_data
import pytest
import torch
from trained_runs import CONFIGS, STAGES, Place, arguments, checkpoint, equal, numbers

from fctfg.cli import main
from fctfg.data.datamodule import TalkingData
from fctfg.data.dataset import TalkingClips
from fctfg.media import probe, read_frames
from fctfg.stages.callbacks.learning_rates import learning_rate_factor
from fctfg.weights.artifact import build, load_artifact

pytestmark = pytest.mark.usefixtures("untracked")


@pytest.mark.parametrize("stage", STAGES)
def test_stage_leaves_a_run_folder(place: Place, stage: str) -> None:
    run = place[1] / stage
    names = {row.split(",")[1] for row in (run / "metrics.csv").read_text().splitlines()[1:]}
    assert any(name.startswith("train/") for name in names)
    assert any(name.startswith("val/") for name in names)
    assert list((run / "samples").glob("*_000008.png"))
    assert (run / "config.yaml").is_file()
    artifact = load_artifact(run)
    assert artifact.stage == stage
    card = json.loads((run / "export" / "card.json").read_text())
    assert card["iterations"] == 8
    assert card["licences"]["data"] == ["CC0-1.0"]
    assert len(card["dataset_hash"]) == 64


def test_last_stage_shows_a_video_with_sound(place: Place) -> None:
    (video, *_) = sorted((place[1] / "talking_face" / "samples").glob("video_*.mp4"))
    assert probe(video).has_audio
    height, width = next(read_frames(video)).shape[:2]
    assert width == 4 * height  # source, driver, result, canonical image


def test_only_frames_that_are_shown_are_read_for_a_video(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    whole = TalkingClips.whole

    def counted(self: TalkingClips, *given: Any) -> Any:
        clip = whole(self, *given)
        read.append(len(clip[1]))
        return clip

    monkeypatch.setattr(TalkingClips, "whole", counted)
    own = {"folder": str(tmp_path), "max_seconds": 0.8}
    brief = {"class_path": "fctfg.stages.callbacks.samples.Samples", "init_args": own}
    once = "--trainer.max_epochs=1", "--data.batches_per_epoch=1", f"--trainer.callbacks={json.dumps([brief])}"
    for stage in STAGES[:-1]:
        assert main(arguments(place, stage, f"{stage}_silent", *once)) == 0
    assert read == []
    assert main(arguments(place, STAGES[-1], "two_videos", *once)) == 0
    assert sorted(read) == [20, 50]  # the clips have 50, of the six seconds that the run itself shows
    shown = next(tmp_path.glob("video_*.mp4"))
    assert probe(shown).has_audio and sum(1 for _ in read_frames(shown)) == 20


def test_all_six_terms_are_logged_by_the_names_of_their_weights(place: Place) -> None:
    rows = (place[1] / "talking_face" / "metrics.csv").read_text().splitlines()[1:]
    names = {row.split(",")[1] for row in rows}
    terms = ("orthogonality", "sync", "identity", "reconstruction", "perceptual", "adversarial")
    assert {f"{part}/{term}" for part in ("train", "val") for term in terms} <= names
    assert {f"val/{name}" for name in ("psnr", "ssim", "lmd_mouth", "lmd_face", "pose_error")} <= names
    assert {row.split(",")[0] for row in rows if row.split(",")[1] == "train/sync"} == {str(i) for i in range(8)}


WARM_UP = "--model.init_args.warm_up=6"
TOGETHER = ("--model.init_args.generator_learning_rate=1e-3", "--data.augment=true")


@pytest.mark.parametrize("stage", STAGES)
def test_2n_batches_equal_n_and_n(place: Place, stage: str) -> None:
    """Four epochs at once, against two and two, of which the last two decode in other processes."""
    more = {"encoder": TOGETHER, "talking_face": (WARM_UP,)}.get(stage, ())
    assert main(arguments(place, stage, f"{stage}_whole", *more, "--trainer.max_epochs=4")) == 0
    assert main(arguments(place, stage, f"{stage}_cut", *more, "--trainer.max_epochs=2")) == 0
    assert main(arguments(place, stage, f"{stage}_cut", *more, "--trainer.max_epochs=4", "--data.num_workers=2")) == 0
    straight, cut = checkpoint(place, f"{stage}_whole"), checkpoint(place, f"{stage}_cut")
    assert equal(straight["state_dict"], cut["state_dict"])
    assert equal(straight["optimizer_states"], cut["optimizer_states"])
    assert numbers(place, f"{stage}_whole") == numbers(place, f"{stage}_cut")


def logged(place: Place, run: str, name: str) -> list[float]:
    """The values of a term, in the order of the iterations."""
    rows = (row.split(",") for row in (place[1] / run / "metrics.csv").read_text().splitlines())
    return [float(row[2]) for row in rows if row[1] == name]


@pytest.mark.parametrize("stage", STAGES)
def test_stages_train_in_bfloat16(place: Place, stage: str) -> None:
    run = f"{stage}_bf16"
    assert main(arguments(place, stage, run, "--trainer.precision=bf16-mixed", "--trainer.max_epochs=1")) == 0
    names = {row.split(",")[1] for row in (place[1] / run / "metrics.csv").read_text().splitlines()[1:]}
    assert all(math.isfinite(value) for name in names for value in logged(place, run, name))
    if stage == "generator":  # in the first iteration both have the same networks
        one, other = (logged(place, name, "train/r1")[0] for name in (stage, run))
        assert one == pytest.approx(other, rel=1e-5)  # float32 in both
        one, other = (logged(place, name, "train/discriminator")[0] for name in (stage, run))
        assert one == pytest.approx(other, rel=0.05) and one != pytest.approx(other, rel=1e-5)


def learning_rates(place: Place, run: str) -> list[float]:
    """Of each parameter group of each optimiser, in the last iteration."""
    states = checkpoint(place, run)["optimizer_states"]
    return [group["lr"] for state in states for group in state["param_groups"]]


def test_learning_rates_fall_over_the_last_part_of_a_run(place: Place) -> None:
    own = "--model.init_args.generator_learning_rate=2e-3", "--model.init_args.discriminator_learning_rate=4e-3"
    run, fall = "talking_face_cooled", (*own, "--model.learning_rate=1e-3", "--cool_down=0.5")
    # 16 iterations, of which the last 8 fall; the last one has an eighth left
    assert main(arguments(place, "talking_face", run, *fall, "--trainer.max_epochs=4")) == 0
    assert learning_rates(place, run) == pytest.approx([1e-3 / 8, 2e-3 / 8, 4e-3 / 8])
    # three epochs more, of two iterations each: 3.5 of the 7 epochs fall, and half an epoch is left at the end
    longer = "--trainer.max_epochs=7", "--data.batches_per_epoch=2"
    assert main(arguments(place, "talking_face", run, *fall, *longer)) == 0
    assert learning_rates(place, run) == pytest.approx([1e-3 / 7, 2e-3 / 7, 4e-3 / 7])


def test_a_run_goes_on_with_the_settings_that_it_is_given(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    run = "encoder_slower"
    assert main(arguments(place, "encoder", run, "--model.learning_rate=1e-3", "--trainer.max_epochs=1")) == 0
    assert learning_rates(place, run) == [1e-3]
    with caplog.at_level("INFO", "fctfg"):
        changed = "--model.learning_rate=5e-4", "--model.init_args.weights.lpips=0.4"
        assert main(arguments(place, "encoder", run, *changed, "--trainer.max_epochs=2")) == 0
    assert learning_rates(place, run) == [5e-4]
    assert "goes on otherwise than it began: learning_rate 0.001 -> 0.0005; weights.lpips 0.8 -> 0.4" in caplog.text
    assert f"{place[1] / run} goes on after 4 iterations" in caplog.text


def test_factor_of_the_learning_rate() -> None:
    factors = [learning_rate_factor(k / 10, 0.4) for k in range(10)]
    assert factors == pytest.approx([1, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25])
    assert [learning_rate_factor(k / 10, 0.0) for k in range(10)] == [1.0] * 10


def test_every_epoch_trains_on_other_samples(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[tuple[int, int]]] = {"train": [], "val": []}
    read = TalkingClips.read

    def watched(data: TalkingClips, key: tuple[int, int], out: Any, attempt: int) -> Any:
        seen[data.split].append(key)
        return read(data, key, out, attempt)

    monkeypatch.setattr(TalkingClips, "read", watched)
    assert main(arguments(place, "sync_expert", "watched", "--trainer.max_epochs=3")) == 0
    assert sorted(set(seen["train"])) == [(epoch, index) for epoch in range(3) for index in range(8)]
    assert len(seen["val"]) == 3 * 4 and len(set(seen["val"])) == 4  # the same at every validation


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["generator", "talking_face"])
def test_ctrl_c_saves_and_the_run_continues_exactly(place: Place, stage: str) -> None:
    run = f"{stage}_interrupted"
    more = ("--data.batches_per_epoch=10", "--trainer.max_epochs=4", "--cool_down=0.8")
    command = [sys.executable, "-m", "fctfg", *arguments(place, stage, run, *more)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    metrics = place[1] / run / "metrics.csv"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (metrics.exists() and "\n13," in metrics.read_text()):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors and "last.ckpt is saved" in errors
    cut_at = checkpoint(place, run)["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"]
    assert 13 < cut_at < 40

    assert main(arguments(place, stage, run, *more)) == 0
    assert main(arguments(place, stage, f"{stage}_uninterrupted", *more)) == 0
    straight, continued = checkpoint(place, f"{stage}_uninterrupted"), checkpoint(place, run)
    assert equal(straight["state_dict"], continued["state_dict"])
    assert equal(straight["optimizer_states"], continued["optimizer_states"])
    assert numbers(place, f"{stage}_uninterrupted") == numbers(place, run)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["generator", "talking_face"])
def test_two_processes_train_and_agree(place: Place, stage: str) -> None:
    """The ranks' agreement is checked by the run itself, at every checkpoint (`weights_agree`)."""
    run = f"{stage}_two"
    more = (WARM_UP,) if stage == "talking_face" else ()
    command = [sys.executable, "-m", "fctfg", *arguments(place, stage, run, *more, "--trainer.devices=2")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    two, one = checkpoint(place, run), checkpoint(place, stage)
    assert two["state_dict"].keys() == one["state_dict"].keys()
    assert not equal(two["state_dict"], one["state_dict"])  # twice the samples
    rows = (place[1] / run / "metrics.csv").read_text().splitlines()
    assert len(rows) == len(set(rows))  # only one rank writes


def test_every_shipped_configuration_is_run_here() -> None:
    """Or in test_ablations.py and test_adaptive_strength.py."""
    shipped = {path.stem for path in CONFIGS.glob("*.yaml")}
    assert shipped == {"base", *STAGES, "tiny", "small_data"}


def test_the_tiny_overlay_trains(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    data = faces_data.make(tmp_path / "data", size=64)
    length = ("--data.batches_per_epoch=1", "--trainer.max_epochs=1", "--data.batch_size=2", "--data.val_samples=2")
    configs = [f"--config={CONFIGS / name}.yaml" for name in ("base", "generator", "tiny")]
    command = ["train", *configs, f"--runs={tmp_path}", "--run=g", f"--data.root={data}", *length]
    assert main([*command, "--model.latent_avg_samples=100"]) == 0
    assert load_artifact(tmp_path / "g").state_dicts["generator"]["convs.7.conv.weight"].shape[1] == 16


@pytest.mark.slow
def test_a_second_launch_continues_the_tracked_run(place: Place) -> None:
    command = [sys.executable, "-m", "fctfg", *arguments(place, "talking_face", "group/tracked")]
    for epochs in (1, 2):
        environment = {**os.environ, "WANDB_MODE": "offline"}
        subprocess.run([*command, f"--trainer.max_epochs={epochs}"], check=True, env=environment, timeout=300)
    folders = sorted((place[1] / "group" / "tracked" / "wandb").glob("offline-run-*"))
    assert len(folders) == 2
    (identifier,) = (place[1] / "group" / "tracked" / "wandb_id.txt").read_text().split()
    assert all(folder.name.endswith(f"-{identifier}") for folder in folders)
    media = [path for path in (folders[0] / "files" / "media").rglob("*.*")]
    assert {path.name.rsplit("_", 2)[0] for path in media} == {
        "video",
        "mel",
        "source_canonical",
        "source_driver_result_target",
    }
    assert all(probe(path).has_audio for path in media if path.suffix == ".mp4")
    record = next(folders[0].glob("*.wandb")).read_bytes()
    card = json.loads((place[1] / "group" / "tracked" / "export" / "card.json").read_text())
    for logged in ("dataset_hash", card["dataset_hash"], "generator_learning_rate", "train/sync", "val/identity"):
        assert logged.encode() in record


def test_stage_3_goes_on_with_other_data(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    taken = [f"--model.init_from.talking_face={place[1] / 'talking_face'}"]
    command = [a for a in arguments(place, "talking_face", "mine") if "generator=" not in a and "inversion=" not in a]
    assert main([*command, *taken]) == 0
    assert load_artifact(place[1] / "mine").stage == "talking_face"
    assert (
        main([*command, *taken, "--run=other", "--networks.audio_encoder.dim=8", "--networks.fctfg.audio_dim=8"]) == 1
    )
    assert "audio_encoder has another configuration" in capsys.readouterr().err


def test_encoder_and_generator_train_together_and_are_handed_on(place: Place) -> None:
    assert main(arguments(place, "encoder", "both", *TOGETHER)) == 0
    go_on = [part for part in arguments(place, "encoder", "both_on", *TOGETHER) if "init_from.generator" not in part]
    assert main([*go_on, f"--model.init_from.inversion={place[1] / 'both'}"]) == 0
    runs = [load_artifact(place[1] / run).state_dicts["generator"] for run in ("generator", "both", "both_on")]
    name = "convs.0.conv.weight"
    assert not torch.equal(runs[0][name], runs[1][name]) and not torch.equal(runs[1][name], runs[2][name])
    inversion = f"--model.init_from.inversion={place[1] / 'both_on'}"
    rest = "--model.learning_rate=0"
    assert main(arguments(place, "talking_face", "from_both", inversion, rest)) == 0
    assert torch.equal(load_artifact(place[1] / "from_both").state_dicts["generator"][name], runs[2][name])


def test_callbacks_of_the_user_are_called(place: Place) -> None:
    monitor = "--trainer.callbacks=pytorch_lightning.callbacks.LearningRateMonitor"
    assert main(arguments(place, "encoder", "monitored", monitor)) == 0
    assert ",lr-" in (place[1] / "monitored" / "metrics.csv").read_text()


def test_in_the_warm_up_the_inversion_rests(place: Place) -> None:
    assert main(arguments(place, "talking_face", "warm", WARM_UP, "--trainer.max_epochs=1")) == 0
    before, after = (load_artifact(place[1] / run).state_dicts for run in ("hypernetwork", "warm"))
    for name in ("generator", "visual_encoder"):
        assert equal(before[name], after[name])
    longer = arguments(place, "talking_face", "warm", WARM_UP, "--trainer.max_epochs=2")
    assert main(longer) == 0
    trained = load_artifact(place[1] / "warm").state_dicts
    for name in ("generator", "visual_encoder", "latent"):
        assert not equal(after[name], trained[name])


@pytest.mark.parametrize("mode", ["frozen", "finetuned"])
def test_stage_3_with_the_hypernetwork(place: Place, mode: str) -> None:
    assert main(arguments(place, "talking_face", mode, f"--networks.fctfg.hypernetwork={mode}")) == 0
    before, after = (load_artifact(place[1] / run).state_dicts["hypernetwork"] for run in ("hypernetwork", mode))
    assert equal(before, after) == (mode == "frozen")


def test_without_its_term_the_discriminator_rests(place: Place) -> None:
    assert main(arguments(place, "talking_face", "no_judge", "--model.init_args.weights.adversarial=0")) == 0
    before, after = (build(load_artifact(place[1] / run), "discriminator") for run in ("generator", "no_judge"))
    assert equal(before.state_dict(), after.state_dict())
    trained = build(load_artifact(place[1] / "talking_face"), "discriminator")
    assert not equal(before.state_dict(), trained.state_dict())
    assert logged(place, "talking_face", "val/real_score") and not logged(place, "no_judge", "val/real_score")


@pytest.mark.parametrize(("form", "judge"), [("image", "discriminator"), ("video", "video_discriminator")])
def test_stage_3_scores_held_out_faces_as_they_are(place: Place, form: str, judge: str) -> None:
    more = f"--model.init_args.discriminator_form={form}", "--data.augment=true", "--data.batches_per_epoch=1"
    assert main(arguments(place, "talking_face", f"scored_{form}", *more, "--trainer.max_epochs=1")) == 0
    discriminator = build(load_artifact(place[1] / f"scored_{form}"), judge)
    data = TalkingData(place[0], batch_size=2, decoys=True, val_samples=4, num_workers=0)
    real = [data.on_after_batch_transfer(sample, 0).driving for sample in data.val_dataloader()]
    shown = real if form == "video" else [frames.flatten(0, 1) for frames in real]
    with torch.no_grad():
        want = float(torch.stack([discriminator(x).mean() for x in shown]).mean())
    assert logged(place, f"scored_{form}", "val/real_score") == pytest.approx([want], rel=1e-4, abs=1e-5)
    (generated,) = logged(place, f"scored_{form}", "val/fake_score")
    assert math.log1p(math.exp(-generated)) <= logged(place, f"scored_{form}", "val/adversarial")[0] + 1e-5  # Jensen's


def test_centered_windows_reach_training_and_use(place: Place) -> None:
    assert main(arguments(place, "talking_face", "centered", "--networks.centered_mel=true")) == 0
    artifact = load_artifact(place[1] / "centered")
    assert artifact.configs["latent"].centered_mel
    assert artifact.card["config"]["networks"]["centered_mel"] is True
    assert main(arguments(place, "talking_face", "centred", "--networks.fctfg.centered_mel=true")) == 2

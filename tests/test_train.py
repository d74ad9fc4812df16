"""Training through the command line: every stage, hand-off, continuation, two processes, bad input."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import faces_data
import pytest
import torch

from fctfg.cli import main
from fctfg.data.dataset import TalkingClips
from fctfg.data.manifest import read_manifest, write_manifest
from fctfg.stages.callbacks.learning_rates import learning_rate_factor
from fctfg.weights.artifact import load_artifact

HERE = Path(__file__).parent
CONFIGS = HERE.parent / "configs"
BEFORE = {  # what each stage takes over
    "sync_expert": {},
    "identity_expert": {},
    "generator": {},
    "encoder": {"generator": "generator", "identity_expert": "identity_expert"},
    "hypernetwork": {"generator": "generator", "identity_expert": "identity_expert", "inversion": "encoder"},
    "talking_face": {
        "generator": "generator",
        "identity_expert": "identity_expert",
        "inversion": "hypernetwork",
        "sync_expert": "sync_expert",
    },
}
STAGES = tuple(BEFORE)
Place = tuple[Path, Path]  # data, runs


@pytest.fixture(autouse=True)
def untracked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")


def arguments(place: Place, stage: str, run: str | None = None, *more: str) -> list[str]:
    data, runs = place
    configs = [CONFIGS / "base.yaml", CONFIGS / f"{stage}.yaml", HERE / "micro.yaml"]
    taken = [f"--model.init_from.{role}={runs / name}" for role, name in BEFORE[stage].items()]
    return [
        "train",
        *(f"--config={path}" for path in configs),
        f"--run={run or stage}",
        f"--runs={runs}",
        f"--data.root={data}",
        "--data.batch_size=2",
        *taken,
        *more,
    ]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """All stages, trained for two epochs of four iterations each."""
    root = tmp_path_factory.mktemp("train")
    (root / "data").mkdir()
    place = faces_data.make(root / "data"), root / "runs"
    os.environ["WANDB_MODE"] = "disabled"
    for stage in STAGES:
        assert main(arguments(place, stage)) == 0, stage
    return place


def checkpoint(place: Place, run: str) -> dict[str, Any]:
    return torch.load(place[1] / run / "checkpoints" / "last.ckpt", weights_only=True)


def equal(one: Any, other: Any) -> bool:
    """Equal to the bit, through all containers."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(equal(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


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
    from fctfg.media import probe

    (video, *_) = sorted((place[1] / "talking_face" / "samples").glob("video_*.mp4"))
    info = probe(video)
    assert info.has_audio
    assert info.width == 4 * info.height  # source, driver, result, canonical image


def test_all_six_terms_are_logged_by_the_names_of_their_weights(place: Place) -> None:
    rows = (place[1] / "talking_face" / "metrics.csv").read_text().splitlines()[1:]
    names = {row.split(",")[1] for row in rows}
    terms = ("orthogonality", "sync", "identity", "reconstruction", "perceptual", "adversarial")
    assert {f"{part}/{term}" for part in ("train", "val") for term in terms} <= names
    assert {row.split(",")[0] for row in rows if row.split(",")[1] == "train/sync"} == {str(i) for i in range(8)}


@pytest.mark.parametrize("stage", ["generator", "talking_face"])
def test_2n_batches_equal_n_and_n(place: Place, stage: str) -> None:
    """Four epochs at once, against two and two, of which the last two decode in other processes."""
    assert main(arguments(place, stage, f"{stage}_whole", "--trainer.max_epochs=4")) == 0
    assert main(arguments(place, stage, f"{stage}_cut", "--trainer.max_epochs=2")) == 0
    assert main(arguments(place, stage, f"{stage}_cut", "--trainer.max_epochs=4", "--data.num_workers=2")) == 0
    straight, cut = checkpoint(place, f"{stage}_whole"), checkpoint(place, f"{stage}_cut")
    assert equal(straight["state_dict"], cut["state_dict"])
    assert equal(straight["optimizer_states"], cut["optimizer_states"])
    one, other = ((place[1] / run / "metrics.csv").read_text() for run in (f"{stage}_whole", f"{stage}_cut"))
    assert one == other


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


def test_a_run_goes_on_with_the_learning_rate_that_it_is_given(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    run = "encoder_slower"
    assert main(arguments(place, "encoder", run, "--model.learning_rate=1e-3", "--trainer.max_epochs=1")) == 0
    assert learning_rates(place, run) == [1e-3]
    with caplog.at_level("INFO", "fctfg"):
        assert main(arguments(place, "encoder", run, "--model.learning_rate=5e-4", "--trainer.max_epochs=2")) == 0
    assert learning_rates(place, run) == [5e-4]
    assert "goes on otherwise than it began: learning_rate 0.001 -> 0.0005" in caplog.text
    assert f"{place[1] / run} goes on after 4 iterations" in caplog.text


def test_factor_of_the_learning_rate() -> None:
    factors = [learning_rate_factor(k / 10, 0.4) for k in range(10)]
    assert factors == pytest.approx([1, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25])
    assert [learning_rate_factor(k / 10, 0.0) for k in range(10)] == [1.0] * 10


@pytest.mark.parametrize(
    "setting",
    [
        ("--cool_down=1.5",),
        ("--cool_down=0.2", "--trainer.max_epochs=-1"),
        ("--cool_down=0.2", "--trainer.max_steps=10"),
    ],
)
def test_a_cool_down_that_cannot_be_is_refused(
    place: Place, setting: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(place, "encoder", "refused", *setting)) == 2
    assert "cool_down" in capsys.readouterr().err
    assert not (place[1] / "refused").exists()


@pytest.mark.parametrize("name", ["", ".", "../elsewhere", "/elsewhere"])
def test_a_run_is_a_folder_below_all_runs(place: Place, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = [part for part in arguments(place, "encoder") if not part.startswith("--run=")]
    assert main([*command, f"--run={name}"]) == 2
    assert "name of a folder below --runs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("--data.batch_size=0", "data.batch_size is 0, but must be at least 1"),
        ("--data.num_workers=-1", "data.num_workers is -1"),
        ("--trainer.max_epoch=2", "did you mean 'trainer.max_epochs'"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    place: Place, setting: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(place, "encoder", "refused", setting)) == 2
    assert said in capsys.readouterr().err
    assert not (place[1] / "refused").exists()


def test_every_epoch_trains_on_other_samples(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[tuple[int, int]]] = {"train": [], "val": []}
    draw = TalkingClips.__getitem__

    def watched(data: TalkingClips, key: tuple[int, int]) -> Any:
        seen[data.split].append(key)
        return draw(data, key)

    monkeypatch.setattr(TalkingClips, "__getitem__", watched)
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
    assert main(arguments(place, stage, f"{stage}_straight", *more)) == 0
    straight, continued = checkpoint(place, f"{stage}_straight"), checkpoint(place, run)
    assert equal(straight["state_dict"], continued["state_dict"])
    assert equal(straight["optimizer_states"], continued["optimizer_states"])
    one, other = ((place[1] / name / "metrics.csv").read_text() for name in (f"{stage}_straight", run))
    assert one == other


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["generator", "talking_face"])
def test_two_processes_train_and_agree(place: Place, stage: str) -> None:
    """The ranks' agreement is checked by the run itself, at every checkpoint (`weights_agree`)."""
    run = f"{stage}_two"
    command = [sys.executable, "-m", "fctfg", *arguments(place, stage, run, "--trainer.devices=2")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    two, one = checkpoint(place, run), checkpoint(place, stage)
    assert two["state_dict"].keys() == one["state_dict"].keys()
    assert not equal(two["state_dict"], one["state_dict"])  # twice the samples
    rows = (place[1] / run / "metrics.csv").read_text().splitlines()
    assert len(rows) == len(set(rows))  # only one rank writes


def test_every_shipped_configuration_is_run_here() -> None:
    shipped = {path.stem for path in CONFIGS.glob("**/*.yaml")}
    assert shipped == {"base", *STAGES, "tiny"}


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
    command = [sys.executable, "-m", "fctfg", *arguments(place, "sync_expert", "group/tracked")]
    for epochs in (1, 2):
        environment = {**os.environ, "WANDB_MODE": "offline"}
        subprocess.run([*command, f"--trainer.max_epochs={epochs}"], check=True, env=environment, timeout=300)
    folders = sorted((place[1] / "group" / "tracked" / "wandb").glob("offline-run-*"))
    assert len(folders) == 2
    (identifier,) = (place[1] / "group" / "tracked" / "wandb_id.txt").read_text().split()
    assert all(folder.name.endswith(f"-{identifier}") for folder in folders)
    media = {path.suffix for folder in folders for path in (folder / "files" / "media").rglob("*.*")}
    assert ".png" in media


def test_weights_of_another_size_are_refused(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    more = (
        "--networks.visual_encoder.body.channels=[8,8,16,24]",
        "--networks.identity_expert.body.channels=[8,8,16,24]",
    )
    assert main(arguments(place, "encoder", "other_size", *more)) == 1
    assert "identity_expert has another configuration" in capsys.readouterr().err


def test_weights_of_another_stage_are_refused(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = f"--model.init_from.generator={place[1] / 'sync_expert'}"
    assert main(arguments(place, "encoder", "other_stage", wrong)) == 1
    assert "generator" in capsys.readouterr().err


def test_a_forgotten_stage_is_asked_for(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    command = [a for a in arguments(place, "encoder", "forgotten") if "init_from.generator" not in a]
    assert main(command) == 1
    assert "model.init_args.init_from.generator" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "near"),
    [("--data.batch_sise=3", "data.batch_size"), ("--model.lerning_rate=1", "learning_rate")],
)
def test_a_misspelt_key_fails_before_anything_is_built(
    place: Place, capsys: pytest.CaptureFixture[str], option: str, near: str
) -> None:
    assert main(arguments(place, "generator", "misspelt", option)) == 2
    assert near in capsys.readouterr().err
    assert not (place[1] / "misspelt").exists()


def test_a_misspelt_key_in_a_file_is_named(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.yaml").write_text("data: {bach_size: 3}\n")
    assert main([*arguments(place, "generator", "misspelt"), f"--config={tmp_path / 'mine.yaml'}"]) == 2
    assert "data.batch_size" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_named(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    folder = place[1] / "damaged" / "checkpoints"
    folder.mkdir(parents=True)
    whole = (place[1] / "sync_expert" / "checkpoints" / "last.ckpt").read_bytes()
    (folder / "last.ckpt").write_bytes(whole[: len(whole) // 2])
    assert main(arguments(place, "sync_expert", "damaged")) == 1
    error = capsys.readouterr().err
    assert "last.ckpt" in error
    assert "Traceback" not in error


def test_a_run_of_another_stage_is_not_continued(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(place, "identity_expert", "sync_expert")) == 1
    assert "stage 'sync_expert'" in capsys.readouterr().err
    assert "SyncExpert" in (place[1] / "sync_expert" / "config.yaml").read_text()  # the run is as it was


def test_missing_data_set_is_named(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments((place[0] / "nowhere", place[1]), "generator", "nowhere")) == 1
    assert "nowhere is not a clip data set" in capsys.readouterr().err


def test_a_run_is_not_continued_with_networks_of_another_size(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    before = (place[1] / "generator" / "config.yaml").read_text()
    assert main(arguments(place, "generator", None, "--networks.generator.n_mlp=3", "--trainer.max_epochs=3")) == 1
    assert "generator.n_mlp 2 -> 3" in capsys.readouterr().err
    assert (place[1] / "generator" / "config.yaml").read_text() == before


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--data.batch_size=3", "batch_size 2 -> 3"),
        ("--data.decoys=true", "decoys False -> True"),
        ("--seed_everything=1", "seed 0 -> 1"),
    ],
)
def test_what_is_not_as_it_was_is_said(
    place: Place, caplog: pytest.LogCaptureFixture, tmp_path: Path, option: str, said: str
) -> None:
    shutil.copytree(place[1] / "identity_expert", tmp_path / "identity_expert")
    assert main(arguments((place[0], tmp_path), "identity_expert", None, option)) == 0
    assert said in caplog.text


def test_another_judge_is_refused(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(place[1], tmp_path / "runs")
    again = (place[0], tmp_path / "runs")
    # what a run only started from may change
    assert main(arguments(again, "hypernetwork", None, "--trainer.max_epochs=3")) == 0
    assert main(arguments(again, "talking_face", None, "--trainer.max_epochs=3")) == 0
    # what judges it may not
    assert main(arguments(again, "identity_expert", None, "--trainer.max_epochs=3")) == 0
    capsys.readouterr()
    assert main(arguments(again, "encoder", None, "--trainer.max_epochs=3")) == 1
    assert "is not what" in capsys.readouterr().err


def test_an_encoder_of_another_generator_is_refused_where_a_run_begins(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(place[1], tmp_path / "runs")
    again = (place[0], tmp_path / "runs")
    assert main(arguments(again, "generator", None, "--trainer.max_epochs=3")) == 0  # another one now
    for stage in ("hypernetwork", "talking_face"):
        assert main(arguments(again, stage, "fresh")) == 1
        assert "was trained for another generator" in capsys.readouterr().err
        assert not (tmp_path / "runs" / "fresh").exists()
    assert main(arguments(again, "talking_face", None, "--trainer.max_epochs=3")) == 0  # it has its own


def test_a_checkpoint_of_an_earlier_version_is_named(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(place[1] / "generator", tmp_path / "generator")
    state = checkpoint((place[0], tmp_path), "generator")
    del state["fctfg"]["judges"]
    torch.save(state, tmp_path / "generator" / "checkpoints" / "last.ckpt")
    assert main(arguments((place[0], tmp_path), "generator")) == 1
    assert "earlier fctfg (it lacks judges)" in capsys.readouterr().err


def test_other_people_are_refused_where_each_is_a_class(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    shutil.copytree(place[1] / "identity_expert", tmp_path / "runs" / "identity_expert")
    data = faces_data.make(tmp_path / "data")
    write_manifest(data, [replace(clip, identity=f"other {clip.identity}") for clip in read_manifest(data)])
    other = data, tmp_path / "runs"
    assert main(arguments(other, "identity_expert", None, "--trainer.max_epochs=3")) == 1
    assert "a class for each person" in capsys.readouterr().err


def test_leftovers_of_a_killed_run_are_removed(place: Place, tmp_path: Path) -> None:
    shutil.copytree(place[1] / "identity_expert", tmp_path / "identity_expert")
    left = tmp_path / "identity_expert" / "checkpoints" / f".last.{'0' * 32}.ckpt"
    mine = tmp_path / "identity_expert" / ".notes.txt"
    left.write_text("half")
    mine.write_text("mine")
    assert main(arguments((place[0], tmp_path), "identity_expert")) == 0
    assert not left.exists() and mine.exists()


def test_stage_3_goes_on_with_other_data(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    taken = [f"--model.init_from.talking_face={place[1] / 'talking_face'}"]
    command = [a for a in arguments(place, "talking_face", "mine") if "generator=" not in a and "inversion=" not in a]
    assert main([*command, *taken]) == 0
    assert load_artifact(place[1] / "mine").stage == "talking_face"
    assert (
        main([*command, *taken, "--run=other", "--networks.audio_encoder.dim=8", "--networks.fctfg.audio_dim=8"]) == 1
    )
    assert "audio_encoder has another configuration" in capsys.readouterr().err


def test_centered_windows_reach_training_and_use(place: Place) -> None:
    assert main(arguments(place, "talking_face", "centered", "--networks.centered_mel=true")) == 0
    artifact = load_artifact(place[1] / "centered")
    assert artifact.configs["latent"].centered_mel
    assert artifact.card["config"]["networks"]["centered_mel"] is True
    assert main(arguments(place, "talking_face", "centred", "--networks.fctfg.centered_mel=true")) == 2


def test_clips_of_another_size_are_named(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    resolutions = [f"--networks.{n}.resolution=64" for n in ("generator", "discriminator", "visual_encoder")]
    more = (*resolutions, "--networks.hypernetwork.resolution=64", "--networks.hypernetwork.generator.resolution=64")
    assert main(arguments(place, "generator", "large", *more)) == 1
    assert "prepare them with --size 64" in capsys.readouterr().err
    assert not (place[1] / "large").exists()


@pytest.mark.parametrize(("stage", "frames", "needed"), [("talking_face", 4, 5), ("sync_expert", 5, 10)])
def test_too_few_frames_are_named(
    place: Place, capsys: pytest.CaptureFixture[str], stage: str, frames: int, needed: int
) -> None:
    assert main(arguments(place, stage, "frames", f"--data.frames={frames}")) == 1
    error = capsys.readouterr().err
    assert f"data.frames is {frames}" in error and str(needed) in error


def test_float16_is_refused(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(place, "generator", "half", "--trainer.precision=16-mixed")) == 2
    assert "bf16-mixed" in capsys.readouterr().err


def test_a_misspelt_weight_is_named(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(place, "talking_face", "weights", "--model.init_args.weights.synch=0.2")) == 2
    assert "weights.sync'" in capsys.readouterr().err


def test_a_negative_weight_is_refused(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(place, "talking_face", "weights", "--model.init_args.weights.sync=-1")) == 2
    assert "not negative" in capsys.readouterr().err


HOLD = (
    "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True); input()"
)


def test_a_run_in_use_is_left_alone(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-c", HOLD, str(place[1] / "generator" / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        assert main(arguments(place, "generator", None, "--trainer.max_epochs=3")) == 1
        other.communicate("\n")
    assert "another process is training" in capsys.readouterr().err


def test_a_run_folder_that_is_a_file(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs").write_text("")
    assert main(arguments((place[0], tmp_path / "runs"), "generator")) == 1
    error = capsys.readouterr().err
    assert str(tmp_path / "runs") in error and "choose another" in error and "Traceback" not in error


def test_a_checkpoint_that_would_run_a_program_is_refused(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    folder = place[1] / "malicious" / "checkpoints"
    folder.mkdir(parents=True)
    victim = folder / "executed"

    class Malicious:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (victim,)

    torch.save({"state_dict": Malicious()}, folder / "last.ckpt")
    assert main(arguments(place, "generator", "malicious")) == 1
    assert "cannot be read" in capsys.readouterr().err
    assert not victim.exists()


@pytest.mark.parametrize("limit", [20_000, 200_000])  # the export does not fit; the checkpoint does not fit
def test_a_full_disk_keeps_what_there_is(place: Place, tmp_path: Path, limit: int) -> None:
    shutil.copytree(place[1] / "generator", tmp_path / "generator")
    kept = [tmp_path / "generator" / name for name in ("checkpoints/last.ckpt", "export/weights.safetensors")]
    before = [file.read_bytes() for file in kept]
    continued = arguments((place[0], tmp_path), "generator", None, "--trainer.max_epochs=3")

    def no_large_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, "-m", "fctfg", *continued]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, preexec_fn=no_large_files)
    assert result.returncode == 1
    assert "no space left on the disk" in result.stderr and "Traceback" not in result.stderr
    assert kept[0].read_bytes() == before[0]
    assert kept[1].read_bytes() == before[1] or limit > len(before[1])
    assert not [path for path in tmp_path.rglob(".*") if path.is_file() and path.name != ".lock"]

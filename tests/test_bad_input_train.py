"""What `fctfg train` refuses: one sentence, the exit status, and nothing lost."""

import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import faces_data
import pytest
import torch
from clip_sets import change_column
from trained_runs import Place, arguments, checkpoint

from fctfg.cli import main

pytestmark = pytest.mark.usefixtures("untracked")


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
        ("--model.learning_rate=-1", "model.init_args.learning_rate is -1.0, but must be at least 0"),
        ("--model.learning_rate=.nan", "model.init_args.learning_rate is nan"),
        ("--model.learning_rate=fast", "model.init_args.learning_rate is 'fast', but takes float\n"),
        ("--data.batch_size=1.5", "data.batch_size is '1.5', but takes int"),
        (
            "--model.generator_learning_rate=fast",
            "model.init_args.generator_learning_rate is 'fast', but takes float, null\n",
        ),
        ("--model.weights.l2=much", "model.init_args.weights.l2 is 'much', but takes float\n"),
        ("--trainer.devices=0", "devices="),
        ("--networks.fctfg.audio_dim=wide", "networks.fctfg.audio_dim is 'wide', but takes int\n"),
        ("--networks.generator.lr_mlp=0", "lr_mlp must be positive"),
        ("--data.frames=0", "data.frames is 0, but must be at least 1"),
        ("--trainer.log_every_n_steps=0", "trainer.log_every_n_steps is 0, but must be at least 1"),
        ("--networks.fctfg.audio_dym=3", "did you mean 'audio_dim'"),
        ("--trainer.max_epoch=2", "did you mean 'trainer.max_epochs'"),
        ("--trainer.enable_checkpointing=true", "trainer.enable_checkpointing: fctfg train sets it itself"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    place: Place, setting: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(place, "encoder", "refused", setting)) == 2
    assert said in capsys.readouterr().err
    assert not (place[1] / "refused").exists()


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
        ("--model.init_args.margin=0.3", "margin 0.5 -> 0.3"),
        ("--networks.perceptual.width=0.5", "perceptual.width 0.125 -> 0.5"),
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


def test_a_generator_from_two_places_is_refused(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    twice = f"--model.init_from.inversion={place[1] / 'encoder'}"
    assert main(arguments(place, "encoder", "refused", twice)) == 1
    assert "generator and inversion both say" in capsys.readouterr().err


def test_an_encoder_of_another_generator_is_refused_where_a_run_begins(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(place[1], tmp_path / "runs")
    again = (place[0], tmp_path / "runs")
    assert main(arguments(again, "generator", None, "--trainer.max_epochs=3")) == 0  # another one now
    assert main(arguments(again, "talking_face", "fresh")) == 1
    assert "was trained for another generator" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "fresh").exists()
    assert main(arguments(again, "talking_face", None, "--trainer.max_epochs=3")) == 0  # it has its own


def test_a_checkpoint_of_an_earlier_version_is_named(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(place[1] / "generator", tmp_path / "generator")
    state = checkpoint((place[0], tmp_path), "generator")
    del state["fctfg"]["judges"]
    shutil.rmtree(tmp_path / "generator" / "checkpoints")
    (tmp_path / "generator" / "checkpoints").mkdir()
    torch.save(state, tmp_path / "generator" / "checkpoints" / "last.ckpt")
    assert main(arguments((place[0], tmp_path), "generator")) == 1
    assert "earlier fctfg (it lacks judges)" in capsys.readouterr().err


def test_other_people_are_refused_where_each_is_a_class(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    shutil.copytree(place[1] / "identity_expert", tmp_path / "runs" / "identity_expert")
    data = faces_data.make(tmp_path / "data")
    change_column(data, "identity", lambda identity, _: f"other {identity}")
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


def test_a_lost_shard_is_named(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = Path(shutil.copytree(place[0], tmp_path / "data"))
    (lost,) = (data / "shards").iterdir()
    lost.unlink()
    assert main(arguments((data, place[1]), "generator", "lost")) == 1
    assert f"{lost.name} is lost" in capsys.readouterr().err
    assert not (place[1] / "lost").exists()


def test_stage_1_does_not_learn_augmented_pictures(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(place, "generator", "augmented", "--data.augment=true")) == 1
    assert "data.augment" in capsys.readouterr().err
    assert not (place[1] / "augmented").exists()


def test_a_run_is_not_continued_with_other_networks_in_training(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(place[1], tmp_path / "runs")
    both = "--model.init_args.generator_learning_rate=1e-3"
    assert main(arguments((place[0], tmp_path / "runs"), "encoder", None, both, "--trainer.max_epochs=3")) == 1
    said = "was begun to train visual_encoder, and is now to train generator, visual_encoder"
    assert said in capsys.readouterr().err


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


@pytest.mark.parametrize(
    ("stage", "setting", "wanted"),
    [
        ("generator", "learning_rate=-1", "at least 0"),
        ("generator", "r1_weight=-1", "at least 0"),
        ("generator", "path_length_weight=-1", "at least 0"),
        ("generator", "path_length_decay=2", "between 0 and 1"),
        ("generator", "style_mixing=1.5", "between 0 and 1"),
        ("generator", "r1_every=0", "at least 1"),
        ("generator", "path_length_every=0", "at least 1"),
        ("generator", "path_length_shrink=0", "at least 1"),
        ("generator", "latent_avg_samples=0", "at least 1"),
        ("generator", "ema_half_life=0", "at least 0.001"),
        ("identity_expert", "margin=-1", "at least 0"),
        ("identity_expert", "scale=-1", "at least 0"),
        ("sync_expert", "weight_decay=-1", "at least 0"),
        ("sync_expert", "temperature=0", "at least 0.001"),
        ("encoder", "generator_learning_rate=-1", "at least 0"),
        ("hypernetwork", "refinements=0", "at least 1"),
        ("talking_face", "discriminator_learning_rate=-1", "at least 0"),
        ("talking_face", "warm_up=-1", "at least 0"),
        ("talking_face", "ema_decay=1.5", "between 0 and 1"),
        ("talking_face", "r1_every=0", "at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(
    place: Place, stage: str, setting: str, wanted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(place, stage, "refused", f"--model.init_args.{setting}")) == 2
    said = capsys.readouterr().err
    assert f"model.init_args.{setting.split('=')[0]} is " in said
    assert f"must be {wanted}\n" in said


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

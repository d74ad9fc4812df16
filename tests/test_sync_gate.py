"""The gate of stage 3: a sync expert that was measured, and is good enough."""

import json
import shutil
from pathlib import Path

import published_files as published
import pytest
from trained_runs import Place, arguments

from fctfg.cli import main
from fctfg.data.manifest import read_manifest
from fctfg.errors import FctfgError
from fctfg.weights.artifact import load_artifact
from fctfg.weights.sync_measurement import SyncMeasurement, read_measurement, sidecar, write_measurement

pytestmark = pytest.mark.usefixtures("untracked")

ASK = "--networks.sync_accuracy=0.99"


def begin(place: Place, *more: str) -> int:
    """A new run of stage 3, as far as it goes without writing."""
    return main(arguments(place, "talking_face", "gate", "--dry_run", ASK, *more))


def measured(accuracy: float) -> SyncMeasurement:
    return SyncMeasurement(accuracy, "val", "0" * 64, people=2, clips=4, windows=300)


@pytest.fixture
def expert(place: Place, tmp_path: Path) -> Path:
    """A copy of the trained expert's run."""
    shutil.copytree(place[1] / "sync_expert" / "export", tmp_path / "expert" / "export")
    return tmp_path / "expert"


def test_the_card_says_how_it_was_measured(place: Place) -> None:
    card = json.loads((place[1] / "sync_expert" / "export" / "card.json").read_text())
    found = SyncMeasurement.from_plain(card["sync_accuracy"])
    assert found.accuracy == card["metrics"]["val/accuracy"]
    assert found.dataset_hash == read_manifest(place[0]).hash == card["dataset_hash"]
    # micro.yaml: four samples of 40 frames, of the two people for validation, who take turns
    assert (found.split, found.people, found.windows, found.chance) == ("val", 2, 4 * 8, 0.5)
    assert 2 <= found.clips <= 4
    assert load_artifact(place[1] / "sync_expert").card["sync_accuracy"] == card["sync_accuracy"]


def test_a_poor_expert_is_refused(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert begin(place) == 1
    error = capsys.readouterr().err
    accuracy = json.loads((place[1] / "sync_expert" / "export" / "card.json").read_text())["sync_accuracy"]["accuracy"]
    expert = str(place[1] / "sync_expert")
    assert error.count("\n") == 1 and f"{expert}/export/weights.safetensors" in error
    assert f"in {accuracy:.3f} of 32 windows of 2 held-out people (chance 0.5), but 0.99 is asked for" in error
    assert f"fctfg doctor sync --expert {expert} --data DIR" in error and "networks.sync_accuracy=0" in error
    assert main([part for part in arguments(place, "talking_face", "gate", ASK) if part != "--dry_run"]) == 1
    assert not (place[1] / "gate").exists()


def test_the_default_asks_for_085(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "default.yaml"
    micro = Path(__file__).with_name("micro.yaml").read_text()
    config.write_text("".join(line for line in micro.splitlines(True) if "sync_accuracy" not in line))
    command = [
        f"--config={config}" if "micro.yaml" in part else part
        for part in arguments(place, "talking_face", "gate", "--dry_run")
    ]
    assert main(command) == 1
    assert "but 0.85 is asked for" in capsys.readouterr().err


@pytest.mark.parametrize("told", ["--networks.sync_accuracy=0", "--model.weights.sync=0"])
def test_who_does_not_ask_gets_any(place: Place, told: str) -> None:
    assert begin(place, told) == 0


def test_what_the_doctor_has_measured_goes_before_the_card(
    place: Place, expert: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = expert / "export" / "weights.safetensors"
    digest = load_artifact(weights).sha256
    taken = f"--model.init_from.sync_expert={expert}"
    write_measurement(weights, digest, measured(0.995))
    assert begin(place, taken) == 0
    write_measurement(weights, digest, measured(0.75))
    assert begin(place, taken) == 1
    assert "in 0.750 of 300 windows" in capsys.readouterr().err
    write_measurement(weights, "1" * 64, measured(0.995))  # of other weights, which lay here before
    assert begin(place, taken) == 1
    assert "of 32 windows" in capsys.readouterr().err


def test_an_expert_that_nobody_has_measured(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = published.save({"state_dict": published.state(published.sync_expert())}, tmp_path / "lipsync_expert.pth")
    taken = f"--model.init_from.sync_expert={path}"
    assert begin(place, taken) == 1
    error = capsys.readouterr().err
    assert f"{path}: nobody has measured" in error and f"`fctfg doctor sync --expert {path} --data DIR`" in error


def test_a_run_that_goes_on_is_not_asked_again(place: Place, tmp_path: Path) -> None:
    data, runs = place
    shutil.copytree(runs, tmp_path / "runs")
    here = data, tmp_path / "runs"
    taken = [f"--model.init_from.{role}={runs / name}" for role, name in (("sync_expert", "sync_expert"),)]
    assert main(arguments(here, "talking_face", None, ASK, "--trainer.max_epochs=3", *taken)) == 0


@pytest.mark.parametrize(
    "content", ["", "{}", '{"weights_sha256": 1, "sync_accuracy": {}}', '{"sync_accuracy": {"accuracy": 2}}']
)
def test_a_damaged_measurement_is_named(expert: Path, content: str) -> None:
    artifact = load_artifact(expert)
    sidecar(artifact.path).write_text(content.replace("1", f'"{artifact.sha256}"', 1))
    with pytest.raises(FctfgError, match=r"weights\.safetensors\.sync\.json is damaged .* measure it again"):
        read_measurement(artifact)


@pytest.mark.parametrize("wrong", ["-0.1", "1.1", ".nan"])
def test_a_threshold_is_a_share(place: Place, wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(place, "talking_face", "gate", f"--networks.sync_accuracy={wrong}")) == 2
    assert "networks.sync_accuracy is" in capsys.readouterr().err

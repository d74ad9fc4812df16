"""`fctfg doctor sync`: sick data are told from healthy ones, and an expert that was measured passes the gate."""

import json
import shutil
from pathlib import Path
from typing import Any

import published_files as published
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sick_data
from clip_sets import change_column
from trained_runs import Place, arguments

from fctfg.cli import main
from fctfg.data.manifest import FILE_NAME, read_manifest, write_table
from fctfg.weights.artifact import load_artifact
from fctfg.weights.sync_measurement import read_measurement, sidecar

pytestmark = pytest.mark.usefixtures("untracked")

SMALL = {"few people", "few hours"}  # what is true of all data here


def doctor(data: Path, *more: object) -> int:
    return main(["doctor", "sync", "--data", str(data), *map(str, more)])


def examined(data: Path, out: Path, *more: object) -> dict[str, Any]:
    """What the command writes about data."""
    assert doctor(data, "--out", out, *more) == 0
    report: dict[str, Any] = json.loads(out.read_text())
    return report


def rules(report: dict[str, Any]) -> list[str]:
    return [finding["rule"] for finding in report["findings"]]


# ---- data


@pytest.mark.parametrize(
    ("kind", "rule", "said"),
    [
        ("late", "offset", "the sound is not in step with the lips: of the clips whose offset is sure, 100%"),
        ("foreign", "foreign sound", "the sound is somebody else's"),
        ("silent", "silence", "100% of the clips are silent"),
    ],
)
def test_sick_data_are_recognised(
    kind: str, rule: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = examined(sick_data.make(tmp_path, kind), tmp_path / "report.json", "--no-overfit")
    assert rules(report)[0] == rule and set(rules(report)[1:]) <= SMALL
    verdicts = {name: check["verdict"] for name, check in report["checks"].items()}
    assert verdicts == {"amount": "suspect", "sound": "bad", "clock": "ok"}
    told = capsys.readouterr().out
    assert f"Most likely: {said}" in told and "Do this: " in told
    if kind == "late":
        assert report["checks"]["sound"]["figures"]["offset"] == 8 and "by +8 frames" in told


def test_healthy_data_raise_no_alarm(tmp_path: Path) -> None:
    data = sick_data.make(tmp_path, "healthy")
    report = examined(data, tmp_path / "report.json", "--sources", tmp_path / "raw", "--overfit-seconds", 60)
    assert set(rules(report)) == SMALL
    checks = report["checks"]
    assert {name for name, check in checks.items() if check["verdict"] == "ok"} == set(checks) - {"amount"}
    assert checks["clock"]["figures"] == {"apart": {"25": 0, "30": 0, "29.97": 0}}
    assert checks["sources"]["figures"] == {"rates": {"25": 4}, "slow": 0, "missing": 0}
    assert checks["overfit"]["figures"]["accuracy"] >= 0.9
    assert checks["amount"]["figures"]["train"]["identities"] == 3
    assert report["dataset_hash"] == read_manifest(data).hash


def test_data_without_scores_of_the_sound(place: Place, tmp_path: Path) -> None:
    report = examined(place[0], tmp_path / "report.json", "--no-overfit")
    assert rules(report)[0] == "no scores" and report["checks"]["sound"]["figures"]["unknown"] == 1


# ---- runs and experts


def test_a_run(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, page = place[1] / "sync_expert", tmp_path / "report.html"
    quick = "--overfit-iterations", 25, "--report", page
    report = examined(place[0], tmp_path / "report.json", "--run", run, *quick)
    assert report["expert"] == str(run)
    checks = {name: check["figures"] for name, check in report["checks"].items()}
    card = json.loads((run / "export" / "card.json").read_text())
    assert checks["training"]["iterations"] == 8
    assert checks["training"]["windows"] == 2 * 8
    assert checks["training"]["chance"] == pytest.approx(2.7726, abs=1e-4)  # ln 16
    assert checks["training"]["val_accuracy"] == card["metrics"]["val/accuracy"]
    assert checks["shift"]["measurement"]["people"] == 2 and checks["shift"]["measurement"]["clips"] == 4
    assert set(checks["shift"]["accuracy"]) == {str(shift) for shift in range(-15, 16)}
    assert checks["shift"]["accuracy"]["0"] == 0.5
    assert (checks["overfit"]["width"], checks["overfit"]["clips"]) == (0.125, 8)
    told = capsys.readouterr().out
    assert "+0 0.50 ####################|\n" in told
    html = page.read_text()
    assert html.count("<svg class=") == 2 and "Most likely: " in html and "http" not in html.replace("http-equiv", "")
    assert not sidecar(run / "export" / "weights.safetensors").exists()


def test_an_expert_that_was_measured_passes_the_gate(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """First nobody knows how good it is; then it is known, and how good it is decides."""
    path = published.save({"state_dict": published.state(published.sync_expert())}, tmp_path / "lipsync_expert.pth")
    taken = "--dry_run", f"--model.init_from.sync_expert={path}"
    assert main(arguments(place, "talking_face", "gate", *taken, "--networks.sync_accuracy=0.01")) == 1
    assert "nobody has measured" in capsys.readouterr().err

    report = examined(place[0], tmp_path / "report.json", "--expert", path, "--no-overfit")
    assert f"measured: {path}.sync.json" in capsys.readouterr().out
    accuracy = report["checks"]["shift"]["figures"]["measurement"]["accuracy"]
    for least, status in ((accuracy - 0.01, 0), (accuracy + 0.01, 1)):
        assert main(arguments(place, "talking_face", "gate", *taken, f"--networks.sync_accuracy={least}")) == status

    copy = tmp_path / "measured.safetensors"
    assert doctor(place[0], "--expert", path, "--no-overfit", "--weights-out", copy) == 0
    found = read_measurement(load_artifact(copy))
    assert found is not None and found.accuracy == accuracy
    assert found.dataset_hash == read_manifest(place[0]).hash
    assert load_artifact(copy).card["licences"]["weights"] and not sidecar(copy).exists()


# ---- bad input


def refused(capsys: pytest.CaptureFixture[str], status: int, data: Path, *more: object) -> str:
    capsys.readouterr()
    assert doctor(data, "--no-overfit", *more) == status
    error = capsys.readouterr().err.strip()  # a progress bar leaves an empty line where there is no terminal
    assert error.startswith("fctfg: error: ") and "\n" not in error
    return error


def test_no_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(capsys, 1, tmp_path / "nothing")
    assert f"{tmp_path / 'nothing'} is not a clip data set" in error and "fctfg prepare" in error


@pytest.mark.parametrize(("left", "missing"), [("train", "val"), ("val", "train"), ("test", "train")])
def test_an_empty_split(
    place: Place, tmp_path: Path, left: str, missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(place[0], tmp_path / "data")
    change_column(tmp_path / "data", "split", lambda identity, split: left)
    error = refused(capsys, 1, tmp_path / "data")
    assert f"{tmp_path / 'data'} has no clip in its split '{missing}'" in error and "prepare more people" in error


def test_a_file_that_holds_no_expert(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, runs = place
    recogniser = runs / "identity_expert"
    error = refused(capsys, 1, data, "--expert", recogniser / "export" / "weights.safetensors")
    assert "holds no lip-sync expert, only identity_expert (--expert)" in error and str(recogniser) in error
    error = refused(capsys, 1, data, "--run", runs / "talking_face")
    assert "(stage 'talking_face') holds no lip-sync expert" in error and "(--run)" in error
    assert "do not exist (--expert)" in refused(capsys, 1, data, "--expert", tmp_path / "missing.pth")
    (tmp_path / "text.safetensors").write_text("hello")
    assert "text.safetensors" in refused(capsys, 1, data, "--expert", tmp_path / "text.safetensors")
    (tmp_path / "run").mkdir()
    assert "has no export/weights.safetensors" in refused(capsys, 1, data, "--run", tmp_path / "run")


def test_options_that_do_not_go_together(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, runs = place
    expert = runs / "sync_expert"
    assert "give one of them" in refused(capsys, 2, data, "--run", expert, "--expert", expert)
    assert "give both" in refused(capsys, 2, data, "--weights-out", tmp_path / "a.safetensors")
    assert "--clips must be positive, not 0" in refused(capsys, 2, data, "--clips", 0)
    assert "ends in .safetensors" in refused(capsys, 2, data, "--expert", expert, "--weights-out", tmp_path / "a.pt")
    weights = expert / "export" / "weights.safetensors"
    assert "is the file to measure" in refused(capsys, 1, data, "--expert", expert, "--weights-out", weights)
    assert "is no folder (--sources)" in refused(capsys, 1, data, "--sources", tmp_path / "raw")


def with_lengths(data: Path, root: Path, lengths: dict[str, int]) -> Path:
    """A copy whose manifest says that the clips of a split have so many frames."""
    shutil.copytree(data, root)
    manifest, table = read_manifest(root), pq.read_table(root / FILE_NAME)
    frames = pa.array([lengths[split] for split in manifest.column("split")], pa.int64())
    write_table(root, table.set_column(table.schema.get_field_index("n_frames"), "n_frames", frames), manifest.settings)
    return root


def test_clips_that_are_too_short(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = with_lengths(place[0], tmp_path / "data", {"train": 50, "val": 20, "test": 50})
    error = refused(capsys, 1, root, "--expert", place[1] / "sync_expert")
    assert "none of the 4 clips of split 'val' has the 30 frames" in error


def test_what_was_measured_is_kept_where_another_check_cannot_be_made(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = with_lengths(place[0], tmp_path / "data", {"train": 35, "val": 50, "test": 50})
    expert = published.save({"state_dict": published.state(published.sync_expert())}, tmp_path / "expert.pth")
    report = examined(root, tmp_path / "report.json", "--expert", expert)
    assert "overfit" not in report["checks"] and "a few clips by heart: not looked at" in report["notes"][0]
    told = capsys.readouterr().out
    assert report["notes"][0] in told and sidecar(expert).is_file() and f"measured: {expert}.sync.json" in told
    assert "few held out" in rules(report)

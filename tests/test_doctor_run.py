"""`fctfg doctor run`: each symptom in a log that has it, and none in a healthy one."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from trained_runs import Place

from fctfg.cli import main
from fctfg.doctor.stage_run import SYMPTOMS, asked, diagnose_run, memorised, read_values
from fctfg.metrics.sharpness import sharpness

HEALTHY = {
    "train/real_score": 1.0,
    "train/fake_score": -1.0,
    "val/real_score": 0.8,
    "train/real_sign": 0.6,
    "train/adversarial": 1.2,
    "train/sync": 0.2,
    "train/sync, first": 0.7,
    "train/orthogonality": 0.3,
    "train/orthogonality, first": 0.9,
    "val/psnr": 21.0,
    "val/psnr_copy_source": 19.0,
    "faces found": 1.0,
    "opening correlation": 0.7,
    "canonical spread": 2.0,
    "verification AUC": 0.98,
    "sharpness": 0.9,
    "blink F1": 0.8,
}
SICK = {
    "learnt by heart": {"val/real_score": -0.9},
    "discriminator wins": {"train/real_sign": 0.99, "train/adversarial": 6.0},
    "dead term: sync": {"train/sync": 0.0, "train/sync, first": 0.0},
    "worse than the portrait": {"val/psnr": 15.0},
    "lips are not learnt": {"train/sync": 0.69},
    "no face": {"faces found": 0.4},
    "motion vanished": {"opening correlation": 0.1, "train/orthogonality": 0.001},
    "canonical images are posed": {"canonical spread": 20.0},
    "identity lost": {"verification AUC": 0.6},
    "blurry": {"sharpness": 0.3},
    "never blinks": {"blink F1": 0.0},
}


@pytest.mark.parametrize("name", SICK)
def test_a_symptom_is_seen_where_it_is(name: str) -> None:
    found = diagnose_run(HEALTHY | SICK[name])
    assert [each[0] for each in found] == [name]
    assert "{" not in found[0][1]


def test_a_healthy_run_has_none_and_every_symptom_is_tried() -> None:
    assert diagnose_run(HEALTHY) == []
    tried = {name for name in SICK if not name.startswith("dead")}
    assert tried == {each.name for each in SYMPTOMS if not each.name.startswith("dead")}
    assert diagnose_run({}) == []  # what is not known is not wrong


def test_held_out_faces_lie_between_training_and_generated_ones() -> None:
    values = {"train/real_score": 2.0, "train/fake_score": -2.0, "val/real_score": 0.0}
    assert memorised(values) == 0.5 and memorised(values | {"train/fake_score": 3.0}) == 0
    assert memorised({"train/real_score": 0.05, "train/fake_score": -0.05, "val/real_score": -0.5}) == 0


@pytest.mark.parametrize("stage", ["generator", "talking_face"])
def test_stages_with_a_discriminator_log_what_tells_of_learning_by_heart(place: Place, stage: str) -> None:
    values, _ = read_values(place[1] / stage)
    known, unknown = asked(values)
    assert "learnt by heart" in known and "learnt by heart" not in unknown


def test_the_command_reads_a_log_and_an_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["iteration,name,value"]
    for iteration in range(100):
        rows += [f"{iteration},train/sync,{0.7 - 0.001 * iteration}", f"{iteration},train/real_sign,nan"]
    (tmp_path / "metrics.csv").write_text("\n".join(rows) + "\n")
    values, note = read_values(tmp_path)
    assert (
        note == ""
        and values["train/sync"] == pytest.approx(0.7 - 0.0945)
        and values["train/sync, first"] == pytest.approx(0.6955)
    )
    assert "train/real_sign" not in values
    assert main(["doctor", "run", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert "Nothing is wrong" in output and "not known: learnt by heart" in output
    weights, results = tmp_path / "export" / "weights.safetensors", tmp_path / "evaluation" / "results.json"
    for path in (weights, results):
        path.parent.mkdir()
    weights.write_bytes(b"now")
    told = {"figures": {"blink F1": {"mean": 0.0}, "CSIM[dlib]": {"mean": None}}, "whole": {}}
    for evaluated, words in (
        (b"now", "Most likely (never blinks)"),
        (b"before", "is of other weights than the run has"),
    ):
        told["made_with"] = {"weights": {"sha256": hashlib.sha256(evaluated).hexdigest()}}
        results.write_text(json.dumps(told))
        assert main(["doctor", "run", str(tmp_path)]) == 0
        printed = capsys.readouterr().out
        assert words in printed and ("Nothing is wrong" in printed) == (evaluated == b"before")


def test_what_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "run", str(tmp_path / "none")]) == 1
    assert "no such run" in capsys.readouterr().err
    assert main(["doctor", "run", str(tmp_path)]) == 1
    assert "has not logged anything" in capsys.readouterr().err


def test_sharpness_of_a_wave_has_a_closed_form() -> None:
    """cos(w x): the Laplacian is 2 (1 - cos w) times the wave itself."""
    x = torch.arange(256, dtype=torch.float64)
    wave = torch.cos(0.3 * x).expand(1, 3, 256, 256)
    inside = wave[0, 0, 1:-1, 1:-1].abs().mean()
    factor = 2 * (1 - torch.cos(torch.tensor(0.3, dtype=torch.float64)))
    torch.testing.assert_close(sharpness(wave)[0], factor * inside)
    assert sharpness(torch.ones(2, 3, 8, 8)).tolist() == [0, 0]

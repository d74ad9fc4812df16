"""What a run writes beside its weights: metrics that continue, W&B only where it is wanted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fctfg.stages.csv_log import CsvLog
from fctfg.stages.wandb_log import FAILED, wandb_key_is_known
from fctfg.troubles import Troubles


def test_csv_goes_on_where_the_checkpoint_is(tmp_path: Path) -> None:
    log = CsvLog(tmp_path / "metrics.csv", Troubles())
    for step in range(5):
        log.log_metrics({"train/x": step / 3, "epoch": 0.0}, step)
    log.rewind(3)
    CsvLog(tmp_path / "metrics.csv", Troubles()).log_metrics({"train/x": 9.0}, 3)
    rows = (tmp_path / "metrics.csv").read_text().split()
    assert rows == [
        "iteration,name,value",
        "0,train/x,0.0",
        f"1,train/x,{1 / 3!r}",
        f"2,train/x,{2 / 3!r}",
        "3,train/x,9.0",
    ]


def test_wandb_is_online_only_with_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert not wandb_key_is_known()
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret\n")
    assert wandb_key_is_known()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert not wandb_key_is_known()
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert wandb_key_is_known()


@pytest.mark.slow
def test_training_neither_waits_for_wandb_nor_ends_with_it(tmp_path: Path) -> None:
    """Its server falls silent later, never answers, or is not there; its service is killed; a file is lost."""
    program = Path(__file__).with_name("wandb_in_trouble.py")
    environment = {**os.environ, "PYTHONPATH": str(program.parents[1])}
    environment.pop("WANDB_SERVICE", None)  # of this process, where an earlier test has logged to W&B
    command = [sys.executable, program, tmp_path]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    cases = json.loads(done.stdout)
    for name, case in cases.items():
        assert case["longest"] < 0.5, name  # seconds that a step waited
        assert case["finish"] < 30, name
        assert case["troubles"].keys() <= {FAILED}, name
        assert (tmp_path / name / "wandb").is_dir()
    once = {name: case["troubles"].get(FAILED, 0) for name, case in cases.items()}
    assert once.pop("full") == 0  # of which W&B says nothing itself
    assert once.pop("killed") in (2, 3)  # with what it was taking just then
    assert once == {"later": 1, "silent": 1, "refused": 1, "file": 1}
    whole = cases["file"]["records"]["offline"]
    for name in ("silent", "refused"):  # nothing is lost: what was tracked before it was clear is in the record
        assert cases[name]["records"]["offline"] > 0.95 * whole
    assert done.stderr.count("W&B cannot be started online") == 3 and done.stderr.count("failed to upload all") == 1

"""What a run writes beside its weights: metrics that continue, W&B only where it is wanted."""

from pathlib import Path

import pytest

from fctfg.stages.csv_log import CsvLog
from fctfg.train import wandb_key_is_known
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

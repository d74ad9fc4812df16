"""Figures go into the W&B run of the weights, beside the run's training curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from fctfg.stages.wandb_log import tracker
from fctfg.troubles import Troubles


def log_to_run(folder: Path, split: str, content: Mapping[str, Any]) -> None:
    """Log means and their intervals as `test/SSIM`, `test/SSIM_low`, `test/SSIM_high`, and figures of the whole; of
    cross-driving as `test_cross/...`.

    Whatever W&B does, the evaluation stands: failures are said.

    Args:
        folder: of the run; nothing happens where it has no W&B run.
        split: whose clips were measured.
        content: of `results.json`.
    """
    if not ((folder / "wandb_id.txt").is_file() and (folder / "config.yaml").is_file()):
        return
    project = yaml.safe_load((folder / "config.yaml").read_text()).get("wandb_project", "fctfg")
    protocol = content["made_with"]["protocol"]
    split = split if protocol == "reconstruction" else f"{split}_{protocol}"
    values = {f"{split}/{name}": value["value"] for name, value in content["whole"].items()}
    for name, value in content["figures"].items():
        values |= {f"{split}/{name}": value["mean"], f"{split}/{name}_low": value["low"]}
        values[f"{split}/{name}_high"] = value["high"]
    troubles = Troubles()
    log = tracker(folder, project, folder.name, troubles)
    log.start({})
    log.log_metrics(values)
    log.finish()
    troubles.conclude()

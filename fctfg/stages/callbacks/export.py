"""What the next stage takes over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from fctfg.data.datamodule import TalkingData
from fctfg.stages.base import Stage
from fctfg.weights.artifact import write_export


class Export(pl.Callback):
    """Writes `export/` (weights and their card) at the end of every epoch.

    Args:
        run: the run's folder.
        config: the run's configuration, for the card.
    """

    def __init__(self, run: Path, config: dict[str, Any]) -> None:
        self.run = run
        self.config = config

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Stage)
        pl_module.check_finite()
        if not trainer.is_global_zero:
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, TalkingData)
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
        notes = pl_module.notes()
        card = {
            "run": self.run.name,
            "iterations": trainer.fit_loop.epoch_loop.batch_progress.total.ready,
            "config": self.config,
            "dataset_hash": data.hash,
            "metrics": metrics,
            "licences": {"data": data.licences, "weights": "as the data they were trained on"},
            "init_from": pl_module.init_from,
            "notes": notes,
        }
        write_export(self.run, pl_module.exports(), pl_module.stage, card)

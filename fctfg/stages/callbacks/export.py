"""What the next stage takes over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from fctfg.data.datamodule import TalkingData
from fctfg.errors import WriteError
from fctfg.models.experts.lpips import LPIPS
from fctfg.models.experts.vgg import VGG19
from fctfg.stages.base import Stage
from fctfg.weights.artifact import write_export
from fctfg.weights.licences import NOT_SAID, Licences, of_weights, record, recorded
from fctfg.weights.sources.lpips import ENTRY as TRUNKS


def ingredients(stage: Stage, data: TalkingData, before: Path | None = None) -> dict[str, Licences]:
    """The licences of all that goes into a run: its data, and the weights that it starts from or is judged by.

    Args:
        stage: the run's stage.
        data: its data; the licences of its validation clips are included.
        before: folder of the run when it goes on.

    Returns:
        Licences by what the user calls each ingredient.
    """
    shown = (licence or NOT_SAID for licence in data.val.licences)
    found = {data.root: Licences(frozenset([*data.licences, *shown]))}
    places = {f"model.init_args.init_from.{role}": place for role, place in stage.init_from.items()}
    for module in stage.modules():
        if isinstance(module, VGG19) and module.config.weights != "random":
            places["networks.perceptual.weights"] = stage.networks.perceptual.weights
        if isinstance(module, LPIPS) and module.config.trunk != "random":
            heads, trunk = f"lpips-{module.config.trunk}", TRUNKS[module.config.trunk]
            places |= {"networks.lpips": stage.networks.lpips, "the heads of LPIPS": heads}
            if heads in of_weights(stage.networks.lpips).weights:
                places["the trunk of LPIPS"] = trunk
    found |= {f"{place} ({setting})": of_weights(place) for setting, place in places.items()}
    if before is not None:
        found[f"{before}, so far"] = recorded(before)
    return found


class Export(pl.Callback):
    """Writes `export/` (weights and their card) at the end of every epoch.

    A full disk does not end the run; the last export must succeed, now or when the same command is run again.

    Args:
        run: the run's folder.
        config: the run's configuration, for the card.
        licences: of all that goes into the run.
    """

    def __init__(self, run: Path, config: dict[str, Any], licences: Licences) -> None:
        self.run = run
        self.config = config
        self.licences = licences

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            record(self.run, self.licences)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Stage)
        pl_module.check_finite()
        if not trainer.is_global_zero:
            return
        try:
            self._write(trainer, pl_module)
        except WriteError as error:
            pl_module.troubles.meet(
                f"times that {self.run / 'export'} could not be written",
                f"Training goes on, and the export before is kept: {error}",
            )

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The run is complete: so must its export be."""
        assert isinstance(pl_module, Stage)
        if trainer.is_global_zero and exported_iterations(self.run) != _iterations(trainer):
            self._write(trainer, pl_module)  # its weights have been checked, on all processes, for the checkpoint

    def _write(self, trainer: pl.Trainer, stage: Stage) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, TalkingData)
        card = {
            "run": self.run.name,
            "iterations": _iterations(trainer),
            "config": self.config,
            "dataset_hash": data.hash,
            "metrics": stage.measured,
            "licences": self.licences.plain(),
            "consents": sorted({consent or NOT_SAID for consent in (*data.train.consents, *data.val.consents)}),
            "init_from": stage.init_from,
            "notes": stage.notes(),
            **stage.card(data),
        }
        write_export(self.run, stage.exports(), stage.stage, card)


def _iterations(trainer: pl.Trainer) -> int:
    return trainer.fit_loop.epoch_loop.batch_progress.total.ready


def exported_iterations(run: Path) -> int | None:
    """How many iterations the networks in a run's export have been trained; None where there is none."""
    try:
        return int(json.loads((run / "export" / "card.json").read_text(encoding="utf-8"))["iterations"])
    except (OSError, ValueError, KeyError, TypeError):
        return None

"""How far a run of stage 0 has come, beside what a guess reaches."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fctfg.errors import FctfgError
from fctfg.models.experts.syncnet import FRAMES
from fctfg.weights.artifact import Artifact, require

LAST = 20  # logged values of the training loss that are averaged


@dataclass(frozen=True)
class Training:
    """A run's losses; NaN where nothing is logged.

    Attributes:
        iterations: so far.
        windows: whose sounds each window is to be told from, its own among them.
        learning_rate: of the run.
        chance: loss of a guess, ln(windows). (0.69 = ln 2 is that of a loss that sees one pair at a time.)
        loss: mean of the last training losses.
        val_loss, val_accuracy: of the last validation.
        val_chance: loss of a guess there.
        same_data: whether it was trained on the data set that is looked at, whose held-out people it does not know.
    """

    iterations: int
    windows: int
    learning_rate: float
    chance: float
    loss: float
    val_loss: float
    val_chance: float
    val_accuracy: float
    same_data: bool

    def __str__(self) -> str:
        return (
            f"after {self.iterations} iterations of {self.windows} windows: loss {self.loss:.2f} in training (a guess: "
            f"{self.chance:.2f}), {self.val_loss:.2f} held out (a guess: {self.val_chance:.2f}), accuracy held out "
            f"{self.val_accuracy:.2f} (a guess: 0.50)"
        )


def read_training(run: Path, artifact: Artifact, dataset_hash: str) -> Training:
    """Read what a run has logged.

    Args:
        run: its folder.
        artifact: its export.
        dataset_hash: of the data set that is looked at.

    Raises:
        FctfgError: the run is of another stage, or its card or log is damaged.
    """
    require(artifact, "sync_expert")
    try:
        config, metrics = artifact.card["config"], artifact.card["metrics"]
        windows = int(config["data"]["batch_size"]) * (int(config["data"]["frames"]) // FRAMES)
        rate = float(config["model"]["init_args"]["learning_rate"])
        iterations = int(artifact.card["iterations"])
    except (KeyError, TypeError, ValueError) as error:
        raise FctfgError(f"the card of {artifact.path} is damaged ({error!r}); train one epoch more") from error
    losses, chances = (_logged(run / "metrics.csv", f"train/contrastive{end}") for end in ("", "_chance"))
    return Training(
        iterations=iterations,
        windows=windows,
        learning_rate=rate,
        chance=chances[-1] if chances else math.log(windows),
        loss=sum(losses[-LAST:]) / len(losses[-LAST:]) if losses else math.nan,
        val_loss=_number(metrics, "val/contrastive"),
        val_chance=_number(metrics, "val/contrastive_chance"),
        val_accuracy=_number(metrics, "val/accuracy"),
        same_data=artifact.card.get("dataset_hash") == dataset_hash,
    )


def _number(metrics: Mapping[str, Any], name: str) -> float:
    value = metrics.get(name)
    return math.nan if value is None else float(value)


def _logged(path: Path, name: str) -> list[float]:
    """The values of a term in a run's log, in order."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [float(row["value"]) for row in csv.DictReader(file) if row["name"] == name]
    except OSError:
        return []  # a run whose log was not copied
    except (KeyError, TypeError, ValueError) as error:
        raise FctfgError(f"{path} is damaged ({error!r}); remove it, and the run logs anew") from error

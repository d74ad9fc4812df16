"""The numbers of a run as one continuing CSV file."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from fctfg.atomic import atomic_path

HEADER = ("iteration", "name", "value")


def _seen(row: list[str], iteration: int) -> bool:
    """Whether a row belongs to the first `iteration` iterations (validation stands at the number that were done)."""
    return int(row[0]) < iteration or (int(row[0]) == iteration and not row[1].startswith(("train/", "speed/")))


class CsvLog(Logger):
    """Appends `iteration,name,value` rows to `metrics.csv`; a continued run goes on in the same file.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return self.path.parent.name

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing to do: the configuration has its own file."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(HEADER)
            writer.writerows(
                (int(step or 0), name, repr(float(value))) for name, value in metrics.items() if name != "epoch"
            )

    @rank_zero_only
    def rewind(self, iteration: int) -> None:
        """Drop what an interrupted run has logged after the checkpoint that it continues from."""
        if not self.path.exists():
            return
        with self.path.open(newline="") as file:
            rows = [row for row in list(csv.reader(file))[1:] if len(row) == len(HEADER) and _seen(row, iteration)]
        with atomic_path(self.path) as partial, partial.open("w", newline="") as file:
            csv.writer(file).writerows([HEADER, *rows])

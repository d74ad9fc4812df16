"""The figures of many clips as one table: means with intervals, failures, the paper's rows; printed and written."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fctfg.atomic import atomic_path
from fctfg.evaluation.figures import ARROWS, PAPER, PUBLISHED, figure
from fctfg.metrics.bootstrap import Interval, confidence_interval


@dataclass(frozen=True)
class Row:
    """One case as it came out.

    Attributes:
        name: of the case.
        person: who is shown.
        figures: by name, NaN where something could not be measured; empty for a case that failed.
        failure: why nothing could be measured; empty where it could.
        notes: what a reader has to know.
        seconds: of each part.
    """

    name: str
    person: str
    figures: Mapping[str, float]
    failure: str = ""
    notes: Sequence[str] = ()
    seconds: Mapping[str, float] | None = None


def names_of(rows: Sequence[Row]) -> list[str]:
    """The figures of any row, in the order in which they first appear."""
    return list(dict.fromkeys(name for row in rows for name in row.figures))


def intervals(rows: Sequence[Row], seed: int = 0) -> dict[str, Interval]:
    """Mean over the clips of each figure, with its interval of 95 % (bootstrap over clips)."""
    values = {name: np.array([row.figures.get(name, math.nan) for row in rows]) for name in names_of(rows)}
    return {name: confidence_interval(each, seed=seed) for name, each in values.items()}


def number(value: float | None, digits: int) -> str:
    """For a table; what is not known is a dash."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def print_tables(
    title: str,
    rows: Sequence[Row],
    found: Mapping[str, Interval],
    whole: Mapping[str, float],
    missing: Mapping[str, str],
) -> None:
    """Prints what was measured, the paper's table beside it, what failed and what could not be measured.

    Args:
        title: of which weights or videos on which data.
        rows: all cases.
        found: of `intervals`.
        whole: figures of the whole, which have no clips.
        missing: reasons by figure.
    """
    console = Console(width=None if Console().is_terminal else 140)
    table = Table(title=escape(title), title_justify="left")
    for column in ("figure", "unit", "good", "mean", "95 %", "clips", "what it is"):
        table.add_column(column, justify="right" if column in ("mean", "95 %", "clips") else "left")
    for name, interval in found.items():
        about = figure(name)
        low, high = (number(value, about.digits) for value in (interval.low, interval.high))
        table.add_row(
            escape(name),
            about.unit,
            ARROWS[about.better],
            number(interval.mean, about.digits),
            f"{low} to {high}",
            str(interval.n),
            about.meaning,
        )
    for name, value in whole.items():
        about = figure(name)
        table.add_row(
            escape(name), about.unit, ARROWS[about.better], number(value, about.digits), "", "all", about.meaning
        )
    console.print(table)
    console.print(_paper(found))
    failed = [row for row in rows if row.failure]
    if failed:
        console.print(f"{len(failed)} of {len(rows)} could not be measured:")
        for row in failed:
            console.print(f"  {row.name}: {row.failure}", highlight=False, markup=False)
    blind = [row.name for row in rows if row.figures.get("faces found", 1.0) == 0]
    if blind:
        console.print(
            f"no face was found in {len(blind)} of {len(rows)} results: {', '.join(blind[:5])}",
            highlight=False,
            markup=False,
        )
    for name, reason in missing.items():
        console.print(f"not measured: {name}: {reason}", highlight=False, markup=False)


def cost(made_with: Mapping[str, Any]) -> str:
    """How long an evaluation took and how much memory, as a whole and by part, in words."""
    seconds, memory = made_with["seconds_per_clip"], made_with["peak_memory_mb"]
    parts = ", ".join(f"{name} {value:.1f} s, {memory[name]} MB" for name, value in seconds.items())
    return f"{made_with['seconds']:.0f} s, a process at most {memory['all']} MB; mean of a clip: {parts}"


def _paper(found: Mapping[str, Interval]) -> Table:
    table = Table(title="beside what was published, on other data", title_justify="left")
    for column in ("data", "method", *PAPER):
        table.add_column(column, justify="left" if column in ("data", "method") else "right")
    for data, methods in PUBLISHED.items():
        for method, values in methods.items():
            table.add_row(f"{data} (published)", method, *(number(value, 2) for value in values))
    own = [found[name].mean if name in found else None for name in PAPER]  # MS-SSIM of fewer scales is another figure
    table.add_row("these data", "this evaluation", *(number(value, 2) for value in own), style="bold")
    return table


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """One line for each case: name, person, failure, and a column for each figure; empty where it is not known."""
    names = names_of(rows)
    with atomic_path(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["clip", "person", "failure", *names])
        for row in rows:
            values = [row.figures.get(name, math.nan) for name in names]
            cells = ["" if math.isnan(value) else repr(value) for value in values]
            writer.writerow([row.name, row.person, row.failure, *cells])


def as_json(
    rows: Sequence[Row], found: Mapping[str, Interval], whole: Mapping[str, float], made_with: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything, with what is needed to do it again."""
    return {
        "made_with": dict(made_with),
        "figures": {
            name: {
                "mean": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "clips": interval.n,
                "unit": figure(name).unit,
                "better": figure(name).better,
            }
            for name, interval in found.items()
        },
        "failed": sum(bool(row.failure) or row.figures.get("faces found") == 0 for row in rows),
        "whole": {name: {"value": value, "unit": figure(name).unit} for name, value in whole.items()},
        "clips": [
            {
                "clip": row.name,
                "person": row.person,
                "failure": row.failure,
                "notes": list(row.notes),
                "figures": dict(row.figures),
            }
            for row in rows
        ],
    }

"""The figures of many clips as one table: means with intervals, failures, the paper's rows; printed and written."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fctfg.atomic import atomic_path
from fctfg.evaluation.figures import ARROWS, PAPER, PUBLISHED, figure
from fctfg.metrics.bootstrap import LEAST, Interval, confidence_interval

MOST_NOTED = 10  # results whose notes are printed


@dataclass(frozen=True)
class Row:
    """One case as it came out.

    Attributes:
        name: of the case.
        person: who is shown.
        figures: by name, NaN where something could not be measured; empty for a case that failed.
        reference: SHA-256 of the real video, for pairs.
        failure: why nothing could be measured; empty where it could.
        notes: what a reader has to know.
        seconds: of each part.
    """

    name: str
    person: str
    figures: Mapping[str, float]
    reference: str = ""
    failure: str = ""
    notes: Sequence[str] = ()
    seconds: Mapping[str, float] | None = None


class Whole(NamedTuple):
    """A figure that only all clips together have."""

    value: float
    clips: int  # that it is of


def names_of(rows: Sequence[Row]) -> list[str]:
    """The figures of any row, in the order in which they first appear."""
    return list(dict.fromkeys(name for row in rows for name in row.figures))


def failed(row: Row) -> bool:
    """Whether a result could not be measured, or shows no face at all."""
    return bool(row.failure) or row.figures.get("faces found") == 0


def drawn(people: Sequence[str]) -> Sequence[str] | None:
    """Groups for an interval over clips of these people: the people, where they are enough and have several clips."""
    return people if LEAST <= len(set(people)) < len(people) else None


def intervals(rows: Sequence[Row], seed: int = 0) -> dict[str, Interval]:
    """Mean over the clips of each figure, with its interval of 95 % (bootstrap, see `drawn`)."""
    values = {name: np.array([row.figures.get(name, math.nan) for row in rows]) for name in names_of(rows)}
    groups = drawn([row.person for row in rows])
    return {name: confidence_interval(each, seed=seed, groups=groups) for name, each in values.items()}


def spread_over(people: Sequence[str]) -> str:
    """What the intervals over clips of these people speak of, in words."""
    clips, different = len(people), len(set(people))
    if clips < LEAST:
        return f"no intervals: {clips} clips are fewer than {LEAST}"
    if different == clips:
        return f"95 %: bootstrap over {clips} clips"
    if different >= LEAST:
        return f"95 %: bootstrap over the {different} people of {clips} clips"
    return f"95 %: bootstrap over {clips} clips of these {different} people; other people may differ by more"


def number(value: float | None, digits: int) -> str:
    """For a table; what is not known is a dash."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def between(low: float | None, high: float | None, digits: int) -> str:
    """An interval for a table; what is not known is a dash."""
    bounds = number(low, digits), number(high, digits)
    return "-" if "-" in bounds else " to ".join(bounds)


def print_tables(
    title: str,
    rows: Sequence[Row],
    found: Mapping[str, Interval],
    whole: Mapping[str, Whole],
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
        table.add_row(
            escape(name),
            about.unit,
            ARROWS[about.better],
            number(interval.mean, about.digits),
            between(interval.low, interval.high, about.digits),
            str(interval.n),
            about.meaning,
        )
    for name, value in whole.items():
        about = figure(name)
        cells = number(value.value, about.digits), "", str(value.clips)
        table.add_row(escape(name), about.unit, ARROWS[about.better], *cells, about.meaning)
    console.print(table)
    console.print(spread_over([row.person for row in rows]), highlight=False)
    if any(name in found for name in PAPER):
        console.print(_paper(found))
    if lost := [row for row in rows if row.failure]:
        console.print(f"{len(lost)} of {len(rows)} could not be measured:")
        for row in lost:
            console.print(f"  {row.name}: {row.failure}", highlight=False, markup=False)
    blind = [row.name for row in rows if row.figures.get("faces found", 1.0) == 0]
    if blind:
        console.print(
            f"no face was found in {len(blind)} of {len(rows)} results: {', '.join(blind[:5])}",
            highlight=False,
            markup=False,
        )
    noted = [row for row in rows if row.notes]
    for row in noted[:MOST_NOTED]:
        console.print(f"note: {row.name}: {'; '.join(row.notes)}", highlight=False, markup=False)
    if len(noted) > MOST_NOTED:
        console.print(f"notes on {len(noted) - MOST_NOTED} more are in clips.csv", highlight=False)
    for name, reason in missing.items():
        console.print(f"not measured: {name}: {reason}", highlight=False, markup=False)


def cost(made_with: Mapping[str, Any]) -> str:
    """How long an evaluation took and how much memory, as a whole and by part, in words."""
    seconds, memory = made_with["seconds_per_clip"], made_with["peak_memory_mb"]
    gpu = {name: f", GPU {memory[key]} MB" if (key := f"{name} (GPU)") in memory else "" for name in seconds}
    parts = ", ".join(f"{name} {value:.1f} s, {memory[name]} MB{gpu[name]}" for name, value in seconds.items())
    before = f", {kept} clips were measured before" if (kept := made_with["measured_before"]) else ""
    return f"{made_with['seconds']:.0f} s{before}, a process at most {memory['all']} MB; mean of a clip: {parts}"


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
    """One line for each case: name, person, failure, notes, then the figures, empty where they are not known."""
    names = names_of(rows)
    with atomic_path(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["clip", "person", "failure", "notes", *names])
        for row in rows:
            values = [row.figures.get(name, math.nan) for name in names]
            cells = ["" if math.isnan(value) else repr(value) for value in values]
            writer.writerow([row.name, row.person, row.failure, "; ".join(row.notes), *cells])


def as_json(
    rows: Sequence[Row], found: Mapping[str, Interval], whole: Mapping[str, Whole], made_with: Mapping[str, Any]
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
        "intervals": spread_over([row.person for row in rows]),
        "failed": sum(map(failed, rows)),
        "whole": {name: {**value._asdict(), "unit": figure(name).unit} for name, value in whole.items()},
        "clips": [
            {
                "clip": row.name,
                "person": row.person,
                "reference": row.reference,
                "failure": row.failure,
                "notes": list(row.notes),
                "figures": dict(row.figures),
            }
            for row in rows
        ],
    }

"""Two and more evaluations over the same clips: differences with paired tests."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fctfg.atomic import write_json
from fctfg.errors import FctfgError
from fctfg.evaluation.figures import ARROWS, figure
from fctfg.evaluation.summary import number
from fctfg.metrics.paired import Comparison, holm
from fctfg.metrics.paired import compare as paired

ALPHA = 0.05


def compare(folders: Sequence[Path], out: Path | None = None) -> dict[str, Any]:
    """Compare evaluations with the first one, figure by figure, over the clips that both have; print a table.

    Args:
        folders: that `fctfg evaluate` wrote; or a run, whose `evaluation` folder is meant.
        out: JSON file to write.

    Returns:
        By evaluation and figure: both means, the difference, its interval, p after Holm's correction, clips.

    Raises:
        FctfgError: a folder has no evaluation, two of them were measured differently, or share no clip.
    """
    contents = [_read(folder) for folder in folders]
    names = [str(folder) for folder in folders]
    first = contents[0]
    told: dict[str, Any] = {}
    for name, other in zip(names[1:], contents[1:], strict=True):
        if differs := _differs(first["made_with"], other["made_with"]):
            raise FctfgError(f"{names[0]} and {name} were not measured alike: {differs}; evaluate them in the same way")
        told[name] = _compared(names[0], first, name, other)
    _print(names, contents, told)
    if out is not None:
        write_json(out, told)
    return told


def _read(folder: Path) -> dict[str, Any]:
    places = (folder / "results.json", folder / "evaluation" / "results.json")
    path = next((path for path in places if path.is_file()), None)
    if path is None:
        raise FctfgError(f"{folder} holds no evaluation (results.json); run fctfg evaluate --out {folder}")
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        content["by_clip"] = {clip["clip"]: clip["figures"] for clip in content["clips"] if not clip["failure"]}
    except (ValueError, KeyError, TypeError) as error:
        raise FctfgError(f"{path} is damaged; run fctfg evaluate again") from error
    return content


def _differs(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """What was done otherwise, in words; empty where nothing was."""
    asked = ("definitions", "fps", "size", "crop", "protocol", "real")
    found = [f"{name}: {one.get(name)} / {other.get(name)}" for name in asked if one.get(name) != other.get(name)]
    judges = [_judges(made) for made in (one, other)]
    found += [
        f"{name}: {judges[0].get(name)} / {judges[1].get(name)}"
        for name in judges[0] | judges[1]
        if judges[0].get(name) != judges[1].get(name)
    ]
    data = [(made.get("data") or {}).get("hash") for made in (one, other)]
    if data[0] != data[1]:
        found.append(f"data: {data[0]} / {data[1]}")
    return "; ".join(found)


def _judges(made: Mapping[str, Any]) -> dict[str, str]:
    """Who measured: by the file's hash where a file was named, by name otherwise."""
    files = {name: sha256 for name, sha256 in (made.get("identity") or {}).items() if name != "weights"}
    taken = {"identity-expert": "recogniser", "sync-expert": "sync", "syncnet": "LSE", "lpips": "LPIPS"}
    named = {taken[name] for name in files}
    return files | {name: judge for name, judge in (made.get("judges") or {}).items() if name not in named}


def _compared(
    first_name: str, first: Mapping[str, Any], name: str, other: Mapping[str, Any]
) -> dict[str, dict[str, float | int]]:
    clips = sorted(first["by_clip"].keys() & other["by_clip"].keys())
    if not clips:
        raise FctfgError(f"{first_name} and {name} have no clip in common")
    results: dict[str, Comparison] = {}
    means: dict[str, list[float]] = {}
    for each in first["figures"]:
        if each in other["figures"] and each != "generation":
            one, two = ([_value(told["by_clip"][clip].get(each)) for clip in clips] for told in (other, first))
            results[each] = paired(one, two)
            both = [pair for pair in zip(two, one, strict=True) if all(map(math.isfinite, pair))]
            means[each] = [sum(column) / len(both) for column in zip(*both, strict=True)] or [math.nan, math.nan]
    adjusted = holm(np.array([result.p for result in results.values()]))
    return {
        each: {
            "first": means[each][0],
            "other": means[each][1],
            "difference": result.difference,
            "low": result.low,
            "high": result.high,
            "p": float(p),
            "clips": result.n,
        }
        for (each, result), p in zip(results.items(), adjusted, strict=True)
    }


def _value(value: float | None) -> float:
    return math.nan if value is None else value


def _print(names: Sequence[str], contents: Sequence[Mapping[str, Any]], told: Mapping[str, Any]) -> None:
    console = Console(width=None if Console().is_terminal else 140)
    for name, content in zip(names[1:], contents[1:], strict=True):
        table = Table(title=escape(f"{name} less {names[0]}, over the clips of both"), title_justify="left")
        for column in ("figure", "good", names[0], name, "difference", "95 %", "p (Holm)", "clips"):
            table.add_column(escape(column), justify="left" if column in ("figure", "good") else "right")
        for each, result in told[name].items():
            about = figure(each)
            means = [number(result[which], about.digits) for which in ("first", "other")]
            difference, low, high = (number(_value(result[key]), about.digits) for key in ("difference", "low", "high"))
            p = "-" if math.isnan(result["p"]) else f"{result['p']:.3g}"
            table.add_row(
                escape(each), ARROWS[about.better], *means, difference, f"{low} to {high}", p, str(result["clips"])
            )
        console.print(table)
        if alone := len(contents[0]["by_clip"].keys() ^ content["by_clip"].keys()):
            console.print(f"{alone} clips were measured in one of them only, and do not count")
    if len(names) > 2:
        console.print(_overview(names, told))


def _overview(names: Sequence[str], told: Mapping[str, Any]) -> Table:
    """All evaluations side by side: a column of means each, over the clips that it shares with the first."""
    title = "* the interval of the difference from the first leaves out 0, ** and p (Holm) < 0.05"
    table = Table(title=title, title_justify="left")
    for column in ("figure", "good", *names):
        table.add_column(escape(column), justify="left" if column in ("figure", "good") else "right", overflow="fold")
    for each in dict.fromkeys(each for results in told.values() for each in results):
        about, cells = figure(each), [results.get(each) for results in told.values()]
        first = next(number(result["first"], about.digits) for result in cells if result is not None)
        others = ["" if result is None else number(result["other"], about.digits) + _mark(result) for result in cells]
        table.add_row(escape(each), ARROWS[about.better], first, *others)
    return table


def _mark(result: Mapping[str, float]) -> str:
    """Whether an evaluation differs from the first one."""
    low, high = _value(result["low"]), _value(result["high"])
    return "" if not (low > 0 or high < 0) else "**" if result["p"] < ALPHA else "*"

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
from fctfg.evaluation.summary import between, drawn, number
from fctfg.metrics.paired import Comparison, holm
from fctfg.metrics.paired import compare as paired

ALPHA = 0.05


def compare(folders: Sequence[Path], out: Path | None = None) -> dict[str, Any]:
    """Compare evaluations with the first one, figure by figure, over the clips that both have; print a table.

    Args:
        folders: that `fctfg evaluate` wrote; or a run, whose `evaluation` folder is meant.
        out: JSON file to write.

    Returns:
        By evaluation and figure: both means, the difference, its interval, p after Holm's correction, clips, and
        `one_sided`, of how many other clips only one of them has the figure; figures of the whole have values only.

    Raises:
        FctfgError: a folder has no evaluation, two of them were measured differently, or share no clip.
    """
    contents = [_read(folder) for folder in folders]
    names = [str(folder) for folder in folders]
    first = contents[0]
    told: dict[str, Any] = {}
    for name, other in zip(names[1:], contents[1:], strict=True):
        if differs := _differs(first, other):
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
        content["by_clip"] = {clip["clip"]: clip for clip in content["clips"] if not clip["failure"]}
        content |= {name: content[name] for name in ("made_with", "figures", "whole", "failed")}  # or it is damaged
    except OSError as error:
        raise FctfgError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise FctfgError(f"{path} is damaged; run fctfg evaluate again") from error
    return content


def _differs(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """What was done otherwise, in words; empty where nothing was."""
    made = one["made_with"], other["made_with"]
    asked = [{name: each.get(name) for name in ("definitions", "fps", "size", "crop", "protocol")} for each in made]
    judges = [_judges(each) for each in made]
    data = [{"data": (each.get("data") or {}).get("hash")} for each in made]
    settings = [each | by | on for each, by, on in zip(asked, judges, data, strict=True)]
    both = settings[0] | settings[1]
    found = [
        f"{name}: {' / '.join(str(each.get(name)) for each in settings)}" for name in both if _unlike(name, settings)
    ]
    shared = one["by_clip"].keys() & other["by_clip"].keys()
    if real := sorted(
        clip for clip in shared if _unlike("reference", [each["by_clip"][clip] for each in (one, other)])
    ):
        found.append(f"the real videos of {len(real)} clips are not the same ({', '.join(real[:3])})")
    return "; ".join(found)


def _unlike(name: str, both: Sequence[Mapping[str, Any]]) -> bool:
    return both[0].get(name) != both[1].get(name)


def _judges(made: Mapping[str, Any]) -> dict[str, str]:
    """Who measured what, by name and weights."""
    hashes = made.get("judge_hashes") or {}
    return {
        name: f"{judge} ({hashes[name][:12]})" if name in hashes else judge
        for name, judge in (made.get("judges") or {}).items()
    }


def _compared(
    first_name: str, first: Mapping[str, Any], name: str, other: Mapping[str, Any]
) -> dict[str, dict[str, float | int]]:
    clips = sorted(first["by_clip"].keys() & other["by_clip"].keys())
    if not clips:
        raise FctfgError(f"{first_name} and {name} have no clip in common")
    people = drawn([first["by_clip"][clip]["person"] for clip in clips])
    results: dict[str, Comparison] = {}
    means: dict[str, list[float]] = {}
    one_sided: dict[str, int] = {}
    for each in first["figures"]:
        if each in other["figures"] and each != "generation":
            one, two = (
                [_value(told["by_clip"][clip]["figures"].get(each)) for clip in clips] for told in (other, first)
            )
            results[each] = paired(one, two, groups=people)
            one_sided[each] = sum(math.isnan(a) != math.isnan(b) for a, b in zip(one, two, strict=True))
            both = [pair for pair in zip(two, one, strict=True) if all(map(math.isfinite, pair))]
            means[each] = [sum(column) / len(both) for column in zip(*both, strict=True)] or [math.nan, math.nan]
    adjusted = holm(np.array([result.p for result in results.values()]))
    found: dict[str, dict[str, float | int]] = {
        each: {
            "first": means[each][0],
            "other": means[each][1],
            "difference": result.difference,
            "low": result.low,
            "high": result.high,
            "p": float(p),
            "clips": result.n,
            "one_sided": one_sided[each],
        }
        for (each, result), p in zip(results.items(), adjusted, strict=True)
    }
    for each in first["whole"].keys() & other["whole"].keys():
        before, after = (_value(told["whole"][each]["value"]) for told in (first, other))
        found[each] = {"first": before, "other": after, "difference": after - before}
    return found


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
            cells = *means, number(result["difference"], about.digits)
            if "p" in result:
                p = "-" if math.isnan(result["p"]) else f"{result['p']:.3g}"
                cells = *cells, between(result["low"], result["high"], about.digits), p, str(result["clips"])
            table.add_row(escape(each), ARROWS[about.better], *cells)
        console.print(table)
        if alone := len(contents[0]["by_clip"].keys() ^ content["by_clip"].keys()):
            console.print(f"{alone} clips were measured in one of them only, and do not count")
    for name, content in zip(names, contents, strict=True):
        if content["failed"]:
            lost = f"{content['failed']} of {len(content['clips'])} results failed or show no face"
            console.print(f"{name}: {lost}; figures of faces leave them out", highlight=False, markup=False)
    if len(names) > 2:
        console.print(_overview(names, told))


def _overview(names: Sequence[str], told: Mapping[str, Any]) -> Table:
    """All evaluations side by side: a column of means each, over the clips that it shares with the first."""
    title = (
        "* the interval of the difference from the first leaves out 0, ** and p (Holm) < 0.05, ? without the clips "
        "that only one of them has the figure of"
    )
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
    if "p" not in result:
        return ""
    if result["one_sided"]:
        return "?"
    low, high = _value(result["low"]), _value(result["high"])
    return "" if not (low > 0 or high < 0) else "**" if result["p"] < ALPHA else "*"

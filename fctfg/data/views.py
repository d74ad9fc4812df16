"""Named choices of clips: a query that is kept with the data set under a name."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from fctfg.atomic import write_json
from fctfg.data.manifest import Manifest, read_manifest
from fctfg.data.query import Query
from fctfg.data.scores.table import SCORES
from fctfg.errors import FctfgError, UsageError
from fctfg.media import FPS

FOLDER = "views"
RECOMMENDED = "recommended"


@dataclass(frozen=True)
class Counts:
    """How much there is.

    Attributes:
        clips, identities: How many.
        hours: Of talking.
    """

    clips: int
    hours: float
    identities: int


def count(table: pa.Table) -> Counts:
    """Clips, hours and people of a table with `n_frames` and `identity`."""
    frames = pc.sum(table["n_frames"]).as_py() or 0
    return Counts(len(table), frames / FPS / 3600, len(pc.unique(table["identity"])))


def recommended_limits(size: int) -> dict[str, tuple[float | None, float | None]]:
    """(least, most) that the recommended view asks of a score; None where it does not ask.

    Args:
        size: side of the clips in pixels; crops that were enlarged by more than 2 are left out.
    """
    limits = {name: (score.least, score.most) for name, score in SCORES.items()}
    return limits | {"crop_px": (size / 2, None)}


def recommended_query(size: int) -> str:
    """What the recommended view asks for: `recommended_limits`, where a score is known, and no repetition.

    Args:
        size: side of the clips in pixels.
    """
    parts = ['repeats == ""']
    for name, (least, most) in recommended_limits(size).items():
        low = "" if least is None else f"{least:g} <= "
        high = "" if most is None else f" <= {most:g}"
        if low or high:
            parts.append(f"({low}{name}{high} or unknown({name}))")
    return " and ".join(parts)


def save_view(root: Path, name: str, query: Query) -> None:
    """Keep a query under a name.

    Raises:
        UsageError: the name cannot be a file's.
        FctfgError: the folder is not writable.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise UsageError(f"a view's name has letters, digits, '.', '_' and '-', not {name!r}")
    write_json(root / FOLDER / f"{name}.json", {"query": query.text})


def read_view(root: Path, name: str) -> Query:
    """The query that a name stands for.

    Raises:
        FctfgError: there is no such view, or its file is damaged.
    """
    path = root / FOLDER / f"{name}.json"
    if not path.is_file():
        names = sorted(file.stem for file in path.parent.glob("*.json")) if path.parent.is_dir() else []
        there = f"there are {', '.join(names)}" if names else "there are none"
        raise FctfgError(f"{root} has no view {name!r} ({there}); make one with `fctfg data query {root} QUERY --save`")
    try:
        return Query(json.loads(path.read_text(encoding="utf-8"))["query"])
    except (ValueError, KeyError, TypeError) as error:
        raise FctfgError(f"{path} is damaged; save the view again") from error


def read_clips(
    root: str | Path, view: str | None, columns: Sequence[str], split: str | None = None, frames: int = 0
) -> Manifest:
    """The kept clips of a data set that a view names, all where it is None.

    Args:
        root: the data set.
        view: name of a view.
        columns: that are wanted.
        split: only its clips; None takes those of all splits.
        frames: only clips of at least so many.

    Raises:
        FctfgError: as `read_manifest` and `read_view`.
    """
    query = None if view is None else read_view(Path(root), view)
    rows = pc.field("reject_reason").is_null()
    if split is not None:
        rows &= pc.field("split") == split
    if frames:
        rows &= pc.field("n_frames") >= frames
    needed = dict.fromkeys([*columns, *(query.names if query else ())])
    manifest = read_manifest(root, columns=list(needed), rows=rows)
    return manifest if query is None else manifest.where(pa.array(query.mask(manifest.table)))

"""``fctfg data query`` and ``film``: what a choice of clips leaves, and one clip to look at."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table

from fctfg.atomic import atomic_path
from fctfg.data.manifest import SPLITS, Manifest, read_manifest
from fctfg.data.query import NAMES, Query
from fctfg.data.scores.table import SCORES
from fctfg.data.shards import ClipReader
from fctfg.data.views import RECOMMENDED, count, recommended_query, save_view
from fctfg.errors import FctfgError, UsageError
from fctfg.media import write_video


def ask(root: Path, text: str | None, name: str | None) -> None:
    """Print how much a query leaves of a data set, and keep it as a view.

    Args:
        root: the data set.
        text: the query; None asks the recommended one.
        name: of the view to keep; None keeps none.

    Raises:
        FctfgError: no data set, a query that cannot be understood, or one that leaves nothing.
    """
    if name == RECOMMENDED:
        raise UsageError(f"the view {RECOMMENDED!r} is made by fctfg; choose another name")
    manifest = read_manifest(root, check_files=False).kept()
    query = Query(recommended_query(manifest.size) if text is None else text)
    chosen = manifest.where(pa.array(query.mask(manifest.table)))
    console = Console(markup=False, highlight=False, soft_wrap=True)
    if text is None:
        console.print(f"{query.text}\n")
    console.print(_compared(manifest, chosen))
    if not len(chosen):
        raise FctfgError("the query leaves nothing, so no view is kept; `fctfg data report` shows the scores")
    if name is not None:
        save_view(root, name, query)
        console.print(f"kept as view {name!r}; train with --data.view {name}")


def _compared(before: Manifest, after: Manifest) -> Table:
    table = Table("", "clips", "hours", "identities", "clips left", "hours left", "identities left")
    for title, split in (("all", None), *((split, split) for split in SPLITS)):
        parts = [
            m.table if split is None else m.table.filter(pc.equal(m.table["split"], split)) for m in (before, after)
        ]
        one, two = map(count, parts)
        table.add_row(
            *(title, f"{one.clips}", f"{one.hours:.3f}", f"{one.identities}"),
            *(f"{two.clips}", f"{two.hours:.3f}", f"{two.identities}"),
        )
    return table


def list_columns() -> None:
    """Print the columns that a query may name."""
    table = Table("column", "unit", "recommended", "meaning")
    for name, score in SCORES.items():
        limits = [f">= {score.least:g}"] if score.least is not None else []
        limits += [f"<= {score.most:g}"] if score.most is not None else []
        table.add_row(name, score.unit, " and ".join(limits), score.meaning)
    console = Console(markup=False, highlight=False)
    console.print(table)
    console.print("and " + ", ".join(name for name in NAMES if name not in SCORES))


def write_film(root: Path, clip_id: str, out: Path) -> None:
    """Write one clip as a film.

    Args:
        root: the data set.
        clip_id: which clip.
        out: ``.mov`` is the film as it is stored; ``.mp4`` is encoded with H.264 and AAC.

    Raises:
        UsageError: another suffix.
        FctfgError: no such clip.
    """
    if out.suffix not in (".mov", ".mp4"):
        raise UsageError(f"--out must end in .mov or .mp4, not {out.name!r}")
    manifest = read_manifest(root).kept()
    found = manifest.where(pc.equal(manifest.table["id"], clip_id))
    if not len(found):
        raise FctfgError(f"{root} has no clip {clip_id!r}; `fctfg data report` lists clips")
    clip, reader = found[0], ClipReader(manifest)
    if out.suffix == ".mp4":
        write_video(out, reader.whole(clip), audio=reader.sound(clip))
        return
    with atomic_path(out) as temporary:
        temporary.write_bytes(reader.film(clip))

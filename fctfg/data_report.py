"""`fctfg data report`: what is in a data set, on one page: figures, scores, what was rejected and why, pictures."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pd

from fctfg.chart import number_text
from fctfg.data.manifest import FILE_NAME, SPLITS, Clip, Manifest, numbers, read_manifest
from fctfg.data.query import Query
from fctfg.data.scores.table import SCORES
from fctfg.data.shards import ClipReader
from fctfg.data.views import RECOMMENDED, count, read_view, recommended_limits, recommended_query
from fctfg.errors import UsageError
from fctfg.histogram import CUT, count_bins
from fctfg.media import FPS
from fctfg.report import (
    Bars,
    Block,
    Facts,
    Gallery,
    Heading,
    Histogram,
    Histograms,
    Notice,
    Section,
    Table,
    Text,
    duration_text,
    write_report,
)
from fctfg.report_media import Picture
from fctfg.strip import clip_strip
from fctfg.weights.licences import NOT_SAID

MAIN = {  # the scores whose ends are shown: whether more is better
    "confidence": True,
    "sharpness": True,
    "face_px": True,
    "detection": True,
    "speech": True,
    "agreement": False,
    "frozen": False,
    "bars": False,
    "clipping": False,
}
ENDS = 4  # clips shown of either end
EXAMPLES = 4  # rejected clips shown of each reason
LARGEST = 20  # people, licences and kinds of consent that are listed
STRIP_COLUMN, THUMBNAIL_COLUMN = 26.0, 13.0  # rem


@dataclass(frozen=True)
class _Shown:
    """What the report is about.

    Attributes:
        kept: the clips that were not rejected.
        rejected: the others.
        chosen: bool [kept], those that the view takes.
        view: the view's name.
        query: its question.
        picture: the strip of a kept clip.
    """

    kept: Manifest
    rejected: Manifest
    chosen: npt.NDArray[np.bool_]
    view: str
    query: str
    picture: Callable[[int], Picture]


def write_data_report(
    root: Path,
    out: Path,
    view: str | None = None,
    clips: int = 24,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write a page about a data set, which needs no other file and no network.

    All clips are counted, whatever their number. Pictures are shown of the `clips` clips whose ids have the smallest
    sha256, which is a fixed sample that does not depend on the order or on what else is in the data set, of the ends of
    the main scores, and of rejected clips chosen in the same way.

    Args:
        root: the data set.
        out: the HTML file.
        view: whose effect is shown; None is the recommended one.
        clips: how many clips of the sample are shown.
        progress: called with the number of parts that are done and of all.

    Raises:
        UsageError: `clips` is negative.
        FctfgError: the data set or the view is missing or damaged, or `out` cannot be written.
    """
    if clips < 0:
        raise UsageError(f"--clips must be 0 or more, not {clips}")
    manifest = read_manifest(root)
    shown = _shown(manifest, view)
    parts: tuple[tuple[str, Callable[[], Iterator[Block]]], ...] = (
        ("How much there is", lambda: _totals(shown)),
        ("People", lambda: _people(shown)),
        ("Licence and consent", lambda: _rights(shown)),
        ("Scores", lambda: _scores(shown)),
        ("Rejected", lambda: _rejected(shown)),
        ("Worst and best", lambda: _ends(shown)),
        ("A sample of the clips", lambda: _sample(shown, clips)),
    )
    sections = []
    for done, (title, blocks) in enumerate(parts):
        progress(done, len(parts))
        sections.append(Section(title, list(blocks())))
    progress(len(parts), len(parts))
    lead = f"{len(shown.kept)} clips of {manifest.size} x {manifest.size} pixels at {FPS:g} frames a second."
    write_report(out, f"Data set {root.resolve().name}", lead, sections)


def _shown(manifest: Manifest, view: str | None) -> _Shown:
    kept = manifest.kept()
    if view is None and not (manifest.root / "views" / f"{RECOMMENDED}.json").is_file():
        query = Query(recommended_query(manifest.size))
    else:
        query = read_view(manifest.root, view or RECOMMENDED)
    chosen = query.mask(kept.table)
    reader = ClipReader(manifest)

    def picture(index: int) -> Picture:
        clip = kept[index]
        content = clip_strip(reader, clip) if clip.shard else b""
        return Picture(content, f"Five frames of {clip.id}", _caption(clip, bool(chosen[index])), _details(clip))

    rejected = manifest.where(pc.is_valid(manifest.table["reject_reason"]))
    return _Shown(kept, rejected, chosen, view or RECOMMENDED, query.text, picture)


def _caption(clip: Clip, chosen: bool) -> str:
    left_out = "" if chosen else ", not in the view"
    return f"{clip.id}: {clip.identity}, {clip.split}, {duration_text(clip.n_frames / FPS)}{left_out}"


def _details(clip: Clip) -> list[tuple[str, str]]:
    known = [("source", clip.source), ("from", duration_text(clip.start)), ("licence", clip.licence or NOT_SAID)]
    return known + [
        (name, f"{number_text(clip[name])} {score.unit}".strip())
        for name, score in SCORES.items()
        if math.isfinite(clip[name])
    ]


def _totals(shown: _Shown) -> Iterator[Block]:
    if not len(shown.kept):
        yield Notice("No clip was kept: everything was rejected.")
    of_view = shown.kept.where(pa.array(shown.chosen))
    total = count(shown.kept.table)
    yield Facts(
        [
            (f"{total.clips:,}", "clips"),
            (_hours(total.hours), "of talking"),
            (f"{total.identities:,}", "people"),
            (f"{len(of_view):,}", f"clips in the view “{shown.view}”"),
            (f"{len(shown.rejected):,}", "clips and videos rejected"),
        ]
    )
    rows = []
    for name, split in (("all", None), *((split, split) for split in SPLITS)):
        before, after = count(shown.kept.kept(split).table), count(of_view.kept(split).table)
        rows.append(
            (
                name,
                *(f"{before.clips:,}", _hours(before.hours), f"{before.identities:,}"),
                *(f"{after.clips:,}", _hours(after.hours), f"{after.identities:,}"),
            )
        )
    header = ("split", "clips", "length", "people", "clips in view", "length in view", "people in view")
    yield Table(header, rows, f"Before and after the view “{shown.view}”")
    yield Text(f"The view asks: {shown.query}")


def _people(shown: _Shown) -> Iterator[Block]:
    frames = shown.kept.table.select(["identity", "n_frames"]).group_by("identity").aggregate([("n_frames", "sum")])
    frames = frames.sort_by([("n_frames_sum", "descending"), ("identity", "ascending")])
    minutes = frames["n_frames_sum"].to_numpy() / FPS / 60
    names = frames["identity"].slice(0, LARGEST).to_pylist()
    if len(minutes) > LARGEST:
        yield Text(f"The {LARGEST} people who are seen the longest, of {len(minutes):,}.")
    yield Bars([(name, time, _hours(time / 60)) for name, time in zip(names, minutes[:LARGEST], strict=True)])
    if len(minutes) > LARGEST:
        bins = count_bins(minutes)
        outside = _outside(bins.below, bins.above, 0)
        yield Histograms([Histogram("length per person", "minutes", "number of people", bins, (), outside)])


def _rights(shown: _Shown) -> Iterator[Block]:
    for column in ("licence", "consent"):
        groups = shown.kept.table.select([column, "identity", "n_frames"]).group_by(column)
        found = groups.aggregate([("n_frames", "count"), ("n_frames", "sum"), ("identity", "count_distinct")])
        found = found.sort_by([("n_frames_count", "descending"), (column, "ascending")])
        rows = [
            (
                row[column] or NOT_SAID,
                f"{row['n_frames_count']:,}",
                _hours(row["n_frames_sum"] / FPS / 3600),
                f"{row['identity_count_distinct']:,}",
            )
            for row in found.slice(0, LARGEST).to_pylist()
        ]
        if len(found) > LARGEST:
            rest = found.slice(LARGEST)
            frames = pc.sum(rest["n_frames_sum"]).as_py()
            clips = pc.sum(rest["n_frames_count"]).as_py()
            rows.append((f"and {len(rest):,} others", f"{clips:,}", _hours(frames / FPS / 3600), ""))
        yield Table((column, "clips", "length", "people"), rows)


def _scores(shown: _Shown) -> Iterator[Block]:
    limits = recommended_limits(shown.kept.size)
    yield Text(
        f"Every score of the kept clips. Where there are outliers, up to {100 * CUT:g} % of the clips on either side "
        "lie outside of a picture, and their number is given below it. Limits are those of the recommended view; what "
        "is not known passes them."
    )
    histograms = []
    for name, score in SCORES.items():
        values = numbers(shown.kept, name)
        least, most = limits[name]
        asked = [limit for limit in (least, most) if limit is not None]
        bins = count_bins(values, shown.chosen, asked)
        notes = [_removed("less than", least, values < least, score.unit)] if least is not None else []
        notes += [_removed("more than", most, values > most, score.unit)] if most is not None else []
        notes += _outside(bins.below, bins.above, bins.unknown)
        histograms.append(Histogram(name, score.unit, score.meaning, bins, asked, notes))
    yield Histograms(histograms, "all kept clips", f"in the view “{shown.view}”", "recommended limit")
    repeated = pc.sum(pc.not_equal(shown.kept.table["repeats"], "")).as_py() or 0
    yield Text(f"{repeated:,} clips show the same moment as an earlier one; the recommended view leaves them out.")


def _removed(word: str, limit: float, outside: npt.NDArray[np.bool_], unit: str) -> str:
    share = 100 * outside.mean() if len(outside) else 0.0
    return f"{word} {limit:g} {unit}".strip() + f": {outside.sum():,} clips ({share:.1f} %)"


def _outside(below: int, above: int, unknown: int) -> list[str]:
    ends = {"below": below, "above": above}
    out = ", ".join(f"{number:,} {side}" for side, number in ends.items() if number)
    return ([f"outside of the picture: {out}"] if out else []) + ([f"not known: {unknown:,}"] if unknown else [])


def _rejected(shown: _Shown) -> Iterator[Block]:
    if not len(shown.rejected):
        yield Text("Nothing was rejected.")
        return
    reasons, stages = shown.rejected.table["reject_reason"], shown.rejected.table["stage"]
    kinds = pc.list_element(pc.split_pattern(reasons, ":", max_splits=1), 0)
    groups = pa.table({"stage": stages, "kind": kinds, "row": pa.array(np.arange(len(kinds)))})
    found = groups.group_by(["stage", "kind"]).aggregate([("row", "list")]).to_pylist()
    found.sort(key=lambda group: (-len(group["row_list"]), group["stage"], group["kind"]))
    of_all = len(shown.rejected) + len(shown.kept)
    rows = [
        (group["kind"], group["stage"], f"{len(group['row_list']):,}", f"{100 * len(group['row_list']) / of_all:.1f} %")
        for group in found
    ]
    yield Table(("reason", "stage", "clips and videos", "of everything"), rows)
    chosen = {(g["stage"], g["kind"]): _smallest_hashes(shown.rejected, g["row_list"], EXAMPLES) for g in found}
    thumbnails = _thumbnails(shown.rejected, [row for rows in chosen.values() for row in rows])
    for (stage, kind), indices in chosen.items():
        yield Heading(f"{kind} ({stage})")
        pictures = []
        for clip in (shown.rejected[index] for index in indices):
            caption = f"{clip.source}, {duration_text(clip.start)}: {clip.reject_reason}"
            pictures.append(Picture(thumbnails.get(clip.id, b""), f"Rejected: {clip.id}", caption))
        yield Gallery(pictures, THUMBNAIL_COLUMN)


def _thumbnails(rejected: Manifest, rows: Sequence[int]) -> dict[str, bytes]:
    """The small pictures of some rejected clips by their ids, read batch by batch."""
    ids = rejected.table["id"].take(pa.array(rows, pa.int64())).combine_chunks()
    wanted = pc.field("id").isin(ids) & pc.field("reject_reason").is_valid()
    found = pd.dataset(rejected.root / FILE_NAME).to_table(columns=["id", "thumbnail"], filter=wanted)
    pictures = zip(found["id"].to_pylist(), found["thumbnail"].to_pylist(), strict=True)
    return {name: content for name, content in pictures if content}


def _ends(shown: _Shown) -> Iterator[Block]:
    for name, more_is_better in MAIN.items():
        values = numbers(shown.kept, name).astype(np.float64)
        known = np.flatnonzero(np.isfinite(values))
        unit = SCORES[name].unit
        yield Heading(f"{name}: {SCORES[name].meaning}")
        if not len(known):
            yield Text("Not known of any clip.")
            continue
        if values[known].min() == values[known].max():
            yield Text(f"{number_text(values[known[0]])} {unit} for all clips.")
            continue
        order = known[np.argsort(values[known] if more_is_better else -values[known], kind="stable")]
        half = len(order) // 2
        ends = {"worst": order[: min(ENDS, len(order) - half)], "best": order[::-1][: min(ENDS, half)]}
        for word, indices in ends.items():
            pictures = []
            for index in indices:
                picture, value = shown.picture(int(index)), f"{number_text(values[index])} {unit}".strip()
                pictures.append(replace(picture, caption=f"{word}, {value}: {picture.caption}"))
            yield Gallery(pictures, STRIP_COLUMN)


def _sample(shown: _Shown, clips: int) -> Iterator[Block]:
    chosen = _smallest_hashes(shown.kept, range(len(shown.kept)), clips)
    yield Text(
        f"{len(chosen):,} of {len(shown.kept):,} clips: those whose ids have the smallest sha256, so that the sample "
        "is fixed and favours nobody."
    )
    yield Gallery([shown.picture(index) for index in sorted(chosen)], STRIP_COLUMN)


def _smallest_hashes(manifest: Manifest, rows: Sequence[int], most: int) -> list[int]:
    """At most so many of the rows, by the sha256 of their ids."""
    ids = manifest.table["id"].take(pa.array(list(rows), pa.int64())).to_pylist()
    order = sorted(zip((hashlib.sha256(name.encode()).digest() for name in ids), rows, strict=True))
    return [row for _, row in order[:most]]


def _hours(hours: float) -> str:
    return f"{hours:,.0f} h" if hours >= 100 else f"{hours:.1f} h" if hours >= 10 else duration_text(3600 * hours)

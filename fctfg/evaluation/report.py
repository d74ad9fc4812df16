"""The page of an evaluation: tables, spreads, likenesses, and what the best, median and worst results look like."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fctfg.data.manifest import read_manifest
from fctfg.evaluation.cases import Case, Drive
from fctfg.evaluation.figures import ARROWS, PAPER, PUBLISHED, figure
from fctfg.evaluation.footage import Projector
from fctfg.evaluation.judges import Judges
from fctfg.evaluation.run import Done, Setup
from fctfg.evaluation.summary import Row, between, cost, number
from fctfg.evaluation.whole import person_vectors
from fctfg.faces.boxes import Pixels
from fctfg.histogram import count_bins
from fctfg.inference import TalkingFace
from fctfg.media import FPS, write_video
from fctfg.metrics.verification import cosine_matrix, look_alikes, within_and_across
from fctfg.ops.pixels import to_images, to_pixels
from fctfg.report import (
    Block,
    Chart,
    Drawing,
    Drawings,
    Facts,
    Gallery,
    Heading,
    Histogram,
    Histograms,
    Media,
    Notice,
    Section,
    Table,
    Text,
    write_report,
)
from fctfg.scatter import heat_map, scatter_chart, told_apart

SIDE = 192  # pixels: of each picture of a film
MOST_MAPPED = 24  # clips in a heat map
SCATTERS = (
    ("PSNR", "LMD mouth"),
    ("CSIM", "sync confidence"),
    ("yaw error", "expression error"),
    ("jitter ratio", "opening correlation"),
)
RANKED_BY = ("LMD mouth", "PSNR", "sync confidence")  # the first that was measured says what best and worst is


def write_evaluation(
    path: Path,
    title: str,
    done: Sequence[Done],
    cases: Sequence[Case],
    absent: Sequence[Row],
    content: Mapping[str, Any],
    setup: Setup,
) -> None:
    """Write the page; the three films in it are made again.

    Args:
        path: the HTML file.
        title: of which weights or videos on which data.
        done: what was measured, one for each case.
        cases: in the same order.
        absent: results that are not there.
        content: of `results.json`.
        setup: how it was measured.

    Raises:
        FctfgError: the page cannot be written.
    """
    rows = [one.row for one in done] + list(absent)
    measured = [one for one in done if one.measured is not None]
    lead = (
        f"{len(measured)} of {len(rows)} results measured. Means over clips; {content['intervals']}. "
        f"Every figure is defined in docs/evaluation.md."
    )
    compared = content["made_with"]["protocol"] != "cross"  # with what the results should be
    with tempfile.TemporaryDirectory() as folder:
        sections = [
            Section("Figures", list(_figures(content, rows))),
            Section("Best, median and worst", list(_films(done, cases, setup, Path(folder), compared))),
            Section("Clip by clip", list(_spread(done))),
            Section("Who is taken for whom", list(_likeness(done))),
            Section("To do it again", [_again(content)]),
        ]
        write_report(path, title, lead, [section for section in sections if section.blocks])


def _figures(content: Mapping[str, Any], rows: Sequence[Row]) -> Iterator[Block]:
    for note in content["made_with"]["notes"]:
        yield Notice(note)
    told = content["figures"]
    large = [name for name in told if name.split("[")[0] in ("PSNR", "LMD mouth", "sync confidence", "CSIM")]
    yield Facts([(number(told[name]["mean"], figure(name).digits), name) for name in large])
    yield Table(
        ("figure", "unit", "good", "mean", "95 %", "clips", "what it is"),
        [
            (
                name,
                figure(name).unit,
                ARROWS[figure(name).better],
                number(each["mean"], figure(name).digits),
                between(each["low"], each["high"], figure(name).digits),
                str(each["clips"]),
                figure(name).meaning,
            )
            for name, each in told.items()
        ]
        + [
            (
                name,
                figure(name).unit,
                ARROWS[figure(name).better],
                number(each["value"], figure(name).digits),
                "",
                str(each["clips"]),
                figure(name).meaning,
            )
            for name, each in content["whole"].items()
        ],
        words=("unit", "good", "what it is"),
    )
    own = [told[name]["mean"] if name in told else None for name in PAPER]
    published = [
        (f"{data} (published)", method, *(number(value, 2) for value in values))
        for data, methods in PUBLISHED.items()
        for method, values in methods.items()
    ]
    if any(value is not None for value in own):
        yield Table(
            ("data", "method", *PAPER),
            [*published, ("these data", "this evaluation", *(number(value, 2) for value in own))],
            "The paper's table. Its figures are of other data and other tools: to be looked at, not to be beaten.",
            ("method",),
        )
    failed = [row for row in rows if row.failure]
    if failed:
        yield Notice(f"{len(failed)} of {len(rows)} results could not be measured.")
        yield Table(("result", "why"), [(row.name, row.failure) for row in failed], words=("why",))
    blind = [row.name for row in rows if row.figures.get("faces found", 1.0) == 0]
    if blind:
        yield Notice(f"No face was found in {len(blind)} of {len(rows)} results: {', '.join(blind[:12])}.")
    if noted := [(row.name, "; ".join(row.notes)) for row in rows if row.notes]:
        yield Table(("result", "note"), noted, words=("note",))
    if missing := content["made_with"]["not_measured"]:
        yield Table(("not measured", "why"), list(missing.items()), words=("why",))


def _films(done: Sequence[Done], cases: Sequence[Case], setup: Setup, folder: Path, compared: bool) -> Iterator[Block]:
    by = next(
        (name for name in RANKED_BY if any(math.isfinite(one.row.figures.get(name, math.nan)) for one in done)), None
    )
    if by is None:
        return
    better = 1 if figure(by).better == "lower" else -1
    known = [place for place, one in enumerate(done) if math.isfinite(one.row.figures.get(by, math.nan))]
    known.sort(key=lambda place: better * done[place].row.figures[by])
    places = {"best": known[0], "median": known[len(known) // 2], "worst": known[-1]}
    if len(known) < 3:
        places = {"best": known[0]}
    judges = Judges(setup.judges)
    model = None if setup.data is None else TalkingFace.from_pretrained(setup.weights, setup.device)
    manifest = None if setup.data is None else read_manifest(setup.data)
    projector = Projector(judges.detector, manifest, model, setup.size, setup.crop)
    kinds = ["portrait", "driver" if setup.data is not None else "real video", "result"]
    kinds += [*(["canonical image"] if model is not None else []), *(["difference x 3"] if compared else [])]
    yield Text(f"Ordered by {by}. From left to right: {', '.join(kinds)}.")
    for kind, place in places.items():
        one, case = done[place], cases[place]
        film = folder / f"{kind}.mp4"
        footage = projector(case)
        canonical = None if model is None else _canonical(model, footage.source)
        frames = _side_by_side(zip(footage.made, footage.shown, strict=False), footage.source, canonical, compared)
        write_video(film, frames, audio=footage.sound, crf=24)
        yield Heading(f"{kind}: {one.row.name}, {by} {number(one.row.figures[by], figure(by).digits)}")
        yield Gallery([Media(film, _caption(case), wide=True)])
        assert one.measured is not None
        yield Chart("mouth opening (eye distances) and loudness of the sound, against seconds", _curves(one))


def _caption(case: Case) -> str:
    if isinstance(case, Drive):
        return f"portrait {case.source.id}, driver {case.driver.id}, sound {case.sound.id}"
    return f"{case.made.name} beside {case.real.name}"


def _canonical(model: TalkingFace, source: Pixels) -> Pixels:
    with torch.inference_mode():
        image = model.model.canonical_image(to_images(source)[None].to(model.device))
    found: Pixels = to_pixels(image)[0]
    return found


def _side_by_side(
    frames: Iterator[tuple[Pixels, Pixels]], source: Pixels, canonical: Pixels | None, compared: bool
) -> Iterator[Pixels]:
    still = _tile(source), None if canonical is None else _tile(canonical)
    for made, shown in frames:
        tiles = [still[0], _tile(shown), _tile(made), *([] if still[1] is None else [still[1]])]
        if compared:
            tiles.append(_tile((np.abs(made.astype(np.int16) - shown) * 3).clip(0, 255).astype(np.uint8)))
        yield np.concatenate(tiles, axis=1)


def _tile(frame: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _curves(one: Done) -> list[tuple[str, list[tuple[float, float]]]]:
    assert one.measured is not None
    names = {"opening shown": "driver", "opening made": "result", "loudness": "sound"}
    return [
        (told, [(place / FPS, float(value)) for place, value in enumerate(one.measured.curves[name])])
        for name, told in names.items()
        if name in one.measured.curves and np.isfinite(one.measured.curves[name]).any()
    ]


def _spread(done: Sequence[Done]) -> Iterator[Block]:
    figures = {name for one in done for name in one.row.figures}

    def full(base: str) -> str | None:
        return next((name for name in figures if name.split("[")[0] == base), None)

    drawings = []
    for across, up in SCATTERS:
        x, y = full(across), full(up)
        if x is not None and y is not None:
            points = [
                (one.row.figures.get(x, math.nan), one.row.figures.get(y, math.nan), one.row.name) for one in done
            ]
            drawings.append(Drawing(f"{y} against {x}", scatter_chart(points, x, y)))
    if drawings:
        yield Drawings(drawings)
    histograms = []
    for name in dict.fromkeys(name for one in done for name in one.row.figures):
        values = np.array([one.row.figures.get(name, math.nan) for one in done])
        if np.isfinite(values).sum() > 1 and np.nanstd(values) > 0:
            about = figure(name)
            histograms.append(Histogram(name, about.unit, about.meaning, count_bins(values, np.isfinite(values))))
    if histograms:
        yield Histograms(histograms)


def _likeness(done: Sequence[Done]) -> Iterator[Block]:
    names, people, portraits = person_vectors(done, "source")
    made_names, made_people, made = person_vectors(done, "made")
    if len(names) < 2 or not made_names:
        return
    yield Text(
        "Cosine similarity of the recogniser's embeddings. Left: portraits among themselves; right: results (rows) "
        "against portraits (columns). A result keeps who is shown where its row is firmest on the diagonal."
    )
    both = [name for name in names if name in set(made_names)][:MOST_MAPPED]
    if not both:
        return
    if len(both) < len(names):
        yield Text(f"The first {len(both)} of {len(names)} clips, of those with a face in portrait and result.")
    columns, rows = [names.index(name) for name in both], [made_names.index(name) for name in both]
    real, across = cosine_matrix(portraits[columns], portraits[columns]), cosine_matrix(made[rows], portraits[columns])
    low = float(min(real.min(), across.min()))
    yield Drawings(
        [
            Drawing("real / real", heat_map(real, both, both, low, 1.0)),
            Drawing("result / real", heat_map(across, both, both, low, 1.0)),
        ]
    )
    same, different = within_and_across(cosine_matrix(portraits, portraits), np.array(people), np.array(people), True)
    kept, mixed = within_and_across(cosine_matrix(made, portraits), np.array(made_people), np.array(people))
    yield Table(
        ("cosine similarity", "of one person", "of two people"),
        [
            (name, *(number(float(values.mean()) if len(values) else math.nan, 3) for values in sides))
            for name, sides in (("real / real", (same, different)), ("result / real", (kept, mixed)))
        ],
        "Means over all clips, within and across people.",
    )
    short = told_apart(names)
    places, similar = look_alikes(made[rows], portraits, min(3, len(names)))
    yield Table(
        ("result", *(f"{rank}. likeness" for rank in range(1, places.shape[1] + 1))),
        [
            (name, *(f"{short[place]} ({value:.2f})" for place, value in zip(order, values, strict=True)))
            for name, order, values in zip(told_apart(both), places, similar, strict=True)
        ],
        "The portraits that each result is most alike.",
    )


def _again(content: Mapping[str, Any]) -> Block:
    told = content["made_with"]
    pairs: list[tuple[str, str]] = [("command", str(told["command"])), ("fctfg", str(told["fctfg"]))]
    pairs += [(name, str(value)) for name, value in told["judges"].items()]
    if "weights" in told:
        pairs += [("weights", f"{told['weights']['file']}, sha256 {told['weights']['sha256']}")]
    pairs += [(f"sha256 of {name}", str(value)) for name, value in told["judge_hashes"].items()]
    if "data" in told:
        pairs += [("data", f"{told['data']['folder']}, split {told['data']['split']}, hash {told['data']['hash']}")]
    pairs += [("pictures", f"{told['size']} px, {told['fps']} a second, crop: {told['crop']}")]
    pairs += [("took", cost(told))]
    pairs += [(name, str(value)) for name, value in told["tools"].items()]
    return Table(("what", "which"), pairs, words=("which",))

"""What the command calls: an evaluation of weights on a data set, or of videos beside the real ones."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fctfg.atomic import make_folder, write_json
from fctfg.data.manifest import read_manifest
from fctfg.errors import FctfgError
from fctfg.evaluation.cases import Case, Protocol, drives, evenly, pairs
from fctfg.evaluation.judges import JudgeChoice, Judges
from fctfg.evaluation.measure import ON_GPU, Measurement
from fctfg.evaluation.report import write_evaluation
from fctfg.evaluation.run import Setup, evaluate, made_with
from fctfg.evaluation.summary import Row, as_json, cost, intervals, print_tables, write_csv
from fctfg.evaluation.tracking import log_to_run
from fctfg.evaluation.whole import whole_figures
from fctfg.host_memory import peak_resident
from fctfg.inference import TalkingFace


def evaluate_data(
    data: Path,
    weights: Path | None,
    *,
    out: Path,
    split: str = "test",
    protocol: Protocol = "reconstruction",
    judges: JudgeChoice = JudgeChoice(),  # noqa: B008, frozen
    limit: int | None = None,
    workers: int = 1,
    device: str = "cpu",
    studies: bool = True,
    report: bool = True,
) -> dict[str, Any]:
    """Make results of a data set's clips and measure them.

    Args:
        data: folder of the data set.
        weights: run folder or file; None takes the weights in the package.
        out: folder; `results.json`, `clips.csv` and `report.html` are written there.
        split: whose clips.
        protocol: `reconstruction`, the paper's, or `cross`.
        judges: which judges.
        limit: clips at most; None takes all.
        workers: processes.
        device: that makes the frames.
        studies: whether canonical images and control are studied too.
        report: whether to write the page.

    Returns:
        The content of `results.json`.

    Raises:
        FctfgError: data, weights or a judge cannot be used, or nothing at all could be measured.
    """
    manifest = read_manifest(data)
    cases = drives(manifest, split, protocol, limit)
    model = TalkingFace.from_pretrained(weights, device)
    if model.size != manifest.size:
        raise FctfgError(
            f"{model.artifact.path} makes frames of {model.size} px, but the clips of {data} have {manifest.size} px; "
            f"prepare them with --size {model.size}"
        )
    setup = Setup(judges, weights, data, manifest.size, True, device, studies)
    card = model.artifact.card
    facts = {
        "weights": {"file": str(model.artifact.path), "sha256": model.artifact.sha256, "card": card},
        "data": {"folder": str(data), "hash": manifest.hash, "split": split, "size": manifest.size},
        "protocol": protocol,
    }
    notes = _notes(card)
    title = f"{model.artifact.path.name} on {split} of {data}, {protocol}"
    content = _evaluate(title, cases, setup, facts, notes, out, workers, report, [])
    if weights is not None and weights.is_dir():
        log_to_run(weights, split, content)
    return content


def evaluate_pairs(
    made: Path,
    real: Path,
    *,
    out: Path,
    size: int = 256,
    crop: bool = True,
    judges: JudgeChoice = JudgeChoice(),  # noqa: B008, frozen
    limit: int | None = None,
    workers: int = 1,
    report: bool = True,
) -> dict[str, Any]:
    """Measure videos that some method has made, beside the real ones.

    Args:
        made: folder of the method's videos.
        real: folder of the real ones, of the same names.
        out, judges, limit, workers, report: as for `evaluate_data`.
        size: side of the pictures that are compared, pixels.
        crop: False for videos that are square crops of a face already.

    Raises:
        FctfgError: as `evaluate_data`, and for a made video without a real one.
    """
    found, lacking = pairs(made, real)
    chosen = set(evenly(sorted([*lacking, *(case.name for case in found)]), limit))
    cases = [case for case in found if case.name in chosen]
    absent = [Row(name, name, {}, failure=f"{made} has no video for it") for name in lacking if name in chosen]
    setup = Setup(judges, size=size, crop=crop)
    facts = {"made": str(made), "real": str(real), "protocol": "pair"}
    title = f"{made} beside {real}"
    return _evaluate(title, cases, setup, facts, [], out, workers, report, absent)


def _evaluate(
    title: str,
    cases: Sequence[Case],
    setup: Setup,
    facts: Mapping[str, Any],
    notes: Sequence[str],
    out: Path,
    workers: int,
    report: bool,
    absent: Sequence[Row],
) -> dict[str, Any]:
    judges, start = Judges(setup.judges), time.perf_counter()
    judges.open()  # what cannot be used is said before any work is done
    make_folder(out)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("clips", total=len(cases))
        by = {
            "judges": judges.names(),
            "hashes": judges.hashes(),
            "weights": (facts.get("weights") or {}).get("sha256"),
        }
        done = evaluate(cases, setup, out, by, workers, lambda: bar.advance(task))
    rows = [one.row for one in done] + list(absent)
    found, whole = intervals(rows), whole_figures(done, judges)
    told = made_with(
        setup,
        judges,
        **facts,
        command=shlex.join(["fctfg", *sys.argv[1:]]),
        notes=list(notes),
        measured_before=sum(one.kept for one in done),
        seconds=round(time.perf_counter() - start, 1),
        seconds_per_clip=_parts(rows),
        peak_memory_mb=_memory([one.measured for one in done if one.measured]),
    )
    content = as_json(rows, found, whole, told)
    write_json(out / "results.json", content)
    write_csv(out / "clips.csv", rows)
    print_tables(title, rows, found, whole, judges.missing())
    print(f"took {cost(told)}")
    for note in notes:
        print(note)
    if report:
        write_evaluation(out / "report.html", title, done, cases, absent, content, setup)
    print(f"{out}: results.json, clips.csv{', report.html' if report else ''}")
    if all(row.failure for row in rows):
        raise FctfgError(f"none of {len(rows)} results could be measured; the first: {rows[0].failure}")
    return content


def _parts(rows: Sequence[Row]) -> dict[str, float]:
    """Mean seconds that each part of a clip took, in its process."""
    known = [row.seconds for row in rows if row.seconds]
    names = dict.fromkeys(name for seconds in known for name in seconds)
    return {name: round(sum(seconds.get(name, 0.0) for seconds in known) / len(known), 3) for name in names}


def _memory(measured: Sequence[Measurement]) -> dict[str, int]:
    """The most that any process held during each part, and at all, MB; of the GPU, by names that end in `(GPU)`."""
    parts = dict.fromkeys(name for one in measured for name in one.memory)
    most = {name: max(one.memory.get(name, 0) for one in measured) for name in parts}
    most["all"] = max([peak_resident(), *(value for name, value in most.items() if not name.endswith(ON_GPU))])
    return {name: round(value / 1e6) for name, value in most.items()}


def _notes(card: Mapping[str, Any]) -> list[str]:
    """What a reader has to know of the weights."""
    licences = card.get("licences") or {}
    data = licences.get("data") or []
    return [f"data of the weights: {data if isinstance(data, str) else ', '.join(data)}"] if data else []

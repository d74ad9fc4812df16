"""`fctfg bench data`: how many samples a second a data set gives, and whether training waits for them."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch.utils.data import DataLoader, Dataset

from fctfg.atomic import write_json
from fctfg.data.batch import Sample
from fctfg.data.dataset import FLIP, TalkingClips
from fctfg.data.loader import BatchLoader
from fctfg.data.sampler import Key, PositionSampler
from fctfg.data.views import read_clips
from fctfg.errors import UsageError
from fctfg.host_memory import keep_freed_memory

ROUNDS = 3
ENOUGH = 0.02  # share of the time that may be waited for data
_BATCHES = 1 << 40  # more than any measurement reads


@dataclass(frozen=True)
class Figure:
    """One row of the table.

    Attributes:
        workers: how many read ahead; 0: batches are read when they are asked for.
        kind: "threads", or "processes" of torch's `DataLoader`.
        samples: per second, read as fast as possible; the best of the rounds.
        megabytes: per second that are read of shards for this, 10^6 bytes.
        waiting: share of the time that training waits for a batch where a step takes the given time, 0 to 1; median of
            the rounds.
    """

    workers: int
    kind: str
    samples: float
    megabytes: float
    waiting: float


class _Batches(Dataset[Sample]):
    """What torch's `DataLoader` asks for whole batches."""

    def __init__(self, loader: BatchLoader) -> None:
        self.loader = loader

    def __getitem__(self, keys: list[Key]) -> Sample:
        return self.loader.batch(keys)


def bench_data(
    root: Path,
    batch: int = 32,
    frames: int = 5,
    step_ms: float = 100.0,
    workers: tuple[int, ...] = (0, 1, 2, 4),
    processes: bool = False,
    view: str | None = None,
    seconds: float = 3.0,
    out: Path | None = None,
) -> list[Figure]:
    """Measure, print a table and a verdict and, if asked, write the figures as JSON.

    A step is a pause of its length, since a step on a GPU leaves the processor alone. All candidates take turns, round
    after round, and read the same samples, those of a training epoch with flips. What they have read once is then in
    the system's memory, as in a run whose data set fits there.

    Args:
        root: the data set; its split `train` is read.
        batch: samples of a step.
        frames: T, driving frames of a sample.
        step_ms: length of a step.
        workers: how many read ahead, one candidate each.
        processes: also measure torch's `DataLoader` with as many processes.
        view: name of a view; None takes all clips.
        seconds: length of each of the two measurements of a candidate, over all rounds.
        out: JSON file to write.

    Returns:
        the rows of the table.

    Raises:
        UsageError: a setting is out of its range.
        FctfgError: the data set cannot be read, or the file cannot be written.
    """
    _check(batch, frames, step_ms, workers, seconds)
    keep_freed_memory()  # as `fctfg train` does
    data = TalkingClips(root, "train", frames, pictures=FLIP, view=view)
    rows = read_clips(root, view, ["n_frames", "bytes"], "train").table
    per_frame = sum(rows["bytes"].to_pylist()) / sum(rows["n_frames"].to_pylist())
    kinds = [(number, "threads") for number in workers]
    kinds += [(number, "processes") for number in workers if processes and number]
    rates: dict[tuple[int, str], list[float]] = {kind: [] for kind in kinds}
    waits: dict[tuple[int, str], list[float]] = {kind: [] for kind in kinds}
    with Progress(transient=True, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=ROUNDS * len(kinds))
        for number in range(ROUNDS):
            for kind in kinds:
                bar.update(task, description=f"round {number + 1} of {ROUNDS}: {kind[0]} {kind[1]}")
                rates[kind].append(batch * _rate(_loader(data, batch, *kind), kind[0], seconds / ROUNDS))
                waits[kind].append(_waiting(_loader(data, batch, *kind), kind[0], step_ms / 1e3, seconds / ROUNDS))
                bar.advance(task)
    figures = []
    for kind in kinds:
        rate = max(rates[kind])
        megabytes = rate * data.pictures_per_sample * per_frame / 1e6
        figures.append(Figure(*kind, rate, megabytes, statistics.median(waits[kind])))
    told = verdict(figures, batch, step_ms)
    _print(figures, told, f"{root}: {data.size} px, {data.manifest.form}, batch {batch}, {frames} frames a sample")
    if out is not None:
        content = {"batch": batch, "frames": frames, "step_ms": step_ms, "verdict": told}
        write_json(out, content | {"figures": [asdict(figure) for figure in figures]})
    return figures


def verdict(figures: list[Figure], batch: int, step_ms: float) -> str:
    """Whether the data or the network limits training, and how many threads suffice, in a sentence or two."""
    threads = sorted((figure for figure in figures if figure.kind == "threads"), key=lambda figure: figure.workers)
    enough = next((figure for figure in threads if figure.waiting < ENOUGH), None)
    needed = f"a step of {step_ms:g} ms takes {batch / step_ms * 1e3:.0f} samples a second"
    if enough is not None:
        return (
            f"The network is the bottleneck: {needed}, and with {_threads(enough.workers)} "
            f"(--data.num_workers {enough.workers}) training waits {enough.waiting:.1%} of the time for data."
        )
    best = min(threads, key=lambda figure: figure.waiting)
    return (
        f"The data is the bottleneck: {needed}, but with {_threads(best.workers)} training waits {best.waiting:.0%} of "
        f"the time; measure more threads (--workers), use a machine with more cores or a faster disk, or store frames "
        f"raw (fctfg prepare --form raw)."
    )


def _threads(number: int) -> str:
    return "1 thread" if number == 1 else f"{number} threads"


def _check(batch: int, frames: int, step_ms: float, workers: tuple[int, ...], seconds: float) -> None:
    for name, value in (("batch", batch), ("frames", frames)):
        if value < 1:
            raise UsageError(f"--{name} must be 1 or more, not {value}")
    for name, time_ in (("step-ms", step_ms), ("seconds", seconds)):
        if not 0 < time_ < math.inf:
            raise UsageError(f"--{name} must be more than 0, not {time_:g}")
    if min(workers) < 0:
        raise UsageError(f"--workers must be 0 or more, not {min(workers)}")


def _loader(data: TalkingClips, batch: int, workers: int, kind: str) -> Iterable[Sample]:
    sampler = PositionSampler(_BATCHES, batch)
    if kind == "threads":
        return BatchLoader(data, sampler, workers)
    batches = _Batches(BatchLoader(data, sampler, 0))
    return DataLoader(batches, batch_size=None, sampler=sampler, num_workers=workers, prefetch_factor=2)


def _begun(loader: Iterable[Sample], workers: int) -> Iterator[Sample]:
    """An iterator that runs evenly: what was read ahead at the start is through."""
    batches = iter(loader)
    for _ in range(2 * workers + 1):
        next(batches)
    return batches


def _rate(loader: Iterable[Sample], workers: int, seconds: float) -> float:
    """Batches a second, read as fast as possible."""
    batches, count = _begun(loader, workers), 0
    begin = time.perf_counter()
    while (taken := time.perf_counter() - begin) < seconds or not count:
        next(batches)
        count += 1
    return count / taken


def _waiting(loader: Iterable[Sample], workers: int, step: float, seconds: float) -> float:
    """Share of the time that a consumer waits that needs `step` seconds for each batch."""
    batches, waited = _begun(loader, workers), 0.0
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds or not waited:
        time.sleep(step)
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
        del batch  # which is no waiting
    return waited / (time.perf_counter() - begin)


def _print(figures: list[Figure], told: str, title: str) -> None:
    table = Table(title=title)
    for column in ("workers", "", "samples/s", "MB/s", "waiting"):
        table.add_column(column, justify="left" if not column else "right")
    for figure in figures:
        table.add_row(
            str(figure.workers),
            figure.kind,
            f"{figure.samples:.0f}",
            f"{figure.megabytes:.0f}",
            f"{figure.waiting:.1%}",
        )
    console = Console(width=None if Console().is_terminal else 120)
    console.print(table)
    console.print(told)

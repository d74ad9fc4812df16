"""`fctfg bench networks`: how much of this machine's convolution peak the networks reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from fctfg.atomic import write_json
from fctfg.bench_memory import peak_memory
from fctfg.bench_networks import (
    FLOAT32_ONLY,
    INFERENCE,
    PATH_LENGTH_EVERY,
    R1_EVERY,
    STEPS,
    Sizes,
    Workload,
)
from fctfg.bench_peak import LAYOUTS, PEAK_SHAPES, PRECISIONS, peak_call, work_of_peak
from fctfg.bench_peak import seconds as seconds_of
from fctfg.errors import FctfgError, UsageError
from fctfg.host_memory import keep_freed_memory

ITERATION = "iteration, amortised"


@dataclass(frozen=True)
class Figure:
    """One row of the table.

    Attributes:
        what: piece of an iteration or of generation.
        precision: "float32" or "bf16" (autocast; the regularizers inside an iteration stay float32).
        mode: "eager" or "compiled".
        ms: least over the rounds.
        gflop: nominal work.
        gflops: GFLOP/s.
        share: of the convolution peak of this precision, 0 to 1; of an iteration with both, the time that its parts
            would take at their peaks, divided by the time that they took.
        peak_gb: memory above networks and inputs, 10^9 bytes; None: not measured.
    """

    what: str
    precision: str
    mode: str
    ms: float
    gflop: float
    gflops: float
    share: float
    peak_gb: float | None = None


def bench_networks(
    sizes: Sizes,
    precisions: tuple[str, ...] = ("float32",),
    rounds: int = 5,
    threads: int | None = None,
    compiled: bool = True,
    memory: bool = True,
    out: Path | None = None,
) -> list[Figure]:
    """Measure, print a table and, if asked, write the figures as JSON.

    All candidates, and the convolutions that give the peak, run once a round in turns in one process, so that a busy
    machine slows all of them. What counts is the least time over the rounds, after a first call that does not count:
    others who use the machine only ever add to it.

    Args:
        sizes: networks, batch and device.
        precisions: of "float32" and "bf16".
        rounds: measurements of each candidate.
        threads: of the CPU; None: as many as torch takes.
        compiled: also with torch.compile (minutes for the first calls).
        memory: also peak memory, each candidate in a process of its own.
        out: JSON file to write.

    Returns:
        the rows of the table.

    Raises:
        UsageError: a setting is out of its range.
        FctfgError: the device cannot be used, or the file cannot be written.
    """
    _check(sizes, precisions, rounds, threads)
    if threads is not None:
        torch.set_num_threads(threads)
    keep_freed_memory()
    try:
        torch.empty(1, device=sizes.device)
        workload = Workload(sizes)
    except ValueError as error:
        raise UsageError(f"--size {sizes.size}: {error}") from error
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise FctfgError(
            f"the device {sizes.device} cannot be used ({reason}); compute on another one, as cpu"
        ) from error
    candidates = _candidates(workload, precisions, compiled)
    peaks = {
        (precision, layout, shape): peak_call(precision, layout, shape, sizes.device)
        for precision in PRECISIONS
        for layout in LAYOUTS
        for shape in PEAK_SHAPES
    }
    with Progress(transient=True, console=Console(stderr=True)) as bar:
        pieces = len(candidates) * (memory + 1 + rounds)
        task = bar.add_task("work", total=pieces)
        work = workload.work()
        for name, call in candidates.items():
            bar.update(task, description=f"first call: {' '.join(name)}")
            call()
            bar.advance(task)
        taken: dict[object, list[float]] = {key: [] for key in [*candidates, *peaks]}
        for number in range(rounds):
            bar.update(task, description=f"round {number + 1} of {rounds}")
            for key, call in [*peaks.items(), *candidates.items()]:
                taken[key].append(seconds_of(call))
                bar.advance(task, key in candidates)
        least = {key: min(times) for key, times in taken.items()}
        peak = {
            precision: max(work_of_peak(key[2]) / least[key] for key in peaks if key[0] == precision)
            for precision in PRECISIONS
        }
        used: dict[tuple[str, str, str], float | None] = {}
        for name in candidates if memory else ():
            bar.update(task, description=f"peak memory: {' '.join(name)}")
            used[name] = peak_memory(sizes, name[0], name[1], name[2] == "compiled", torch.get_num_threads())
            bar.advance(task)

    figures = []
    for name in candidates:
        what, precision, mode = name
        seconds = least[name] / (sizes.batch if what == INFERENCE[0] else 1)
        figures.append(_figure(what, precision, mode, seconds, work[what], peak[precision], used.get(name)))
    figures += _iterations(figures, peak)
    _print(figures, peak, sizes)
    if out is not None:
        content = {"sizes": asdict(sizes), "threads": torch.get_num_threads(), "torch": torch.__version__}
        content |= {"rounds": rounds, "peak_gflops": peak, "figures": [asdict(figure) for figure in figures]}
        write_json(out, content)
    return figures


def _check(sizes: Sizes, precisions: tuple[str, ...], rounds: int, threads: int | None) -> None:
    if sizes.size < 32 or sizes.size & (sizes.size - 1):
        raise UsageError(f"--size must be a power of two of at least 32, not {sizes.size}")
    for name, value in (("batch", sizes.batch), ("rounds", rounds), ("threads", 1 if threads is None else threads)):
        if value < 1:
            raise UsageError(f"--{name} must be 1 or more, not {value}")
    if sizes.channel_max < 1 or sizes.channel_base < sizes.size:
        raise UsageError("--channel-max must be 1 or more and --channel-base at least the size")
    for precision in precisions:
        if precision not in PRECISIONS:
            raise UsageError(f"--precision must be one of {', '.join(PRECISIONS)}, not {precision}")


def _candidates(
    workload: Workload, precisions: tuple[str, ...], compiled: bool
) -> dict[tuple[str, str, str], Callable[[], object]]:
    """The calls by (what, precision, mode)."""
    modes = ("eager", "compiled") if compiled else ("eager",)
    found = {}
    for what in (*STEPS, *INFERENCE):
        for precision in ("float32",) if what in FLOAT32_ONLY else precisions:
            for mode in ("eager",) if what in FLOAT32_ONLY else modes:
                found[what, precision, mode] = workload.call(what, precision, mode == "compiled")
    return found


def _figure(
    what: str, precision: str, mode: str, seconds: float, gflop: float, peak: float, peak_gb: float | None = None
) -> Figure:
    rate = gflop / seconds
    return Figure(what, precision, mode, seconds * 1e3, gflop, rate, rate / peak, peak_gb)


def _iterations(figures: list[Figure], peak: dict[str, float]) -> list[Figure]:
    """The generator's images, both steps, and the regularizers at their share, by precision and mode."""
    times = {(figure.what, figure.precision, figure.mode): figure for figure in figures}
    found = []
    for precision, mode in dict.fromkeys((figure.precision, figure.mode) for figure in figures):
        if ("generator step", precision, mode) not in times:
            continue
        parts = [(times[what, precision, mode], 1) for what in STEPS[:3]]
        parts += [(times["R1 step", "float32", "eager"], R1_EVERY)]
        parts += [(times["path-length step", "float32", "eager"], PATH_LENGTH_EVERY)]
        ms = sum(figure.ms / every for figure, every in parts)
        gflop = sum(figure.gflop / every for figure, every in parts)
        ideal = sum(figure.gflop / every / peak[figure.precision] for figure, every in parts)
        found.append(Figure(ITERATION, precision, mode, ms, gflop, gflop / ms * 1e3, ideal / ms * 1e3))
    return found


def _print(figures: list[Figure], peak: dict[str, float], sizes: Sizes) -> None:
    table = Table(
        title=f"{sizes.size} px, batch {sizes.batch}, {sizes.device}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}"
    )
    table.add_column("what", no_wrap=True)
    for column in ("precision", "mode"):
        table.add_column(column)
    for column in ("ms", "GFLOP", "GFLOP/s", "of peak", "memory, GB"):
        table.add_column(column, justify="right")
    for figure in figures:
        table.add_row(
            figure.what,
            figure.precision,
            figure.mode,
            f"{figure.ms:.1f}",
            f"{figure.gflop:.1f}",
            f"{figure.gflops:.0f}",
            f"{figure.share:.0%}",
            "" if figure.peak_gb is None else f"{figure.peak_gb:.2f}",
        )
    console = Console(width=None if Console().is_terminal else 120)
    console.print(table)
    both = ", ".join(f"{precision} {rate:.0f}" for precision, rate in peak.items())
    console.print(f"Convolution peak of this run, GFLOP/s: {both}")
    by_name = {(figure.what, figure.precision, figure.mode): figure.ms for figure in figures}
    for what, mode in dict.fromkeys((figure.what, figure.mode) for figure in figures if figure.precision == "bf16"):
        if (what, "float32", mode) in by_name:
            ratio = by_name[what, "float32", mode] / by_name[what, "bf16", mode]
            console.print(f"{what}, {mode}: bf16 {ratio:.2f} times as fast as float32")
    for what, precision in dict.fromkeys((f.what, f.precision) for f in figures if f.mode == "compiled"):
        ratio = by_name[what, precision, "eager"] / by_name[what, precision, "compiled"]
        console.print(f"{what}, {precision}: compiled {ratio:.2f} times as fast as eager")

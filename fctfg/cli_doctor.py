"""`fctfg doctor`: why a stage does not learn."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fctfg.errors import FctfgError


def add_doctor(commands: Any, style: dict[str, Any]) -> None:
    """Add the command to the parser of all commands."""
    doctor = commands.add_parser("doctor", help="why a stage does not learn, and what to do", **style)
    kinds = doctor.add_subparsers(dest="doctor", required=True, metavar="WHAT")
    sync = kinds.add_parser(
        "sync",
        help="the lip-sync expert: data, sound, clock, network, and what it hears of a shift",
        epilog="With --expert, what was measured is also written beside the weights (FILE.sync.json), or with "
        "--weights-out into a copy of them; stage 3 takes an expert only if it was measured (networks.sync_accuracy).",
        **style,
    )
    sync.add_argument("--data", type=Path, required=True, help="folder of the data set")
    sync.add_argument("--run", type=Path, dest="stage_run", metavar="RUN", help="folder of a run of stage 0")
    sync.add_argument(
        "--expert", metavar="FILE", help="expert to measure: a run, a weights file, or a name of `fctfg weights list`"
    )
    sync.add_argument("--sources", type=Path, metavar="DIR", help="folder of the raw videos, to ask for frame rates")
    sync.add_argument("--clips", type=int, default=64, help="held-out clips that an expert is measured on, at most")
    sync.add_argument("--no-overfit", action="store_true", help="do not train on a few clips, which takes longest")
    sync.add_argument("--overfit-iterations", type=int, default=600, help="that this may take")
    sync.add_argument("--overfit-seconds", type=float, default=100.0, help="that this may take, s")
    sync.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ...")
    sync.add_argument("--out", type=Path, help="JSON file to write everything to")
    sync.add_argument("--report", type=Path, help="HTML file to write, with the plots")
    sync.add_argument("--weights-out", type=Path, metavar="FILE", help="with --expert: copy with the measurement")
    sync.set_defaults(run=_sync)

    run = kinds.add_parser(
        "run",
        help="a run of stages 1 to 3: its log, and its evaluation",
        epilog="What needs results (identity, sharpness, blinks, control) is looked for after fctfg evaluate --weights "
        "RUN --out RUN/evaluation.",
        **style,
    )
    run.add_argument("folder", type=Path, metavar="RUN", help="folder of the run")
    run.set_defaults(run=_run)


def _sync(options: argparse.Namespace) -> None:
    from fctfg.atomic import make_folder, write_json
    from fctfg.doctor.sync import Options, examine, keep_measurement
    from fctfg.doctor_report import print_diagnosis, write_doctor_report

    wanted = Options(
        data=options.data,
        run=options.stage_run,
        expert=options.expert,
        sources=options.sources,
        clips=options.clips,
        overfit=not options.no_overfit,
        iterations=options.overfit_iterations,
        seconds=options.overfit_seconds,
        device=options.device,
        weights_out=options.weights_out,
    )
    for path in (options.out, options.report):
        if path is not None:
            make_folder(path.parent)
            if not os.access(path.parent, os.W_OK):  # said before the work is done, not after it
                raise FctfgError(f"{path} cannot be written: no permission for its folder; choose another one")
    diagnosis, artifact = examine(wanted, _bar)
    print_diagnosis(diagnosis)
    shift = diagnosis.evidence.shift
    if options.expert is not None and artifact is not None and shift is not None:
        print(f"measured: {keep_measurement(artifact, shift.measurement, options.weights_out)}")
    if options.out is not None:
        write_json(options.out, diagnosis.plain())
        print(f"all figures: {options.out}")
    if options.report is not None:
        write_doctor_report(options.report, diagnosis)
        print(f"page: {options.report}")


def _run(options: argparse.Namespace) -> None:
    from fctfg.doctor.stage_run import asked, diagnose_run, read_values

    values, note = read_values(options.folder)
    if note:
        print(note)
    looked, unknown = asked(values)
    print(f"looked for: {', '.join(looked) or 'nothing'}")
    if unknown:
        print(
            f"not known: {', '.join(unknown)} (fctfg evaluate --data DIR --weights {options.folder} --out "
            f"{options.folder}/evaluation)"
        )
    found = diagnose_run(values)
    if not found:
        print("Nothing is wrong with what was looked at.")
    for place, (name, cause, remedy) in enumerate(found):
        print(f"{'Most likely' if place == 0 else 'Also'} ({name}): {cause}. Do this: {remedy}.")


@contextmanager
def _bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr, called with what is done and all there is to do; it is gone at the end."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)

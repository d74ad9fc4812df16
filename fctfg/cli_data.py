"""`fctfg data`: looking at a prepared data set, choosing from it, and taking somebody out of it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def add_data(commands: Any, style: dict[str, Any]) -> None:
    """Add the command to the parser of all commands."""
    data = commands.add_parser("data", help="look at a data set, choose clips, take somebody out", **style)
    kinds = data.add_subparsers(dest="data", required=True, metavar="WHAT")

    status = kinds.add_parser("status", help="what became of every video, also while it is prepared", **style)
    status.add_argument("root", type=Path, help="folder of the data set")
    status.add_argument("--failed", action="store_true", help="list what failed or was rejected, with the reasons")
    status.set_defaults(run=_status)

    query = kinds.add_parser(
        "query",
        help="how much a choice of clips leaves",
        epilog='example: fctfg data query data/clips "confidence > 1 and abs(offset) <= 1 and face_px >= 100" '
        "--save sharp; then train with --data.view sharp",
        **style,
    )
    query.add_argument("root", type=Path, help="folder of the data set")
    query.add_argument("query", nargs="?", help="question to the scores; none: the recommended view")
    query.add_argument("--save", metavar="NAME", help="keep the choice as a view under this name")
    query.add_argument("--columns", action="store_true", help="list the columns, their units and recommended limits")
    query.set_defaults(run=_query)

    report = kinds.add_parser(
        "report",
        help="one page: how much there is, all scores, what was rejected and why, pictures",
        epilog="All clips are counted. Pictures are shown of those clips whose ids have the smallest sha256, which is "
        "a fixed sample, and of the worst and best clips of the main scores. The page needs no network.",
        **style,
    )
    report.add_argument("root", type=Path, help="folder of the data set")
    report.add_argument("--out", type=Path, help="HTML file to write; none: report.html in the data set")
    report.add_argument("--view", metavar="NAME", help="view whose effect is shown; none: the recommended one")
    report.add_argument("--clips", type=int, default=24, help="clips of the fixed sample that are shown")
    report.set_defaults(run=_report)

    show = kinds.add_parser(
        "show",
        help="samples exactly as the networks get them, before and after augmentation",
        epilog="The samples are the first ones of a training run with the same seed, view and number of frames on one "
        "device. Changes are drawn with the settings that a run has by default.",
        **style,
    )
    show.add_argument("root", type=Path, help="folder of the data set")
    kind = show.add_mutually_exclusive_group(required=True)
    kind.add_argument("--frames", action="store_true", help="still: source, driving frames, mel windows")
    kind.add_argument("--clips", action="store_true", help="films with sound")
    show.add_argument("--augment", action="store_true", help="beside each sample, what augmentation makes of it")
    show.add_argument("--points", action="store_true", help="draw the five points of the face")
    show.add_argument("--decoys", action="store_true", help="with --frames: also the moment whose mouths hide the lips")
    show.add_argument("--split", choices=("train", "val", "test"), default="train", help="of the people")
    show.add_argument("--count", type=int, default=8, help="samples")
    show.add_argument("--seconds", type=float, default=2.0, help="with --clips: length of a film, s")
    show.add_argument("--seed", type=int, default=0, help="of the run")
    show.add_argument("--view", metavar="NAME", help="view to draw from; none: all clips")
    show.add_argument("--out", type=Path, help="HTML file to write; none: show.html in the data set")
    show.set_defaults(run=_show)

    film = kinds.add_parser("film", help="one clip as a film that any player shows", **style)
    film.add_argument("root", type=Path, help="folder of the data set")
    film.add_argument("clip", help="id of the clip")
    film.add_argument("--out", type=Path, required=True, help=".mov: as it is stored; .mp4: H.264 and AAC")
    film.set_defaults(run=_film)

    remove = kinds.add_parser("remove", help="take a person out, from the shards too, for good", **style)
    remove.add_argument("root", type=Path, help="folder of the data set")
    remove.add_argument("--identity", required=True, help="the person, by the manifest's name")
    remove.add_argument("--reason", default="", help="kept in the record of the removal")
    remove.set_defaults(run=_remove)


def _status(options: argparse.Namespace) -> None:
    from fctfg.data.status import show_status

    show_status(options.root, options.failed)


def _query(options: argparse.Namespace) -> None:
    from fctfg.data.ask import ask, list_columns

    if options.columns:
        list_columns()
    else:
        ask(options.root, options.query, options.save)


def _report(options: argparse.Namespace) -> None:
    from fctfg.data_report import write_data_report

    out = options.out or options.root / "report.html"
    with _bar("report") as show:
        write_data_report(options.root, out, options.view, options.clips, show)
    print(out)


def _show(options: argparse.Namespace) -> None:
    from fctfg.data_show import Choice, write_show

    choice = Choice(
        split=options.split,
        count=options.count,
        seed=options.seed,
        view=options.view,
        augment=options.augment,
        decoys=options.decoys,
        seconds=options.seconds if options.clips else None,
    )
    out = options.out or options.root / "show.html"
    with _bar("samples") as show:
        write_show(options.root, out, choice, options.points, show)
    print(out)


@contextmanager
def _bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr, called with what is done and all there is to do; it is gone at the end."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _film(options: argparse.Namespace) -> None:
    from fctfg.data.ask import write_film

    write_film(options.root, options.clip, options.out)


def _remove(options: argparse.Namespace) -> None:
    from fctfg.data.remove import remove_identity

    remove_identity(options.root, options.identity, options.reason)

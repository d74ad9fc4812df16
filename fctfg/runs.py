"""`fctfg runs`: the runs below a folder, what they do, and how they go on."""

from __future__ import annotations

import os
import shlex
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fctfg.errors import FctfgError
from fctfg.run_state import FILE, RunState, lock_holder, read_state

SILENT = 300.0  # seconds without a note after which a run of another machine counts as killed
SHOWN = 3  # metrics of each run


@dataclass(frozen=True)
class Run:
    """A run as it is listed.

    Attributes:
        folder: of the run.
        said: what it says of itself; None where it says nothing (it has just begun, or is of an earlier fctfg).
        state: "running", "complete", "stopped", "failed", "crashed", "killed" (it ended without a word) or "unknown".
    """

    folder: Path
    said: RunState | None
    state: str


def list_runs(root: Path) -> None:
    """Print the runs below a folder, and for each that neither trains nor is complete the command that goes on with it.

    Only small files are read, nothing of torch; other processes are not disturbed.

    Args:
        root: the folder; it may be a run itself.

    Raises:
        FctfgError: there is no such folder, or no run in it.
    """
    if not root.is_dir():
        raise FctfgError(f"{root} is not a folder; name the folder of runs: fctfg runs DIR")
    found = [read_run(folder) for folder in find_runs(root)]
    if not found:
        raise FctfgError(f"there is no run below {root}; `fctfg train` begins one")
    found.sort(key=lambda run: run.said.updated if run.said else 0.0)
    console = Console(width=None if Console().is_terminal else 160)
    console.print(_table(found, root, time.time()))
    for run in found:
        if run.said and run.state not in ("running", "complete"):
            name = _name(run.folder, root)
            if run.said.reason:
                console.print(f"{name} {run.state}: {run.said.reason}", markup=False, highlight=False, soft_wrap=True)
            line = f"{name} goes on with: {command(run.said)}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def find_runs(root: Path) -> Iterator[Path]:
    """The folders of runs at or below `root`, of any depth; nothing is looked for inside of a run."""
    for folder, folders, files in os.walk(root):
        if FILE in files or ("config.yaml" in files and "checkpoints" in folders):
            yield Path(folder)
            folders.clear()
        folders.sort()


def read_run(folder: Path) -> Run:
    """A run, with what it does now: whether somebody trains there is told by the lock, the rest by the run itself."""
    said = read_state(folder)
    if lock_holder(folder) is not None:
        return Run(folder, said, "running")
    if said is None:
        return Run(folder, None, "unknown")
    if said.state != "running":
        return Run(folder, said, said.state)
    fresh = abs(time.time() - said.updated) < SILENT  # a note from the future says that a clock was set back
    elsewhere = fresh and said.host != socket.gethostname()  # whose lock may not be seen
    return Run(folder, said, "running" if elsewhere else "killed")


def command(said: RunState) -> str:
    """What goes on with a run, to be typed in the present folder."""
    line = shlex.join(said.command)
    return line if said.folder == os.getcwd() else f"cd {shlex.quote(said.folder)} && {line}"


def ago(seconds: float) -> str:
    """A length of time in its largest unit: "12 s", "5 min", "3 h" or "2 d"; what lies ahead is "0 s"."""
    for unit, size, limit in (("s", 1, 60), ("min", 60, 3600), ("h", 3600, 48 * 3600)):
        if seconds < limit:
            return f"{max(0, int(seconds // size))} {unit}"
    return f"{int(seconds // 86400)} d"


def _name(folder: Path, root: Path) -> str:
    inner = folder.relative_to(root).as_posix()
    return folder.name if inner == "." else inner


def _progress(said: RunState, state: str) -> str:
    text = str(said.iterations)
    if said.total:
        text = f"{said.iterations} of {said.total} ({said.iterations / said.total:.0%})"
    if state == "running" and said.seconds_left is not None:
        text += f", {ago(said.seconds_left)} left"
    return text


def _metrics(said: RunState) -> str:
    shown = list(said.metrics.items())
    texts = [
        f"{name.removeprefix('val/')} {'not finite' if value is None else f'{value:.4g}'}"
        for name, value in shown[:SHOWN]
    ]
    return ", ".join(texts) + (" …" if len(shown) > SHOWN else "")


def _table(found: list[Run], root: Path, now: float) -> Table:
    table = Table(title=str(root))
    for column in ("run", "stage", "state", "progress", "last validation", "when"):
        table.add_column(column, no_wrap=column == "run")
    for run in found:
        said = run.said
        if said is None:
            table.add_row(_name(run.folder, root), "", run.state, "", "", "")
            continue
        where = f" ({said.host}, process {said.process})" if run.state == "running" else ""
        table.add_row(
            _name(run.folder, root),
            said.stage,
            run.state + where,
            _progress(said, run.state),
            _metrics(said),
            f"{ago(now - said.updated)} ago",
        )
    return table

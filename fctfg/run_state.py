"""`run.json`: what a run says of itself to those who watch it, without torch."""

from __future__ import annotations

import fcntl
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from fctfg.atomic import write_json

FILE = "run.json"
LOCK = ".lock"  # held by the process that trains


@dataclass(frozen=True)
class RunState:
    """What a run says of itself.

    Attributes:
        stage: of training.
        state: "running", "complete", "stopped" (by Ctrl-C or a signal), "failed" (for a reason that the user was told)
            or "crashed".
        iterations: done so far.
        total: iterations of the whole run; None: it has no end.
        updated: when this was written, s since 1970.
        host: name of the machine.
        process: its number there.
        folder: working folder of the command.
        command: that goes on with the run, argument by argument.
        metrics: of the last validation, by name; of a term that is not finite None.
        images_per_second: lately, over all processes; None: not known yet.
        seconds_left: None: not known.
        reason: the sentence that the user was told, or the name of the crash report.
    """

    stage: str
    state: str
    iterations: int
    total: int | None
    updated: float
    host: str
    process: int
    folder: str
    command: list[str]
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    images_per_second: float | None = None
    seconds_left: float | None = None
    reason: str = ""


def write_state(run: Path, state: RunState) -> None:
    """Write `run.json` of a run's folder.

    Raises:
        FctfgError: it cannot be written.
    """
    write_json(run / FILE, asdict(state))


def read_state(run: Path) -> RunState | None:
    """What a run says of itself; None where it says nothing, or nothing that can be read."""
    try:
        content: Any = json.loads((run / FILE).read_text(encoding="utf-8"))
        return RunState(**{f.name: content[f.name] for f in fields(RunState)})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def lock_holder(run: Path) -> int | None:
    """The process that holds a run's lock; None where nobody does. It is asked without taking the lock.

    Returns:
        Number of the process; on another machine's file system it may be one of that machine.
    """
    question = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)  # struct flock of 64-bit Linux
    try:
        with (run / LOCK).open("rb") as stream:
            answer = struct.unpack("hhqqi", fcntl.fcntl(stream, fcntl.F_GETLK, question))
    except OSError:
        return None
    return None if answer[0] == fcntl.F_UNLCK else int(answer[4])

"""What became of every raw video: done, rejected with a reason, failed with an error, or still pending.

Each process that works on a data set appends to a journal of its own, one line a video, so that any number of machines
may share a folder. A line is flushed to the disk before the next video is taken; a line that a killed process left
unfinished does not count, and its video is pending again.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fctfg.atomic import atomic_path, make_folder, write_error

FOLDER = "ledger"
State = Literal["done", "rejected", "failed", "same"]


class KeptClip(NamedTuple):
    """A clip that a video gave."""

    id: str
    sha256: str
    bytes: int
    n_frames: int


@dataclass(frozen=True)
class Outcome:
    """What became of one raw video.

    Attributes:
        source: Its name, relative to the prepared folder.
        state: ``done`` (it gave clips), ``rejected`` (it cannot give any) or ``failed`` (an error; another run tries
            it again); ``same`` is written for a file that only has a new time and says that what was known holds.
        stage: Where it was rejected or failed; empty when done.
        reason: Why, ``kind: details``; empty when done.
        sha256: Of the raw video, and of the file with its sound where that is another; empty when unreadable.
        size: Of both in bytes.
        modified: Sum of the times in ns when they were changed last.
        time: When this was found out, in seconds since 1970.
        seconds: How long the work took.
        video_seconds: How long the video is, as far as it was looked at.
        clips: What it gave.
        rejects: Rows of its rejected clips; none in what `Ledger` holds in memory.
    """

    source: str
    state: State
    stage: str = ""
    reason: str = ""
    sha256: str = ""
    size: int = 0
    modified: int = 0
    time: float = 0.0
    seconds: float = 0.0
    video_seconds: float = 0.0
    clips: tuple[KeptClip, ...] = ()
    rejects: tuple[Mapping[str, Any], ...] = ()

    def line(self) -> bytes:
        """One line of a journal."""
        return json.dumps(asdict(self), ensure_ascii=True, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Outcome:
        """The inverse of `line`.

        Raises:
            ValueError, KeyError, TypeError: it is not such a line.
        """
        values = json.loads(line)
        clips = tuple(KeptClip(*clip) for clip in values["clips"])
        known = {f.name: values[f.name] for f in fields(cls)}
        return cls(**known | {"clips": clips, "rejects": tuple(values["rejects"])})

    def unchanged(self, size: int, modified: int) -> bool:
        """Whether a file of this size and time of change is the one that was looked at."""
        return (self.size, self.modified) == (size, modified)


class Journal:
    """Appends outcomes to a process's own file.

    Args:
        folder: of the ledger.
        writer: unique name of the process.

    Raises:
        FctfgError: the folder is not writable.
    """

    def __init__(self, folder: Path, writer: str) -> None:
        self._path = make_folder(folder) / f"{writer}.jsonl"

    def append(self, outcome: Outcome) -> None:
        """Write one line and flush it to the disk.

        Raises:
            FctfgError: the disk is full.
        """
        line = outcome.line()
        try:
            number = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                size = os.fstat(number).st_size
                if os.write(number, line) != len(line):
                    os.ftruncate(number, size)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(number)
            finally:
                os.close(number)
        except OSError as error:
            raise write_error(error, self._path) or error from error


class Ledger:
    """All journals of a data set; the latest word on each video counts.

    Args:
        folder: of the ledger; may not exist yet.

    Attributes:
        outcomes: by the videos' names, without their rejected clips' rows.
        entries: how many lines were read; each is a video that was worked on.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, int] = {}  # bytes of each journal that were read
        self.outcomes: dict[str, Outcome] = {}
        self.entries = 0
        self.refresh()

    def refresh(self) -> None:
        """Read what was added since, by anybody."""
        same = []
        for path in sorted(self._folder.glob("*.jsonl")):
            for outcome, end in _entries(path, self._read.get(path, 0)):
                self._read[path] = end
                self.entries += 1
                before = self.outcomes.get(outcome.source)
                if outcome.state == "same":
                    same.append(outcome)
                elif before is None or before.time <= outcome.time:
                    self.outcomes[outcome.source] = replace(outcome, rejects=())
        for outcome in sorted(same, key=lambda outcome: outcome.time):
            known = self.outcomes.get(outcome.source)
            if known is not None and known.time <= outcome.time and known.sha256 == outcome.sha256:
                self.outcomes[outcome.source] = replace(known, size=outcome.size, modified=outcome.modified)

    def complete(self) -> Iterator[Outcome]:
        """The outcomes with their rejected clips' rows, read again from the journals."""
        for path in sorted(self._folder.glob("*.jsonl")):
            for outcome, _ in _entries(path, 0):
                latest = self.outcomes.get(outcome.source)
                if latest is not None and outcome.state != "same" and latest.time == outcome.time:
                    yield outcome


def forget(folder: Path, clips: frozenset[str]) -> None:
    """Write the journals anew without the rows (and thumbnails) of some rejected clips.

    Raises:
        FctfgError: the folder is not writable, or the disk is full.
    """
    for path in sorted(folder.glob("*.jsonl")):
        entries = [outcome for outcome, _ in _entries(path, 0)]
        if any(row["id"] in clips for outcome in entries for row in outcome.rejects):
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                for outcome in entries:
                    left = tuple(row for row in outcome.rejects if row["id"] not in clips)
                    file.write(replace(outcome, rejects=left).line())


def _entries(path: Path, begin: int) -> Iterator[tuple[Outcome, int]]:
    """The outcomes of a journal from a byte on, and where each ends; damaged ones do not count."""
    with path.open("rb") as file:
        file.seek(begin)
        for line in file:
            begin += len(line)
            if line.endswith(b"\n"):  # else it is being written, or was left unfinished
                with suppress(ValueError, KeyError, TypeError):
                    yield Outcome.from_line(line), begin

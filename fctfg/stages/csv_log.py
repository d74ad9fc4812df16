"""The numbers of a run as one continuing CSV file."""

from __future__ import annotations

import csv
import errno
import io
import os
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from fctfg.atomic import atomic_path
from fctfg.troubles import Troubles

HEADER = ("iteration", "name", "value")


class CsvLog(Logger):
    """Appends `iteration,name,value` rows to `metrics.csv`; a continued run goes on in the same file.

    What cannot be written, since the disk is full, is kept in memory and written as soon as there is room; there is
    never half a row in the file.

    Args:
        path: the file.
        troubles: where failed writes are counted.
    """

    def __init__(self, path: Path, troubles: Troubles) -> None:
        super().__init__()
        self.path, self.troubles = path, troubles
        self._waiting = b""  # rows that are not in the file yet

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return self.path.parent.name

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing to do: the configuration has its own file."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        rows = [(int(step or 0), name, repr(float(value))) for name, value in metrics.items() if name != "epoch"]
        self._waiting += _lines(rows)
        self._write()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        if self._waiting:
            self._write()
        if self._waiting:
            lost = self._waiting.count(b"\n")
            self.troubles.meet(f"rows lost for {self.path}", f"{lost} rows are missing in {self.path}", times=lost)

    def _write(self) -> None:
        try:
            _append(self.path, self._waiting)
            self._waiting = b""
        except OSError as error:
            self.troubles.meet(
                f"failed writes of {self.path}",
                f"{self.path} cannot be written ({error.strerror}); training goes on, and its rows wait in memory",
            )

    @rank_zero_only
    def rewind(self, iteration: int, evaluated: bool = True) -> None:
        """Drop what an interrupted run has logged after the checkpoint that it continues from.

        These are the last rows as a rule, which are cut off: that needs no room on the disk.

        Args:
            iteration: iterations that it had done.
            evaluated: whether with the evaluation that followed the last of them.

        Raises:
            FctfgError: the file cannot be written.
        """
        if not self.path.exists():
            return
        lines = self.path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines[1:] if _seen(line, iteration, evaluated)]
        content = b"".join([_lines([HEADER]), *kept])
        if b"".join(lines).startswith(content):
            os.truncate(self.path, len(content))
            return
        with atomic_path(self.path) as partial:
            partial.write_bytes(content)


def _lines(rows: list[Any]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _seen(line: bytes, iteration: int, evaluated: bool) -> bool:
    """Whether a line is a row of the first `iteration` iterations (validation stands at the number that were done)."""
    try:
        (at, name, _), *_ = csv.reader([line.decode()])
        return int(at) < iteration or (evaluated and int(at) == iteration and not name.startswith(("train/", "speed/")))
    except (ValueError, csv.Error):  # half a line, or what a crash of the machine has left
        return False


def _append(path: Path, rows: bytes) -> None:
    """Add whole rows to a file, after a header where it is new, or nothing.

    Raises:
        OSError: there is no room, or the file cannot be opened.
    """
    number = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        size = os.fstat(number).st_size
        content = rows if size else _lines([HEADER]) + rows
        try:
            if os.write(number, content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            os.ftruncate(number, size)
            raise
    finally:
        os.close(number)

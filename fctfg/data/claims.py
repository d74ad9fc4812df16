"""Who works on which video, agreed upon through files in a shared folder.

A video is claimed by creating a file that must not exist yet, which is atomic on local and on network file systems.
Every worker process group keeps a sign of life, a file whose time it renews; the claims of one whose sign is old are
void. Times are compared as the file server gives them, so the machines' clocks need not agree. Should two processes
take one video all the same (both found the same dead one's claim), it is worked on twice with the same result.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

from fctfg.atomic import make_folder

RENEW = 5.0  # s between two signs of life
DEAD = 60.0  # s without one
PACKING = "\0packing"  # claimed like a video by who writes shards and manifest


class Claims:
    """Claims of one process.

    Use it as a context manager; at the end, what is still claimed is released.

    Args:
        folder: shared by all processes that work on the data set.

    Attributes:
        writer: unique name of this process.

    Raises:
        FctfgError: the folder is not writable.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = make_folder(folder)
        self.writer = f"{_here()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._sign = folder / f"{self.writer}.alive"
        self._held: set[Path] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)

    def __enter__(self) -> Claims:
        self._sign.touch()
        for sign in set(self._folder.glob("*.alive")) - set(living(self._folder, self._now())):
            sign.unlink(missing_ok=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for path in self._held:
            self._drop(path)
        self._sign.unlink(missing_ok=True)

    def _live(self) -> None:
        while not self._stop.wait(RENEW):
            with suppress(OSError):  # a full disk or a busy server; the next time will do
                self._sign.touch()

    def take(self, source: str) -> bool:
        """Claim a video; False when somebody alive has it."""
        path = self._claim(source)
        if not self._create(path):
            if self._owner_lives(path) or not self._take_over(path):
                return False
            if not self._create(path):
                return False
        self._held.add(path)
        return True

    def _take_over(self, path: Path) -> bool:
        """Put a dead one's claim aside; of several that try, one does."""
        aside = path.with_suffix(f".{secrets.token_hex(4)}")
        try:
            dead = path.read_text()
            os.rename(path, aside)
        except FileNotFoundError:
            return True  # released, or taken over by another
        if (now := aside.read_text()) != dead and now:
            with suppress(FileExistsError):  # it was taken over between the two steps: give it back
                os.link(aside, path)
        aside.unlink(missing_ok=True)
        return now == dead

    def release(self, source: str) -> None:
        """Give a video back, done or not."""
        path = self._claim(source)
        self._held.discard(path)
        self._drop(path)

    def _drop(self, path: Path) -> None:
        with suppress(FileNotFoundError):
            if path.read_text() == self.writer:
                path.unlink()

    def _claim(self, source: str) -> Path:
        digest = hashlib.sha256(source.encode("utf-8", "surrogateescape")).hexdigest()
        return self._folder / f"{digest[:24]}.claim"

    def _create(self, path: Path) -> bool:
        try:
            number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            return False
        with os.fdopen(number, "w") as file:
            file.write(self.writer)
        return True

    def _owner_lives(self, claim: Path) -> bool:
        try:
            owner = claim.read_text()
            sign = self._folder / f"{owner}.alive" if owner else claim
            return _may_run(owner) and self._now() - sign.stat().st_mtime < DEAD
        except OSError:
            return False  # released a moment ago

    def _now(self) -> float:
        """The file server's time."""
        self._sign.touch()
        return self._sign.stat().st_mtime

    def others(self) -> int:
        """How many other processes that are alive work on the data set."""
        return len(set(living(self._folder, self._now())) - {self._sign})


def living(folder: Path, now: float) -> list[Path]:
    """Signs of the processes that are alive, by the file server's time."""
    found = []
    for sign in folder.glob("*.alive"):
        with suppress(FileNotFoundError):  # it has just ended
            if _may_run(sign.stem) and now - sign.stat().st_mtime < DEAD:
                found.append(sign)
    return found


def server_time(folder: Path) -> float:
    """The time of a folder's file server, from a new file; this machine's where no file can be made."""
    try:
        with TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()


def _here() -> str:
    """Where a process number is a process's: this machine and, on Linux, the PID namespace (containers have others)."""
    host = "".join(c if c.isalnum() else "-" for c in socket.gethostname())[:40]
    with suppress(OSError):
        return f"{host}-{os.stat('/proc/self/ns/pid').st_ino}"
    return host


def _may_run(writer: str) -> bool:
    """False only for a process that would be seen from here and has ended."""
    where, _, rest = writer.rpartition("-")[0].rpartition("-")
    if where != _here():
        return True
    try:
        os.kill(int(rest), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, ValueError):
        pass
    return True

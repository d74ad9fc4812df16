"""Worker processes that may crash or hang: what happens to one costs the video that it was working on, nothing else."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from fctfg.data.ledger import Outcome
from fctfg.data.prepare.rows import blank_row, reject_row
from fctfg.data.prepare.sources import Source
from fctfg.errors import FctfgError

Beat = Callable[[], None]
Work = Callable[[Source, str, Beat], Outcome]
"""Handles a video, given the sha256 that is known of it; `Beat` is called with every frame, as a sign of life."""


class Engine(Protocol):
    """Where videos are worked on."""

    def room(self) -> int:
        """How many more videos can be taken now."""
        ...

    def submit(self, source: Source, known: str) -> None:
        """Begin with a video, of which the ledger knows a sha256 or none; only when there is room."""
        ...

    def wait(self, seconds: float) -> list[tuple[Source, Outcome]]:
        """What was finished, at once if there is something, otherwise after `seconds` at the latest.

        Raises:
            FctfgError: something that stops the whole run, such as a full disk.
        """
        ...

    def close(self) -> None:
        """End all workers, whatever they are doing."""
        ...


def lost(source: Source, reason: str, seconds: float) -> Outcome:
    """The outcome of a video whose worker gave none."""
    outcome = Outcome(
        source.name,
        "failed",
        "work",
        reason,
        time=time.time(),
        seconds=round(seconds, 3),
        rejects=(reject_row(blank_row(source), "work", reason),),
    )
    with suppress(OSError):
        size, modified = source.state()
        outcome = replace(outcome, size=size, modified=modified)
    return outcome


class Inline:
    """Works in this process: for looking at errors, and where starting processes would take longer than the work."""

    def __init__(self, build: Callable[[], Work]) -> None:
        self._build = build
        self._work: Work | None = None
        self._done: list[tuple[Source, Outcome]] = []

    def room(self) -> int:
        return 1 - len(self._done)

    def submit(self, source: Source, known: str) -> None:
        self._work = self._work or self._build()
        self._done.append((source, self._work(source, known, lambda: None)))

    def wait(self, seconds: float) -> list[tuple[Source, Outcome]]:
        done, self._done = self._done, []
        return done

    def close(self) -> None:
        pass


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    beat: Any  # shared time of the last sign of life
    source: Source | None = None
    begun: float = 0.0


class Processes:
    """Worker processes on this machine.

    Args:
        build: makes what does the work, once in each process.
        count: of processes.
        patience: seconds without a sign of life after which a worker is ended and its video given up.
    """

    def __init__(self, build: Callable[[], Work], count: int, patience: float) -> None:
        self._build, self._patience = build, patience
        # neither fork, which copies the locks of other libraries' threads, nor spawn, which imports everything anew
        self._context = get_context("forkserver")
        self._context.set_forkserver_preload(["fctfg.data.prepare.source_work"])
        self._workers = [self._start() for _ in range(count)]

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        beat = self._context.Value("d", time.monotonic(), lock=False)
        process = self._context.Process(target=_main, args=(self._build, theirs, beat), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours, beat)

    def room(self) -> int:
        return sum(worker.source is None for worker in self._workers)

    def submit(self, source: Source, known: str) -> None:
        worker = next(worker for worker in self._workers if worker.source is None)
        worker.source, worker.begun = source, time.monotonic()
        worker.beat.value = worker.begun
        with suppress(OSError):  # it has died; `wait` finds out
            worker.pipe.send((source, known))

    def wait(self, seconds: float) -> list[tuple[Source, Outcome]]:
        busy = [worker for worker in self._workers if worker.source is not None]
        connection.wait([w.pipe for w in busy] + [w.process.sentinel for w in busy], seconds)
        done = []
        for place, worker in enumerate(self._workers):
            if worker.source is None:
                continue
            spent = time.monotonic() - worker.begun
            if worker.pipe.poll() and (outcome := _received(worker.pipe)) is not None:
                if isinstance(outcome, FctfgError):
                    raise outcome
                done.append((worker.source, outcome))
                worker.source = None
            elif not worker.process.is_alive():
                done.append((worker.source, lost(worker.source, _death(worker.process), spent)))
                self._workers[place] = self._start()
            elif time.monotonic() - worker.beat.value > self._patience:
                worker.process.kill()
                worker.process.join()
                reason = f"hangs: no new frame for {self._patience:g} s; --patience allows more"
                done.append((worker.source, lost(worker.source, reason, spent)))
                self._workers[place] = self._start()
        return done

    def close(self) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()


def _received(pipe: Connection) -> Outcome | FctfgError | None:
    try:
        return pipe.recv()
    except (EOFError, OSError):
        return None  # it died while sending


def _death(process: BaseProcess) -> str:
    process.join()
    code = process.exitcode or 0
    if code >= 0:
        return f"crash: the worker ended with exit status {code}"
    name = signal.Signals(-code).name
    why = " (out of memory?)" if -code == signal.SIGKILL else ""
    return f"crash: the worker was ended by {name}{why}"


def _main(build: Callable[[], Work], pipe: Connection, beat: Any) -> None:
    import torch

    torch.set_num_threads(1)  # there are as many workers as cores
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process

    def alive() -> None:
        beat.value = time.monotonic()

    work: Work | None = None
    while True:
        try:
            source, known = pipe.recv()
        except (EOFError, OSError):
            return  # the parent is gone
        try:
            alive()
            if work is None:
                work = build()
            result: Outcome | FctfgError = work(source, known, alive)
        except FctfgError as error:
            result = error
        try:
            pipe.send(result)
        except OSError:
            return

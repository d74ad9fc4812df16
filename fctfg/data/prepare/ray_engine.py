"""Videos worked on by a Ray cluster (`pip install fctfg[ray]`): one actor per worker, which keeps its networks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from fctfg.data.ledger import Outcome
from fctfg.data.prepare.sources import Source
from fctfg.data.prepare.workers import Work, lost
from fctfg.errors import FctfgError

_ASK = 10.0  # s between two questions for a sign of life


class _Actor:
    """Works on one video at a time; a second thread answers whether it still gets on."""

    def __init__(self, build: Callable[[], Work]) -> None:
        self._build = build
        self._work: Work | None = None
        self._last = time.monotonic()
        self._lock = threading.Lock()

    def work(self, source: Source, known: str) -> Outcome | FctfgError:
        try:
            self._beat()
            with self._lock:
                self._work = self._work or self._build()
            return self._work(source, known, self._beat)
        except FctfgError as error:
            return error

    def _beat(self) -> None:
        self._last = time.monotonic()

    def idle(self) -> float:
        """Seconds since the last sign of life."""
        return time.monotonic() - self._last


@dataclass
class _Worker:
    actor: Any
    started: Any  # what is there once the actor is
    source: Source | None = None
    begun: float = 0.0
    asked: float = 0.0


class RayActors:
    """Workers on an existing Ray cluster, or on a local one where there is none.

    The data set's folder must be at the same path on all machines. An actor takes one CPU, and a share of a GPU where
    the work can use one and the cluster has some.

    Args:
        build: makes what does the work, once in each actor.
        count: of actors.
        patience: seconds without a sign of life after which an actor is ended and its video given up.
        on_gpu: whether the work can use a GPU.

    Raises:
        FctfgError: Ray is not installed, or there is no cluster at the address of `RAY_ADDRESS`.
    """

    def __init__(self, build: Callable[[], Work], count: int, patience: float, on_gpu: bool = False) -> None:
        try:
            import ray
        except ImportError as error:
            raise FctfgError("--engine ray needs Ray; pip install 'fctfg[ray]'") from error
        self._ray, self._build, self._patience = ray, build, patience
        self._own = not ray.is_initialized()
        if self._own:
            try:
                ray.init(num_cpus=None, log_to_driver=False, include_dashboard=False, configure_logging=False)
            except ConnectionError as error:
                raise FctfgError(f"there is no Ray cluster: {error}; start one with `ray start --head`") from error
        gpus = ray.cluster_resources().get("GPU", 0) if on_gpu else 0
        self._class = ray.remote(_Actor).options(max_concurrency=2, num_cpus=1, num_gpus=min(1.0, gpus / count))
        self._free = [self._start() for _ in range(count)]
        self._busy: dict[Any, _Worker] = {}

    def _start(self) -> _Worker:
        actor: Any = self._class.remote(self._build)
        return _Worker(actor, actor.idle.remote())

    def room(self) -> int:
        return len(self._ready())

    def _ready(self) -> list[_Worker]:
        """Free workers whose actor the cluster has placed."""
        if not self._free:
            return []
        started, _ = self._ray.wait([w.started for w in self._free], num_returns=len(self._free), timeout=0)
        return [worker for worker in self._free if worker.started in started]

    def submit(self, source: Source, known: str) -> None:
        sound = source.sound and source.sound.absolute()
        source = replace(source, path=source.path.absolute(), sound=sound)  # actors have another working folder
        worker = self._ready()[0]
        self._free.remove(worker)
        worker.source, worker.begun = source, time.monotonic()
        worker.asked = worker.begun
        self._busy[worker.actor.work.remote(source, known)] = worker

    def wait(self, seconds: float) -> list[tuple[Source, Outcome]]:
        if not self._busy:
            time.sleep(seconds)
            return []
        ready, _ = self._ray.wait(list(self._busy), num_returns=1, timeout=seconds)
        done = [self._finished(task) for task in ready]
        for task, worker in list(self._busy.items()):
            if time.monotonic() - worker.asked > min(_ASK, self._patience):
                worker.asked = time.monotonic()
                if self._hangs(worker):
                    reason = f"hangs: no new frame for {self._patience:g} s; --patience allows more"
                    done.append(self._given_up(task, reason))
        return done

    def _finished(self, task: Any) -> tuple[Source, Outcome]:
        try:
            outcome = self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            return self._given_up(task, f"crash: {type(error).__name__} in the worker")
        if isinstance(outcome, FctfgError):
            raise outcome
        worker = self._busy.pop(task)
        self._free.append(worker)
        assert worker.source is not None
        return worker.source, outcome

    def _given_up(self, task: Any, reason: str) -> tuple[Source, Outcome]:
        worker = self._busy.pop(task)
        self._ray.kill(worker.actor)
        self._free.append(self._start())
        assert worker.source is not None
        return worker.source, lost(worker.source, reason, time.monotonic() - worker.begun)

    def _hangs(self, worker: _Worker) -> bool:
        """Whether there was no sign of life for long; an actor that cannot even answer (a decoder that does not give
        the interpreter back) counts from when its video began."""
        try:
            return float(self._ray.get(worker.actor.idle.remote(), timeout=5)) > self._patience
        except self._ray.exceptions.GetTimeoutError:
            return time.monotonic() - worker.begun > self._patience
        except self._ray.exceptions.RayError:
            return False  # it died; its task says so

    def close(self) -> None:
        for worker in [*self._free, *self._busy.values()]:
            self._ray.kill(worker.actor)
        if self._own:
            self._ray.shutdown()

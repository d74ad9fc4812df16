"""Processes that train together notice when one of them dies, and end with a sentence that says which and why."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from subprocess import Popen, TimeoutExpired
from typing import Any

import pytorch_lightning as pl
import torch.distributed
from lightning_fabric.plugins.environments import ClusterEnvironment, LightningEnvironment
from lightning_fabric.utilities.distributed import _set_num_threads_if_needed
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from fctfg.stages.base import Stage
from fctfg.stages.finite import RollBack

BEAT = 2.0  # seconds between two signs of life
DEAD = 30.0  # seconds without one after which a process counts as dead
MEETING = timedelta(minutes=10)  # for all processes to have loaded what they train with
LAUNCHER = "FCTFG_LAUNCHER"  # in the environment: the process that has started the others of its machine
GRACE = 10.0  # seconds that a process has to come out of a collective by itself
_BROKEN = re.compile("gloo|nccl|connection|broken pipe|socket", re.IGNORECASE)


class Launcher(_SubprocessScriptLauncher):
    """Starts the other processes of this machine, and leaves it to `PeersAlive` to watch them.

    Lightning's own observer kills all processes as soon as one ends with another status than 0, and says nothing.
    """

    def __init__(self, cluster_environment: ClusterEnvironment, num_processes: int, num_nodes: int) -> None:
        super().__init__(cluster_environment, num_processes, num_nodes)
        self.started = threading.Event()  # whether `PeersAlive` watches
        _set_num_threads_if_needed(num_processes=num_processes)  # what the run says of itself has them already

    def launch(self, function: Any, *args: Any, trainer: pl.Trainer | None = None, **kwargs: Any) -> Any:
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            os.environ[LAUNCHER] = str(os.getpid())
            self._call_children_scripts()
        threading.Thread(target=self._watch_start, name="start", daemon=True).start()
        try:
            return function(*args, **kwargs)
        except RollBack:  # all go on together
            raise
        except BaseException:
            self.started.set()
            deadline = time.monotonic() + GRACE
            for child in self.procs:  # which may wait for this process in a collective
                with suppress(TimeoutExpired):
                    child.wait(max(0.0, deadline - time.monotonic()))
                child.kill()
            raise

    def _watch_start(self) -> None:
        """Stop this process when one of this machine has ended before they have met, which would take half an hour."""
        rank, gone = self.cluster_environment.global_rank(), ""
        local_rank, launcher = self.cluster_environment.local_rank(), os.environ.get(LAUNCHER)
        launched = isinstance(self.cluster_environment, LightningEnvironment) and local_rank > 0
        while not gone and not self.started.wait(0.5):
            for peer, child in enumerate(self.procs, rank + 1):
                if status := child.poll():
                    gone = f"process {peer} {how_it_ended(status)}"
            if launched and str(os.getppid()) != launcher:
                gone = f"process {rank - local_rank} is gone"
        if not gone or self.started.wait(GRACE):
            return
        print(f"fctfg: error: {gone} before training began; process {rank} stops too", file=sys.stderr, flush=True)
        for child in self.procs:
            child.kill()
        os._exit(1)


def how_it_ended(status: int) -> str:
    """What the exit status of a process says, as `Popen` has it."""
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def is_broken_link(error: BaseException) -> bool:
    """Whether an error says that another process does not answer, and not what has happened there."""
    known = isinstance(error, torch.distributed.DistError)
    return known or (isinstance(error, RuntimeError) and bool(_BROKEN.search(str(error))))


class Watch:
    """Signs of life of all processes, in the store through which they have met.

    Every process counts up a number of its own. The first one looks at all of them, the others at the first one's and
    at what it has found. Two threads, since a store on a machine that has lost its power may not answer at all.

    Args:
        rank, world: this process, and how many there are.
        children: processes that this one has started, the first of which is `rank` + 1.
        attempt: of the run; what was said in an earlier one does not count.

    Attributes:
        verdict: who has died and why, once it is known.
    """

    def __init__(self, rank: int, world: int, children: Sequence[Popen[Any]] = (), attempt: int = 0) -> None:
        self.rank, self.world, self.children = rank, world, children
        self.verdict = ""
        self._over = threading.Event()
        self._prefix = f"fctfg/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/{attempt}"
        self._store = self._connect(DEAD)
        self._store.set(f"{self._prefix}/name/{rank}", f"process {rank} ({socket.gethostname()}, pid {os.getpid()})")
        self._beats = dict.fromkeys(range(1, world) if rank == 0 else (0,), -1)
        self._heard = dict.fromkeys(self._beats, time.monotonic())
        self._failures = 0  # of the store, in a row
        names = [f"{self._prefix}/name/{peer}" for peer in range(world)]
        self._store.wait(names, MEETING)
        self._names = [self._store.get(name).decode() for name in names]
        for work in (self._beat, self._judge):
            threading.Thread(target=work, name="peers", daemon=True).start()

    @staticmethod
    def _connect(patience: float) -> torch.distributed.TCPStore:
        place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        return torch.distributed.TCPStore(*place, is_master=False, timeout=timedelta(seconds=patience))

    def leave(self) -> None:
        """This process is done with collectives: whether the others live is nothing to it any more."""
        self._over.set()
        with suppress(Exception):
            self._store.set(f"{self._prefix}/left/{self.rank}", "1")

    def report(self, error: BaseException) -> None:
        """Tell the others why this process ends; returns when they had the time to hear it."""
        self._over.set()
        text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        with suppress(Exception):
            self._publish(f"{self._names[self.rank]} has failed: {text}")
            time.sleep(2 * BEAT)

    def ask(self) -> str:
        """Who has died, after an error that only says that somebody has; "" where nobody can tell."""
        deadline = time.monotonic() + DEAD + 2 * BEAT
        while not self.verdict and time.monotonic() < deadline:
            if self._failures > 1:  # the first process keeps the store
                self.verdict = f"{self._names[0]} is gone"
            time.sleep(0.1)
        self._over.set()
        return self.verdict

    def _publish(self, verdict: str) -> None:
        self._store.compare_set(f"{self._prefix}/verdict", "", verdict)

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            try:
                self._exchange()
                self._failures = 0
            except Exception:  # no matter which: the store does not answer
                self._failures += 1
                with suppress(Exception):
                    self._store = self._connect(BEAT)

    def _exchange(self) -> None:
        self._store.add(f"{self._prefix}/beat/{self.rank}", 1)
        for peer, before in self._beats.items():
            self._beats[peer] = self._store.add(f"{self._prefix}/beat/{peer}", 0)
            if self._beats[peer] != before or self._store.check([f"{self._prefix}/left/{peer}"]):
                self._heard[peer] = time.monotonic()
        if self._store.check([f"{self._prefix}/verdict"]):
            self.verdict = self._store.get(f"{self._prefix}/verdict").decode()

    def _judge(self) -> None:
        last = time.monotonic()
        while not self._over.wait(0.5) and not self.verdict:
            now = time.monotonic()
            if now - last > BEAT:  # this process itself was stopped
                self._heard = dict.fromkeys(self._heard, now)
            last = now
            found = self._ended_child() or self._silent_peer(now)
            if found:
                self.verdict = found
                with suppress(Exception):
                    self._publish(found)
        if self._over.wait(GRACE) or not self.verdict:
            return
        print(f"fctfg: error: {self.verdict}; process {self.rank} stops too", file=sys.stderr, flush=True)
        os._exit(1)  # the main thread waits in a collective that never ends

    def _ended_child(self) -> str:
        for peer, child in enumerate(self.children, self.rank + 1):
            if status := child.poll():
                return f"{self._names[peer]} {how_it_ended(status)}"
        return ""

    def _silent_peer(self, now: float) -> str:
        silent = [peer for peer, heard in self._heard.items() if now - heard > DEAD]
        return f"{self._names[silent[0]]} has given no sign of life for {DEAD:g} s" if silent else ""


class PeersAlive(pl.Callback):
    """Watches the other processes from the first batch to the last.

    Attributes:
        verdict: who has died and why; "" when nobody has.
    """

    def __init__(self) -> None:
        self.verdict = ""
        self._watch: Watch | None = None
        self._children: Sequence[Popen[Any]] = ()

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.world_size > 1:
            assert isinstance(pl_module, Stage)
            self._children = getattr(trainer.strategy.launcher, "procs", self._children)
            self._watch = Watch(trainer.global_rank, trainer.world_size, self._children, pl_module.attempt)
            if isinstance(launcher := trainer.strategy.launcher, Launcher):
                launcher.started.set()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._watch is not None:
            self._watch.leave()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if self._watch is None:
            return
        if isinstance(exception, RollBack) or not isinstance(exception, Exception):  # on which all have agreed
            self._watch.leave()
        elif is_broken_link(exception):
            self.verdict = self._watch.ask()
        else:
            self._watch.report(exception)

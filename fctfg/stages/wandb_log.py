"""One W&B run for a run folder, kept by a thread, so that training neither waits for it nor ends with it."""

from __future__ import annotations

import logging
import netrc
import os
import queue
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from fctfg.troubles import Troubles

say = rank_zero_only(logging.getLogger("fctfg").info)
STEP = "trainer/global_step"
MOST = 10_000  # calls that wait for W&B
STARTS = 4  # the first one online, where that is wanted
SLOW = "values that W&B was too slow for"
FAILED = "failures of W&B"

Mode = Literal["online", "offline", "disabled"]
Call = Callable[[Any], None]  # with the W&B run


class WandbLog(Logger):
    """Hands numbers and files to W&B; whatever W&B does, the run goes on, and `metrics.csv` has all numbers.

    A server that does not answer within `patience` leads to an offline run of the same identifier, which
    `wandb sync` uploads later. Calls wait in a queue of limited length, beyond which they are dropped and counted.

    Args:
        folder: the run's folder; W&B writes to `wandb/` there.
        project: W&B project.
        run: name shown by W&B.
        identifier: of the W&B run; a second launch with the same one continues it.
        mode: `online`, `offline`, or `disabled`, which does nothing at all.
        troubles: where failures are counted.
        patience: seconds that a start may take, and as many a finish.
    """

    def __init__(
        self,
        folder: Path,
        project: str,
        run: str,
        identifier: str,
        mode: Mode,
        troubles: Troubles,
        patience: float = 60.0,
    ) -> None:
        super().__init__()
        self.folder, self.project, self.run, self.identifier = folder, project, run, identifier
        self.mode, self.troubles, self.patience = mode, troubles, patience
        self._calls: queue.Queue[Call | None] = queue.Queue(MOST)
        self._thread: threading.Thread | None = None

    @property
    def name(self) -> str:
        return self.project

    @property
    def version(self) -> str:
        return self.identifier

    def start(self, config: dict[str, Any]) -> None:
        """Begin, or continue the W&B run; returns at once.

        Args:
            config: plain values that W&B shows beside the run.
        """
        if self.mode != "disabled":
            self._thread = threading.Thread(target=self._work, args=(config,), name="wandb", daemon=True)
            self._thread.start()

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing to do: `start` takes the configuration."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        values = {**metrics, STEP: step}
        self._put(lambda run: run.log(values))

    def log_files(self, files: dict[str, Path], step: int) -> None:
        """Show pictures and films.

        Args:
            files: `.png` and `.mp4` files by name.
            step: the iteration.
        """

        def log(run: Any) -> None:
            import wandb

            media = {
                name: wandb.Video(str(path), format="mp4") if path.suffix == ".mp4" else wandb.Image(str(path))
                for name, path in files.items()
            }
            run.log({**media, STEP: step})

        self._put(log)

    def finish(self) -> None:
        """Upload what is left, for `patience` seconds at most."""
        if self._thread is None:
            return
        try:
            self._calls.put_nowait(None)
            self._thread.join(2 * self.patience + 5)
        except queue.Full:
            pass
        if self._thread.is_alive():
            self._fail("does not come to an end", TimeoutError())
            end_service()

    def _put(self, call: Call) -> None:
        if self._thread is None:
            return
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            self.troubles.meet(SLOW, f"W&B is too slow: training goes on without it ({self._where()})")

    def _work(self, config: dict[str, Any]) -> None:
        run, starts = self._open(self.mode, config), 1
        while True:
            if run is None and starts < STARTS:
                run, starts = self._open("offline", config), starts + 1
            if (call := self._calls.get()) is None:
                break
            try:
                if run is None:
                    raise ConnectionError("it was not started")
                call(run)
            except Exception as error:
                self._fail("failed to take a value", error)
                if isinstance(error, ConnectionError) and run is not None:  # its service is dead
                    end_service()
                    run = None
        try:
            if run is not None:
                run.finish()
        except Exception as error:
            self._fail("failed to upload all", error)
            end_service()

    def _open(self, mode: Mode, config: dict[str, Any]) -> Any:
        """The W&B run, or None, in which case no service of W&B is left that another start would wait for."""
        try:
            import wandb

            run = wandb.init(
                project=self.project,
                name=self.run,
                id=self.identifier,
                resume="allow",
                dir=str(self.folder),
                mode=mode,
                settings=wandb.Settings(
                    init_timeout=self.patience,
                    finish_timeout=self.patience,
                    finish_timeout_raises=True,
                    console="off",
                    x_disable_meta=True,  # it holds all of SLURM's variables, SLURM_JWT too, and the git remote
                ),
            )
            run.define_metric(STEP)
            run.define_metric("*", step_metric=STEP, step_sync=True)
            run.config.update(config, allow_val_change=True)
            return run
        except Exception as error:
            self._fail(f"cannot be started {mode}", error)
            end_service()
            return None

    def _fail(self, what: str, error: Exception) -> None:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        self.troubles.meet(FAILED, f"W&B {what} ({reason}); training goes on: {self._where()}", about=what)

    def _where(self) -> str:
        return f"{self.folder}/metrics.csv has all numbers, and `wandb sync {self.folder}/wandb/*run-*` uploads later"


def tracker(folder: Path, project: str, run: str, troubles: Troubles) -> WandbLog:
    """The log of a run folder; it continues the W&B run that the folder names.

    It is online where a key is known and `WANDB_MODE` does not say otherwise, and waits `WANDB_INIT_TIMEOUT` seconds.

    Args:
        folder: the run's folder.
        project: W&B project.
        run: name shown by W&B.
        troubles: where failures are counted.
    """
    mode = os.environ.setdefault("WANDB_MODE", "online" if wandb_key_is_known() else "offline")
    if mode == "offline":
        say(f"W&B: offline; `wandb sync {folder}/wandb/offline-run-*` uploads the run")
    known = folder / "wandb_id.txt"
    identifier = known.read_text().strip() if known.is_file() else uuid.uuid4().hex[:12]
    patience = float(os.environ.get("WANDB_INIT_TIMEOUT", 60.0))
    return WandbLog(folder, project, run, identifier, mode_of(mode), troubles, patience)


def mode_of(name: str) -> Mode:
    """What `WANDB_MODE` means here; unknown modes are W&B's newer ways of being online."""
    if name in ("offline", "dryrun"):
        return "offline"
    return "disabled" if name == "disabled" else "online"


def wandb_key_is_known() -> bool:
    """Whether W&B could log in without asking: a key in the environment, or the host in the user's netrc.

    W&B itself is not asked, since an offline run that follows a failed login waits for the network.
    """
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def end_service(patience: float = 10.0) -> None:
    """End W&B's service process; what takes longer than `patience` seconds is left to itself.

    Without it, another start in this process waits for the one that failed, and so does the end of the process.
    """

    def end() -> None:
        import wandb

        with suppress(BaseException):  # it exits with the status of its service
            wandb.teardown()

    thread = threading.Thread(target=end, name="wandb-end", daemon=True)
    thread.start()
    thread.join(patience)

"""Runs that end at a chosen moment as if killed, and processes of runs that can be killed."""

import multiprocessing
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from trained_runs import Place, checkpoint, equal, numbers

from fctfg.cli import main
from fctfg.stages.base import Stage
from fctfg.weights.artifact import load_artifact

MOMENTS = (
    "on_train_batch_start",
    "on_train_batch_end",
    "on_validation_start",
    "on_validation_batch_end",
    "on_validation_end",
    "on_train_epoch_end",
)
"""Called by Lightning after the callbacks; together they fall into every part of a run."""


class KilledError(BaseException):
    """Ends a run as SIGKILL does, as far as its folder can tell."""


@contextmanager
def killed_at(moment: int) -> Iterator[list[str]]:
    """Within, the run ends at the moment of this number; yields the moments that have come."""
    come: list[str] = []

    with pytest.MonkeyPatch.context() as patch:
        for name in MOMENTS:
            before = getattr(Stage, name)

            def strike(self: Stage, *rest: object, name: str = name, before: object = before) -> object:
                come.append(name)
                if len(come) > moment:
                    raise KilledError
                return before(self, *rest)  # type: ignore[operator]

            patch.setattr(Stage, name, strike)
        yield come


def run_until(command: list[str], moment: int) -> bool:
    """Whether the run has come to its end before that moment."""
    with killed_at(moment):
        try:
            assert main(command) == 0
        except KilledError:
            return False
    return True


def assert_same_run(place: Place, straight: str, cut: str) -> None:
    """Both runs end in the same checkpoint (all of it), log, and export."""
    one, other = checkpoint(place, straight), checkpoint(place, cut)
    for part in one.keys() | other.keys():
        assert equal(one[part], other[part]), f"{part} of {cut}: {difference(one[part], other[part])}"
    assert numbers(place, straight) == numbers(place, cut), f"metrics.csv of {cut}"
    a, b = (load_artifact(place[1] / run) for run in (straight, cut))
    assert equal(a.state_dicts, b.state_dicts) and a.card["metrics"] == b.card["metrics"], f"export of {cut}"
    assert a.card["iterations"] == b.card["iterations"]
    pictures = [sorted(path.name for path in (place[1] / run / "samples").iterdir()) for run in (straight, cut)]
    assert pictures[0] == pictures[1]


def difference(one: object, other: object, at: str = "") -> str:
    """Where two nested values first differ."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        one, other = dict(enumerate(one)), dict(enumerate(other))
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one.keys() | other.keys():
            if key not in one or key not in other:
                return f"{at}.{key} is missing"
            if not equal(one[key], other[key]):
                return difference(one[key], other[key], f"{at}.{key}")
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor) and one.shape == other.shape:
        return f"{at}: by {(one.double() - other.double()).abs().max():.3g}"
    return f"{at}: {one} != {other}"


def _rank(command: list[str], log: Path, environment: dict[str, str], threads: int) -> None:
    """One process of a run; its output goes to a file."""
    from pytorch_lightning.utilities import rank_zero_only

    os.environ |= environment | {"WANDB_MODE": "disabled"}
    rank_zero_only.rank = int(environment.get("LOCAL_RANK", 0))
    torch.set_num_threads(threads)
    with log.open("a") as stream:
        os.dup2(stream.fileno(), 2)
        sys.exit(main(command))


class Processes:
    """A run in one or two processes of its own.

    They are forked off a server that has imported everything, which takes a tenth of the time of a start.

    Args:
        command: arguments of `fctfg`.
        log: gets what they print.
        count: how many.
    """

    def __init__(self, command: list[str], log: Path, count: int = 1) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["fctfg.train", "cut_runs"])
        together: dict[str, str] = {}
        if count > 1:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            together = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
            command = [*command, f"--trainer.devices={count}"]
        threads = torch.get_num_threads() if count == 1 else 1
        self.ranks = [
            context.Process(
                target=_rank, args=(command, log, together | ({"LOCAL_RANK": str(rank)} if together else {}), threads)
            )
            for rank in range(count)
        ]
        for process in self.ranks:
            process.start()

    def wait(self, timeout: float) -> bool:
        """Whether all have ended within `timeout` seconds."""
        for process in self.ranks:
            process.join(timeout)
        return all(process.exitcode is not None for process in self.ranks)

    def kill(self) -> None:
        """SIGKILL to all of them."""
        for process in self.ranks:
            process.kill()
            process.join()

    @property
    def statuses(self) -> set[int | None]:
        """Their exit statuses."""
        return {process.exitcode for process in self.ranks}


def iterations_logged(run: Path) -> int:
    """Iterations that the log of a run tells of, begun or finished."""
    log = run / "metrics.csv"
    rows = log.read_text().splitlines()[1:] if log.exists() else []
    return max((int(row.split(",")[0]) + 1 for row in rows if row.count(",") == 2 and "train/" in row), default=0)

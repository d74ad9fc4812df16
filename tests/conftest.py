"""What all tests share: a quiet, offline tracker, and the command line as a user would call it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import faces_data
import pytest
import torch
from trained_runs import STAGES, Place, arguments

from fctfg.cli import main

os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_SILENT"] = "true"

THREADS = torch.get_num_threads()
FIXED_THREADS = os.environ.get("OMP_NUM_THREADS")

Fctfg = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def fctfg_command() -> Fctfg:
    """Calls `python -m fctfg ARGUMENTS…` in a process of its own and returns it with its exit status and output."""

    def call(*arguments: object, timeout: float = 300.0) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "fctfg", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout)

    return call


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """Each test, and each process that it starts, has as many threads as the first: the last bits depend on them."""
    restore_threads()
    yield
    restore_threads()


def restore_threads() -> None:
    """Undo what launching several processes does to the threads of this process and of those that it starts."""
    torch.set_num_threads(THREADS)
    if FIXED_THREADS is None:
        os.environ.pop("OMP_NUM_THREADS", None)


@pytest.fixture
def untracked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No W&B at all."""
    monkeypatch.setenv("WANDB_MODE", "disabled")


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """All stages, trained for two epochs of four iterations each."""
    root = tmp_path_factory.mktemp("train")
    (root / "data").mkdir()
    place = faces_data.make(root / "data"), root / "runs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "disabled")
        for stage in STAGES:
            assert main(arguments(place, stage)) == 0, stage
    return place

"""What all tests share: a quiet, offline tracker, and the command line as a user would call it."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_SILENT"] = "true"

Fctfg = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def fctfg_command() -> Fctfg:
    """Calls `python -m fctfg ARGUMENTS…` in a process of its own and returns it with its exit status and output."""

    def call(*arguments: object, timeout: float = 300.0) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "fctfg", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout)

    return call

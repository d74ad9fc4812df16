"""The page that a crash leaves in the run's folder."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
import socket
import time
import traceback
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import yaml

import fctfg
from fctfg.atomic import atomic_path
from fctfg.errors import FctfgError
from fctfg.host_memory import available_memory, peak_resident
from fctfg.stages.base import Stage

FRAMES = 8  # of the traceback, the innermost
SECRET = re.compile("KEY|TOKEN|SECRET|PASSW", re.IGNORECASE)  # in the name of an environment variable
LIBRARIES = ("torch", "torchvision", "pytorch-lightning", "wandb", "av", "numpy")


def write_crash_report(run: Path, trainer: pl.Trainer, error: BaseException, command: list[str]) -> Path | None:
    """Write `crash-TIME.txt` into a run's folder: what, where, in which state, on what, and what to do next.

    No environment variable is written, and what the values of secret ones are is blotted out wherever it stands.

    Args:
        run: the folder.
        trainer: as the crash left it.
        error: what was raised.
        command: that trained, argument by argument.

    Returns:
        The file, or None where it cannot be written. Of several processes each writes its own.
    """
    rank = f"-rank{trainer.global_rank}" if trainer.world_size > 1 else ""
    path = run / f"crash-{time.strftime('%Y%m%d-%H%M%S')}{rank}.txt"
    try:
        with atomic_path(path) as partial:
            partial.write_text(crash_report(run, trainer, error, command), encoding="utf-8")
    except (FctfgError, OSError):
        return None
    return path


def crash_report(run: Path, trainer: pl.Trainer, error: BaseException, command: list[str]) -> str:
    """The text of the page; a part that cannot be told says why, since a crash may have taken the GPU with it."""
    parts: list[tuple[str, Callable[[], str]]] = [
        ("What", lambda: "".join(traceback.format_exception_only(error)).strip()),
        ("What to do next", lambda: advice(error)),
        ("Go on with", lambda: shlex.join(command)),
        ("Where in training", lambda: _place(run, trainer)),
        ("Where in the program", lambda: "".join(traceback.format_tb(error.__traceback__)[-FRAMES:]).rstrip()),
        ("Last terms", lambda: _terms(trainer)),
        ("Memory and disk", lambda: _resources(run)),
        ("Versions", _versions),
        ("Settings", lambda: _settings(trainer)),
    ]
    lines = [f"{run} crashed at {time.strftime('%Y-%m-%d %H:%M:%S %z')} on {socket.gethostname()}"]
    for title, tell in parts:
        try:
            text = tell()
        except Exception as unknown:
            text = f"not known ({type(unknown).__name__}: {unknown})"
        lines += ["", title, "-" * len(title), text]
    return without_secrets("\n".join(lines) + "\n")


def without_secrets(text: str) -> str:
    """The text without the values of environment variables whose names speak of keys, tokens or passwords."""
    for name, value in os.environ.items():
        if SECRET.search(name) and len(value) >= 8:
            text = text.replace(value, "***")
    return text


def advice(error: BaseException) -> str:
    """What to do about an error, in a sentence or two."""
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in text:
        return (
            "The memory did not suffice. `fctfg train ... --fit true` finds the largest data.batch_size that fits; "
            "trainer.precision=bf16-mixed needs less."
        )
    if "CUDA error" in text or "NCCL" in text:
        return (
            "The GPU or the connection between GPUs failed. Run the same command again; if it fails on one machine "
            "only, that machine is at fault. CUDA_LAUNCH_BLOCKING=1 makes the traceback point at the right line."
        )
    if "Connection closed by peer" in text or "Connection reset" in text:
        return "Another process of the run ended first: look for its report or its output, then run the command again."
    return (
        "Run the same command again: the run goes on from its last checkpoint. If it crashes at the same iteration "
        "again, please report it with this page."
    )


def _place(run: Path, trainer: pl.Trainer) -> str:
    stage = trainer.lightning_module
    assert isinstance(stage, Stage)
    files = sorted((run / "checkpoints").glob("[!.]*.ckpt"), key=lambda file: file.stat().st_mtime)
    last = "none"
    if files:
        age = (time.time() - files[-1].stat().st_mtime) / 60
        last = f"{files[-1]}, {files[-1].stat().st_size / 1e9:.3f} GB, {age:.0f} minutes old"
    return (
        f"stage {stage.stage}, iteration {stage.iteration} (counted from 0), epoch {trainer.current_epoch} of "
        f"{trainer.max_epochs}, process {trainer.global_rank} of {trainer.world_size}\nlast checkpoint: {last}"
    )


def _terms(trainer: pl.Trainer) -> str:
    return "\n".join(f"{name} {float(value):.6g}" for name, value in trainer.callback_metrics.items()) or "none yet"


def _resources(run: Path) -> str:
    lines = [f"process: at most {peak_resident() / 1e9:.2f} GB so far; available: {available_memory() / 1e9:.2f} GB"]
    disk = shutil.disk_usage(run)
    lines.append(f"disk of {run}: {disk.free / 1e9:.1f} of {disk.total / 1e9:.1f} GB free")
    if torch.cuda.is_initialized():
        device = torch.cuda.current_device()
        free, total = (size / 1e9 for size in torch.cuda.mem_get_info(device))
        lines.append(
            f"{torch.cuda.get_device_name(device)}: {free:.1f} of {total:.1f} GB free; this process held at most "
            f"{torch.cuda.max_memory_reserved(device) / 1e9:.1f} GB and used "
            f"{torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB"
        )
    return "\n".join(lines)


def _versions() -> str:
    found = [f"fctfg {fctfg.__version__}", f"Python {platform.python_version()}", platform.platform()]
    found += [f"{name} {version(name)}" for name in LIBRARIES]
    return ", ".join([*found, f"CUDA {torch.version.cuda}" if torch.cuda.is_initialized() else "CPU"])


def _settings(trainer: pl.Trainer) -> str:
    stage = trainer.lightning_module
    assert isinstance(stage, Stage)
    facts: dict[str, Any] = stage.facts(trainer, trainer.datamodule)  # type: ignore[attr-defined]
    shown = {"settings": facts["settings"], "data": facts["data"], "init_from": stage.init_from}
    plain = json.loads(json.dumps(shown, default=str))
    return yaml.safe_dump(plain, sort_keys=False, default_flow_style=None, width=120).rstrip()

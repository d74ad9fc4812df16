"""What a run does to its weights, recorded from inside of `fctfg train`; and two processes that run it together.

As a program, `python -m gradient_record FILE`, it is one of the two: the file is a JSON list of command lines, which it
runs one after the other.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class Recorder(pl.Callback):
    """Keeps the gradients that each optimiser step uses, of this process, in `PATH.RANK.pt` at the end.

    Args:
        path: of the file, without its end.
        still_norms: keep all batch norms in eval mode, so that samples have nothing to do with each other.
    """

    def __init__(self, path: str, still_norms: bool = False) -> None:
        self.path, self.still_norms = path, still_norms
        self.steps: list[dict[str, Tensor]] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        for module in pl_module.modules():
            if self.still_norms and isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.eval()

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        mine = {p for group in optimizer.param_groups for p in group["params"]}
        named = [(name, p.grad) for name, p in pl_module.named_parameters() if p in mine]
        self.steps.append({name: gradient.clone() for name, gradient in named if gradient is not None})

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        torch.save(self.steps, f"{self.path}.{trainer.global_rank}.pt")


def run_in_two(commands: list[list[list[str]]], port: int, folder: Path, timeout: float) -> None:
    """Run command lines one after the other in two processes that train together.

    Args:
        commands: for each process, command lines of `fctfg`.
        port: a free one.
        folder: for the lists of commands.
        timeout: seconds for all.
    """
    processes = []
    for rank, lines in enumerate(commands):
        file = folder / f"commands_{rank}.json"
        file.write_text(json.dumps(lines))
        ranks = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
        environment = {**os.environ, **ranks, "NODE_RANK": "0", "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
        command = [sys.executable, "-m", "gradient_record", str(file)]
        processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    for process in processes:
        _, errors = process.communicate(timeout=timeout)
        assert process.returncode == 0, errors[-5000:]


if __name__ == "__main__":
    from fctfg.cli import main

    for line in json.loads(Path(sys.argv[1]).read_text()):
        if status := main(line):
            sys.exit(status)

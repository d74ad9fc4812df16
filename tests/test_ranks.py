"""Processes that train together: whether their weights agree."""

import multiprocessing
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from fctfg.stages.callbacks.checkpoints import weights_agree


def _rank(rank: int, port: int, drift: float, found: "multiprocessing.Queue[str]") -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": "2"}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    module = nn.Linear(2, 2)
    with torch.no_grad():
        module.weight.fill_(1.0 + drift * rank)
        module.bias.zero_()
    found.put(str(weights_agree(module)))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(("drift", "agree"), [(0.0, "True"), (1e-6, "False")])
def test_drifting_ranks_are_noticed(drift: float, agree: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    found = context.Queue()
    ranks = [context.Process(target=_rank, args=(rank, port, drift, found)) for rank in range(2)]
    for process in ranks:
        process.start()
    answers = [found.get(timeout=120) for _ in ranks]
    for process in ranks:
        process.join(60)
    assert answers == [agree, agree]


@pytest.mark.slow
def test_gradients_that_add_up_in_parts_are_those_of_the_whole_loss() -> None:
    script = Path(__file__).with_name("parts_of_a_loss.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr

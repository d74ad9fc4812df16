"""Exponential moving average of a network's weights."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def shadow(network: Network) -> Network:
    """A copy of `network` that no gradient reaches, to hold the average."""
    return copy.deepcopy(network).requires_grad_(False).eval()


@torch.no_grad()
def update(average: nn.Module, network: nn.Module, decay: float, found_inf: Tensor | None = None) -> None:
    """Move every parameter of `average` towards `network` by 1 - `decay`, and copy the buffers.

    Args:
        average: of the same class as `network`.
        network: what is averaged.
        decay: share of the average that stays.
        found_inf: scalar; where it is 1, the parameters of the average stay as they are, whatever the network's are.
    """
    torch._fused_sgd_(  # a - (1 - decay) (a - p): a step on (a - p)^2 / 2, which can be skipped on the device
        list(average.parameters()),
        [p.detach() for p in network.parameters()],
        [],
        lr=1.0 - decay,
        weight_decay=1.0,
        maximize=True,
        momentum=0.0,
        dampening=0.0,
        nesterov=False,
        is_first_step=False,
        found_inf=found_inf,
    )
    for mine, theirs in zip(average.buffers(), network.buffers(), strict=True):
        mine.copy_(theirs)

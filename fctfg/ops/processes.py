"""What processes that train together give each other within a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.autograd.function import once_differentiable


def process() -> tuple[int, int]:
    """(this process, 0-based; number of processes that train together); (0, 1) for one alone."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        _, processes = process()
        x = x.contiguous()
        parts = [torch.empty_like(x) for _ in range(processes)]
        dist.all_gather(parts, x)
        ctx.size = len(x)
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        rank, _ = process()
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total[rank * ctx.size : (rank + 1) * ctx.size]


def gather(x: Tensor) -> Tensor:
    """The rows of all processes, first those of process 0.

    Every process calls it at the same point, with as many rows. The gradient of a row is the sum of the gradients that
    it gets in all processes. So with losses L_r that are means over equally many samples of process r, and parameter
    gradients that are averaged over the processes, what is followed is the gradient of the mean of all L_r.

    Args:
        x: [N, ...], floating point.

    Returns:
        [processes * N, ...]; x itself for one process alone.
    """
    return _Gather.apply(x) if process()[1] > 1 else x


@torch.no_grad()
def average(gradients: Sequence[Tensor]) -> None:
    """Set gradients to their means over all processes, in one exchange.

    Args:
        gradients: of any shapes and one type; all processes have the same shapes, in the same order. Changed in place.
    """
    flat = torch.cat([gradient.flatten() for gradient in gradients]).div_(process()[1])
    dist.all_reduce(flat)
    parts = flat.split([gradient.numel() for gradient in gradients])
    torch._foreach_copy_(list(gradients), [part.view_as(g) for part, g in zip(parts, gradients, strict=True)])


def first_of_all(x: Tensor) -> Tensor:
    """`x` as the first process has it, changed in place; of one shape in all processes."""
    if process()[1] > 1:
        dist.broadcast(x, 0)
    return x

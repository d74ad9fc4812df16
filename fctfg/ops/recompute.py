"""Computing a cheap intermediate result again in the backward pass instead of keeping it."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks


def recomputed(result: Tensor, again: Callable[[], Tensor]) -> AbstractContextManager[Any]:
    """Within it, whatever saves ``result`` for its backward pass keeps how to compute it instead.

    Gradients of any order stay what they were. A compiler makes this choice itself.

    Args:
        result: any shape, for example an image that was scaled.
        again: gives the same numbers; it should hold only what is kept anyway, for example image and scales.
    """
    if torch.compiler.is_compiling() or not (torch.is_grad_enabled() and result.requires_grad):
        return nullcontext()
    address, device = result.data_ptr(), result.device.type

    def pack(saved: Tensor) -> Tensor | Callable[[], Tensor]:
        return again if saved.data_ptr() == address else saved

    def unpack(kept: Tensor | Callable[[], Tensor]) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        with torch.no_grad(), torch.autocast(device, enabled=False):
            return kept()

    return saved_tensors_hooks(pack, unpack)

"""Computing intermediate results again in the backward pass instead of keeping them."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint


def recomputed(result: Tensor, again: Callable[[], Tensor]) -> AbstractContextManager[Any]:
    """Within it, whatever saves ``result`` for its backward pass keeps how to compute it instead.

    Gradients of any order stay what they were. A compiler makes this choice itself.

    Args:
        result: any shape, for example an image that was scaled.
        again: gives the same numbers, with autocast off; it should hold only what is kept anyway, as image and scales.
    """
    if torch.compiler.is_compiling() or not (torch.is_grad_enabled() and result.requires_grad):
        return nullcontext()
    place, device = (result.data_ptr(), result.shape, result.stride()), result.device.type

    def pack(saved: Tensor) -> tuple[Tensor, int] | Callable[[], Tensor]:
        return again if (saved.data_ptr(), saved.shape, saved.stride()) == place else (saved, saved._version)

    def unpack(kept: tuple[Tensor, int] | Callable[[], Tensor]) -> Tensor:
        if not isinstance(kept, tuple):
            with torch.no_grad(), torch.autocast(device, enabled=False):
                return kept()
        saved, version = kept
        if saved._version != version:  # which autograd checks for what no hook has seen
            raise RuntimeError(
                f"a tensor of {list(saved.shape)} was changed in place before the backward pass that needs it"
            )
        return saved

    return saved_tensors_hooks(pack, unpack)


class Segmented(nn.Module):
    """A network that can do with less memory: of its segments only what they pass on is kept for the backward pass.

    Attributes:
        recompute: whether a segment is computed again in the backward pass (Chen et al. 2016, "Training Deep Nets with
            Sublinear Memory Cost"). Gradients of any order stay what they were; noise is drawn again as it was.
    """

    recompute = False

    def segment(self, forward: Callable[..., Any], *inputs: Any) -> Any:
        """``forward(*inputs)``, whose intermediate results are not kept where `recompute` is on."""
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(forward, *inputs, use_reentrant=False)
        return forward(*inputs)

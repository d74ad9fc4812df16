"""Steps that are taken only where everything is a number: decided on the device, without waiting for it.

An optimiser whose gradients are not finite leaves weights, momentum and step counter as they are: torch's fused
optimisers take that decision as a tensor, `found_inf`, and the average of the weights and the statistics of batch norms
follow it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fctfg.ops.processes import first_of_all


@dataclass(frozen=True)
class Safety:
    """What a run does about gradients and losses that are not finite, or unusual.

    Attributes:
        gradient_clip: largest norm of all gradients of one optimiser; longer ones are scaled down. None: never (the
            paper says nothing of it).
        max_skipped: iterations in a row with a skipped step, after which the run goes back to its last checkpoint.
        max_rollbacks: times that a run goes back; the next time, it stops.
        spike: a loss term is named when it is this many standard deviations above its running mean; 0: never.

    Raises:
        ValueError: a value is out of its range.
    """

    gradient_clip: float | None = None
    max_skipped: int = 10
    max_rollbacks: int = 3
    spike: float = 10.0

    def __post_init__(self) -> None:
        clip = 1.0 if self.gradient_clip is None else self.gradient_clip
        if not (math.isfinite(clip) and clip > 0):
            raise ValueError(f"safety.gradient_clip={clip}: it must be larger than 0, or null")
        if self.max_skipped < 1 or self.max_rollbacks < 0 or not self.spike >= 0:
            raise ValueError(
                f"safety.max_skipped={self.max_skipped} must be at least 1, safety.max_rollbacks="
                f"{self.max_rollbacks} and safety.spike={self.spike} at least 0"
            )


class RollBack(Exception):
    """The weights, or what they give, are not finite any more: the run must go back to its last checkpoint.

    Raised on all processes alike.
    """


def finite_root(loss: Tensor) -> Tensor:
    """What a backward pass starts from: 1 for a finite loss, NaN for another.

    A loss that is not finite may have finite gradients (a clamped term, say). Starting from NaN, it has none, and where
    processes add up their gradients all of them see it, without a message of its own.

    Args:
        loss: a scalar.

    Returns:
        a scalar of the loss's type, on its device.
    """
    return 1 + 0 * loss.detach()


def gradient_norms(networks: Mapping[str, Iterable[nn.Parameter]]) -> dict[str, Tensor]:
    """The Euclidean norm of the gradients of each network; one that has no gradients is left out.

    Args:
        networks: parameters by network.

    Returns:
        Scalars by network; not finite where a gradient is not, or is too large for its square to be a float32.
    """
    gradients = {name: [p.grad for p in parameters if p.grad is not None] for name, parameters in networks.items()}
    gradients = {name: found for name, found in gradients.items() if found}
    if not gradients:
        return {}
    norms = torch.stack(torch._foreach_norm([g for found in gradients.values() for g in found]))
    parts = norms.split([len(found) for found in gradients.values()])
    return {name: torch.linalg.vector_norm(part) for name, part in zip(gradients, parts, strict=True)}


def guard(optimizer: torch.optim.Optimizer, norms: Mapping[str, Tensor], clip: float | None = None) -> None:
    """Tell an optimiser, before its step, whether to take it, and how to scale the gradients.

    The gradients are scaled by min(1, clip / norm), with the norm over all of them (Pascanu et al. 2013, Algorithm 1).

    Args:
        optimizer: a fused Adam or AdamW, or `Ranger`. Its `found_inf` becomes 1 where a norm is not finite, else 0;
            its `grad_scale`, by which it divides gradients, is set where there is a `clip`.
        norms: of the gradients of each of its networks, at least one.
        clip: largest norm; None leaves the gradients as they are.
    """
    each = torch.stack(list(norms.values()))
    optimizer.found_inf = each.isfinite().all().logical_not().float()  # type: ignore[attr-defined]
    if clip is not None:
        total = torch.linalg.vector_norm(each)
        optimizer.grad_scale = (total / clip).clamp_min(1.0)  # type: ignore[attr-defined]


@torch.no_grad()
def update_where_finite(target: Tensor, value: Tensor, found_inf: Tensor) -> None:
    """Set `target` to `value`, or leave it where `found_inf` is 1; both of one shape."""
    target.copy_(torch.where(found_inf.bool(), target, value))


class Statistics:
    """The running statistics of batch norms, as they were after the last step that was taken.

    A forward pass of a bad batch spoils them before anybody knows; here they come back. All are kept in one piece for
    each type, so that this takes three operations however many there are.

    Args:
        modules: where to look for batch norms that train.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        norms = [module for module in modules if isinstance(module, _BatchNorm) and module.training]
        buffers = [buffer for module in norms for buffer in module.buffers()]
        kinds = dict.fromkeys(buffer.dtype for buffer in buffers)  # in an order that all processes have
        self._buffers = [[buffer for buffer in buffers if buffer.dtype == kind] for kind in kinds]
        self._kept = [self._joined(each) for each in self._buffers]

    @staticmethod
    def _joined(buffers: list[Tensor]) -> Tensor:
        return torch.cat([buffer.detach().flatten() for buffer in buffers])

    @torch.no_grad()
    def settle(self, found_inf: Tensor) -> None:
        """Keep the statistics as they are now, or where `found_inf` is 1, bring back those that were kept; of several
        processes, those of the first one."""
        for place, buffers in enumerate(self._buffers):
            kept = first_of_all(torch.where(found_inf.bool(), self._kept[place], self._joined(buffers)))
            parts = kept.split([buffer.numel() for buffer in buffers])
            torch._foreach_copy_(buffers, [part.view_as(b) for part, b in zip(parts, buffers, strict=True)])
            self._kept[place] = kept

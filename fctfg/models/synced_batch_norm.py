"""Batch norm over the samples of all processes that train together, on every device.

torch's own `nn.SyncBatchNorm` exists for GPUs only, and is no `nn.BatchNorm2d`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch import distributed as dist
from torch.autograd.function import once_differentiable

from fctfg.ops.precision import precise
from fctfg.ops.processes import process


def _statistics(x: Tensor, axes: list[int]) -> tuple[Tensor, Tensor, int]:
    """Mean [C], biased variance [C] and number of values per channel, over all processes, which have equally many."""
    variance, mean = torch.var_mean(precise(x), axes, correction=0)
    _, processes = process()
    own = torch.stack([mean, variance])  # [2, C]
    parts = [torch.empty_like(own) for _ in range(processes)]
    dist.all_gather(parts, own)
    means, variances = torch.stack(parts).unbind(1)  # [processes, C]
    count = x.numel() // x.shape[1] * processes
    return means.mean(0), variances.mean(0) + means.var(0, correction=0), count


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        axes = [0, *range(2, x.ndim)]
        mean, variance, ctx.count = _statistics(x, axes)
        ctx.axes, ctx.eps = axes, eps
        ctx.save_for_backward(x, weight, mean, variance)
        unbiased = variance * (ctx.count / max(1, ctx.count - 1))
        ctx.mark_non_differentiable(mean, unbiased)
        return F.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps), mean, unbiased

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _mean: Tensor, _variance: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, variance = ctx.saved_tensors
        shape = [1, -1] + [1] * (x.ndim - 2)
        deviation = (variance + ctx.eps).rsqrt()  # 1 / sigma
        wide, normal = precise(gradient), (precise(x) - mean.view(shape)) * deviation.view(shape)
        bias_gradient = wide.sum(ctx.axes)
        weight_gradient = (wide * normal).sum(ctx.axes)
        sums = torch.stack([bias_gradient, weight_gradient])
        dist.all_reduce(sums)
        # dL/dx = weight / sigma * (g - E[g] - normal * E[g * normal]), E over the samples of all processes
        first, second = (s.view(shape) for s in sums / ctx.count)
        x_gradient = (wide - first - normal * second) * (weight * deviation).view(shape)
        return x_gradient.to(x.dtype), weight_gradient, bias_gradient, None


class SyncedBatchNorm(nn.BatchNorm2d):
    """Batch norm [B, C, ...] whose statistics in training are those of all processes' samples, of equally many each.

    In eval mode, and for one process alone, it is torch's batch norm. A subclass of `nn.BatchNorm2d`, so that who
    looks for batch norms finds it; of one-dimensional ones it takes the place too.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, ...] -> the same shape."""
        if not self.training or process()[1] == 1:
            return super().forward(x)
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        y, mean, variance = _Normalise.apply(x, self.weight, self.bias, self.eps)
        with torch.no_grad():
            self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
            self.running_var.lerp_(variance.to(self.running_var), self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
        return y


def _exchange(norm: nn.Module, kind: type[nn.Module]) -> nn.Module:
    """The norm as another class, with the very same tensors."""
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    new = kind(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    new.train(norm.training)
    new._parameters, new._buffers = norm._parameters, norm._buffers
    return new


def sync_batch_norms(module: nn.Module) -> None:
    """Put a `SyncedBatchNorm` in the place of each batch norm inside a module, with the very same tensors."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) in (nn.BatchNorm1d, nn.BatchNorm2d):
                setattr(parent, name, _exchange(child, SyncedBatchNorm))

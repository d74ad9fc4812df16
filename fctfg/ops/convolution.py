"""Convolution whose gradients run in the layout that is fast for each of them, and can be switched off for weights.

oneDNN computes a convolution and the gradient of its input fastest in channels_last, but float32 gradients of weights
up to four times as fast in the plain layout, copies included (`docs/log.md` has the figures).
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

_weight_gradients = True


@contextmanager
def no_weight_gradients() -> Iterator[None]:
    """Within it, a backward pass skips the gradients of all convolutions' weights.

    For ``torch.autograd.grad`` by an input with ``create_graph``: what that pass does not need is not known inside an
    autograd function.
    """
    global _weight_gradients
    before, _weight_gradients = _weight_gradients, False
    try:
        yield
    finally:
        _weight_gradients = before


def convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, padding: int = 0, transposed: bool = False
) -> Tensor:
    """A convolution without groups; computes in autocast's type, and in channels_last on a CPU.

    Differentiable any number of times.

    Args:
        x: [N, I, H, W].
        weight: [O, I, k, k], or [I, O, k, k] for a transposed convolution.
        bias: [O].
        stride: of the result, or of the input for a transposed convolution.
        padding: zeros on each side of the input; cut off each side of a transposed convolution's result.
        transposed: whether it is one.

    Returns:
        [N, O, H', W'].
    """
    kind = x.device.type
    if torch.is_autocast_enabled(kind):
        precision = torch.get_autocast_dtype(kind)
        x, weight, bias = x.to(precision), weight.to(precision), None if bias is None else bias.to(precision)
    if kind == "cpu":
        x = x.contiguous(memory_format=torch.channels_last)
        weight = weight.contiguous(memory_format=torch.channels_last)
    return _Convolution.apply(x, weight, bias, stride, padding, transposed, 0)


class _Convolution(Function):
    """The operation; the gradient by its input is the operation again, transposed."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: int,
        padding: int,
        transposed: bool,
        output_padding: int,
    ) -> Tensor:
        # A frozen network's input is needed for nothing.
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)
        ctx.settings, ctx.size = (stride, padding, transposed, output_padding), x.shape[-1]
        extra = [output_padding] * 2
        return torch.convolution(x, weight, bias, [stride] * 2, [padding] * 2, [1, 1], transposed, extra, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, transposed, _ = ctx.settings
        by_x = by_weight = by_bias = None
        if ctx.needs_input_grad[0]:
            whole = (gradient.shape[-1] - 1) * stride - 2 * padding + weight.shape[-1]
            missing = 0 if transposed else ctx.size - whole  # rows at the end that a stride left over
            by_x = _Convolution.apply(gradient, weight, None, stride, padding, not transposed, missing)
        if ctx.needs_input_grad[1] and _weight_gradients:
            by_weight = _WeightGradient.apply(gradient, x, weight, *ctx.settings)
        if ctx.needs_input_grad[2] and _weight_gradients:
            by_bias = gradient.sum((0, 2, 3))
        return by_x, by_weight, by_bias, None, None, None, None


class _WeightGradient(Function):
    """The gradient by the weight: bilinear in the result's gradient and the input."""

    @staticmethod
    def forward(
        ctx: Any,
        gradient: Tensor,
        x: Tensor,
        weight: Tensor,
        stride: int,
        padding: int,
        transposed: bool,
        output_padding: int,
    ) -> Tensor:
        ctx.save_for_backward(gradient, x)
        ctx.settings = stride, padding, transposed, output_padding
        extra = [output_padding] * 2
        if x.device.type == "cpu" and x.dtype == torch.float32:
            gradient, x, weight = _plain(gradient), _plain(x), weight.contiguous()
        only_weight = [False, True, False]
        found = torch.ops.aten.convolution_backward(
            gradient, x, weight, None, [stride] * 2, [padding] * 2, [1, 1], transposed, extra, 1, only_weight
        )
        return found[1]

    @staticmethod
    def backward(ctx: Any, direction: Tensor) -> tuple[Tensor | None, ...]:
        gradient, x = ctx.saved_tensors
        stride, padding, transposed, _ = ctx.settings
        by_gradient = _Convolution.apply(x, direction, None, *ctx.settings)
        whole = (gradient.shape[-1] - 1) * stride - 2 * padding + direction.shape[-1]
        missing = 0 if transposed else x.shape[-1] - whole
        by_x = _Convolution.apply(gradient, direction, None, stride, padding, not transposed, missing)
        return by_gradient, by_x, None, None, None, None, None


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="layout")


def _plain(x: Tensor) -> Tensor:
    """x [N, C, H, W] in the plain layout; a compiler makes fast copies itself, eager torch only of a transposed matrix.

    That copy runs in one thread and lets others run, so that the images are shared out among several.

    Returns:
        [N, C, H, W], contiguous.
    """
    if torch.compiler.is_compiling() or not x.is_contiguous(memory_format=torch.channels_last):
        return x.contiguous()
    result = torch.empty_like(x, memory_format=torch.contiguous_format)
    pairs = list(zip(result.flatten(2), x.permute(0, 2, 3, 1).flatten(1, 2), strict=True))  # [C, H W], [H W, C]
    several = torch.get_num_threads() > 1 and len(pairs) > 1 and x.numel() >= 1 << 20
    list((_threads().map if several else map)(_transpose, pairs))
    return result


@torch.no_grad()  # which a thread does not inherit
def _transpose(pair: tuple[Tensor, Tensor]) -> None:
    """Copy the second matrix, [b, a], into the first, [a, b]."""
    pair[0].copy_(pair[1].t())

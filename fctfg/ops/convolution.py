"""Convolution whose gradients run in the layout that is fast for each of them, and can be switched off for weights.

oneDNN computes a convolution and the gradient of its input fastest in channels_last, but float32 gradients of weights
up to four times as fast in the plain layout, copies included (`docs/log.md` has the figures).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

_LARGEST_COPY = 1 << 22  # elements; copying a few images at a time takes less memory than all at once
_weight_gradients = True


@contextmanager
def no_weight_gradients() -> Iterator[None]:
    """Within it, a backward pass skips the gradients of the weights and biases of every :func:`convolution`.

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
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    transposed: bool = False,
    scale: float = 1.0,
) -> Tensor:
    """A convolution without groups; computes in autocast's type, and in channels_last on a CPU.

    Differentiable any number of times. The weight is kept for it as it is given, not as a scaled copy in another layout
    (but as a copy in autocast's type, which is smaller).

    Args:
        x: [N, I, H, W].
        weight: [O, I, k, k], or [I, O, k, k] for a transposed convolution.
        bias: [O].
        stride: of the result, or of the input for a transposed convolution.
        padding: zeros on each side of the input; cut off each side of a transposed convolution's result.
        transposed: whether it is one.
        scale: a factor on the weight.

    Returns:
        [N, O, H', W']; it may be a view, which cannot be changed in place.
    """
    kind = x.device.type
    if torch.is_autocast_enabled(kind):
        precision = torch.get_autocast_dtype(kind)
        x, weight, bias = x.to(precision), (weight * scale).to(precision), None if bias is None else bias.to(precision)
        weight, scale = _channels_last(weight), 1.0
    return _Convolution.apply(_channels_last(x), weight, bias, scale, stride, padding, transposed, (0, 0))


def _channels_last(x: Tensor) -> Tensor:
    """x [N, C, H, W], on a CPU in the layout that is fast there."""
    return x.contiguous(memory_format=torch.channels_last) if x.device.type == "cpu" else x


def _wants_a_column(x: Tensor, weight: Tensor, stride: int, transposed: bool, output_padding: tuple[int, int]) -> bool:
    """Whether one more column makes oneDNN half again as fast, as in StyleGAN2's largest up-sampling layers."""
    if output_padding != (0, 0):
        return False
    large = x.shape[2] >= 128 and weight.shape[1] >= 64 and x.shape[1] == 2 * weight.shape[1]
    return transposed and stride == 2 and large and x.device.type == "cpu" and x.dtype == torch.float32


class _Convolution(Function):
    """The operation; the gradient by its input is the operation again, transposed."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        scale: float,
        stride: int,
        padding: int,
        transposed: bool,
        output_padding: tuple[int, int],
    ) -> Tensor:
        # A frozen network's input is needed for nothing.
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)
        ctx.settings, ctx.size = (scale, stride, padding, transposed, output_padding), x.shape[2:]
        scaled = _channels_last(weight if scale == 1.0 else weight * scale)
        column = _wants_a_column(x, scaled, stride, transposed, output_padding)
        extra = [0, 1] if column else output_padding
        y = torch.convolution(x, scaled, bias, [stride] * 2, [padding] * 2, [1, 1], transposed, extra, 1)
        return y[..., :-1] if column else y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        scale, stride, padding, transposed, _ = ctx.settings
        by_x = by_weight = by_bias = None
        if ctx.needs_input_grad[1] and _weight_gradients:
            by_weight = _WeightGradient.apply(gradient, x, weight, *ctx.settings)
        del x  # which may have been computed just for this
        if ctx.needs_input_grad[0]:
            missing = (0, 0) if transposed else _left_over(ctx.size, gradient, weight, stride, padding)
            by_x = _Convolution.apply(gradient, weight, None, scale, stride, padding, not transposed, missing)
        if ctx.needs_input_grad[2] and _weight_gradients:
            by_bias = gradient.sum((0, 2, 3))
        return by_x, by_weight, by_bias, None, None, None, None, None


class _WeightGradient(Function):
    """The gradient by the weight: bilinear in the result's gradient and the input."""

    @staticmethod
    def forward(
        ctx: Any,
        gradient: Tensor,
        x: Tensor,
        weight: Tensor,
        scale: float,
        stride: int,
        padding: int,
        transposed: bool,
        output_padding: tuple[int, int],
    ) -> Tensor:
        ctx.save_for_backward(gradient, x)
        ctx.settings = scale, stride, padding, transposed, output_padding
        # With few channels the plain layout gains less than 7 % where there is no stride.
        plain = x.device.type == "cpu" and x.dtype == torch.float32 and (stride > 1 or x.shape[1] > 128)
        find = _plain_weight_gradient if plain else _weight_gradient
        found = find(gradient, x, list(weight.shape), stride, padding, transposed, list(output_padding))
        return found if scale == 1.0 else found.mul_(scale)

    @staticmethod
    def backward(ctx: Any, direction: Tensor) -> tuple[Tensor | None, ...]:
        gradient, x = ctx.saved_tensors
        scale, stride, padding, transposed, _ = ctx.settings
        by_gradient = _Convolution.apply(x, direction, None, *ctx.settings)
        missing = (0, 0) if transposed else _left_over(x.shape[2:], gradient, direction, stride, padding)
        by_x = _Convolution.apply(gradient, direction, None, scale, stride, padding, not transposed, missing)
        return by_gradient, by_x, None, None, None, None, None, None


def _left_over(size: Sequence[int], gradient: Tensor, weight: Tensor, stride: int, padding: int) -> tuple[int, int]:
    """Rows and columns at the end of an image that its convolution's stride left over."""
    rows, columns = (
        side - ((count - 1) * stride - 2 * padding + weight.shape[-1])
        for side, count in zip(size, gradient.shape[2:], strict=True)
    )
    return rows, columns


def _weight_gradient(gradient: Tensor, x: Tensor, shape: list[int], *settings: Any) -> Tensor:
    stride, padding, transposed, output_padding = settings
    given = [stride] * 2, [padding] * 2, [1, 1], transposed, output_padding, 1, [False, True, False]
    weight = x.new_empty(1).expand(shape)  # whose values play no part
    return torch.ops.aten.convolution_backward(gradient, x, weight, None, *given)[1]


@torch.library.custom_op("fctfg::plain_weight_gradient", mutates_args=())  # a compiler would choose the layout itself
def _plain_weight_gradient(
    gradient: Tensor,
    x: Tensor,
    shape: list[int],
    stride: int,
    padding: int,
    transposed: bool,
    output_padding: list[int],
) -> Tensor:
    pieces = max(1, x.numel() // _LARGEST_COPY)
    pairs = zip(gradient.chunk(pieces), x.chunk(pieces), strict=True)
    settings = shape, stride, padding, transposed, output_padding
    return reduce(Tensor.add_, [_weight_gradient(_plain(a), _plain(b), *settings) for a, b in pairs])


@_plain_weight_gradient.register_fake
def _(gradient: Tensor, x: Tensor, shape: list[int], *settings: object) -> Tensor:
    return x.new_empty(shape)


def _plain(x: Tensor) -> Tensor:
    """x [N, C, H, W] contiguous, by copies of transposed matrices, which are the fast ones."""
    if not x.is_contiguous(memory_format=torch.channels_last):
        return x.contiguous()
    result = torch.empty_like(x, memory_format=torch.contiguous_format)
    for image, pixels in zip(result.flatten(2), x.permute(0, 2, 3, 1).flatten(1, 2), strict=True):
        image.copy_(pixels.t())  # [C, H W] from [H W, C]
    return result

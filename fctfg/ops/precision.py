"""Where numbers must not be coarser than float32."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def precise(x: Tensor) -> Tensor:
    """x in float32, or as it is where its type is finer; any shape."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def float32_island(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """A function that computes in float32 or finer also under autocast, whatever types its tensors have.

    Args:
        function: its positional arguments may be tensors or sequences of tensors, the first of them on the device that
            counts; tensors of whole numbers stay as they are.
    """

    @wraps(function)
    def island(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        lifted: Any = [_lifted(value) for value in args]
        first = lifted[0][0] if isinstance(lifted[0], list) else lifted[0]
        with torch.autocast(first.device.type, enabled=False):
            return function(*lifted, **kwargs)

    return island


def _lifted(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_lifted(entry) for entry in value]
    return precise(value) if isinstance(value, Tensor) and value.is_floating_point() else value

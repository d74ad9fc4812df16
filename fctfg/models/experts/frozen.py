"""Frozen judges: once frozen, a network can neither learn nor leave eval mode."""

from functools import partial
from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def freeze(module: M) -> M:
    """Lock a module in eval mode, without gradients for its parameters; gradients still flow through it.

    The ``train()`` of a parent no longer reaches it (nor anything inside it): its own ``train`` is replaced.

    Args:
        module: changed in place.

    Returns:
        the same module.
    """
    module.requires_grad_(False)
    module.train = partial(_stay_in_eval, module)  # type: ignore[method-assign, assignment]
    return module.train()


def _stay_in_eval(module: nn.Module, mode: bool = True) -> nn.Module:
    """Stands in for ``nn.Module.train``: eval mode, whatever is asked for."""
    return type(module).train(module, False)

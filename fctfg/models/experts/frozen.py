"""Frozen judges: once frozen, a network can neither learn nor leave eval mode."""

from typing import Self, TypeVar

from torch import nn


class Freezable(nn.Module):
    """A module that :func:`freeze` can lock: ``train()`` of a parent then no longer reaches it."""

    def __init__(self) -> None:
        super().__init__()
        self._frozen = False

    @property
    def frozen(self) -> bool:
        """Whether the module is locked."""
        return self._frozen

    def train(self, mode: bool = True) -> Self:
        """As in torch, but a frozen module stays in eval mode."""
        return super().train(mode and not self._frozen)


M = TypeVar("M", bound=Freezable)


def freeze(module: M) -> M:
    """Lock a module in eval mode without gradients for its parameters; gradients still flow through it."""
    module.requires_grad_(False)
    module._frozen = True
    return module.eval()

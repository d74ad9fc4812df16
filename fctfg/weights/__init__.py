"""Weights: files of our own (`artifact`), and what the field has published, in and out (`published`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def load(path: str | Path, source: str) -> nn.Module:
    """The network of a published file, in eval mode; see :func:`fctfg.weights.published.load`."""
    from fctfg.weights.published import load

    return load(path, source)


def load_all(path: str | Path, source: str) -> dict[str, nn.Module]:
    """Every network of a published file by name; see :func:`fctfg.weights.published.load_all`."""
    from fctfg.weights.published import load_all

    return load_all(path, source)

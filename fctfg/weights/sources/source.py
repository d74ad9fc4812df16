"""What a source of published weights consists of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from fctfg.weights.checkpoint import Checkpoint

Read = Callable[[Checkpoint], nn.Module | None]


@dataclass(frozen=True)
class Source:
    """One published layout.

    Attributes:
        name: what the user calls it.
        title: what it is, in a line.
        recognise: whether a checkpoint has this layout, by its keys.
        networks: name in `fctfg.weights.artifact.NETWORKS` -> reader, which returns None for a network that the file
            may lack; the first is what the source stands for.
        write: networks by name -> what their program would save; None where there is no way back.
        needs: the networks that `write` cannot do without.
        flat: whether its program also reads safetensors.
    """

    name: str
    title: str
    recognise: Callable[[Checkpoint], bool]
    networks: Mapping[str, Read]
    write: Callable[[Mapping[str, nn.Module]], dict[str, Any]] | None = None
    needs: tuple[str, ...] = ()
    flat: bool = False

"""Sizes of networks, read from the shapes of published tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from fctfg.errors import FctfgError
from fctfg.models.irse import IRSEConfig

USUAL_BASE = 32768  # StyleGAN2's channels times resolution; half of it is the other one in use


def need(path: Path, state: Mapping[str, Tensor], key: str) -> Tensor:
    """The tensor that a size is read from.

    Raises:
        FctfgError: it is missing.
    """
    if key not in state:
        known = ", ".join(sorted(state)[:4])
        raise FctfgError(f"{path} lacks {key}, which tells its size (it holds {known}, ...); is the source right?")
    return state[key]


def count(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many keys match a regular expression completely."""
    return sum(1 for key in state if re.fullmatch(pattern, key))


def channel_rule(path: Path, channels: Mapping[int, int]) -> tuple[int, int]:
    """StyleGAN2's two constants: a resolution has min(channel_max, channel_base // resolution) channels.

    Args:
        path: the file, for errors.
        channels: resolution -> channels, of all resolutions.

    Returns:
        (channel_base, channel_max).

    Raises:
        FctfgError: the channels follow no such rule.
    """
    resolution, most = max(channels), max(channels.values())
    for base in (USUAL_BASE, channels[resolution] * resolution):
        if base >= resolution and all(min(most, base // size) == n for size, n in channels.items()):
            return base, most
    listed = ", ".join(f"{size} px: {n}" for size, n in sorted(channels.items()))
    raise FctfgError(
        f"{path} has channels that are not StyleGAN2's (min(max, base / resolution)): {listed}; fctfg "
        f"has no network of other widths"
    )


def irse_config(path: Path, state: Mapping[str, Tensor]) -> IRSEConfig:
    """Widths and depths of an IR-SE body, from the keys `input_layer.*` and `body.{i}.*`.

    A stage begins with the first block, and wherever the width changes.

    Raises:
        FctfgError: it does not have four stages that can be told apart.
    """
    width = need(path, state, "input_layer.0.weight").shape[0]
    channels, blocks = [width], [0]
    for index in range(count(state, r"body\.\d+\.res_layer\.1\.weight")):
        after = need(path, state, f"body.{index}.res_layer.1.weight").shape[0]
        if after != channels[-1]:
            channels.append(after)
            blocks.append(0)
        blocks[-1] += 1
    gate = need(path, state, "body.0.res_layer.5.fc1.weight")
    if len(channels) != 4:
        raise FctfgError(
            f"{path} has a body of widths {channels}; IR-SE has four stages of different widths, "
            f"by which they are told apart; is the source right?"
        )
    return IRSEConfig(tuple(channels), tuple(blocks), gate.shape[1] // gate.shape[0])

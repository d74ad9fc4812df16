"""A fingerprint of a network's state dict, to compare with published checkpoints without having them."""

import hashlib

from torch import nn


def layout(network: nn.Module, prefix: str = "", without: tuple[str, ...] = ()) -> tuple[int, str]:
    """Number of tensors, and the first 16 digits of the SHA-256 over their sorted `key shape` lines.

    Args:
        network: may be on the meta device.
        prefix: cut from the keys.
        without: keys of our own, which no published checkpoint has.
    """
    lines = sorted(
        f"{key.removeprefix(prefix)} {list(tensor.shape)}"
        for key, tensor in network.state_dict().items()
        if key not in without
    )
    return len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def parameters(network: nn.Module) -> int:
    """Number of trained values."""
    return sum(parameter.numel() for parameter in network.parameters())

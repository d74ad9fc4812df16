"""Seeds and generators addressed by name, so that no result depends on the order in which things are drawn."""

import hashlib

import numpy as np
import torch


def derive_seed(*parts: int | str) -> int:
    """A seed in [0, 2^63) from any number of names and numbers.

    The same parts give the same seed on every machine and in every process; ``1`` and ``"1"`` differ.

    Args:
        parts: what the seed is for, e.g. ``derive_seed(run_seed, "sampler", epoch)``.

    Returns:
        The first 63 bits of the SHA-256 of the parts.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """A CPU ``torch.Generator`` seeded by :func:`derive_seed` of the parts."""
    return torch.Generator().manual_seed(derive_seed(*parts))


def rng(*parts: int | str) -> np.random.Generator:
    """A NumPy generator seeded by :func:`derive_seed` of the parts."""
    return np.random.default_rng(derive_seed(*parts))

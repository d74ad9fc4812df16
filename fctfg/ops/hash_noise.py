"""Noise that is a function of a seed and a position alone: the same on every device and in every batch."""

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

GAMMA = 0x9E3779B97F4A7C15 - 2**64  # the odd number next to 2^64 / golden ratio, as int64
LEVELS = 2**16


def splitmix64(state: Tensor) -> Tensor:
    """The output function of SplitMix64, a bijection of 64-bit words in which every bit changes half of the others.

    Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014; the constants are
    Stafford's "variant 13". int64 stands for uint64: products wrap modulo 2^64 (two's complement), which torch's
    integer kernels do on every device, and the bits that an arithmetic shift to the right draws in are masked off.

    Args:
        state: int64, any shape. The k-th number (k = 1, 2, ...) of the generator with seed s has the state s + k GAMMA.

    Returns:
        int64 of the same shape.
    """
    word = (state ^ ((state >> 30) & (2**34 - 1))).mul_(0xBF58476D1CE4E5B9 - 2**64)
    word = word.bitwise_xor_((word >> 27).bitwise_and_(2**37 - 1)).mul_(0x94D049BB133111EB - 2**64)
    return word.bitwise_xor_((word >> 31).bitwise_and_(2**33 - 1))


@functools.cache
@torch.inference_mode(False)  # what is kept may be needed outside of it
def _quantiles(device: torch.device) -> Tensor:
    """Float32 [65536]: the means of 65,536 equally likely slices of the standard normal, brought to variance 1."""
    edges = torch.special.ndtri(torch.arange(1, LEVELS, dtype=torch.float64) / LEVELS)
    density = torch.zeros(LEVELS + 1, dtype=torch.float64)
    density[1:-1] = edges.square().div(-2).exp() / math.sqrt(2 * math.pi)
    # E[x | a < x < b] = (phi(a) - phi(b)) / P(a < x < b)
    means = (density[:-1] - density[1:]) * LEVELS
    return (means / means.square().mean().sqrt()).float().to(device)


def _words(seeds: Tensor, count: int) -> Tensor:
    """The first `count` words of each seed, int64 [B, count]: the i-th is `splitmix64(splitmix64(seed) + i GAMMA)`,
    which is SplitMix64 from a scrambled seed.

    Raises:
        ValueError: the seeds are not int64 [B].
    """
    if seeds.dtype != torch.int64 or seeds.ndim != 1:
        raise ValueError(f"seeds must be int64 [B], not {str(seeds.dtype).removeprefix('torch.')} {list(seeds.shape)}")
    counter = torch.arange(1, count + 1, device=seeds.device) * GAMMA
    return splitmix64(splitmix64(seeds)[:, None] + counter)


def hash_uniform(seeds: Tensor, shape: Sequence[int]) -> Tensor:
    """Uniform noise of each seed: the upper 24 bits of a word for each value.

    Args:
        seeds: int64 [B], any values.
        shape: of one sample's noise.

    Returns:
        float32 [B, *shape] in [0, 1), multiples of 2^-24, equal to the bit on every device. Value i of a sample (in
        row-major order) depends on its seed and on i alone.

    Raises:
        ValueError: the seeds are not int64 [B].
    """
    words = _words(seeds, math.prod(shape))
    upper = (words >> 40).bitwise_and_(2**24 - 1)
    return (upper.float() * 2.0**-24).view(len(seeds), *shape)


def hash_normal(seeds: Tensor, shape: Sequence[int]) -> Tensor:
    """Standard normal noise of each seed; no generator, no waiting for the device.

    Each 16 bits of a seed's words choose one of 65,536 quantiles from a table made on the host. So no device's
    logarithm or cosine has a part in it, and the numbers are equal to the bit. They reach to 4.4 standard deviations.

    Args:
        seeds: int64 [B], any values.
        shape: of one sample's noise.

    Returns:
        float32 [B, *shape], mean 0 and variance 1. Value i of a sample (in row-major order) depends on its seed and on
        i alone.

    Raises:
        ValueError: the seeds are not int64 [B].
    """
    size = math.prod(shape)
    words = _words(seeds, -(-size // 4))  # four numbers a word
    level = words.view(torch.int16).to(torch.int32).add_(LEVELS // 2)[:, :size]
    table = _quantiles(seeds.device)
    return table.index_select(0, level.reshape(-1)).view(len(seeds), *shape)

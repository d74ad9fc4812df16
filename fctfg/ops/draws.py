"""Random values that belong to samples, not to the order in which they are drawn."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from fctfg.ops.hash_noise import GAMMA, hash_normal, hash_uniform, splitmix64
from fctfg.randomness import derive_seed


@functools.cache
def _key(purpose: str) -> int:
    return derive_seed("draws", purpose)


@dataclass(frozen=True)
class Draws:
    """What is drawn for each sample: a function of the sample's seed, of a purpose, and of the place alone.

    So it does not matter which samples share a batch, a process or a device, nor in which order values are drawn.

    Attributes:
        seeds: int64 [N], one of each sample.
    """

    seeds: Tensor

    @classmethod
    def fresh(cls, count: int, device: torch.device) -> Draws:
        """Of `count` samples that nobody has numbered, from torch's global generator."""
        return cls(torch.randint(2**63 - 1, (count,), device=device))

    @classmethod
    def of_rows(cls, seed: int, rows: Tensor) -> Draws:
        """Of samples that are known by their numbers, int64 [N]; other seeds give other values."""
        return cls(splitmix64(rows * GAMMA + seed))

    def _seeds(self, purpose: str) -> Tensor:
        return self.seeds ^ _key(purpose)

    def normal(self, purpose: str, *shape: int) -> Tensor:
        """Standard normal float32 [N, *shape]; the same values for the same purpose."""
        return hash_normal(self._seeds(purpose), shape)

    def uniform(self, purpose: str, *shape: int) -> Tensor:
        """Float32 [N, *shape], uniform in [0, 1); the same values for the same purpose."""
        return hash_uniform(self._seeds(purpose), shape)

    def repeat(self, count: int) -> Draws:
        """Of `count` parts of each sample, such as its frames, [N * count]; a sample's parts follow each other."""
        places = torch.arange(1, count + 1, device=self.seeds.device) * GAMMA
        return Draws(splitmix64(splitmix64(self.seeds)[:, None] + places).flatten())

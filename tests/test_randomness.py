"""Seeds by name."""

import numpy as np
import torch

from fctfg.randomness import derive_seed, generator, rng


def test_a_seed_depends_on_every_part_and_on_nothing_else() -> None:
    assert derive_seed(0, "sampler", 3) == derive_seed(0, "sampler", 3)
    parts: list[tuple[int | str, ...]] = [(0,), ("0",), (0, 1), (1, 0), ("ab",), ("a", "b")]
    different = {derive_seed(*part) for part in parts}
    assert len(different) == 6
    assert all(0 <= seed < 2**63 for seed in different)


def test_a_seed_is_the_same_on_every_machine() -> None:
    assert derive_seed(0, "demo") == 8466023663813334286


def test_generators_repeat() -> None:
    assert torch.equal(torch.randn(3, generator=generator("a", 1)), torch.randn(3, generator=generator("a", 1)))
    assert np.array_equal(rng("a", 1).normal(size=3), rng("a", 1).normal(size=3))
    assert not np.array_equal(rng("a", 1).normal(size=3), rng("a", 2).normal(size=3))

"""Noise from a hash: against Python's integers, the normal distribution and itself in other company."""

import math
from statistics import NormalDist

import pytest
import torch
from torch import Tensor

from fctfg.ops.hash_noise import GAMMA, hash_normal, splitmix64

MASK = 2**64 - 1
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
SEEDS = [0, 1, 2, 3, -1, 2**63 - 1, -(2**63), 1 << 40, 0x9E3779B97F4A7C15 - 2**64]


def exact(state: int) -> int:
    """SplitMix64's output function in integers without a limit."""
    word = state & MASK
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & MASK
    return word ^ (word >> 31)


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten().double(), b.flatten().double()]))[0, 1])


@pytest.mark.parametrize("device", DEVICES)
def test_published_values(device: str) -> None:
    """The first five numbers of the generator with seed 1234567 (Rosetta Code, "Pseudo-random numbers/Splitmix64")."""
    states = 1234567 + torch.arange(1, 6, device=device) * GAMMA
    assert [word & MASK for word in splitmix64(states).tolist()] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@pytest.mark.parametrize("device", DEVICES)
def test_products_wrap_like_unsigned_integers(device: str) -> None:
    states = torch.randint(-(2**63), 2**63 - 1, (2000,), generator=torch.Generator().manual_seed(0))
    states = torch.cat([states, torch.tensor(SEEDS)]).to(device)
    kept = states.clone()
    assert [word & MASK for word in splitmix64(states).tolist()] == [exact(state) for state in states.tolist()]
    assert torch.equal(states, kept)  # works on a copy


@pytest.mark.parametrize("seed", SEEDS)
def test_numbers_are_quantiles_of_the_words(seed: int) -> None:
    start = exact(seed)
    expected = []
    for i in range(1, 26):
        word = exact(start + i * (GAMMA & MASK))
        for part in range(4):
            level = ((word >> (16 * part)) & 0xFFFF) ^ 0x8000  # 16 bits in two's complement, from the lowest up
            expected.append(NormalDist().inv_cdf((level + 0.5) / 65536))
    noise = hash_normal(torch.tensor([seed]), (97,))[0]  # 97 is not a multiple of four
    torch.testing.assert_close(noise, torch.tensor(expected[:97]), atol=2e-3, rtol=1e-3)


def test_moments_are_those_of_the_standard_normal() -> None:
    noise = hash_normal(torch.arange(4), (1000, 1000)).double()
    n = noise.numel()
    # standard errors of the first four moments of n standard normal numbers
    for power, moment, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(noise.pow(power).mean() - moment) < 4 * math.sqrt(spread / n)


@pytest.mark.parametrize("seed", SEEDS)
def test_distribution_is_normal(seed: int) -> None:
    """Kolmogorov-Smirnov: sqrt(n) sup |F_n - F| exceeds 2.2 once in 8,000 cases."""
    n = 100_000
    found = torch.special.ndtr(hash_normal(torch.tensor([seed]), (n,))[0].double().sort().values)
    steps = torch.arange(n + 1, dtype=torch.float64) / n
    distance = max((steps[1:] - found).abs().max(), (found - steps[:-1]).abs().max())
    assert math.sqrt(n) * distance < 2.2


def test_neighbours_are_independent() -> None:
    noise = hash_normal(torch.tensor([5]), (512, 512))[0]
    limit = 4.5 / 512
    for lag in (1, 2, 3, 4, 5, 8, 64, 512, 4096):
        a, b = noise.flatten()[lag:], noise.flatten()[:-lag]
        assert abs(correlation(a, b)) < limit
        assert abs(correlation(a.square(), b.square())) < limit
    spectrum = torch.fft.rfft2(noise.double()).abs().square().flatten()[1:] / noise.numel()
    assert spectrum.max() < 2 * math.log(len(spectrum))  # no line in it: flat is 1


def test_seeds_are_independent_also_when_they_differ_in_one_bit() -> None:
    bits = (1 << torch.arange(64)) ^ 12345
    seeds = torch.cat([torch.tensor([*SEEDS, 4, 5, 6, 12345, GAMMA + 1]), bits])
    noise = hash_normal(seeds, (20_000,)).double()
    limit = 5 / math.sqrt(20_000)
    for values in (noise, noise.square()):
        assert (torch.corrcoef(values) - torch.eye(len(seeds))).abs().max() < limit
    assert torch.corrcoef(torch.cat([noise[:8, 1:], noise[:8, :-1]]))[:8, 8:].abs().max() < limit


def test_a_sample_does_not_depend_on_its_company_or_its_shape() -> None:
    seeds = torch.tensor([7, -3, 2**62])
    noise = hash_normal(seeds, (6, 3, 5, 7))
    assert noise.shape == (3, 6, 3, 5, 7)
    assert noise.dtype == torch.float32
    for i in range(3):
        assert torch.equal(noise[i], hash_normal(seeds[i : i + 1], (6, 3, 5, 7))[0])
        assert torch.equal(noise[i].flatten()[:100], hash_normal(seeds[[i]], (100,))[0])
    assert torch.equal(noise, hash_normal(seeds, (6, 3, 5, 7)))
    assert not torch.equal(noise[0], noise[1])


def test_torchs_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    hash_normal(torch.tensor([1]), (10,))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("device", DEVICES)
def test_the_same_numbers_on_every_device(device: str) -> None:
    seeds = torch.tensor(SEEDS)
    assert torch.equal(hash_normal(seeds.to(device), (3, 64, 65)).cpu(), hash_normal(seeds, (3, 64, 65)))


def test_seeds_of_another_form_are_refused() -> None:
    with pytest.raises(ValueError, match=r"int64 \[B\], not float32 \[2\]"):
        hash_normal(torch.zeros(2), (3,))
    with pytest.raises(ValueError, match=r"int64 \[B\], not int64 \[\]"):
        hash_normal(torch.tensor(1), (3,))

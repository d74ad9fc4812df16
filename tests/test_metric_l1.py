"""L1 against closed forms."""

import numpy as np
import pytest
import torch

from fctfg.metrics.l1 import l1


def test_a_constant_error_as_a_share_of_the_range() -> None:
    reference = torch.zeros(3, 3, 8, 8)
    images = reference + torch.tensor([0.5, -0.25, 0.0]).view(3, 1, 1, 1)
    torch.testing.assert_close(l1(images, reference), torch.tensor([0.25, 0.125, 0.0]))
    torch.testing.assert_close(l1(images[:1], reference[:1], (0.0, 1.0)), torch.tensor([0.5]))
    torch.testing.assert_close(l1(torch.full((1, 1, 2, 2), -1.0), torch.ones(1, 1, 2, 2)), torch.ones(1))


def test_grey_levels_give_the_same_in_both_ranges() -> None:
    draw = np.random.default_rng(0)
    a, b = draw.integers(0, 256, (2, 4, 3, 16, 16))
    expected = torch.tensor(abs(a - b).mean((1, 2, 3)) / 255, dtype=torch.float32)
    torch.testing.assert_close(l1(torch.tensor(a / 255), torch.tensor(b / 255), (0.0, 1.0)), expected)
    torch.testing.assert_close(l1(torch.tensor(a / 127.5 - 1), torch.tensor(b / 127.5 - 1)), expected)


def test_values_outside_of_the_range_are_clamped() -> None:
    images = torch.tensor([3.0, -7.0]).view(2, 1, 1, 1)
    torch.testing.assert_close(l1(images, torch.zeros(2, 1, 1, 1)), torch.full((2,), 0.5))


def test_other_shapes_are_refused() -> None:
    for a, b in (((2, 3, 8, 8), (1, 3, 8, 8)), ((3, 8, 8), (3, 8, 8))):
        with pytest.raises(ValueError, match=r"\[N, C, H, W\]"):
            l1(torch.zeros(a), torch.zeros(b))

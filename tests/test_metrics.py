"""Metrics against closed forms and independent computations."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from fctfg.metrics.correlation import pearson
from fctfg.metrics.psnr import psnr
from fctfg.metrics.ssim import ssim
from fctfg.metrics.sync_accuracy import sync_accuracy, two_way_accuracy

# ---- PSNR


@pytest.mark.parametrize("error", [0.5, 0.1, 0.01])
def test_psnr_of_a_constant_error(error: float) -> None:
    reference = torch.zeros(2, 3, 8, 8)
    images = reference + torch.tensor([error, -error / 2]).view(2, 1, 1, 1)
    expected = [20 * math.log10(2 / error), 20 * math.log10(4 / error)]
    torch.testing.assert_close(psnr(images, reference), torch.tensor(expected))
    expected_unit = torch.tensor(20 * math.log10(1 / error))
    torch.testing.assert_close(psnr(images[:1], reference[:1], (0.0, 1.0))[0], expected_unit)


def test_psnr_of_equal_images_is_infinite_and_images_do_not_mix() -> None:
    reference = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    images = reference.clone()
    images[1] = -images[1]
    values = psnr(images, reference)
    assert values[0] == math.inf
    mse = ((images[1] - reference[1]) ** 2).mean()
    torch.testing.assert_close(values[1], 10 * torch.log10(4 / mse))


def test_image_metrics_refuse_other_shapes() -> None:
    for metric in (psnr, ssim):
        with pytest.raises(ValueError, match=r"\[N, C, H, W\]"):
            metric(torch.zeros(2, 3, 16, 16), torch.zeros(1, 3, 16, 16))
        with pytest.raises(ValueError, match=r"\[N, C, H, W\]"):
            metric(torch.zeros(3, 16, 16), torch.zeros(3, 16, 16))


# ---- SSIM


def test_ssim_of_equal_images_is_one() -> None:
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(ssim(images, images), torch.ones(1))


def test_ssim_of_constant_images_has_a_closed_form() -> None:
    a, b, c1 = 0.25, 0.75, (0.01 * 1.0) ** 2
    value = ssim(torch.full((2, 3, 32, 32), a), torch.full((2, 3, 32, 32), b), (0.0, 1.0))
    expected = (2 * a * b + c1) / (a * a + b * b + c1)  # no variance: only the luminance term is left
    torch.testing.assert_close(value, torch.full((2,), expected))


def test_ssim_against_a_numpy_computation() -> None:
    generator = np.random.default_rng(0)
    a = generator.uniform(0, 2, (40, 40))  # from the darkest value on
    b = np.clip(a + generator.normal(0, 0.3, a.shape), 0, 2)

    def blur(x: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(x, 1.5, radius=5, mode="mirror")

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b, cov = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2, blur(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    full = (2 * mean_a * mean_b + c1) * (2 * cov + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    value = ssim(torch.tensor(a)[None, None] - 1, torch.tensor(b)[None, None] - 1)
    assert value.item() == pytest.approx(full[5:-5, 5:-5].mean(), abs=1e-7)  # where the window fits


# ---- correlation


def test_pearson_against_scipy_and_closed_forms() -> None:
    generator = np.random.default_rng(1)
    a, b = generator.normal(size=50), generator.normal(size=50)
    assert pearson(a, b) == pytest.approx(stats.pearsonr(a, b).statistic)
    assert pearson(a, 3 * a + 7) == pytest.approx(1.0)
    assert pearson(a, -a) == pytest.approx(-1.0)


def test_pearson_leaves_out_missing_values() -> None:
    assert pearson([1, 2, np.nan, 4], [2, 4, 100, 8]) == pytest.approx(1.0)
    assert math.isnan(pearson([1, 2, 3], [5, 5, 5]))
    assert math.isnan(pearson([1, np.nan], [1, 2]))
    with pytest.raises(ValueError, match="one length"):
        pearson([1, 2], [1, 2, 3])


# ---- sync accuracy


def test_two_way_accuracy_counts_a_tie_as_one_half() -> None:
    value = two_way_accuracy(torch.tensor([0.9, 0.1, 0.5, 0.7]), torch.tensor([0.1, 0.9, 0.5, 0.2]))
    assert value.item() == (1 + 0 + 0.5 + 1) / 4


def test_sync_accuracy_of_right_constant_and_shifted_embeddings() -> None:
    embeddings = torch.eye(40)
    assert sync_accuracy(embeddings, embeddings).item() == 1.0
    assert sync_accuracy(torch.ones(40, 8), torch.ones(40, 8)).item() == 0.5

    # Sound late by 7 frames: it is preferred only where the shift that undoes it is offered, all else is a tie.
    late = embeddings.roll(7, 0)
    shifts = [s for t in range(40) for s in range(-15, 16) if abs(s) >= 5 and 0 <= t + s < 40]
    undone = sum(1 for t in range(40) if t + 7 < 40)  # pairs in which the shifted sound wins
    assert sync_accuracy(embeddings, late).item() == pytest.approx((len(shifts) - undone) * 0.5 / len(shifts))


def test_sync_accuracy_of_random_embeddings_is_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    values = [
        sync_accuracy(torch.randn(60, 32, generator=generator), torch.randn(60, 32, generator=generator)).item()
        for _ in range(50)
    ]
    assert np.mean(values) == pytest.approx(0.5, abs=0.03)


def test_sync_accuracy_ignores_shifts_below_the_smallest() -> None:
    # Neighbouring sounds are equally good, as in real speech; only those 5 frames away or more are compared.
    time = torch.arange(30.0)
    near = (time[:, None] - time[None, :]).abs() < 5
    faces = torch.eye(30)
    assert sync_accuracy(faces, near.float()).item() == 1.0


def test_sync_accuracy_of_a_clip_that_is_too_short() -> None:
    with pytest.raises(ValueError, match="5 windows"):
        sync_accuracy(torch.eye(5), torch.eye(5))

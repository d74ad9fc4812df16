"""MS-SSIM against a NumPy computation, closed forms, and small pictures."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from fctfg.metrics.ms_ssim import WEIGHTS, both_ssim, ms_ssim, ms_ssim_scales
from fctfg.metrics.ssim import ssim


def similarity(a: np.ndarray, b: np.ndarray, span: float) -> tuple[float, float]:
    """Of one channel: mean SSIM, and the mean contrast-structure term of the windows that lie inside."""

    def blur(x: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(x, 1.5, radius=5, mode="mirror")

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b, cov = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2, blur(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    contrast = (2 * cov + c2) / (var_a + var_b + c2)
    inside = np.s_[5:-5, 5:-5]
    return (luminance * contrast)[inside].mean(), contrast[inside].mean()


def halved(x: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels; an odd row or column at the end is dropped."""
    x = x[: x.shape[0] // 2 * 2, : x.shape[1] // 2 * 2]
    return (x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 4


def reference(a: np.ndarray, b: np.ndarray, span: float, scales: int) -> float:
    """Of [C, H, W], with the first published weights over their sum."""
    value = 1.0
    for scale in range(scales):
        whole, contrast = np.mean([similarity(x, y, span) for x, y in zip(a, b, strict=True)], axis=0)
        factor = whole if scale == scales - 1 else contrast
        value *= max(factor, 0.0) ** (WEIGHTS[scale] / sum(WEIGHTS[:scales]))
        a, b = (np.stack([halved(channel) for channel in x]) for x in (a, b))
    return value


def pictures(*shape: int, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Smooth pictures in [-1, 1], and noisy versions of them."""
    draw = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(draw.normal(size=shape), (*[0] * (len(shape) - 2), 2, 2))
    smooth = smooth / abs(smooth).max()
    return smooth, np.clip(smooth + noise * draw.normal(size=shape), -1, 1)


@pytest.mark.parametrize(("height", "width", "scales"), [(64, 64, 3), (96, 70, 3), (128, 128, 4), (177, 190, 5)])
def test_against_numpy(height: int, width: int, scales: int) -> None:
    a, b = pictures(2, 3, height, width)
    assert ms_ssim_scales(min(height, width)) == scales
    expected = [reference(x + 1, y + 1, 2.0, scales) for x, y in zip(a, b, strict=True)]  # from the darkest value on
    found = ms_ssim(torch.tensor(a), torch.tensor(b))
    assert found.shape == (2,) and found.dtype == torch.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert 0.05 < expected[0] < 0.98

    unit = ms_ssim(torch.tensor(a / 2 + 0.5), torch.tensor(b / 2 + 0.5), (0.0, 1.0))
    shifted = [reference(x / 2 + 0.5, y / 2 + 0.5, 1.0, scales) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(unit, shifted, atol=1e-6)


def test_the_published_weights_are_those_of_five_scales() -> None:
    assert sum(WEIGHTS) == pytest.approx(1, abs=2e-4)  # as printed in the paper
    assert [ms_ssim_scales(size) for size in (11, 21, 22, 43, 44, 64, 87, 88, 128, 175, 176, 256, 1024)] == [
        *(1, 1, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5)
    ]


@pytest.mark.parametrize("size", [11, 22, 44, 99, 176])
def test_the_smallest_picture_of_each_number_of_scales(size: int) -> None:
    a, b = pictures(1, 1, size, size, noise=0.1)
    assert 0 < ms_ssim(torch.tensor(a), torch.tensor(b)).item() < 1
    torch.testing.assert_close(ms_ssim(torch.tensor(a), torch.tensor(a)), torch.ones(1))


def test_one_scale_is_ssim() -> None:
    a, b = (torch.tensor(x) for x in pictures(2, 3, 16, 16))
    torch.testing.assert_close(ms_ssim(a, b), ssim(a, b))


def test_both_at_once_are_each_alone() -> None:
    a, b = (torch.tensor(x) for x in pictures(2, 3, 64, 64))
    single, multiple = both_ssim(a, b)
    assert torch.equal(single, ssim(a, b)) and torch.equal(multiple, ms_ssim(a, b))


def test_constant_pictures_differ_in_luminance_only() -> None:
    a, b, c1 = 0.25, 0.75, 0.01**2
    found = ms_ssim(torch.full((1, 3, 64, 64), a), torch.full((1, 3, 64, 64), b), (0.0, 1.0))
    luminance = (2 * a * b + c1) / (a * a + b * b + c1)
    assert found.item() == pytest.approx(luminance ** (WEIGHTS[2] / sum(WEIGHTS[:3])), abs=1e-6)


def test_worse_pictures_score_less_down_to_zero() -> None:
    a = pictures(1, 3, 64, 64)[0]
    values = [
        ms_ssim(torch.tensor(pictures(1, 3, 64, 64, noise=noise)[1]), torch.tensor(a)).item()
        for noise in (0.02, 0.1, 0.5)
    ]
    assert 1 > values[0] > values[1] > values[2] > 0
    assert ms_ssim(torch.tensor(-a), torch.tensor(a)).item() == 0


def test_values_outside_of_the_range_are_clamped_and_images_do_not_mix() -> None:
    a, b = (torch.tensor(x) for x in pictures(2, 3, 64, 64))
    torch.testing.assert_close(ms_ssim(3 * a, b), ms_ssim((3 * a).clamp(-1, 1), b))
    torch.testing.assert_close(ms_ssim(a, b)[1:], ms_ssim(a[1:], b[1:]))
    torch.testing.assert_close(ms_ssim(a, b), ms_ssim(b, a))


def test_what_cannot_be_measured() -> None:
    with pytest.raises(ValueError, match=r"\[N, C, H, W\]"):
        ms_ssim(torch.zeros(2, 3, 64, 64), torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match="at least 11 px, got 10"):
        ms_ssim(torch.zeros(1, 3, 10, 64), torch.zeros(1, 3, 10, 64))

"""Structural similarity."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

WINDOW, SIGMA = 11, 1.5  # pixels, of the Gaussian window
K1, K2 = 0.01, 0.03  # of the range of values


@functools.cache
@torch.inference_mode(False)  # what is kept may be needed outside of it
def _window(size: int, device: torch.device) -> Tensor:
    """Float64 [size - 10, size]: its product with a column of pixels is the column, averaged under the window."""
    taps = torch.exp(-((torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2) ** 2) / (2 * SIGMA**2))
    matrix = torch.zeros(size - WINDOW + 1, size, dtype=torch.float64)
    places = torch.arange(len(matrix))[:, None]
    matrix[places, places + torch.arange(WINDOW)] = taps / taps.sum()
    return matrix.to(device)


def similarity(images: Tensor, reference: Tensor, data_range: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Structural similarity of each image, and its part without the brightness.

    With means m, variances v and the covariance c under the window, and C_i = (K_i range)^2:

        l = (2 m_x m_y + C_1) / (m_x^2 + m_y^2 + C_1),  cs = (2 c + C_2) / (v_x + v_y + C_2)    (Wang et al. 2004)

    averaged over channels and over the pixels around which the window fits; brightness is counted from the smallest
    possible value on, as with 8-bit pictures. Computed in float64, since the variance of flat regions is a difference
    of nearly equal numbers, and as products with band matrices, since torch has no fast convolution of that type on a
    CPU.

    Args:
        images: [N, C, H, W], float; values outside of `data_range` are clamped to it.
        reference: the same shape.
        data_range: smallest and largest possible value.

    Returns:
        (mean of l cs, mean of cs), float64 [N] each.
    """
    low, high = data_range
    x, y = (each.double().clamp(low, high) - low for each in (images, reference))
    rows, columns = _window(x.shape[-2], x.device), _window(x.shape[-1], x.device).T
    c1, c2 = (K1 * (high - low)) ** 2, (K2 * (high - low)) ** 2
    mean_x, mean_y = rows @ x @ columns, rows @ y @ columns
    products = mean_x * mean_y
    squares = mean_x.square().add_(mean_y.square())
    variances = (rows @ x.square().add_(y.square()) @ columns).sub_(squares)
    structure = (rows @ (x * y) @ columns).sub_(products).mul_(2).add_(c2).div_(variances.add_(c2))
    brightness = products.mul_(2).add_(c1).div_(squares.add_(c1))
    return (brightness * structure).mean((1, 2, 3)), structure.mean((1, 2, 3))


def ssim(images: Tensor, reference: Tensor, data_range: tuple[float, float] = (-1.0, 1.0)) -> Tensor:
    """Structural similarity of each image (Wang et al. 2004: Gaussian window, sigma 1.5, 11 px); see `similarity`.

    Args:
        images: [N, C, H, W], float, in `data_range`; values outside are clamped to it.
        reference: [N, C, H, W], float, in `data_range`.
        data_range: smallest and largest possible value: (-1, 1) for the networks' frames, (0, 1) for pictures.

    Returns:
        float32 [N], at most 1 (equal images); higher is better.

    Raises:
        ValueError: the shapes differ, are not [N, C, H, W], or are smaller than the window.
    """
    if images.ndim != 4 or images.shape != reference.shape or min(images.shape[-2:]) < WINDOW:
        shapes = f"{tuple(images.shape)} and {tuple(reference.shape)}"
        raise ValueError(f"ssim needs two [N, C, H, W] of at least {WINDOW} px, got {shapes}")
    return similarity(images, reference, data_range)[0].float()

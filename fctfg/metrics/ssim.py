"""Structural similarity."""

from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure


def ssim(images: Tensor, reference: Tensor, data_range: tuple[float, float] = (-1.0, 1.0)) -> Tensor:
    """Structural similarity of each image (Wang et al. 2004: Gaussian window, sigma 1.5, 11 px).

    The mean over all pixels and channels, borders reflected; computed in float64, since the variance of flat regions is
    a difference of nearly equal numbers.

    Args:
        images: [N, C, H, W], float, in `data_range`; values outside are clamped to it.
        reference: [N, C, H, W], float, in `data_range`.
        data_range: smallest and largest possible value: (-1, 1) for the networks' frames, (0, 1) for pictures.

    Returns:
        [N], at most 1 (equal images).

    Raises:
        ValueError: the shapes differ or are not [N, C, H, W].
    """
    if images.ndim != 4 or images.shape != reference.shape:
        raise ValueError(f"ssim needs two [N, C, H, W], got {tuple(images.shape)} and {tuple(reference.shape)}")
    values = structural_similarity_index_measure(
        images.double(), reference.double(), data_range=data_range, reduction="none"
    )
    assert isinstance(values, Tensor)  # a tuple only with return_full_image
    return values.float().reshape(len(images))  # torchmetrics drops the axis of a single image

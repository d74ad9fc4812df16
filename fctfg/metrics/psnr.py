"""Peak signal-to-noise ratio."""

from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio


def psnr(images: Tensor, reference: Tensor, data_range: tuple[float, float] = (-1.0, 1.0)) -> Tensor:
    """Peak signal-to-noise ratio of each image, in dB.

    Args:
        images: [N, C, H, W], float, in `data_range`; values outside are clamped to it.
        reference: [N, C, H, W], float, in `data_range`.
        data_range: smallest and largest possible value: (-1, 1) for the networks' frames, (0, 1) for pictures.

    Returns:
        [N], 10 log10(range^2 / mean squared error); infinite where both images are equal.

    Raises:
        ValueError: the shapes differ or are not [N, C, H, W].
    """
    if images.ndim != 4 or images.shape != reference.shape:
        raise ValueError(f"psnr needs two [N, C, H, W], got {tuple(images.shape)} and {tuple(reference.shape)}")
    return peak_signal_noise_ratio(
        images.float(), reference.float(), data_range=data_range, dim=(1, 2, 3), reduction="none"
    )

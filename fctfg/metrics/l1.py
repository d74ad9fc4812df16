"""Mean absolute error."""

from torch import Tensor


def l1(images: Tensor, reference: Tensor, data_range: tuple[float, float] = (-1.0, 1.0)) -> Tensor:
    """Mean absolute error of each image, as a share of the range of values.

    L1 = mean |images - reference| / (largest - smallest possible value), the scale on which papers on face animation
    report it (Siarohin et al. 2019); times 255 it is in grey levels. Lower is better.

    Args:
        images: [N, C, H, W], float, in `data_range`; values outside are clamped to it.
        reference: [N, C, H, W], float, in `data_range`.
        data_range: smallest and largest possible value: (-1, 1) for the networks' frames, (0, 1) for pictures.

    Returns:
        [N], in [0, 1], 0 for equal images.

    Raises:
        ValueError: the shapes differ or are not [N, C, H, W].
    """
    if images.ndim != 4 or images.shape != reference.shape:
        raise ValueError(f"l1 needs two [N, C, H, W], got {tuple(images.shape)} and {tuple(reference.shape)}")
    difference = images.double().clamp(*data_range) - reference.double().clamp(*data_range)
    return (difference.abs().mean((1, 2, 3)) / (data_range[1] - data_range[0])).float()

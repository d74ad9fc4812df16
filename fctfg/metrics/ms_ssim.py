"""Multi-scale structural similarity."""

from torch import Tensor
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, the finest first (Wang et al. 2003, section 3.2)
SMALLEST = (11, 22, 44, 99, 176)  # px: the smallest picture for 1, 2, ... scales


def ms_ssim_scales(size: int) -> int:
    """How many of the five scales a picture has room for.

    The window of 11 px has to fit into the picture halved once per scale: 11, 22, 44, 88 and 176 px; torchmetrics asks
    for 99 px in place of 88.

    Args:
        size: the shorter side, px.

    Returns:
        1 to 5: 3 at 64 px, 4 at 128 px, 5 from 176 px on.

    Raises:
        ValueError: the picture is smaller than the window.
    """
    if size < SMALLEST[0]:
        raise ValueError(f"MS-SSIM needs pictures of at least {SMALLEST[0]} px, got {size}")
    return sum(size >= smallest for smallest in SMALLEST)


def ms_ssim(images: Tensor, reference: Tensor, data_range: tuple[float, float] = (-1.0, 1.0)) -> Tensor:
    """Multi-scale structural similarity of each image (Wang, Simoncelli and Bovik 2003, Eq. 7).

    MS-SSIM = l_M^a_M prod_j (c_j s_j)^a_j over M scales, each half as large as the one before (mean of 2 x 2 pixels),
    with a Gaussian window of 11 px and sigma 1.5. Negative factors count as 0. Pictures that are too small for the five
    published scales get the first `ms_ssim_scales` of them, their weights a_j divided by their sum; such values do not
    compare with those of larger pictures, so name the number of scales beside them. No unit; higher is better.
    Computed in float64.

    Args:
        images: [N, C, H, W], float, in `data_range`; values outside are clamped to it.
        reference: [N, C, H, W], float, in `data_range`.
        data_range: smallest and largest possible value: (-1, 1) for the networks' frames, (0, 1) for pictures.

    Returns:
        [N], in [0, 1], 1 for equal images.

    Raises:
        ValueError: the shapes differ, are not [N, C, H, W], or are smaller than 11 px.
    """
    if images.ndim != 4 or images.shape != reference.shape:
        raise ValueError(f"ms_ssim needs two [N, C, H, W], got {tuple(images.shape)} and {tuple(reference.shape)}")
    weights = WEIGHTS[: ms_ssim_scales(min(images.shape[-2:]))]
    values = multiscale_structural_similarity_index_measure(
        images.double().clamp(*data_range),  # before they are halved, as torchmetrics would only do behind
        reference.double().clamp(*data_range),
        data_range=data_range,
        betas=tuple(weight / sum(weights) for weight in weights),
        reduction="none",
    )
    return values.float().reshape(len(images))  # torchmetrics drops the axis of a single image

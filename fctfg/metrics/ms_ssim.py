"""Multi-scale structural similarity."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fctfg.metrics.ssim import WINDOW, similarity

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, the finest first (Wang et al. 2003, section 3.2)


def ms_ssim_scales(size: int) -> int:
    """How many of the five scales a picture has room for.

    The window of 11 px has to fit into the picture halved once per scale: 11, 22, 44, 88 and 176 px.

    Args:
        size: the shorter side, px.

    Returns:
        1 to 5: 3 at 64 px, 4 at 128 px, 5 from 176 px on.

    Raises:
        ValueError: the picture is smaller than the window.
    """
    if size < WINDOW:
        raise ValueError(f"MS-SSIM needs pictures of at least {WINDOW} px, got {size}")
    return sum(size >= WINDOW * 2**scale for scale in range(len(WEIGHTS)))


def ms_ssim(images: Tensor, reference: Tensor, data_range: tuple[float, float] = (-1.0, 1.0)) -> Tensor:
    """Multi-scale structural similarity of each image (Wang, Simoncelli and Bovik 2003, Eq. 7).

    MS-SSIM = l_M^a_M prod_j (c_j s_j)^a_j over M scales, each half as large as the one before (mean of 2 x 2 pixels),
    with the window of `ssim`. Negative factors count as 0. Pictures that are too small for the five published scales
    get the first `ms_ssim_scales` of them, their weights a_j divided by their sum; such values do not compare with
    those of larger pictures, so name the number of scales beside them. No unit; higher is better. Computed in float64.

    Args:
        images: [N, C, H, W], float, in `data_range`; values outside are clamped to it.
        reference: [N, C, H, W], float, in `data_range`.
        data_range: smallest and largest possible value: (-1, 1) for the networks' frames, (0, 1) for pictures.

    Returns:
        float32 [N], in [0, 1], 1 for equal images.

    Raises:
        ValueError: the shapes differ, are not [N, C, H, W], or are smaller than 11 px.
    """
    return both_ssim(images, reference, data_range)[1]


def both_ssim(
    images: Tensor, reference: Tensor, data_range: tuple[float, float] = (-1.0, 1.0)
) -> tuple[Tensor, Tensor]:
    """`ssim` and `ms_ssim`, whose finest scale is the former's, in the time of the latter.

    Args:
        images, reference, data_range: see `ms_ssim`.

    Returns:
        (SSIM, MS-SSIM), float32 [N] each.

    Raises:
        ValueError: as `ms_ssim`.
    """
    if images.ndim != 4 or images.shape != reference.shape:
        raise ValueError(f"ms_ssim needs two [N, C, H, W], got {tuple(images.shape)} and {tuple(reference.shape)}")
    scales = ms_ssim_scales(min(images.shape[-2:]))
    weights = torch.tensor(WEIGHTS[:scales], dtype=torch.float64, device=images.device)
    x, y = (each.double().clamp(*data_range) for each in (images, reference))
    found = []  # of each scale: SSIM, and its part without the brightness
    for scale in range(scales):
        if scale:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        found.append(similarity(x, y, data_range))
    factors = torch.stack([*(structure for _, structure in found[:-1]), found[-1][0]])
    return found[0][0].float(), factors.clamp_min(0).pow((weights / weights.sum())[:, None]).prod(0).float()

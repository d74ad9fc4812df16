"""The identity loss (Eq. 5)."""

from torch import Tensor

from fctfg.ops.precision import float32_island


@float32_island
def identity(generated: Tensor, driving: Tensor) -> Tensor:
    """How far the generated person is from the person of the driving frame.

    L_id = 1 - cos(ArcFace(generated), ArcFace(driving))        (Eq. 5)

    Args:
        generated: [B, D], unit length.
        driving: [B, D], unit length.

    Returns:
        a scalar in [0, 2].
    """
    return 1 - (generated * driving).sum(-1).mean()

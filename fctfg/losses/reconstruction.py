"""The reconstruction losses: the paper's (Eq. 6), and the squared one of stage 2."""

from torch import Tensor

from fctfg.ops.precision import float32_island


@float32_island
def reconstruction(frames: Tensor, target: Tensor) -> Tensor:
    """The mean absolute difference.

    L_rec = || generated - driving ||_1        (Eq. 6)

    Args:
        frames: [..., 3, H, W].
        target: the same shape.

    Returns:
        a scalar.
    """
    return (frames - target).abs().mean()


@float32_island
def squared_error(frames: Tensor, target: Tensor) -> Tensor:
    """The mean squared difference, pSp's L2 term.

    Args:
        frames: [..., 3, H, W].
        target: the same shape.

    Returns:
        a scalar.
    """
    return (frames - target).square().mean()

"""The reconstruction loss (Eq. 6)."""

from torch import Tensor


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

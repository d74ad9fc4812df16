"""The least-squares adversarial losses, an alternative to the paper's (Eq. 8)."""

from torch import Tensor

from fctfg.ops.precision import float32_island


@float32_island
def d_least_squares_real(real: Tensor) -> Tensor:
    """The discriminator's part for real images.

    1/2 E[(D(real) - 1)^2]        (Mao et al. 2017, Eq. 8: a = -1, b = 1, c = 0)

    With these targets 0 means undecided, as with the logistic loss, so that scores and their signs mean the same.

    Args:
        real: logits [B, 1].

    Returns:
        a scalar; both parts together are 1 by chance.
    """
    return (real - 1).square().mean() / 2


@float32_island
def d_least_squares_fake(fake: Tensor) -> Tensor:
    """The discriminator's part for generated images.

    1/2 E[(D(fake) + 1)^2]        (Mao et al. 2017, Eq. 8)

    Args:
        fake: logits [B, 1].

    Returns:
        a scalar.
    """
    return (fake + 1).square().mean() / 2


@float32_island
def g_least_squares(fake: Tensor) -> Tensor:
    """The generator's loss.

    1/2 E[D(fake)^2]        (Mao et al. 2017, Eq. 8)

    Args:
        fake: logits [B, 1].

    Returns:
        a scalar.
    """
    return fake.square().mean() / 2

"""The lip-sync loss (Eq. 4)."""

from torch import Tensor

from fctfg.ops.precision import float32_island


@float32_island
def sync(face: Tensor, audio: Tensor) -> Tensor:
    """How far the generated mouths are from the sound.

    L_sync = 1 - cos(f_v(generated), f_a(audio))        (Eq. 4)

    Args:
        face: [B, D], unit length.
        audio: [B, D], unit length.

    Returns:
        a scalar in [0, 2].
    """
    return 1 - (face * audio).sum(-1).mean()

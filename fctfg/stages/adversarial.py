"""The discriminator's half of an adversarial iteration, and its scores in validation, shared by stages 1 and 3."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from fctfg.losses.adversarial import AdversarialForm, d_fake, d_real, r1_penalty
from fctfg.losses.mixup import d_mixed, mixup
from fctfg.ops.precision import precise


def r1_gradients(
    discriminator: Callable[[Tensor], Tensor],
    real: Tensor,
    weight: float,
    every: int,
    backward: Callable[[Tensor, bool], None],
) -> dict[str, Tensor]:
    """The gradients of the lazy R1 term, scaled by its period.

    Args:
        discriminator: images [N, 3, H, W], or windows [N, T, 3, H, W] -> logits [N, 1].
        real: in [-1, 1].
        weight: gamma; the term is gamma / 2 * E[|grad D(real)|^2] (Mescheder et al. 2018; 10 in StyleGAN2).
        every: period of the lazy regularisation (16 in StyleGAN2).
        backward: adds the gradients of a part to those there; told that another part follows.

    Returns:
        What to watch, detached: `r1`, the unweighted penalty.
    """
    penalty = r1_penalty(discriminator, real)
    backward(penalty * (weight / 2 * every), False)
    return {"r1": penalty.detach()}


def discriminator_gradients(
    discriminator: Callable[[Tensor], Tensor],
    real: Tensor,
    fake: Tensor,
    backward: Callable[[Tensor, bool], None],
    form: AdversarialForm = "nonsaturating",
    shares: Tensor | None = None,
) -> dict[str, Tensor]:
    """The gradients of the adversarial loss.

    The parts are differentiated one after the other, so that only one's graph is in memory.

    Args:
        discriminator: images [N, 3, H, W], or windows [N, T, 3, H, W] -> logits [N, 1].
        real: in [-1, 1].
        fake: the same shape, detached from the generator.
        backward: adds the gradients of a part to those there; also told whether it is the last part.
        form: of the loss.
        shares: how much of each mixed image is real, [N, 1] (mixup); None judges real and generated images by
            themselves.

    Returns:
        What to watch, detached: `discriminator` (the loss); and unless they are mixed, `real_score` and `fake_score`
        (mean logits) and `real_sign` (mean sign of the logits of real images).
    """
    if shares is not None:
        loss = d_mixed(discriminator(mixup(real, fake, shares)), shares, form)
        backward(loss, True)
        return {"discriminator": loss.detach()}
    fake_logits = discriminator(fake)
    fake_loss = d_fake(fake_logits, form)
    backward(fake_loss, False)
    real_logits = discriminator(real)
    real_loss = d_real(real_logits, form)
    backward(real_loss, True)
    real_logits, fake_logits = precise(real_logits.detach()), precise(fake_logits.detach())
    return {
        "discriminator": (fake_loss + real_loss).detach(),
        "real_score": real_logits.mean(),
        "fake_score": fake_logits.mean(),
        "real_sign": real_logits.sign().mean(),
    }


def scores(discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """What the discriminator says in validation; where `real_score` falls behind that of training, it memorises.

    Args:
        discriminator: images [N, 3, H, W], or windows [N, T, 3, H, W] -> logits [N, 1].
        real: held out, in [-1, 1].
        fake: the same shape.

    Returns:
        `real_score` and `fake_score`: mean logits, float32 or finer.
    """
    return {name: precise(discriminator(x)).mean() for name, x in (("real_score", real), ("fake_score", fake))}

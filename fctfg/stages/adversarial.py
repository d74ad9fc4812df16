"""The discriminator's half of an adversarial iteration, shared by stages 1 and 3."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from fctfg.losses.adversarial import d_logistic_fake, d_logistic_real, r1_penalty
from fctfg.ops.precision import precise


def discriminator_gradients(
    discriminator: nn.Module,
    real: Tensor,
    fake: Tensor,
    iteration: int,
    r1_weight: float,
    r1_every: int,
    backward: Callable[[Tensor, bool], None],
) -> dict[str, Tensor]:
    """The gradients of the logistic loss, and of R1 on every `r1_every`-th iteration, scaled by that period.

    The parts are differentiated one after the other, so that only one's graph is in memory; the last one reaches every
    parameter, which R1 does not.

    Args:
        discriminator: images [N, 3, H, W] -> logits [N, 1].
        real: [N, 3, H, W] in [-1, 1].
        fake: [N, 3, H, W], detached from the generator.
        iteration: counts from 0.
        r1_weight: gamma; the term is gamma / 2 * E[|grad D(real)|^2] (Mescheder et al. 2018; 10 in StyleGAN2).
        r1_every: period of the lazy regularisation (16 in StyleGAN2).
        backward: adds the gradients of a part to those there; also told whether it is the last part.

    Returns:
        What to watch, detached: `discriminator` (the logistic loss), `real_score` and `fake_score` (mean logits), and
        `r1`, the unweighted penalty, on the iterations that have it.
    """
    watched = {}
    if iteration % r1_every == 0:
        penalty = r1_penalty(discriminator, real)
        backward(penalty * (r1_weight / 2 * r1_every), False)
        watched["r1"] = penalty.detach()
    fake_logits = discriminator(fake)
    fake_loss = d_logistic_fake(fake_logits)
    backward(fake_loss, False)
    real_logits = discriminator(real)
    real_loss = d_logistic_real(real_logits)
    backward(real_loss, True)
    watched["discriminator"] = (fake_loss + real_loss).detach()
    scores = {"real_score": precise(real_logits.detach()).mean(), "fake_score": precise(fake_logits.detach()).mean()}
    return watched | scores

"""The discriminator's half of an adversarial iteration, shared by stages 1 and 3."""

from __future__ import annotations

from torch import Tensor, nn

from fctfg.losses.adversarial import d_logistic, r1_penalty


def discriminator_loss(
    discriminator: nn.Module, real: Tensor, fake: Tensor, iteration: int, r1_weight: float, r1_every: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """The logistic loss, and R1 folded in on every `r1_every`-th iteration, scaled by that period.

    Args:
        discriminator: images [N, 3, H, W] -> logits [N, 1].
        real: [N, 3, H, W] in [-1, 1].
        fake: [N, 3, H, W], detached from the generator.
        iteration: counts from 0.
        r1_weight: gamma; the term is gamma / 2 * E[|grad D(real)|^2] (Mescheder et al. 2018; 10 in StyleGAN2).
        r1_every: period of the lazy regularisation (16 in StyleGAN2).

    Returns:
        The loss, and what to watch, detached: `discriminator` (the logistic loss), `real_score` and `fake_score` (mean
        logits), and `r1`, the unweighted penalty, on the iterations that have it.
    """
    real_logits, fake_logits = discriminator(real), discriminator(fake)
    loss = d_logistic(real_logits, fake_logits)
    watched = {"discriminator": loss, "real_score": real_logits.mean(), "fake_score": fake_logits.mean()}
    if iteration % r1_every == 0:
        watched["r1"] = r1_penalty(discriminator, real)
        loss = loss + watched["r1"] * (r1_weight / 2 * r1_every)
    return loss, {name: value.detach() for name, value in watched.items()}

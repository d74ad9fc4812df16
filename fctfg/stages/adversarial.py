"""The discriminator's half of an adversarial iteration, shared by stages 1 and 3."""

from __future__ import annotations

from torch import Tensor, nn

from fctfg.losses.adversarial import d_logistic, r1_penalty


def discriminator_terms(
    discriminator: nn.Module, real: Tensor, fake: Tensor, iteration: int, r1_weight: float, r1_every: int
) -> dict[str, Tensor]:
    """The discriminator's loss terms, R1 folded in on every `r1_every`-th iteration and scaled by that period.

    Args:
        discriminator: images [N, 3, H, W] -> logits [N, 1].
        real: [N, 3, H, W] in [-1, 1].
        fake: [N, 3, H, W], detached from the generator.
        iteration: counts from 0.
        r1_weight: gamma; the term is gamma / 2 * E[|grad D(real)|^2] (Mescheder et al. 2018; 10 in StyleGAN2).
        r1_every: period of the lazy regularisation (16 in StyleGAN2).

    Returns:
        `discriminator` (logistic loss), and `r1` on the iterations that have it; their sum is the loss. With
        `real_score` and `fake_score`, mean logits to watch, which are detached.
    """
    real_logits, fake_logits = discriminator(real), discriminator(fake)
    terms = {"discriminator": d_logistic(real_logits, fake_logits)}
    if iteration % r1_every == 0:
        terms["r1"] = r1_penalty(discriminator, real) * (r1_weight / 2 * r1_every)
    scores = {"real_score": real_logits.detach().mean(), "fake_score": fake_logits.detach().mean()}
    return terms | scores


def discriminator_loss(terms: dict[str, Tensor]) -> Tensor:
    """Sum of the terms that `discriminator_terms` gives."""
    return terms["discriminator"] + terms["r1"] if "r1" in terms else terms["discriminator"]

"""How strongly a discriminator's images are augmented: so that it does not learn a small data set by heart."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fctfg.models.adaptive_augment import augment
from fctfg.ops.draws import Draws
from fctfg.ranges import check_range


@dataclass(frozen=True)
class AdaptiveAugmentation:
    """How the strength follows the discriminator; the defaults are those of Karras et al. 2020b, Section 3.

    Attributes:
        target: of r_t, the mean sign of the discriminator on real training images: 0 where it cannot tell, 1 where it
            knows every one of them.
        every: iterations between two changes of the strength.
        images: after which the strength has gone from 0 to 1, where it always rises.
        largest: strength at most. The paper sets no limit, and reports no leaks below 0.8.
    """

    target: float = 0.6
    every: int = 4
    images: float = 500_000
    largest: float = 0.8

    def __post_init__(self) -> None:
        group = "model.init_args.augmentation"
        check_range(-1, 1, group, target=self.target)
        check_range(1, group=group, every=self.every, images=self.images)
        check_range(0, 0.99, group, largest=self.largest)


class AdaptiveStrength(nn.Module):
    """Augments what a discriminator sees, with the strength that its answers ask for.

    The strength and the sums since its last change are buffers, so that checkpoints hold them.

    Args:
        rule: how the strength follows.
    """

    strength: Tensor
    signs: Tensor
    seen: Tensor

    def __init__(self, rule: AdaptiveAugmentation) -> None:
        super().__init__()
        self.rule = rule
        for name in ("strength", "signs", "seen"):  # p; sum of signs and number of real images since it changed
            self.register_buffer(name, torch.zeros(()))

    def forward(self, images: Tensor, draws: Draws) -> Tensor:
        """[B, 3, S, S] in [-1, 1], and draws of B -> the same shape, augmented; real and generated images alike."""
        return augment(images, self.strength, draws)

    @torch.no_grad()
    def follow(self, sign: Tensor, images: int, iteration: int, skipped: Tensor | None = None) -> None:
        """Take note of an iteration; change the strength when it is time.

        r_t = E[sign(D(x))] over the real images since the last change        (Karras et al. 2020b, Eq. 1)

        and p moves by (those images) / `rule.images` towards where r_t is the target.

        Args:
            sign: mean sign of the logits of the iteration's real images, over all processes.
            images: how many they are.
            iteration: counts from 0.
            skipped: scalar, 1 where the discriminator's step was skipped, which then never happened; None is 0.
        """
        kept = images if skipped is None else images * (1 - skipped.view(()))
        self.signs += sign.nan_to_num() * kept
        self.seen += kept
        if (iteration + 1) % self.rule.every == 0:
            step = self.seen / self.rule.images
            self.strength += step * (self.signs / self.seen.clamp(min=1) - self.rule.target).sign()
            self.strength.clamp_(0, self.rule.largest)
            self.signs.zero_()
            self.seen.zero_()

"""Run by test_ranks.py: two processes add up the gradients of a loss part by part, and compare with the whole."""

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from fctfg.losses.adversarial import d_logistic_fake, d_logistic_real, r1_penalty
from fctfg.models.discriminator import Discriminator, DiscriminatorConfig
from fctfg.stages.adversarial import discriminator_gradients, r1_gradients
from fctfg.stages.base import Stage
from fctfg.stages.exchange import exchange_by_hand


def pictures(iteration: int, rank: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(10 * iteration + rank)
    real, fake = torch.randn(2, 4, 3, 16, 16, generator=draw)
    return real, fake


class Half(pl.LightningModule):
    """The discriminator's half of an adversarial stage, beside a parameter that it leaves alone."""

    accumulate, differentiate, _part = Stage.accumulate, Stage.differentiate, (0, 1)

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        torch.manual_seed(0)
        self.discriminator = Discriminator(DiscriminatorConfig(16, 128, 8))
        self.other = nn.Parameter(torch.zeros(1))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3)

    def training_step(self, batch: Tensor, iteration: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()  # type: ignore[union-attr]
        real, fake = pictures(iteration, self.global_rank)
        if iteration % 2 == 0:
            r1_gradients(self.discriminator, real, 10.0, 2, self.accumulate)
        discriminator_gradients(self.discriminator, real, fake, self.accumulate)
        parameters = list(self.discriminator.parameters())
        whole = []
        for rank in range(2):
            real, fake = pictures(iteration, rank)
            loss = d_logistic_real(self.discriminator(real)) + d_logistic_fake(self.discriminator(fake))
            if iteration % 2 == 0:
                loss = loss + 10.0 * r1_penalty(self.discriminator, real)
            whole.append(torch.autograd.grad(loss, parameters))
        for one, other, parameter in zip(*whole, parameters, strict=True):
            torch.testing.assert_close(parameter.grad, (one + other) / 2, atol=1e-4, rtol=1e-3)
        optimizer.step()  # type: ignore[union-attr]


if __name__ == "__main__":
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=2,
        max_steps=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    exchange_by_hand(trainer)
    trainer.fit(Half(), torch.utils.data.DataLoader(torch.zeros(8, 1), batch_size=1))

"""Least squares and mixup: the losses by their formulas, and the discriminator's half of a step with them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from trained_runs import Place, arguments

from fctfg.cli import main
from fctfg.losses.adversarial import d_fake, d_logistic_fake, d_logistic_real, d_real, g_adversarial, g_nonsaturating
from fctfg.losses.least_squares import d_least_squares_fake, d_least_squares_real, g_least_squares
from fctfg.losses.mixup import d_mixed, mixup, real_shares
from fctfg.ops.draws import Draws
from fctfg.stages.adversarial import discriminator_gradients, scores

LOGITS = torch.tensor([[0.3], [-1.2], [2.0]], dtype=torch.float64)


def test_least_squares_in_numpy() -> None:
    x = LOGITS.numpy()
    assert d_least_squares_real(LOGITS).item() == pytest.approx(np.mean((x - 1) ** 2) / 2)
    assert d_least_squares_fake(LOGITS).item() == pytest.approx(np.mean((x + 1) ** 2) / 2)
    assert g_least_squares(LOGITS).item() == pytest.approx(np.mean(x**2) / 2)
    assert d_real(LOGITS, "least_squares") == d_least_squares_real(LOGITS) != d_real(LOGITS)
    assert d_fake(LOGITS, "least_squares") == d_least_squares_fake(LOGITS) != d_fake(LOGITS)
    assert g_adversarial(LOGITS, "least_squares") == g_least_squares(LOGITS) != g_adversarial(LOGITS)
    assert g_adversarial(LOGITS) == g_nonsaturating(LOGITS)


def test_the_best_discriminator_of_least_squares_is_the_papers() -> None:
    """Where real images have density p and generated ones q, it answers (b p + a q) / (p + q) (Mao et al., Eq. 5)."""
    p, q = 0.7, 0.2
    answer = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([answer], lr=0.5)
    for _ in range(100):
        optimizer.zero_grad()
        (p * d_least_squares_real(answer) + q * d_least_squares_fake(answer)).backward()
        optimizer.step()
    assert answer.item() == pytest.approx((p - q) / (p + q))


def test_images_are_mixed_by_their_shares() -> None:
    real, fake = torch.rand(2, 3, 3, 2, 2)
    share = torch.tensor([[1.0], [0.0], [0.25]])
    mixed = mixup(real, fake, share)
    torch.testing.assert_close(mixed[0], real[0])
    torch.testing.assert_close(mixed[1], fake[1])
    torch.testing.assert_close(mixed[2], 0.25 * real[2] + 0.75 * fake[2])
    windows = mixup(real[None], fake[None], share[2:])
    torch.testing.assert_close(windows[0, 1], 0.25 * real[1] + 0.75 * fake[1])


@pytest.mark.parametrize("form", ["nonsaturating", "least_squares"])
def test_mixed_losses_end_in_those_of_real_and_generated_images(form: str) -> None:
    ones, zeros = torch.ones_like(LOGITS), torch.zeros_like(LOGITS)
    real = d_logistic_real(LOGITS) if form == "nonsaturating" else d_least_squares_real(LOGITS)
    fake = d_logistic_fake(LOGITS) if form == "nonsaturating" else d_least_squares_fake(LOGITS)
    torch.testing.assert_close(d_mixed(LOGITS, ones, form), real)  # type: ignore[arg-type]
    torch.testing.assert_close(d_mixed(LOGITS, zeros, form), fake)  # type: ignore[arg-type]


def test_mixed_losses_are_least_where_the_logit_says_the_share() -> None:
    share = torch.tensor([[0.3]], dtype=torch.float64)
    for form, best in (("nonsaturating", np.log(0.3 / 0.7)), ("least_squares", 2 * 0.3 - 1)):
        logits = torch.tensor([[best]], dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(d_mixed(logits, share, form), logits)  # type: ignore[arg-type]
        assert gradient.item() == pytest.approx(0, abs=1e-12)


def test_a_mixed_step_asks_once_and_draws_shares_from_the_ends() -> None:
    """Beta(0.2, 0.2) lies within 0.1 of an end with probability 0.67 (regularised incomplete beta function)."""
    asked: list[Tensor] = []

    def discriminator(images: Tensor) -> Tensor:
        asked.append(images)
        return images.mean((1, 2, 3))[:, None]

    shares = real_shares(0.2, Draws.of_rows(0, torch.arange(4000)))
    real, fake = torch.ones(4000, 1, 1, 1, requires_grad=True), -torch.ones(4000, 1, 1, 1)
    parts: list[bool] = []
    step = discriminator_gradients(
        discriminator, real, fake, lambda loss, last: parts.append(last), "least_squares", shares
    )
    assert step.keys() == {"discriminator"} and parts == [True]
    (images,) = asked
    assert (images.detach().abs() > 0.8).float().mean().item() == pytest.approx(0.673, abs=0.03)
    assert images.mean().item() == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("concentration", [0.2, 1.0, 3.0])
def test_shares_are_drawn_from_beta(concentration: float) -> None:
    shares = real_shares(concentration, Draws.of_rows(1, torch.arange(20_000)))
    points = np.array([1e-4, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
    below = (shares.numpy() < points).mean(0)
    wanted = stats.beta(concentration, concentration).cdf(points)
    assert (np.abs(below - wanted) < 4 * np.sqrt(wanted * (1 - wanted) / len(shares)) + 1e-4).all()


def test_scores_of_bfloat16_logits_are_means_in_float32() -> None:
    real, fake = 1 + torch.arange(8.0).view(2, 4, 1) / 128  # each is a bfloat16, their means are not
    said = scores(Tensor.bfloat16, real, -fake)
    assert {name: float(value) for name, value in said.items()} == {"real_score": 1.01171875, "fake_score": -1.04296875}


@pytest.mark.usefixtures("untracked")
@pytest.mark.parametrize("stage", ["generator", "talking_face"])
def test_stages_train_with_both_switches(place: Place, stage: str) -> None:
    switches = "--model.init_args.adversarial_form=least_squares", "--model.init_args.mixup=0.2"
    run = f"{stage}_least_squares_mixup"
    assert main(arguments(place, stage, run, *switches, "--trainer.max_epochs=1")) == 0
    mixed, plain = (Path(place[1] / name / "metrics.csv").read_text() for name in (run, stage))
    assert "train/real_score" in plain and "train/real_score" not in mixed
    assert "train/discriminator" in mixed and "train/adversarial" in mixed


def test_augmentation_needs_real_images(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    both = "--model.init_args.mixup=0.2", "--model.init_args.augmentation.target=0.6"
    assert main(arguments(place, "generator", "both_switches", *both)) == 1
    assert "switch one of them off" in capsys.readouterr().err
    assert not (place[1] / "both_switches").exists()

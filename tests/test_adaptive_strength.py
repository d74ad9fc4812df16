"""The strength of the augmentation: how it follows the discriminator, and that a run continues with it exactly."""

import subprocess
import sys

import pytest
import torch
from trained_runs import CONFIGS, Place, arguments, checkpoint, equal, numbers

from fctfg.cli import main
from fctfg.stages.adaptive_strength import AdaptiveAugmentation, AdaptiveStrength

pytestmark = pytest.mark.usefixtures("untracked")
OVERLAY = f"--config={CONFIGS / 'small_data.yaml'}"
FAST = "--model.init_args.augmentation.images=40"  # as batches here have four images
SURE = "--seed_everything=7", "--model.learning_rate=0"  # a discriminator that calls every image real, and stays so


def follow(strength: AdaptiveStrength, signs: list[float], images: int = 10, start: int = 0) -> float:
    for iteration, sign in enumerate(signs, start):
        strength.follow(torch.tensor(sign), images, iteration)
    return strength.strength.item()


def test_the_strength_moves_by_the_images_seen_since_it_last_did() -> None:
    strength = AdaptiveStrength(AdaptiveAugmentation(target=0.6, every=4, images=1000))
    assert follow(strength, [1, 1, 1]) == 0  # not yet
    assert follow(strength, [1], start=3) == pytest.approx(0.04)
    assert follow(strength, [1, 1, 0.2, 0.3], start=4) == pytest.approx(0.08)  # 0.625 on average
    assert follow(strength, [1, 1, 0.2, 0.1], start=8) == pytest.approx(0.04)  # 0.575
    assert follow(strength, [-1] * 8, start=12) == 0  # not below
    assert follow(strength, [1] * 400, start=20) == pytest.approx(0.8)  # not above


def test_the_papers_numbers() -> None:
    strength = AdaptiveStrength(AdaptiveAugmentation())
    for iteration in range(40):
        strength.follow(torch.tensor(1.0), 64, iteration)
    assert strength.strength.item() == pytest.approx(40 * 64 / 500_000)


@pytest.mark.parametrize("wrong", [{"every": 0}, {"target": 2.0}, {"largest": 1.0}, {"images": 0}])
def test_settings_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        AdaptiveAugmentation(**wrong)  # type: ignore[arg-type]


def test_a_run_continues_with_its_strength_and_its_sums(place: Place) -> None:
    """Epochs of three iterations, so that the cut falls between two changes of the strength."""
    more = OVERLAY, FAST, *SURE, "--data.batches_per_epoch=3"
    assert main(arguments(place, "generator", "adaptive", *more, "--trainer.max_epochs=3")) == 0
    for epochs in (1, 2, 3):
        assert main(arguments(place, "generator", "adaptive_cut", *more, f"--trainer.max_epochs={epochs}")) == 0
        state = checkpoint(place, "adaptive_cut")["state_dict"]
        assert state["augment.seen"].item() == 4 * (3 * epochs % 4)
    assert state["augment.strength"].item() == pytest.approx(0.8)
    straight, cut = (checkpoint(place, run) for run in ("adaptive", "adaptive_cut"))
    assert equal(straight["state_dict"], cut["state_dict"])
    assert equal(straight["optimizer_states"], cut["optimizer_states"])
    rows = numbers(place, "adaptive")
    assert rows == numbers(place, "adaptive_cut")
    assert any("train/augment_strength" in row for row in rows)


def test_augmentation_can_be_switched_on_and_off_in_a_run(place: Place) -> None:
    length = "--data.batches_per_epoch=4", *SURE
    more = *length, FAST
    assert main(arguments(place, "generator", "switched", *length, "--trainer.max_epochs=1")) == 0
    assert main(arguments(place, "generator", "switched", *more, "--trainer.max_epochs=2")) == 0
    assert checkpoint(place, "switched")["state_dict"]["augment.strength"].item() == pytest.approx(0.4)
    assert main(arguments(place, "generator", "switched", *length, "--trainer.max_epochs=3")) == 0
    assert "augment.strength" not in checkpoint(place, "switched")["state_dict"]


@pytest.mark.slow
def test_two_processes_count_all_images(place: Place) -> None:
    """Epochs of six iterations: the strength has moved once, by the images of both, and two iterations are waiting."""
    more = OVERLAY, FAST, *SURE, "--data.batches_per_epoch=6", "--trainer.max_epochs=1", "--trainer.devices=2"
    command = [sys.executable, "-m", "fctfg", *arguments(place, "generator", "augmented_two", *more)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    state = checkpoint(place, "augmented_two")["state_dict"]
    assert state["augment.seen"].item() == 2 * 2 * 4
    assert state["augment.strength"].item() == pytest.approx(4 * 2 * 4 / 40)
    assert abs(state["augment.signs"].item()) <= 16

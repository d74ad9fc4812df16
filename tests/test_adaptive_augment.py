"""Adaptive discriminator augmentation: each transformation by another way, how often it happens, no leaks."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from fctfg.models.adaptive_augment import (
    Blit,
    augment,
    blit,
    colour_matrix,
    draw_blit,
    draw_colour,
    draw_geometry,
    recolour,
)
from fctfg.ops.antialiased_warp import _SYM6, _filter, antialiased_warp
from fctfg.ops.draws import Draws

fresh = partial(Draws.fresh, device=torch.device("cpu"))
ZERO, ONE = torch.zeros(1), torch.ones(1)


def smooth(size: int = 32) -> Tensor:
    """An image that a warp can resample well: [1, 3, S, S] of low waves, other ones in each channel."""
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, size, dtype=torch.float64)] * 2, indexing="ij")
    return torch.stack([torch.sin(2 * x + 1), torch.cos(2 * y - x), torch.sin(x * y + 2 * y)])[None]


# ------------------------------------------------------------------------------------------------------- whole pixels


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("shift", [(0, 0), (3, -2), (-5, 9)])
def test_blits_are_those_of_numpy(mirrored: bool, turns: int, shift: tuple[int, int]) -> None:
    images = torch.randn(1, 3, 8, 8)
    change = Blit(torch.tensor([mirrored]), torch.tensor([turns]), torch.tensor([shift]))
    want = images[0].numpy()[:, :, ::-1] if mirrored else images[0].numpy()
    want = np.rot90(want, turns, (1, 2))
    wide = np.pad(want, ((0, 0), (16, 16), (16, 16)), mode="symmetric")
    want = wide[:, 16 - shift[1] : 24 - shift[1], 16 - shift[0] : 24 - shift[0]]
    assert np.array_equal(blit(images, change)[0].numpy(), want)


# ----------------------------------------------------------------------------------------------------------- geometry


def test_the_filter_is_a_wavelets_and_filtering_down_undoes_filtering_up() -> None:
    taps = np.array(_SYM6)
    for shift in range(6):
        assert taps[: 12 - 2 * shift] @ taps[2 * shift :] == pytest.approx(float(shift == 0), abs=1e-11)
    moments = [
        (taps * np.arange(12) ** m * (-1) ** np.arange(12)).sum() for m in range(6)
    ]  # of the wavelet: all vanish
    assert np.abs(moments).max() < 1e-8
    matrix = _filter(9, 0, torch.device("cpu"), torch.float64)
    signal = torch.randn(9, dtype=torch.float64)
    spaced = np.zeros(17)
    spaced[::2] = signal.numpy()
    np.testing.assert_allclose(matrix @ signal, np.convolve(spaced, taps), atol=1e-12)
    torch.testing.assert_close(matrix.T @ matrix, torch.eye(9, dtype=torch.float64))
    wide = _filter(9, 6, torch.device("cpu"), torch.float64) @ signal
    padded = _filter(21, 0, torch.device("cpu"), torch.float64) @ torch.from_numpy(np.pad(signal, 6, mode="symmetric"))
    torch.testing.assert_close(wide, padded)


def test_no_motion_leaves_an_image_inside_its_border_as_it_is() -> None:
    images = torch.randn(2, 3, 24, 24, dtype=torch.float64)
    still = antialiased_warp(images, torch.eye(2, 3, dtype=torch.float64).expand(2, 2, 3))
    torch.testing.assert_close(still[..., 4:-4, 4:-4], images[..., 4:-4, 4:-4])


@pytest.mark.parametrize(
    ("scale", "angle", "shift"), [(1.0, 0.0, (2.5, -1.25)), (1.0, 0.6, (0.0, 0.0)), (1.2, -1.9, (1.0, 2.0))]
)
def test_warps_are_those_of_cubic_splines(scale: float, angle: float, shift: tuple[float, float]) -> None:
    images = smooth()
    linear = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = torch.tensor(np.concatenate([linear, np.array(shift)[:, None]], axis=1))[None]
    got = antialiased_warp(images, matrix)[0].numpy()
    y, x = np.mgrid[:32, :32] - 15.5
    where = np.einsum("ij,jhw->ihw", linear, np.stack([x, y])) + np.array(shift)[:, None, None] + 15.5
    inside = ((where > 2) & (where < 29)).all(0)
    for mine, channel in zip(got, images[0].numpy(), strict=True):
        want = ndimage.map_coordinates(channel, where[::-1], order=3, mode="reflect")
        assert np.abs(mine - want)[inside].max() < 0.01


def test_shrinking_does_not_alias() -> None:
    """Stripes finer than the result's pixels become grey; where no filter comes before, they become coarse stripes."""
    stripes = torch.cos(torch.arange(64) * math.pi * 0.9).expand(1, 1, 64, 64).double()
    matrix = torch.eye(2, 3, dtype=torch.float64)[None] * 1.9  # to about half the size
    naive = torch.nn.functional.grid_sample(
        stripes, torch.nn.functional.affine_grid(matrix, [1, 1, 64, 64], align_corners=False), align_corners=False
    )
    inside = slice(20, 44)
    assert antialiased_warp(stripes, matrix)[..., inside, inside].std() < 0.25 * naive[..., inside, inside].std()


def test_derivatives_of_both_orders() -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    matrix = torch.randn(2, 2, 3, dtype=torch.float64)
    change = Blit(torch.tensor([True, False]), torch.tensor([1, 2]), torch.tensor([[2, -1], [0, 3]]))

    def squared(x: Tensor) -> Tensor:
        return antialiased_warp(blit(x, change), matrix).square()

    assert torch.autograd.gradcheck(squared, images, fast_mode=True)
    assert torch.autograd.gradgradcheck(squared, images, fast_mode=True)


# ------------------------------------------------------------------------------------------------------------- colour


def colours(**changes: Tensor) -> Tensor:
    neutral = {"brightness": ZERO, "contrast": ONE, "flipped": torch.tensor([False]), "hue": ZERO, "saturation": ONE}
    matrix = colour_matrix(**{**neutral, **changes})
    images = torch.tensor([0.9, 0.1, -0.4]).view(1, 3, 1, 1)
    return recolour(images, matrix).flatten()


def test_each_change_of_colour() -> None:
    x = torch.tensor([0.9, 0.1, -0.4])
    grey = x.mean()
    torch.testing.assert_close(colours(), x)
    torch.testing.assert_close(colours(brightness=torch.tensor([0.3])), x + 0.3)
    torch.testing.assert_close(colours(contrast=torch.tensor([2.0])), 2 * x)
    torch.testing.assert_close(colours(flipped=torch.tensor([True])), x - 2 * grey)
    torch.testing.assert_close(colours(saturation=torch.tensor([0.5])), grey + 0.5 * (x - grey))
    third = torch.tensor([2 * math.pi / 3])
    torch.testing.assert_close(colours(hue=third), x.roll(1))  # red's place is taken by blue's
    torch.testing.assert_close(colours(hue=2 * third), x.roll(2))


def test_changes_of_colour_follow_each_other_in_the_papers_order() -> None:
    x = torch.tensor([0.9, 0.1, -0.4])
    y = 2 * (x + 0.3)  # brightness, contrast
    y = (y - 2 * y.mean()).roll(1)  # luma, hue
    y = y.mean() + 0.5 * (y - y.mean())  # saturation
    got = colours(
        brightness=torch.tensor([0.3]),
        contrast=torch.tensor([2.0]),
        flipped=torch.tensor([True]),
        hue=torch.tensor([2 * math.pi / 3]),
        saturation=torch.tensor([0.5]),
    )
    torch.testing.assert_close(got, y)


# ---------------------------------------------------------------------------------------------------------- how often


@pytest.mark.parametrize("p", [0.0, 0.3, 0.8])
def test_each_transformation_happens_with_probability_p(p: float) -> None:
    """Within four standard errors of 20,000 draws; half of the flips and a quarter of the turns are the identity."""
    torch.manual_seed(1)
    count, strength = 20_000, torch.tensor(p)

    def near(share: float, events: Tensor) -> None:
        error = 4 * math.sqrt(share * (1 - share) / count)
        assert abs(events.float().mean().item() - share) <= error

    mirrored, turns, shift = draw_blit(fresh(count), strength, 64)
    near(p / 2, mirrored)
    near(p * 3 / 4, turns != 0)
    near(p * (1 - 1 / 16**2), (shift != 0).any(1))
    assert shift.abs().max() <= 8

    matrix, moved = draw_geometry(fresh(count), strength, 64)
    none = (1 - p) ** 4  # scale, both turns together, aspect, shift
    near(1 - none, moved)
    size = matrix[:, :, :2].det()
    near(p, (size - 1).abs() > 1e-5)  # only the scale changes the area
    torch.testing.assert_close(matrix[~moved], torch.eye(2, 3).expand_as(matrix[~moved]))
    if p:
        changed = -0.5 * size[(size - 1).abs() > 1e-5].log2()
        assert changed.std().item() == pytest.approx(0.2, rel=0.05) and abs(changed.mean().item()) < 0.02

    linear = draw_colour(fresh(count), strength)[:, :, :3]
    near(p / 2, (linear.sum((1, 2)) < 0))  # the luma is mirrored
    contrast = linear.sum((1, 2)).abs() / 3
    near(p, (contrast - 1).abs() > 1e-5)


def test_without_strength_nothing_happens() -> None:
    images = torch.rand(4, 3, 16, 16) * 2 - 1
    torch.testing.assert_close(augment(images, torch.tensor(0.0), fresh(4)), images)


def test_images_are_augmented_each_by_itself() -> None:
    images = torch.rand(1, 3, 16, 16).expand(8, 3, 16, 16)
    draws = Draws.of_rows(3, torch.arange(8))
    one = augment(images, torch.tensor(0.8), draws)
    two = augment(images[2:6], torch.tensor(0.8), Draws(draws.seeds[2:6]))
    torch.testing.assert_close(one[2:6], two)
    assert len(torch.unique(one, dim=0)) == 8
    with pytest.raises(ValueError, match="S, S"):
        augment(torch.zeros(1, 3, 8, 4), torch.tensor(0.5), fresh(1))


# -------------------------------------------------------------------------------------------------------- non-leaking

SHARES = torch.tensor([0.6, 0.25, 0.1, 0.05])  # of the four orientations in a toy distribution


def fitted_shares(p: float, change: str) -> Tensor:
    """What a generator of four orientations learns, whose augmented images are to look like augmented real ones.

    The images are a corner, turned by quarters. The generator's parameters are the orientations' probabilities; they
    follow the gradient of the squared difference of the mean augmented images, which is what a linear discriminator
    would judge by.
    """
    torch.manual_seed(0)
    corner = torch.full((3, 4, 4), -1.0)
    corner[:, :2, :2] = 1.0
    turned = torch.stack([corner.rot90(k, (1, 2)) for k in range(4)])
    count, strength = 8_000 if change == "blits" else 6_000, torch.tensor(p)

    def seen(images: Tensor) -> Tensor:
        many = images[None].expand(count, -1, -1, -1)
        draws = fresh(count)
        many = blit(many, draw_blit(draws, strength, 4)) if change == "blits" else augment(many, strength, draws)
        return many.mean(0).flatten()

    means = torch.stack([seen(image) for image in turned])  # [4, 3*4*4] of each orientation, augmented
    real = SHARES @ torch.stack([seen(image) for image in turned])  # other draws
    logits = torch.zeros(4, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.05)
    for _ in range(400):
        loss = (logits.softmax(0) @ means - real).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return logits.softmax(0).detach()


@pytest.mark.parametrize(("p", "change"), [(0.3, "blits"), (0.7, "blits"), (0.3, "all")])
def test_orientations_do_not_leak(p: float, change: str) -> None:
    assert (fitted_shares(p, change) - SHARES).abs().max() < 0.06


def test_orientations_leak_where_they_must() -> None:
    """With p = 1 all orientations look alike, so that nothing tells the generator which one is real."""
    assert (fitted_shares(1.0, "blits") - SHARES).abs().max() > 0.2


def test_colours_do_not_leak() -> None:
    """A generator of one colour with some spread, trained through the augmentation by the gradient of two moments."""
    torch.manual_seed(0)
    count, strength = 50_000, torch.tensor(0.5)
    center, spread = torch.tensor([0.5, 0.1, -0.3]), 0.2

    def moments(mean: Tensor, deviation: Tensor, draws: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
        seen = recolour((mean + deviation * draws)[..., None, None], matrix).flatten(1)  # [N, 3]
        return seen.mean(0), seen.square().mean(0)

    drawn = torch.randn(2, count, 3), (draw_colour(fresh(count), strength), draw_colour(fresh(count), strength))
    real = moments(center, torch.tensor(spread), drawn[0][0], drawn[1][0])
    leaked = real[0] - center
    mean, deviation = torch.zeros(3, requires_grad=True), torch.tensor(0.5, requires_grad=True)
    optimizer = torch.optim.Adam([mean, deviation], lr=0.05)
    for _ in range(80):
        fake = moments(mean, deviation, drawn[0][1], drawn[1][1])
        loss = sum((a - b).square().sum() for a, b in zip(fake, real, strict=True))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        optimizer.step()
    assert (mean.detach() - center).abs().max() < 0.05
    assert abs(deviation.item()) == pytest.approx(spread, abs=0.05)
    assert leaked.abs().max() > 0.2  # what the augmented images themselves would have taught


def test_autocast_changes_nothing() -> None:
    images = torch.rand(4, 3, 16, 16) * 2 - 1
    results = []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            results.append(augment(images, torch.tensor(0.8), fresh(4)))
    assert torch.equal(*results) and results[0].dtype == torch.float32

"""Changed pictures: against float64 step by step, and what must stay the same."""

import colorsys
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from raw_talking import talking
from torch import Tensor
from torch.utils.data import default_collate

from fctfg.data.augmentation.pictures import (
    PictureAugment,
    PictureChange,
    change_pictures,
    change_points,
)
from fctfg.faces.detector import DlibDetector

CHANCES = ("flip", "brightness", "contrast", "gamma", "hue", "jitter", "noise")
NEVER = PictureAugment(**{f"{name}_chance": 0.0 for name in CHANCES})
ALWAYS = PictureAugment(**{f"{name}_chance": 1.0 for name in CHANCES})
TONES = ("brightness", "contrast", "gamma")


def pictures(batch: int = 2, frames: int = 3, size: int = 8, seed: int = 0) -> Tensor:
    """Uniform in [-1, 1]."""
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(batch, frames, 3, size, size, generator=draw) * 2 - 1


def drawn(settings: PictureAugment, batch: int, frames: int, seed: int = 0) -> PictureChange:
    """A collated batch of changes."""
    return default_collate([settings.draw(np.random.default_rng([seed, i]), frames) for i in range(batch)])


def only(batch: int = 1, frames: int = 1, **values: float) -> PictureChange:
    """No change but for the given values."""
    neutral = drawn(NEVER, batch, frames)
    return neutral._replace(**{name: torch.full_like(getattr(neutral, name), v) for name, v in values.items()})


# ------------------------------------------------------------------------------------------------------------ drawing


def test_a_change_follows_from_the_generator_alone() -> None:
    one, same, other = drawn(ALWAYS, 3, 6), drawn(ALWAYS, 3, 6), drawn(ALWAYS, 3, 6, seed=1)
    for name, value in one._asdict().items():
        assert torch.equal(value, getattr(same, name))
        assert name == "flip" or not torch.equal(value, getattr(other, name))
    assert [tuple(value.shape) for value in one] == [(3,), (3, 6), (3, 6), (3, 6), (3,), (3,), (3,)]
    assert [value.dtype for value in one] == [torch.bool, *[torch.float32] * 5, torch.int64]


@pytest.mark.parametrize("name", CHANCES)
def test_no_effect_moves_with_another_ones_settings(name: str) -> None:
    full, without = drawn(ALWAYS, 4, 3), drawn(replace(ALWAYS, **{f"{name}_chance": 0.0}), 4, 3)
    touched = set(TONES) if name == "jitter" else {name}
    for field, value in full._asdict().items():
        same = torch.equal(value, getattr(without, field))
        assert same != (field in touched)


def test_more_frames_change_nothing_for_the_first_ones() -> None:
    few, many = drawn(ALWAYS, 4, 3), drawn(ALWAYS, 4, 9)
    for field, value in few._asdict().items():
        other = getattr(many, field)
        assert torch.equal(value, other[:, :3] if field in TONES else other)


def test_effects_happen_as_often_as_asked_and_as_far() -> None:
    chances = {name: 0.1 + 0.1 * i for i, name in enumerate(CHANCES)}
    settings = PictureAugment(
        **{f"{name}_chance": chance for name, chance in chances.items()},
        brightness=1.1,
        contrast=1.3,
        gamma=1.5,
        hue=30,
        noise=0.1,
        jitter=1.02,
    )
    count = 4000
    change = drawn(settings, count, 2)
    steady = drawn(replace(settings, jitter_chance=0.0), count, 2)
    happened = {"flip": change.flip, "hue": change.hue != 0, "noise": change.noise != 0}
    happened |= {name: getattr(steady, name)[:, 0] != 1 for name in TONES}
    happened["jitter"] = change.gamma[:, 0] != change.gamma[:, 1]
    for name, chance in chances.items():
        assert abs(happened[name].double().mean() - chance) < 4 * math.sqrt(chance * (1 - chance) / count)
    table = torch.stack([happened[name].double() for name in CHANCES])
    assert (torch.corrcoef(table) - torch.eye(len(CHANCES))).abs().max() < 5 / math.sqrt(count)

    amounts = {name: (getattr(steady, name)[:, 0].double().log(), math.log(getattr(settings, name))) for name in TONES}
    amounts["hue"] = change.hue.double(), math.radians(30)
    amounts["jitter"] = (change.gamma / steady.gamma).double().log().flatten(), math.log(1.02)
    for values, limit in amounts.values():
        assert 0.98 * limit < values.abs().max() < limit * (1 + 1e-4)
        assert abs(values.mean()) < 4 * values.std() / math.sqrt(len(values))  # as often less as more
    assert 0.095 < change.noise.max() <= 0.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flip_chance": 1.5}, "data.pictures.flip_chance is 1.5, but must be between 0 and 1"),
        ({"gamma_chance": math.nan}, "data.pictures.gamma_chance is nan"),
        ({"contrast": 0.8}, "data.pictures.contrast is 0.8, but must be between 1 and 4"),
        ({"jitter": 5.0}, "data.pictures.jitter is 5.0"),
        ({"hue": -1.0}, "data.pictures.hue is -1.0, but must be between 0 and 180"),
        ({"noise": 1.0}, "data.pictures.noise is 1.0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PictureAugment(**settings)


# ----------------------------------------------------------------------------------------------------------- pictures


def reference(images: np.ndarray, change: PictureChange, sample: int) -> np.ndarray:
    """One sample [N, 3, H, W], one effect after the other in float64, with the hue as a matrix exponential."""
    light = (images.astype(np.float64) + 1) / 2
    if change.flip[sample]:
        light = light[..., ::-1]
    brightness, contrast, gamma = (
        getattr(change, name)[sample].double().numpy()[:, None, None, None] for name in TONES
    )
    light = light**gamma
    light = light.mean() + contrast * (light - light.mean())
    axis = torch.tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], dtype=torch.float64) / math.sqrt(3)
    turn = torch.linalg.matrix_exp(change.hue[sample].double() * axis).numpy()
    light = np.einsum("ij,njhw->nihw", turn, light) * brightness
    return np.clip(2 * light - 1, -1, 1)


def test_effects_together_are_one_after_the_other() -> None:
    settings = replace(ALWAYS, brightness=1.5, contrast=2, gamma=2, hue=180, flip_chance=0.5, noise_chance=0)
    images, change = pictures(6, 4), drawn(settings, 6, 4)
    assert 0 < change.flip.sum() < 6
    changed = change_pictures(images, change)
    for i in range(6):
        np.testing.assert_allclose(changed[i].numpy(), reference(images[i].numpy(), change, i), atol=3e-6)


def test_no_change_is_equal_to_the_bit() -> None:
    images = pictures(3, 6)
    for settings in (NEVER, PictureAugment(**{f"{name}_chance": 0.0 for name in CHANCES}, gamma=4, hue=180, noise=0.5)):
        change = drawn(settings, 3, 6)
        assert torch.equal(change_pictures(images, change), images)
        points = images[..., 0, :5, :2]
        assert torch.equal(change_points(points, change), points)
    mixed = drawn(replace(ALWAYS, flip_chance=0), 3, 6)  # and beside samples that do change
    mixed = PictureChange(*(torch.cat([a[:1], b[1:]]) for a, b in zip(change, mixed, strict=True)))
    changed = change_pictures(images, mixed)
    assert torch.equal(changed[0], images[0])
    assert not torch.equal(changed[1], images[1])


def test_a_sample_does_not_depend_on_its_batch() -> None:
    images, change = pictures(5, 4), drawn(ALWAYS, 5, 4)
    together = change_pictures(images, change)
    for i in range(5):
        alone = change_pictures(images[i : i + 1], PictureChange(*(value[i : i + 1] for value in change)))
        torch.testing.assert_close(alone[0], together[i], atol=1e-6, rtol=0)
    assert images.equal(pictures(5, 4))  # the input is left as it is


def test_frames_of_a_clip_change_alike() -> None:
    images = pictures(4, 1).expand(4, 6, 3, 8, 8)
    steady = change_pictures(images, drawn(replace(ALWAYS, jitter_chance=0, noise_chance=0), 4, 6))
    assert torch.equal(steady, steady[:, :1].expand_as(steady))
    assert (steady - images).abs().mean() > 0.02
    shaken = change_pictures(images, drawn(replace(ALWAYS, noise_chance=0), 4, 6))
    assert 0.001 < (shaken - steady).abs().mean() < 0.02
    assert len({float(frame.mean()) for frame in shaken[0]}) == 6


def test_contrast_does_not_flicker_when_something_bright_comes_into_view() -> None:
    images = torch.full((1, 2, 3, 8, 8), -0.4)
    images[0, 1, :, :4] = 0.3
    changed = change_pictures(images, only(frames=2, contrast=1.5))
    assert torch.equal(changed[0, 0, :, 4:], changed[0, 1, :, 4:])
    assert changed[0, 0, 0, 7, 7] < -0.4
    torch.testing.assert_close(changed.mean(), images.mean())


def test_hue_turns_as_hsv_does_and_wraps() -> None:
    images = pictures(1, 1, 32) * 0.3
    third = change_pictures(images, only(hue=2 * math.pi / 3))
    torch.testing.assert_close(third, images.roll(1, 2), atol=1e-6, rtol=0)  # red becomes green
    for angle in (-math.pi, 0.7, 3.0):
        around = change_pictures(images, only(hue=angle + 2 * math.pi))
        torch.testing.assert_close(around, change_pictures(images, only(hue=angle)), atol=1e-6, rtol=0)
    for degrees in (10, 45, 120, 170, -60):
        turned = change_pictures(images, only(hue=math.radians(degrees)))
        torch.testing.assert_close(turned.mean(2), images.mean(2), atol=1e-6, rtol=0)
        before, after = (((x[0, 0].flatten(1).T.double() + 1) / 2).tolist() for x in (images, turned))
        moved = [colorsys.rgb_to_hsv(*b)[0] - colorsys.rgb_to_hsv(*a)[0] for a, b in zip(before, after, strict=True)]
        apart = [abs((360 * move - degrees + 180) % 360 - 180) for move in moved]
        assert max(apart) < 2 * 1.2  # hexagons and circles differ by up to 1.12 degrees
    grey = torch.linspace(-1, 1, 64).view(1, 1, 1, 8, 8).expand(1, 1, 3, 8, 8)
    torch.testing.assert_close(change_pictures(grey, only(hue=1.0)), grey, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", [*TONES, "hue"])
def test_the_expected_picture_is_the_original_to_first_order(name: str) -> None:
    """The mean of the changes by u and -u differs from the picture by a term in u^2: a quarter with half of u."""
    images = pictures(1, 2) * 0.5

    def error(amount: float) -> float:
        values = [sign * amount if name == "hue" else math.exp(sign * amount) for sign in (-1, 1)]
        both = [change_pictures(images, only(frames=2, **{name: value})) for value in values]
        assert (both[0] - images).abs().max() > 0.1 * amount
        return float(((both[0] + both[1]) / 2 - images).abs().max())

    assert error(0.2) < 0.05
    assert 3.5 < error(0.2) / error(0.1) < 4.5


def test_noise_has_the_size_asked_for_and_is_new_in_each_frame() -> None:
    images = torch.zeros(4, 3, 3, 64, 64)
    change = only(4, 3, noise=0.02)._replace(seed=torch.tensor([1, 2, 3, 1]))
    noise = change_pictures(images, change)
    torch.testing.assert_close(noise.std((2, 3, 4)), torch.full((4, 3), 0.04), rtol=0.03, atol=0)
    assert noise.mean().abs() < 4 * 0.04 / math.sqrt(noise.numel())
    rows = noise[:3].flatten(0, 2).flatten(1)  # sample, frame and channel
    assert (torch.corrcoef(rows) - torch.eye(len(rows))).abs().max() < 5 / 64
    assert torch.equal(noise[0], noise[3])


def test_the_result_stays_in_range() -> None:
    changed = change_pictures(pictures(8, 3), drawn(replace(ALWAYS, brightness=4, contrast=4, noise=0.5), 8, 3))
    assert changed.min() == -1
    assert changed.max() == 1
    assert changed.dtype == torch.float32


# ------------------------------------------------------------------------------------------------------------- labels


def test_mirroring_twice_is_no_change() -> None:
    change = only(2, 3)._replace(flip=torch.tensor([True, False]))
    images, draw = pictures(2, 3), torch.Generator().manual_seed(0)
    once = change_pictures(images, change)
    assert torch.equal(change_pictures(once, change), images)
    assert not torch.equal(once[0], images[0])
    assert torch.equal(once[1], images[1])
    for count in (5, 68):
        points = torch.rand(2, 3, count, 2, generator=draw)
        once = change_points(points, change)
        torch.testing.assert_close(change_points(once, change), points, atol=1e-7, rtol=0)
        assert not torch.isclose(once[0], points[0]).all()
        assert torch.equal(once[1], points[1])


def test_points_stay_on_what_they_mark() -> None:
    """Five dots of different brightness: the one at each new point is that of the point it has changed places with."""
    places, width = [(2, 3), (9, 4), (5, 7), (1, 10), (11, 13)], 16
    points = torch.tensor([[(x + 0.5) / width, (y + 0.5) / width] for x, y in places])[None, None]
    images = torch.full((1, 1, 3, width, width), -1.0)
    for (x, y), value in zip(places, (0.1, 0.2, 0.3, 0.4, 0.5), strict=True):
        images[..., y, x] = value
    change = only(flip=1)
    changed = change_pictures(images, change)
    column, row = (change_points(points, change)[0, 0] * width).long().unbind(-1)
    torch.testing.assert_close(changed[0, 0, 0, row, column], torch.tensor([0.2, 0.1, 0.3, 0.5, 0.4]))


def test_mirrored_landmarks_are_those_of_the_mirrored_face() -> None:
    """dlib finds in the mirrored picture what the exchange of left and right says."""
    detector = DlibDetector()
    frame = talking(0)[0][5]
    mirrored = np.ascontiguousarray(frame[:, ::-1])
    width = frame.shape[1]
    (face,), (other,) = detector.detect(frame), detector.detect(mirrored)
    side = (face.box[2] - face.box[0]) / width
    for here, there in (
        (face.points, other.points),
        (detector.landmarks68(frame, face.box), detector.landmarks68(mirrored, other.box)),
    ):
        found = change_points(torch.from_numpy(here / width)[None, None], only(flip=1))[0, 0]
        distance = (found - torch.from_numpy(there / width)).norm(dim=-1)
        assert distance.max() < 0.06 * side
        assert distance.mean() < 0.025 * side


def test_the_68_points_keep_their_outlines() -> None:
    """Neighbours on an outline stay neighbours, and each part of the face becomes itself or its counterpart."""
    label = torch.arange(68.0)
    points = torch.stack([label / 68, label], dim=-1)[None, None]
    order = change_points(points, only(flip=1))[0, 0, :, 1].long().tolist()
    ends = [(0, 17), (17, 22), (22, 27), (27, 31), (31, 36), (36, 42), (42, 48), (48, 60), (60, 68)]
    parts = {frozenset(range(*end)) for end in ends}
    assert {frozenset(order[i] for i in part) for part in parts} == parts
    closed = {(36, 42), (42, 48), (48, 60), (60, 68)}
    edges = {frozenset((i, i + 1)) for low, high in ends for i in range(low, high - 1)}
    edges |= {frozenset((low, high - 1)) for low, high in closed}
    assert {frozenset(order[i] for i in edge) for edge in edges} == edges
    fixed = [i for i in range(68) if order[i] == i]
    assert fixed == [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]  # the middle of the face


def test_other_shapes_are_refused() -> None:
    change = only(2, 3)
    for shape in ((2, 3, 1, 8, 8), (2, 4, 3, 8, 8), (1, 3, 3, 8, 8), (2, 3, 3, 8)):
        with pytest.raises(ValueError, match=r"images must be \[B, N, 3, H, W\]"):
            change_pictures(torch.zeros(shape), change)
    with pytest.raises(ValueError, match=r"points must be \[B, N, 5, 2\] or \[B, N, 68, 2\], not \[2, 3, 6, 2\]"):
        change_points(torch.zeros(2, 3, 6, 2), change)

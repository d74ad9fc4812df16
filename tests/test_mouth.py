"""Exchanged mouths."""

import math

import pytest
import torch

from fctfg.ops.mouth import mouth_mask, transplant_mouth
from fctfg.ops.similarity import ARCFACE_TEMPLATE

SIZE = 112
POINTS = ((ARCFACE_TEMPLATE + 0.5) / SIZE)[None]


def moved(points: torch.Tensor, degrees: float, scale: float, shift: tuple[float, float]) -> torch.Tensor:
    """Points [1, 5, 2] turned about the middle of the picture, scaled and shifted (fractions)."""
    angle = math.radians(degrees)
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return (points - 0.5) @ turn.T * scale + 0.5 + torch.tensor(shift)


def test_mask_covers_the_mouth_and_leaves_eyes_and_nose() -> None:
    mask = mouth_mask(POINTS, SIZE, SIZE)[0, 0]
    values = [float(mask[y, x]) for x, y in ARCFACE_TEMPLATE.round().int().tolist()]
    assert values[:2] == [0.0, 0.0] and values[2] < 0.03 and values[3:] == [1.0, 1.0]
    assert float(mask[-1, SIZE // 2]) == 1.0  # the chin


def test_mask_follows_the_face() -> None:
    points = moved(POINTS, 20, 0.7, (0.05, -0.1))
    mask = mouth_mask(points, SIZE, SIZE)[0, 0]
    left, right = (points[0, 3:] * SIZE - 0.5).round().int().tolist()
    assert mask[left[1], left[0]] == 1
    assert mask[right[1], right[0]] == 1
    smaller = mouth_mask(moved(POINTS, 20, 0.35, (0.05, -0.1)), SIZE, SIZE)
    assert float(mask.mean()) == pytest.approx(4 * float(smaller.mean()), rel=0.03)


def test_a_mouth_for_itself_changes_nothing() -> None:
    frames = torch.rand(2, 3, SIZE, SIZE)
    points = POINTS.expand(2, 5, 2)
    assert torch.allclose(transplant_mouth(frames, points, frames, points), frames, atol=1e-4)


def test_the_donors_mouth_lands_in_its_place() -> None:
    """The donor is the same face, moved, with a white mouth; the result is the face with a white mouth where it was."""
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    donor_points = moved(POINTS, -15, 0.8, (0.02, 0.03))
    mouth = donor_points[0, 3:].mean(0) * SIZE - 0.5
    donor = ((x - mouth[0]).square() + (y - mouth[1]).square() < 6**2).float().expand(1, 3, SIZE, SIZE)
    result = transplant_mouth(torch.zeros(1, 3, SIZE, SIZE), POINTS, donor, donor_points)[0, 0]
    white = result > 0.5
    center = torch.stack([x[white].float().mean(), y[white].float().mean()])
    assert torch.allclose(center, ARCFACE_TEMPLATE[3:].mean(0), atol=0.7)
    assert float(white.sum()) == pytest.approx(math.pi * (6 / 0.8) ** 2, rel=0.1)


def test_exchange_is_float32_under_autocast() -> None:
    frames, donor = torch.rand(2, 1, 3, SIZE, SIZE)
    points, donor_points = moved(POINTS, 5, 0.9, (0.01, 0.02)), moved(POINTS, -15, 0.8, (0.02, 0.03))
    want = transplant_mouth(frames, points, donor, donor_points)
    with torch.autocast("cpu", torch.bfloat16):
        got = transplant_mouth(frames, points, donor, donor_points)
        mask = mouth_mask(points, SIZE, SIZE)
    assert got.dtype == mask.dtype == torch.float32
    assert torch.equal(got, want) and torch.equal(mask, mouth_mask(points, SIZE, SIZE))
    coarse = transplant_mouth(*(x.bfloat16() for x in (frames, points, donor, donor_points)))
    assert coarse.dtype == torch.bfloat16


def test_wrong_shapes_are_named() -> None:
    frames = torch.zeros(2, 3, 8, 8)
    with pytest.raises(ValueError, match=r"\[N, 5, 2\]"):
        transplant_mouth(frames, torch.zeros(2, 68, 2), frames, torch.zeros(2, 68, 2))

"""The augmentations of StyleGAN2-ADA for discriminators (Karras et al. 2020b, Section 2 and Appendix B).

The set is the paper's "bgc": pixel blitting, geometry and colour. Each transformation happens with probability p, to
each image by itself, and draws its parameter from the paper's distribution. Below p = 1 the distribution of the
augmented images determines that of the images, so that a generator whose augmented images look like augmented real
ones draws real ones and not augmented ones: nothing leaks.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from fctfg.ops.antialiased_warp import antialiased_warp, reflected
from fctfg.ops.draws import Draws
from fctfg.ops.precision import precise

LARGEST_SHIFT = 0.125  # of whole pixels, as a share of the image
SCALE, ASPECT, SHIFT = 0.2, 0.2, 0.125  # standard deviations: log2, log2, share of the image
BRIGHTNESS, CONTRAST, SATURATION = 0.2, 0.5, 1.0  # standard deviations: level in [-1, 1], log2, log2


class Blit(NamedTuple):
    """What moves whole pixels: mirrored first, then turned, then shifted."""

    mirrored: Tensor  # [B] bool
    turns: Tensor  # [B] int64, quarter turns, 0 to 3
    shift: Tensor  # [B, 2] int64, pixels (x, y)


def draw_blit(draws: Draws, strength: Tensor, size: int) -> Blit:
    """Mirror, quarter turn and shift by whole pixels, of N images of `size` px."""
    chosen = draws.uniform("blits", 3) < strength
    coin, turn, *shift = draws.uniform("blit", 4).unbind(1)
    pixels = ((torch.stack(shift, 1) * 2 - 1) * (LARGEST_SHIFT * size)).round().long()
    return Blit(chosen[:, 0] & (coin < 0.5), (4 * turn).long() * chosen[:, 1], pixels * chosen[:, 2:])


def draw_geometry(draws: Draws, strength: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Scale, turn, aspect and shift.

    There is a turn before and one after the change of aspect; each happens with probability 1 - sqrt(1 - p), so that
    with probability p there is any.

    Args:
        draws: of B images.
        strength: p, a scalar.
        size: of the images, px.

    Returns:
        (matrix [B, 2, 3] as `antialiased_warp` takes it, whether anything happens [B]).
    """
    turns = 1 - (1 - strength).clamp_min(0).sqrt()
    probabilities = torch.stack([strength, turns, strength, turns, strength])  # scale, turn, aspect, turn, shift
    chosen = draws.uniform("geometries", 5) < probabilities
    normal = draws.normal("geometry", 4)
    zero = torch.zeros((), device=strength.device)
    scale = torch.exp2(torch.where(chosen[:, 0], normal[:, 0] * SCALE, zero))
    angle = torch.where(chosen[:, 1::2], (draws.uniform("angles", 2) * 2 - 1) * math.pi, zero)
    aspect = torch.exp2(torch.where(chosen[:, 2], normal[:, 1] * ASPECT, zero))
    shift = torch.where(chosen[:, 4:], normal[:, 2:] * (SHIFT * size), zero)
    # The image is scaled, turned, stretched, turned, shifted; the matrix undoes this from the last to the first.
    stretch = torch.diag_embed(torch.stack([1 / aspect, aspect], dim=1))
    linear = _turn(-angle[:, 0]) @ stretch @ _turn(-angle[:, 1]) / scale[:, None, None]
    return torch.cat([linear, -linear @ shift[..., None]], dim=2), chosen.any(1)


def draw_colour(draws: Draws, strength: Tensor) -> Tensor:
    """Brightness, contrast, luma flip, hue and saturation, as one affine map of the colours.

    Args:
        draws: of B images.
        strength: p, a scalar.

    Returns:
        [B, 3, 4]: colour = matrix[:, :, :3] @ colour + matrix[:, :, 3], for colours in [-1, 1].
    """
    chosen = draws.uniform("colours", 5) < strength
    zero = torch.zeros((), device=strength.device)
    brightness, contrast, saturation = draws.normal("colour", 3).unbind(1)
    coin, turn = draws.uniform("flip and hue", 2).unbind(1)
    brightness = torch.where(chosen[:, 0], brightness * BRIGHTNESS, zero)
    contrast = torch.exp2(torch.where(chosen[:, 1], contrast * CONTRAST, zero))
    flipped = chosen[:, 2] & (coin < 0.5)
    hue = torch.where(chosen[:, 3], (turn * 2 - 1) * math.pi, zero)
    saturation = torch.exp2(torch.where(chosen[:, 4], saturation * SATURATION, zero))
    return colour_matrix(brightness, contrast, flipped, hue, saturation)


def colour_matrix(brightness: Tensor, contrast: Tensor, flipped: Tensor, hue: Tensor, saturation: Tensor) -> Tensor:
    """The affine map of colours that adds, scales, mirrors the luma, turns the hue and scales the saturation.

    With v = (1, 1, 1) / sqrt 3, the axis of greys:

        x -> (v v^T + s (1 - v v^T)) R_v(hue) (1 - 2 f v v^T) c (x + b)

    Args:
        brightness: b [B], added.
        contrast: c [B], a factor.
        flipped: f [B] bool.
        hue: [B] radians.
        saturation: s [B], a factor.

    Returns:
        [B, 3, 4], as `draw_colour`.
    """
    unit = torch.eye(3, device=hue.device, dtype=hue.dtype)
    grey = hue.new_full((3, 3), 1 / 3)  # v v^T
    coloured = unit - grey
    across = (unit.roll(1, 0) - unit.roll(-1, 0)) / math.sqrt(3)  # the cross product with v
    # R_v = v v^T + cos (1 - v v^T) + sin [v]_x (Rodrigues), so that all three are a grey part and a coloured one
    cosine, sine = ((saturation * turn)[:, None, None] for turn in (hue.cos(), hue.sin()))
    luma = torch.where(flipped, -1.0, 1.0)[:, None, None]
    linear = contrast[:, None, None] * (luma * grey + cosine * coloured + sine * across)
    return torch.cat([linear, linear.sum(2, keepdim=True) * brightness[:, None, None]], dim=2)


def blit(images: Tensor, change: Blit) -> Tensor:
    """Mirror, turn by quarters (anticlockwise) and shift, to the pixel; outside of an image is its mirror image.

    Args:
        images: [B, C, S, S].
        change: for B images.

    Returns:
        the same shape.
    """
    size = images.shape[-1]
    axis = torch.arange(size, device=images.device)
    x = reflected(axis[None, None, :] - change.shift[:, 0, None, None], size)  # [B, 1, S]
    y = reflected(axis[None, :, None] - change.shift[:, 1, None, None], size)  # [B, S, 1]
    x, y = 2 * x - (size - 1), 2 * y - (size - 1)  # half pixels from the center
    cosine = ((change.turns == 0).long() - (change.turns == 2).long())[:, None, None]
    sine = ((change.turns == 1).long() - (change.turns == 3).long())[:, None, None]
    column, row = cosine * x - sine * y, sine * x + cosine * y
    column = torch.where(change.mirrored[:, None, None], -column, column)
    index = (row + size - 1) // 2 * size + (column + size - 1) // 2  # [B, S, S]
    return images.flatten(2).gather(2, index.flatten(1)[:, None].expand(-1, images.shape[1], -1)).view_as(images)


def recolour(images: Tensor, matrix: Tensor) -> Tensor:
    """Each colour [3] of images [B, 3, H, W] through an affine map [B, 3, 4]; the same shape, not clamped."""
    return torch.baddbmm(matrix[:, :, 3:], matrix[:, :, :3], images.flatten(2)).view_as(images)


def augment(images: Tensor, strength: Tensor, draws: Draws) -> Tensor:
    """Augment each image by itself; differentiable in the images, twice. Nothing waits for the device.

    Args:
        images: [B, 3, S, S] in [-1, 1].
        strength: p, a scalar in [0, 1] on the images' device.
        draws: of B images.

    Returns:
        the same shape, float32, beyond [-1, 1] where brightness or contrast lead there. An image to which nothing
        happens stays as it is, to rounding.

    Raises:
        ValueError: the images are not square or have no three channels.
    """
    channels, size = images.shape[1:3]
    if images.ndim != 4 or channels != 3 or images.shape[3] != size:
        raise ValueError(f"images must be [B, 3, S, S], not {list(images.shape)}")
    with torch.autocast(images.device.type, enabled=False):
        images, strength = precise(images), precise(strength)
        images = blit(images, draw_blit(draws, strength, size))
        matrix, moved = draw_geometry(draws, strength, size)
        images = torch.where(moved[:, None, None, None], antialiased_warp(images, matrix), images)
        return recolour(images, draw_colour(draws, strength))


def _turn(angle: Tensor) -> Tensor:
    """Rotation matrices [B, 2, 2] of angles [B]."""
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack([cosine, -sine, sine, cosine], dim=1).view(-1, 2, 2)

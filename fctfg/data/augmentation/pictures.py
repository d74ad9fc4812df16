"""Changes of light, colour and side, one for all frames of a clip."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fctfg.ops.hash_noise import hash_normal
from fctfg.ranges import check_range

# Which point takes the place of each one in the mirrored picture: ArcFace's five points, and the 68 of iBUG 300-W (jaw,
# brows, bridge and base of the nose, the eyes, the outer lip above and below, the inner lip above and below).
_ARCFACE = (1, 0, 2, 4, 3)
_EYES = (45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40)
_LIPS = (*range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1))
_IBUG = (*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1), *_EYES, *_LIPS)
_MIRRORED = {len(order): order for order in (_ARCFACE, _IBUG)}


class PictureChange(NamedTuple):
    """What happens to the N pictures of one sample; `default_collate` puts a `B` before each shape."""

    flip: Tensor  # [] bool
    brightness: Tensor  # [N] factor
    contrast: Tensor  # [N] factor
    gamma: Tensor  # [N] exponent
    hue: Tensor  # [] radians
    noise: Tensor  # [] standard deviation, as a fraction of the picture's range
    seed: Tensor  # [] int64, of the noise


@dataclass(frozen=True)
class PictureAugment:
    """How often and how far pictures are changed. Not in the paper.

    A factor f is drawn as f^u with u uniform in [-1, 1], so that it is as often below one as above and the expected
    picture is the original to first order. There is no saturation: brightness and contrast scale the differences
    between the colours already. There is no crop, turn or scale: the clips themselves bring those.

    Args:
        flip_chance: share of the samples that are mirrored.
        brightness_chance, brightness: share of the samples, and the largest factor of the light.
        contrast_chance, contrast: share, and the largest factor of the distance from the clip's mean.
        gamma_chance, gamma: share, and the largest exponent.
        hue_chance, hue: share, and the largest angle in degrees.
        jitter_chance, jitter: share, and the largest factor by which brightness, contrast and gamma of each single
            frame differ from the clip's.
        noise_chance, noise: share, and the largest standard deviation of Gaussian noise, as a fraction of the range
            from black to white; uniform between 0 and that.

    Raises:
        ValueError: a setting is out of range.
    """

    flip_chance: float = 0.5
    brightness_chance: float = 0.5
    brightness: float = 1.2
    contrast_chance: float = 0.5
    contrast: float = 1.2
    gamma_chance: float = 0.5
    gamma: float = 1.2
    hue_chance: float = 0.5
    hue: float = 10.0
    jitter_chance: float = 0.3
    jitter: float = 1.02
    noise_chance: float = 0.3
    noise: float = 0.02

    def __post_init__(self) -> None:
        group = "data.pictures"
        check_range(
            0,
            1,
            group,
            flip_chance=self.flip_chance,
            brightness_chance=self.brightness_chance,
            contrast_chance=self.contrast_chance,
            gamma_chance=self.gamma_chance,
            hue_chance=self.hue_chance,
            jitter_chance=self.jitter_chance,
            noise_chance=self.noise_chance,
        )
        check_range(
            1, 4, group, brightness=self.brightness, contrast=self.contrast, gamma=self.gamma, jitter=self.jitter
        )
        check_range(0, 180, group, hue=self.hue)
        check_range(0, 0.5, group, noise=self.noise)

    @functools.cached_property
    def _only_flips(self) -> bool:
        """Whether nothing but a flip can happen; then a draw costs a third."""
        tones = (self.brightness_chance, self.contrast_chance, self.gamma_chance, self.hue_chance)
        return not any((*tones, self.jitter_chance, self.noise_chance))

    def draw(self, rng: np.random.Generator, frames: int) -> PictureChange:
        """The change of one sample.

        The same numbers are taken from the generator whatever the settings, so that no effect moves with another one's.

        Args:
            rng: where everything random comes from, also the seed of the noise.
            frames: N, pictures of the sample, of all its parts together.

        Returns:
            Tensors on the CPU; an effect that does not happen has its neutral value.
        """
        seed = int(rng.integers(2**63))
        flip, noise, hue, jitter, *light = rng.random(7)
        tones, angle, strength = rng.uniform(-1, 1, (3, 1)), rng.uniform(-1, 1), rng.random()
        single = rng.uniform(-1, 1, (frames, 3)).T  # the frames come last, so that their number changes nothing else
        if self._only_flips:
            return unchanged_pictures(frames)._replace(
                flip=torch.tensor(flip < self.flip_chance), seed=torch.tensor(seed)
            )

        chances = [self.brightness_chance, self.contrast_chance, self.gamma_chance]
        happens = np.less(light, chances)[:, None]
        largest = np.log([[self.brightness], [self.contrast], [self.gamma]])
        shaking = (jitter < self.jitter_chance) * math.log(self.jitter)
        factors = np.exp(happens * largest * tones + shaking * single)  # [3, N]
        brightness, contrast, gamma = torch.from_numpy(factors).float()
        return PictureChange(
            flip=torch.tensor(flip < self.flip_chance),
            brightness=brightness,
            contrast=contrast,
            gamma=gamma,
            hue=torch.tensor((hue < self.hue_chance) * math.radians(self.hue) * angle, dtype=torch.float32),
            noise=torch.tensor((noise < self.noise_chance) * self.noise * strength, dtype=torch.float32),
            seed=torch.tensor(seed),
        )


@functools.cache
@torch.inference_mode(False)
def unchanged_pictures(frames: int) -> PictureChange:
    """No change of a sample's N pictures; always the same tensors, which must not be written to."""
    ones, zero = torch.ones(frames), torch.tensor(0.0)
    return PictureChange(torch.tensor(False), ones, ones, ones, zero, zero, torch.tensor(0))


def change_pictures(images: Tensor, change: PictureChange) -> Tensor:
    """Mirror, then change gamma, contrast, hue and brightness, then add noise, and clamp once at the end.

    With p in [0, 1], g the exponent, m the mean of p^g over all pixels, channels and frames of the sample, c and b the
    factors of contrast and brightness, and R the rotation by the hue's angle, a pixel becomes

        b (c R p^g + (1 - c) m) + noise,

    one affine map of the colours. The mean is the clip's: with each frame's own, contrast would flicker when something
    bright comes into view.

    The hue is the angle about the grey axis of RGB. It wraps around by itself (120 degrees exchange the channels), it
    leaves greys, the mean of the channels and the size of noise as they are, and it is HSV's hue to within 1.2 degrees,
    without HSV's branches, which make noise of the hue of nearly grey pixels. The rotation of YIQ would keep the luma
    too, which here moves by up to 0.06 of a colour's distance from grey at 10 degrees; but it stretches distances
    between colours and shifts hues unevenly, since its plane of chroma is askew in RGB.

    Elementwise throughout, so that neither TF32 nor autocast makes it coarser than float32.

    Args:
        images: float32 [B, N, 3, H, W] in [-1, 1], all pictures of each sample: source, driving and decoy frames.
        change: collated, on the same device.

    Returns:
        The same shape, in [-1, 1]; a sample without any change is equal to the bit.

    Raises:
        ValueError: the shapes do not fit.
    """
    if images.ndim != 5 or images.shape[2] != 3 or images.shape[:2] != change.gamma.shape:
        raise ValueError(
            f"images must be [B, N, 3, H, W] with the change's [B, N] = {list(change.gamma.shape)}, "
            f"not {list(images.shape)}"
        )
    images = torch.where(change.flip.view(-1, 1, 1, 1, 1), images.flip(-1), images)

    gamma = change.gamma[..., None, None, None]
    curved = ((images + 1) / 2).clamp_min_(0).pow_(gamma).mul_(2).sub_(1)
    images = torch.lerp(images, curved, (gamma != 1).to(images))  # a weight of 0 or 1 is exact

    # With x = 2 p - 1 and the mean m of x + 1: y = b c R x + b (c + (1 - c) m) - 1
    mean = images.mean((1, 2, 3, 4))[:, None] + 1  # [B, 1]
    shift = change.brightness * (change.contrast + (1 - change.contrast) * mean) - 1  # [B, N]
    factor = change.brightness * change.contrast  # [B, N]
    # R = cos 1 + (1 - cos) n n^T + sin [n]_x about n = (1, 1, 1) / sqrt 3 (Rodrigues), a circulant matrix:
    cosine, sine = change.hue.cos(), change.hue.sin() / math.sqrt(3)
    own, following, last = (1 + 2 * cosine) / 3, (1 - cosine) / 3 - sine, (1 - cosine) / 3 + sine  # [B]
    weights = [(factor * weight[:, None])[..., None, None] for weight in (own, following, last)]  # [B, N, 1, 1]
    channels = images.unbind(2)
    coloured = torch.stack(
        [
            shift[..., None, None]
            .addcmul(channels[i], weights[0])
            .addcmul_(channels[(i + 1) % 3], weights[1])
            .addcmul_(channels[(i + 2) % 3], weights[2])
            for i in range(3)
        ],
        dim=2,
    )
    noise = hash_normal(change.seed, images.shape[1:])
    return coloured.addcmul_(noise, 2 * change.noise.view(-1, 1, 1, 1, 1)).clamp_(-1, 1)


def change_points(points: Tensor, change: PictureChange) -> Tensor:
    """Facial points of the changed pictures.

    Args:
        points: [B, N, P, 2], (x, y) as fractions of the picture; P = 5 is ArcFace's order, P = 68 iBUG 300-W's.
        change: collated, on the same device.

    Returns:
        The same shape: in mirrored pictures x becomes 1 - x, and left and right change places.

    Raises:
        ValueError: the shapes do not fit.
    """
    if points.ndim != 4 or points.shape[2] not in _MIRRORED or points.shape[3] != 2:
        raise ValueError(f"points must be [B, N, 5, 2] or [B, N, 68, 2], not {list(points.shape)}")
    x, y = points.index_select(2, _mirrored_order(points.shape[2], points.device)).unbind(-1)
    return torch.where(change.flip.view(-1, 1, 1, 1), torch.stack([1 - x, y], dim=-1), points)


@functools.cache
@torch.inference_mode(False)  # what is kept may be needed outside of it
def _mirrored_order(count: int, device: torch.device) -> Tensor:
    """`_MIRRORED[count]`, int64, kept on the device so that it is not copied there again and again."""
    return torch.tensor(_MIRRORED[count], device=device)

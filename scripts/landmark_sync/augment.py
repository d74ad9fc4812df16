"""Training samples: pieces of rendered clips, disturbed as real landmarks and real sound are.

All amounts were chosen on rendered people; distances are in distances between the eyes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from landmark_sync.clips import Clip

MEL_PER_FRAME = 3.2
DB = 0.08  # of the mel's units
# The same landmark on the other side of the face.
MIRROR = (
    *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47, 46, 39, 38, 37, 36,
    41, 40, 54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
)  # fmt: skip
JAW, NOSE, MOUTH = range(3, 14), range(27, 36), range(48, 68)
UPPER_LIP = (*range(48, 55), *range(60, 65))


def uniform(low: float, high: float, *shape: int) -> Tensor:
    """Random numbers in [low, high]."""
    return torch.empty(shape).uniform_(low, high)


def take(values: Tensor, at: Tensor) -> Tensor:
    """Linear interpolation of [N, ...] at positions [M] in [0, N - 1]; further out the ends repeat."""
    at = at.clamp(0, len(values) - 1)
    low = at.floor().long().clamp(max=len(values) - 2)
    share = (at - low).view(-1, *[1] * (values.ndim - 1))
    return torch.lerp(values[low], values[low + 1], share)


def piece(clip: Clip, mel: Tensor, frames: int, margin: int) -> tuple[Tensor, Tensor]:
    """A random piece at a random speed of 0.8 to 1.3, the sound up to a fraction of a frame early or late.

    Args:
        clip: At least `frames` long.
        mel: [80, M] of the whole clip.
        frames: Length of the piece.
        margin: Frames of sound before and after it; where there is none, quiet of the clip.

    Returns:
        Landmarks [frames, 68, 2]; mel [80, (frames + 2 margin) * 3.2 + 1].
    """
    speed = min(float(uniform(0.8, 1.3, 1)), (len(clip.landmarks) - 1) / frames)
    start = float(torch.rand(1)) * (len(clip.landmarks) - frames * speed)
    jitter = 0.35 * float(torch.randn(1))
    seen = take(clip.landmarks, start + torch.arange(frames) * speed)
    steps = int((frames + 2 * margin) * MEL_PER_FRAME) + 1
    at = (start + (torch.arange(steps) / MEL_PER_FRAME - margin) * speed + jitter) * MEL_PER_FRAME  # [steps]
    heard = take(mel.T, at).T
    outside = (at < 0) | (at > mel.shape[1] - 1)
    return seen, torch.where(outside, mel.quantile(0.05, dim=1, keepdim=True), heard)


def wander(shape: tuple[int, ...], memory: float) -> Tensor:
    """Noise [B, T, ...] of variance 1 that changes slowly along T: neighbours correlate by `memory`."""
    reach = 12
    kernel = memory ** torch.arange(reach, dtype=torch.float32)
    kernel = kernel / kernel.norm()
    noise = torch.randn(shape[0], shape[1] + reach - 1, *shape[2:])
    return (noise.unfold(1, reach, 1) * kernel).sum(-1)


def disturb_landmarks(points: Tensor) -> Tensor:
    """Landmarks [B, T, 68, 2] of other faces, speakers and detectors."""
    batch, frames = points.shape[:2]
    eyes = (points[:, :, 42:48].mean(2) - points[:, :, 36:42].mean(2)).norm(dim=-1).mean(1)[:, None, None, None]
    mirrored = points[:, :, list(MIRROR)] * torch.tensor([-1.0, 1.0])
    points = torch.where(torch.rand(batch, 1, 1, 1) < 0.5, mirrored, points).clone()
    for part, spread in ((MOUTH, 0.25), (JAW, 0.3)):  # lips and jaws that move more and less, across and down
        moving = points[:, :, list(part)] - points[:, :, 33:34]
        mean = moving.mean(1, keepdim=True)
        gain = torch.exp(spread * torch.randn(batch, 1, 1, 2))
        points[:, :, list(part)] = points[:, :, 33:34] + mean + gain * (moving - mean)
    points = points * torch.exp(0.07 * torch.randn(batch, 1, 1, 2))  # wide and long faces
    part_of = torch.zeros(68, dtype=torch.long)  # jaw and brows, upper lip, lower lip, nose move as one
    for number, part in enumerate((UPPER_LIP, range(55, 60), range(65, 68), NOSE)):
        part_of[list(part)] = (1, 2, 2, 3)[number]
    jumps, drifts, parts = (amount * uniform(0, 1, batch, 1, 1, 1).square() for amount in (0.02, 0.02, 0.03))
    noise = jumps * torch.randn(points.shape) + drifts * wander(points.shape, 0.8)
    points = points + eyes * (noise + parts * wander((batch, frames, 4, 2), 0.9)[:, :, part_of])
    kernel = ((0.0, 1.0, 0.0), (0.0, 1.0, 0.0), (0.25, 0.5, 0.25), (1 / 3, 1 / 3, 1 / 3))[int(torch.randint(4, (1,)))]
    padded = torch.cat([points[:, :1], points, points[:, -1:]], 1)  # detectors that smooth
    return sum(weight * padded[:, k : k + frames] for k, weight in enumerate(kernel))


def add(mel: Tensor, other: Tensor) -> Tensor:
    """The mel of two sounds heard together: their powers add; a unit of the mel is 12.5 dB."""
    return torch.logaddexp(mel * 1.25 * 2.302585, other * 1.25 * 2.302585) / (1.25 * 2.302585)


def stretched(values: Tensor, size: int) -> Tensor:
    """Random control points [B, 1, N] to a line [B, 1, size]."""
    return F.interpolate(values, size, mode="linear", align_corners=True)


def disturb_sound(mel: Tensor) -> Tensor:
    """Mel [B, 80, M] of other voices, microphones, rooms and neighbours."""
    batch, bands, steps = mel.shape
    factor = torch.exp(0.08 * torch.randn(batch, 1))  # length of the vocal tract
    at = (torch.arange(bands) * factor).clamp(max=bands - 1.001)
    low = at.floor().long()[..., None].expand(-1, -1, steps)
    mel = torch.lerp(mel.gather(1, low), mel.gather(1, low + 1), (at - at.floor())[..., None])
    mel = mel + DB * uniform(-20, 10, batch, 1, 1) + 0.4 * stretched(torch.randn(batch, 1, 8), bands).mT
    # noise of any colour that slowly swells
    colour = 0.5 * stretched(torch.randn(batch, 1, 5), bands).mT
    tilt = torch.linspace(0.5, -0.5, bands)[:, None] * uniform(-1, 2, batch, 1, 1)
    swell = 0.3 * stretched(torch.randn(batch, 1, 6), steps) + 0.45 * torch.randn_like(mel)
    mel = add(mel, mel.amax((1, 2), keepdim=True) - DB * uniform(12, 60, batch, 1, 1) + colour + tilt + swell)
    # somebody else in the background
    order = torch.randperm(batch)
    distance = mel.amax((1, 2), keepdim=True) - mel[order].amax((1, 2), keepdim=True)
    both = add(mel, mel[order] + distance - DB * uniform(8, 30, batch, 1, 1))
    mel = torch.where(torch.rand(batch, 1, 1) < 0.25, both, mel).clamp(-4, 4)
    # sound that begins late or ends early
    dead = torch.randint(steps // 6, (batch, 1, 1)) * (torch.rand(batch, 1, 1) < 0.3)
    clock = torch.arange(steps)
    clock = torch.where(torch.rand(batch, 1, 1) < 0.5, clock, clock.flip(0))
    return torch.where(clock < dead, -4.0, mel)


def draw(clips: list[Clip], mels: list[Tensor], batch: int, frames: int, margin: int) -> tuple[Tensor, Tensor]:
    """A batch of different clips: landmarks [B, T, 68, 2], mel [B, 80, M] with `margin` frames around."""
    chosen = torch.randperm(len(clips))[:batch].tolist()
    pieces = [piece(clips[i], mels[i], frames, margin) for i in chosen]
    landmarks, heard = (torch.stack(part) for part in zip(*pieces, strict=True))
    return disturb_landmarks(landmarks), disturb_sound(heard)

"""What one training step sees, and how it is made of what the disk gives."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fctfg.data.augmentation.pictures import PictureChange, change_pictures, change_points
from fctfg.data.augmentation.sound import SoundChange, change_sound
from fctfg.ops.mel import mel_spectrogram


class Batch(NamedTuple):
    """A batch of moments, each from one clip.

    A `NamedTuple`, so that torch's collation, pinning and device moves work on it as they are. Images are RGB in
    [-1, 1]; points are (x, y) as fractions of the picture, in ArcFace's order (eyes, nose tip, mouth corners; the
    viewer's left first).
    """

    source: Tensor  # [B, 3, H, W]         the frame that gives identity
    source_points: Tensor  # [B, 5, 2]
    driving: Tensor  # [B, T, 3, H, W]      consecutive frames that give pose, eyes and expression; also the target
    points: Tensor  # [B, T, 5, 2]
    decoy: Tensor  # [B, T or 0, 3, H, W] another moment of the same clip, whose mouths hide the driving frames' own
    decoy_points: Tensor  # [B, T or 0, 5, 2]
    mel: Tensor  # [B, T, 1, 80, 16]    one window of the driving frames' own sound per frame
    identity: Tensor  # [B] int64            index into the split's sorted identities
    clip: Tensor  # [B] int64            row in the split
    start: Tensor  # [B] int64            first driving frame


class Sample(NamedTuple):
    """A moment as it is read, small and without any change; `default_collate` puts a `B` before each shape.

    The N = 1 + T (+ T) frames are the source, the driving frames and the decoy's. Of the sound there is either the mel
    as it is stored, or where it is going to be changed, the waveform.
    """

    frames: Tensor  # [N, 3, H, W] uint8, a view of [N, H, W, 3]: as it is stored
    points: Tensor  # [N, 5, 2]
    mel: Tensor  # [T, 1, 80, 16], or [0] where there is a waveform
    wave: Tensor  # [S] at 16 kHz, or [0] where there is a mel
    anchor: Tensor  # [] int64, sample of the waveform at which the first driving frame is shown
    windows: Tensor  # [T, 16] int64, mel frames of the waveform that are each driving frame's window
    identity: Tensor  # [] int64
    clip: Tensor  # [] int64
    start: Tensor  # [] int64
    pictures: PictureChange
    sound: SoundChange


def to_batch(sample: Sample, frames: int, changed: bool) -> Batch:
    """Make what a step sees of collated samples, on the device that they are on, in float32.

    Args:
        sample: collated.
        frames: T.
        changed: whether the pictures are to be changed as the sample says.

    Returns:
        The batch; without changes it is what the disk holds.
    """
    with torch.autocast(sample.frames.device.type, enabled=False):
        images = sample.frames.to(torch.float32, memory_format=torch.contiguous_format).div_(127.5).sub_(1)
        points = sample.points
        if changed:
            images, points = change_pictures(images, sample.pictures), change_points(points, sample.pictures)
        mel = sample.mel if sample.mel.numel() else _changed_mel(sample)
    driving, decoy = slice(1, 1 + frames), slice(1 + frames, None)
    return Batch(
        source=images[:, 0],
        source_points=points[:, 0],
        driving=images[:, driving],
        points=points[:, driving],
        decoy=images[:, decoy],
        decoy_points=points[:, decoy],
        mel=mel,
        identity=sample.identity,
        clip=sample.clip,
        start=sample.start,
    )


def _changed_mel(sample: Sample) -> Tensor:
    mel = mel_spectrogram(change_sound(sample.wave, sample.sound, sample.anchor)).transpose(1, 2)  # [B, M, 80]
    rows = torch.arange(len(mel), device=mel.device)[:, None, None]
    return mel[rows, sample.windows].transpose(2, 3).unsqueeze(2)  # [B, T, 16, 80] -> [B, T, 1, 80, 16]

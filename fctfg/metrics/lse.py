"""Lip-sync error (LSE-D) and confidence (LSE-C), as the demonstration of SyncNet v2 computes them."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from fctfg.models.experts.syncnet_v2 import FRAMES, MFCC_SHAPE
from fctfg.ops.mfcc import SAMPLE_RATE, mfcc

FPS = 25
MFCC_PER_FRAME = 4  # MFCC frames of one video frame


class LipSync(NamedTuple):
    """How well sound and lips of one clip agree."""

    offset: int  # video frames by which the sound must be delayed (negative: brought forward) to fit the lips
    confidence: Tensor  # scalar, LSE-C: higher is better
    distance: Tensor  # scalar, LSE-D: lower is better


def shifted_distances(lips: Tensor, audio: Tensor, max_shift: int = 15) -> Tensor:
    """Distances of each lip feature to the audio features around it.

    Before the first and after the last audio feature stand zeros.

    Args:
        lips: [T, D].
        audio: [T, D].
        max_shift: the largest shift, video frames to either side.

    Returns:
        [2 max_shift + 1, T]: the Euclidean distance of lips[t] and audio[t + row - max_shift], with 1e-6 added to each
        component's difference; float32 or better.

    Raises:
        ValueError: if the features are not two [T, D] with T >= 1, or the shift is negative.
    """
    if lips.ndim != 2 or lips.shape != audio.shape or len(lips) == 0:
        raise ValueError(f"lips and audio must be two [T, D] with T >= 1, not {list(lips.shape)}, {list(audio.shape)}")
    if max_shift < 0:
        raise ValueError(f"max_shift must not be negative: {max_shift}")
    dtype = torch.promote_types(torch.promote_types(lips.dtype, audio.dtype), torch.float32)
    lips, audio = lips.to(dtype), F.pad(audio.to(dtype), (0, 0, max_shift, max_shift))
    shifts = range(2 * max_shift + 1)
    return torch.stack([F.pairwise_distance(lips, audio[shift : shift + len(lips)], eps=1e-6) for shift in shifts])


def lip_sync(lips: Tensor, audio: Tensor, max_shift: int = 15) -> LipSync:
    """Offset, LSE-C and LSE-D of two feature tracks.

    With d[s] the mean distance over the clip when the audio features are shifted by s:
    LSE-D = min d; LSE-C = median d - min d (of an even number the lower middle one); offset = -argmin d.

    Args:
        lips: [T, D], :meth:`fctfg.models.experts.syncnet_v2.SyncNetV2.lips` of consecutive windows.
        audio: [T, D], :meth:`fctfg.models.experts.syncnet_v2.SyncNetV2.audio` of the same windows.
        max_shift: the largest shift, video frames to either side.

    Returns:
        the three figures.

    Raises:
        ValueError: if the features are not two [T, D] with T >= 1, or the shift is negative.
    """
    mean = shifted_distances(lips, audio, max_shift).mean(1)  # [2 max_shift + 1]
    distance, index = mean.min(0)
    return LipSync(max_shift - int(index), mean.median() - distance, distance)


def sync_windows(frames: Tensor, wave: Tensor) -> tuple[Tensor, Tensor]:
    """Cut a clip into the windows that SyncNet v2 compares: 5 video frames and 20 MFCC frames, one video frame apart.

    As in the demonstration, a clip of n video frames (the sound may end earlier) has n - 5 windows.

    Args:
        frames: [T, 3, H, W] at 25 fps.
        wave: floating-point [N], the sound at 16 kHz in [-1, 1], from the first frame on.

    Returns:
        (faces [n, 3, 5, H, W], a view of the frames; MFCC windows [n, 1, 13, 20], float32), with
        n = min(T, N // 640) - 5.

    Raises:
        ValueError: if a shape does not fit, or the clip is shorter than 6 frames.
    """
    if frames.ndim != 4 or frames.shape[1] != 3 or wave.ndim != 1:
        raise ValueError(f"frames must be [T, 3, H, W] and wave [N], not {list(frames.shape)} and {list(wave.shape)}")
    count = min(len(frames), len(wave) * FPS // SAMPLE_RATE) - FRAMES
    if count < 1:
        raise ValueError(f"a clip of {len(frames)} frames and {len(wave)} samples is too short: at least 6 frames")
    faces = frames.unfold(0, FRAMES, 1)[:count].movedim(-1, 2)  # [n, 3, H, W, 5] -> [n, 3, 5, H, W]
    sound = mfcc(wave).unfold(1, MFCC_SHAPE[1], MFCC_PER_FRAME)[:, :count]  # [13, n, 20]
    return faces, sound.transpose(0, 1).unsqueeze(1).contiguous()

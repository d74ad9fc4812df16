"""Which part of a mel spectrogram belongs to which video frame."""

import math

import torch
from torch import Tensor

MEL_FPS = 80  # mel frames per second
MEL_FRAMES = 16  # per window: 0.2 s, five video frames at 25 fps


def middle_frame(centered: bool) -> int:
    """Which of five consecutive video frames has the window that covers just these five: 0, or 2 when centered."""
    return 2 if centered else 0


def window_start(frame: int, fps: float = 25.0, centered: bool = False) -> int:
    """The first mel frame of a video frame's window.

    Args:
        frame: 0-based index of the video frame.
        fps: of the video.
        centered: False is Wav2Lip's inference, where the window *starts* at the frame. True starts it two video
            frames earlier, so that a five-frame window is centered on the frame.

    Returns:
        floor(80 f / fps), negative where a centered window begins before the sound.
    """
    return math.floor(MEL_FPS * (frame - middle_frame(centered)) / fps)


def window_index(frames: Tensor, length: int, fps: float = 25.0, centered: bool = False) -> Tensor:
    """Which mel frames each video frame's window consists of.

    Args:
        frames: int64 [T], 0-based indices of video frames.
        length: mel frames that there are.
        fps: of the video.
        centered: see :func:`window_start`.

    Returns:
        int64 [T, 16] in [0, length); a window that reaches over the ends repeats the first or last mel frame.
    """
    starts = ((frames - middle_frame(centered)).double() * MEL_FPS / fps).floor().long()  # [T]
    index = starts[:, None] + torch.arange(MEL_FRAMES, device=frames.device)  # [T, 16]
    return index.clamp(0, length - 1)


def mel_windows(mel: Tensor, frames: Tensor, fps: float = 25.0, centered: bool = False) -> Tensor:
    """Cut each video frame's window out of a mel spectrogram.

    Args:
        mel: [80, M].
        frames: int64 [T], 0-based indices of video frames.
        fps: of the video.
        centered: see :func:`window_start`.

    Returns:
        [T, 1, 80, 16]; a window that reaches over the ends repeats the first or last mel frame.
    """
    index = window_index(frames, mel.shape[-1], fps, centered).to(mel.device)
    return mel[:, index].permute(1, 0, 2).unsqueeze(1)  # [80, T, 16] -> [T, 1, 80, 16]

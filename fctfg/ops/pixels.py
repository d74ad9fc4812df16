"""Between stored pictures (uint8, channels last) and what networks see (float, channels first)."""

import numpy as np
import torch
from torch import Tensor


def to_images(frames: np.ndarray) -> Tensor:
    """uint8 [..., H, W, 3] RGB -> float32 [..., 3, H, W] in [-1, 1]."""
    return torch.from_numpy(np.array(frames, order="C")).movedim(-1, -3).float().div_(127.5).sub_(1.0).contiguous()


def to_pixels(images: Tensor) -> np.ndarray:
    """Float [..., 3, H, W] in [-1, 1] -> uint8 [..., H, W, 3] RGB; values outside are clamped."""
    pixels = images.detach().float().add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    return pixels.movedim(-3, -1).contiguous().cpu().numpy()

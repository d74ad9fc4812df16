"""A small prepared data set of painted faces, for tests of training: no detector, no corpus, a second to make."""

from pathlib import Path

import numpy as np
from clip_sets import store, write_set

from fctfg.data.manifest import Clip

POINTS = np.array([[0.37, 0.4], [0.63, 0.4], [0.5, 0.55], [0.4, 0.7], [0.6, 0.7]], np.float32)


def paint(size: int, shade: np.ndarray, opening: float, shift: float) -> np.ndarray:
    """uint8 [size, size, 3]: an oval of one colour with eyes, and a mouth that is open so far."""
    y, x = np.mgrid[:size, :size] / size
    x = x - shift
    image = np.full((size, size, 3), 60.0)
    image[((x - 0.5) / 0.3) ** 2 + ((y - 0.5) / 0.4) ** 2 < 1] = shade
    for eye in (0.37, 0.63):
        image[(x - eye) ** 2 + (y - 0.4) ** 2 < 0.03**2] = 20
    image[((x - 0.5) / 0.1) ** 2 + ((y - 0.7) / (0.01 + 0.07 * opening)) ** 2 < 1] = (90, 10, 20)
    return image.astype(np.uint8)


def make(root: Path, size: int = 32, frames: int = 50) -> Path:
    """Four training people and two for validation, two clips each; the mouth opens with the loudness of the sound."""
    rows = []
    for number in range(12):
        draw = np.random.default_rng(number // 2)
        shade = draw.uniform(90, 230, 3)
        rate = 2 + number % 3
        opening = 0.5 + 0.5 * np.sin(np.arange(frames) / 25 * 2 * np.pi * rate)
        shift = 0.05 * np.sin(np.arange(frames) / 20 + number)
        pictures = [paint(size, shade, o, s) for o, s in zip(opening, shift, strict=True)]
        time = np.arange(frames * 640) / 16000
        loud = np.interp(time, np.arange(frames) / 25, opening)
        name = f"p{number // 2}_{number % 2}"
        points = POINTS[None] + np.stack([shift, np.zeros(frames)], 1)[:, None].astype(np.float32)
        sound = (0.5 * loud * np.sin(2 * np.pi * 300 * time)).astype(np.float32)
        clip = Clip(
            name, f"p{number // 2}", "train" if number < 8 else "val", source=name, licence="CC0-1.0", consent="signed"
        )
        rows.append(store(root, clip, np.stack(pictures), sound, points))
    return write_set(root, rows, size)

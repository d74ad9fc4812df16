"""Talking heads for tests: pictures and sound of the embedded demo corpus, to be stored again in any form."""

from functools import cache

import numpy as np

from fctfg.demo_corpus import root
from fctfg.media import read_audio, read_frames

FRAMES = 32  # of each clip; 1.28 s


@cache
def talking(person: int = 0) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """(pictures uint8 [H, W, 3] at 25 a second, sound float32 [1, N] at 16 kHz) of a person of the corpus."""
    people = sorted({path.parent for path in root().rglob("*.mp4")})
    path = min(people[person].glob("*.mp4"))
    pictures = tuple(read_frames(path, end=FRAMES / 25))
    sound = read_audio(path)[: FRAMES * 640]
    return pictures, np.ascontiguousarray(sound[None])


def times(count: int = FRAMES, fps: float = 25.0) -> list[float]:
    """Time of each of `count` pictures in seconds."""
    return [k / fps for k in range(count)]

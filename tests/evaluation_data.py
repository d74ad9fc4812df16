"""Short clips of two rendered people, as videos and as a data set."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np

from fctfg.data.prepare import prepare
from fctfg.demo_corpus import root
from fctfg.media import FPS, SAMPLE_RATE, read_audio, read_frames, write_video

PEOPLE = ("p010", "p011")


def film(path: Path, frames: Iterable[np.ndarray], sound: np.ndarray | None = None, fps: float = FPS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, frames, fps=fps, audio=sound, crf=1)
    return path


def videos(folder: Path, clips: int = 1, frames: int = 30) -> Path:
    """`PERSON/cK.mp4`, cut from the embedded corpus."""
    for person in PEOPLE:
        for number in range(clips):
            source = root() / "test" / person / f"c{number}.mp4"
            sound = read_audio(source)[: round(frames * SAMPLE_RATE / FPS)]
            film(folder / person / f"c{number}.mp4", islice(read_frames(source), frames), sound)
    return folder


def dataset(folder: Path, clips: int = 1, frames: int = 30, size: int = 64) -> Path:
    """A data set of such videos, all in the test split."""
    videos(folder / "videos" / "test", clips, frames)
    prepare(folder / "videos", folder / "data", size=size, min_frames=20, splits=(0.0, 0.0, 1.0), workers=0)
    return folder / "data"

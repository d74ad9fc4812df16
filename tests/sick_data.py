"""Data sets that make a lip-sync expert fail, made of the embedded corpus through `fctfg prepare`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fctfg.cli import main
from fctfg.demo_corpus import root
from fctfg.media import read_audio, read_frames, write_video

PEOPLE = 4
FRAME = 640  # samples


def sounds(kind: str, heard: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The sound of each clip, `healthy`, 8 frames `late`, `foreign` (the next person's), or `silent` after 0.6 s."""
    if kind == "late":
        return [np.pad(sound, (8 * FRAME, 0)) for sound in heard]
    if kind == "foreign":
        return [*heard[1:], heard[0]]
    return [sound * ((kind != "silent") | (np.arange(len(sound)) < 15 * FRAME)) for sound in heard]


def make(folder: Path, kind: str) -> Path:
    """Prepare one clip of each of four people at 64 px; one of them is for validation."""
    films = [min(person.glob("*.mp4")) for person in sorted({path.parent for path in root().rglob("*.mp4")})[:PEOPLE]]
    for film, sound in zip(films, sounds(kind, [read_audio(film) for film in films]), strict=True):
        path = folder / "raw" / film.parent.name / film.name
        path.parent.mkdir(parents=True)
        write_video(path, read_frames(film), audio=sound)
    out = folder / "set"
    command = ["prepare", folder / "raw", f"--out={out}", "--size=64", "--workers=0", "--val=0.25", "--test=0"]
    assert main([str(part) for part in command]) == 0
    return out

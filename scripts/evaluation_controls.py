"""Results of which everybody knows how good they are, to see whether an evaluation says so.

    python scripts/evaluation_controls.py VIDEOS OUT
    fctfg evaluate --pair OUT/real VIDEOS --out OUT/evaluation/real
    fctfg evaluate --pair OUT/swapped VIDEOS --out OUT/evaluation/swapped
    fctfg evaluate --pair OUT/still VIDEOS --out OUT/evaluation/still
    fctfg compare OUT/evaluation/real OUT/evaluation/swapped OUT/evaluation/still

`real` holds the videos themselves, written again: the best that a method can reach. `swapped` has each with the sound
of the next: nothing but lip-sync should suffer. `still` shows the first frame all the time, with the right sound.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np

from fctfg.errors import FctfgError
from fctfg.evaluation.cases import videos
from fctfg.media import FPS, SAMPLE_RATE, read_audio, read_frames, write_video


def controls(source: Path, out: Path) -> int:
    """Write the three folders.

    Args:
        source: folder of talking videos.
        out: folder that gets `real`, `swapped` and `still`.

    Returns:
        Number of videos in each.

    Raises:
        FctfgError: there are fewer than two videos, or one cannot be read.
    """
    found = sorted(videos(source))
    if len(found) < 2:
        raise FctfgError(f"{source} holds {len(found)} videos, but swapped sound needs two")
    for place, (name, path) in enumerate(found):
        frames = sum(1 for _ in read_frames(path))
        own, other = read_audio(path), read_audio(found[(place + 1) % len(found)][1])
        wanted = round(frames / FPS * SAMPLE_RATE)
        wrong = np.resize(other, wanted) if len(other) < wanted else other[:wanted]
        first = next(read_frames(path))
        for kind, pictures, sound in (
            ("real", read_frames(path), own),
            ("swapped", read_frames(path), wrong),
            ("still", itertools.repeat(first, frames), own),
        ):
            target = out / kind / f"{name}.mp4"
            target.parent.mkdir(parents=True, exist_ok=True)
            write_video(target, pictures, audio=sound, crf=1)
    return len(found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder of talking videos")
    parser.add_argument("out", type=Path, help="folder to write")
    options = parser.parse_args()
    print(f"{options.out}: {controls(options.source, options.out)} videos in each of real, swapped, still")

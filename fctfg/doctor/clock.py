"""Whether a flash and a click of the same moment come out of a video file together."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from fctfg.media import FPS, SAMPLE_RATE, Pixels, Samples, read_audio, read_frames, write_video
from fctfg.ops.mel import mel_spectrogram
from fctfg.ops.windows import mel_windows

RATES = (Fraction(25), Fraction(30), Fraction(30000, 1001))  # frames per second of the source files
MARKS = (20, 45, 70, 95, 120)  # frames at 25 a second at which it flashes and clicks
LENGTH = 140  # frames at 25 a second
FLASH = 5  # frames at 25 a second that it stays white
AROUND = 12  # frames to both sides in which the click is looked for


@dataclass(frozen=True)
class Clock:
    """How far click and flash are apart.

    Attributes:
        apart: frames at 25 a second from the flash to the click, the largest of five, by the source's frames per
            second; 0 is right. A flash or click that is not found again counts as 25.
    """

    apart: dict[str, int]

    @property
    def worst(self) -> int:
        """The largest distance of all sources."""
        return max(map(abs, self.apart.values()))

    def __str__(self) -> str:
        return "click after flash: " + ", ".join(f"{n} frames at {fps} fps" for fps, n in self.apart.items())


def click_and_flash(path: Path, fps: Fraction, late: int = 0) -> None:
    """Write a video that turns white when it clicks.

    It is made so that the frames `MARKS` of the same video at 25 fps are the first white ones, and that it clicks in
    the middle of each of these frames.

    Args:
        path: mp4 to write.
        fps: of the file.
        late: frames at 25 a second by which the clicks are late.
    """

    def frames() -> Iterator[Pixels]:
        for number in range(math.ceil(LENGTH / FPS * fps)):
            shown = math.ceil(number / fps * round(FPS))  # the first frame at 25 fps that shows it
            white = any(mark <= shown < mark + FLASH for mark in MARKS)
            yield np.full((64, 64, 3), 235 if white else 20, np.uint8)

    write_video(path, frames(), float(fps), _clicks(late))


def _clicks(late: int) -> Samples:
    sound = np.zeros(round(LENGTH / FPS * SAMPLE_RATE), np.float32)
    noise = np.random.default_rng(0).uniform(-0.9, 0.9, 80).astype(np.float32)  # 5 ms
    for mark in MARKS:
        begin = round((mark + late + 0.5) / FPS * SAMPLE_RATE)
        sound[begin : begin + len(noise)] = noise
    return sound


def distances(path: Path) -> list[int]:
    """Read a click-and-flash video as `fctfg prepare` and the data set do, and compare.

    Args:
        path: what `click_and_flash` wrote.

    Returns:
        For each mark, frames from the first white frame to the last frame whose mel window has the click, which begins
        with the frame in which it clicks; 25 where there is none.
    """
    level = np.array([frame.mean() for frame in read_frames(path)]) > 128
    flashes = np.flatnonzero(level[1:] & ~level[:-1]) + 1
    mel = mel_spectrogram(torch.from_numpy(read_audio(path)))
    loudness = mel_windows(mel, torch.arange(len(level))).mean((1, 2))  # [T, 16]
    if len(flashes) != len(MARKS):
        return [round(FPS)] * len(MARKS)
    return [_click(loudness, int(flash)) - int(flash) for flash in flashes]


def _click(loudness: torch.Tensor, flash: int) -> int:
    """The last frame near a flash whose window has the loudest moment."""
    first = max(0, flash - AROUND)
    near = loudness[first : flash + AROUND + 1]
    if float(near.max() - near.min()) < 1:  # no click
        return flash + round(FPS)
    return first + int((near >= near.max() - 1e-4).any(1).nonzero().max())


def measure_clock(folder: Path) -> Clock:
    """Write and read one video of each of the `RATES`.

    Args:
        folder: for the videos.

    Raises:
        FctfgError: it is not writable.
    """
    apart = {}
    for fps in RATES:
        path = folder / f"{float(fps):.4g}.mp4"
        click_and_flash(path, fps)
        apart[f"{float(fps):.4g}"] = max(distances(path), key=abs)
    return Clock(apart)

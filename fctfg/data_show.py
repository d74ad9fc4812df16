"""`fctfg data show`: samples exactly as the networks get them, before and after augmentation, on one page."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from fctfg.data.augmentation.pictures import PictureAugment
from fctfg.data.augmentation.sound import SoundAugment, change_sound
from fctfg.data.batch import Batch, Sample, to_batch
from fctfg.data.dataset import TalkingClips
from fctfg.data.manifest import Clip
from fctfg.errors import UsageError
from fctfg.media import FPS, SAMPLE_RATE, Pixels, Samples, write_video
from fctfg.media.mel_picture import mel_picture
from fctfg.models.spec_augment import SpecAugment
from fctfg.ops.mel import mel_spectrogram
from fctfg.ops.pixels import to_pixels
from fctfg.randomness import derive_seed
from fctfg.report import Block, Gallery, Heading, Section, Text, duration_text, write_report
from fctfg.report_media import Media, Picture
from fctfg.strip import beside, jpeg, png

WINDOW = 5  # driving frames of a still sample, as in training
NO_PICTURES = PictureAugment(
    flip_chance=0, brightness_chance=0, contrast_chance=0, gamma_chance=0, hue_chance=0, jitter_chance=0, noise_chance=0
)
NO_SOUND = SoundAugment(speed_chance=0, reverberation_chance=0, noise_chance=0, gain_chance=0)
COLOURS = ((230, 60, 60), (60, 200, 60), (250, 210, 40), (60, 150, 250), (230, 90, 230))  # of the five points, in order


@dataclass(frozen=True)
class Choice:
    """Which samples are shown.

    Attributes:
        split: `train`, `val` or `test`.
        count: how many.
        seed: of the run whose first samples they are.
        view: to draw from; None is all clips.
        augment: also show what augmentation makes of them.
        decoys: still samples with the other moment.
        seconds: length of the films; None shows still frames.

    Raises:
        UsageError: a number is out of range, or decoys are asked for in films.
    """

    split: str = "train"
    count: int = 8
    seed: int = 0
    view: str | None = None
    augment: bool = False
    decoys: bool = False
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UsageError(f"--count must be 1 or more, not {self.count}")
        if self.seed < 0:
            raise UsageError(f"--seed must be 0 or more, not {self.seed}")
        if self.seconds is not None and not 1 / FPS <= self.seconds <= 60:
            raise UsageError(f"--seconds must be between {1 / FPS:g} and 60, not {self.seconds:g}")
        if self.seconds is not None and self.decoys:
            raise UsageError("--decoys belongs to --frames; films show one moment")

    @property
    def frames(self) -> int:
        """T, driving frames of a sample."""
        return WINDOW if self.seconds is None else round(self.seconds * FPS)


class Moment(NamedTuple):
    """One sample as a step sees it, with a batch size of 1, and the sound that its mel is of."""

    sample: Sample
    batch: Batch
    sound: Samples  # float32 [640 T], from the first driving frame on; may leave [-1, 1]
    mel: Tensor  # [80, M] of that time


def moments(root: Path, choice: Choice) -> Iterator[tuple[Clip, Moment, Moment | None]]:
    """The first samples of a run: the clip, the original, and where it is asked for, what augmentation makes of it.

    Both come from the same draws: augmentation takes the same random numbers whatever its chances, so that with all
    chances 0 the same moment comes out unchanged.

    Args:
        root: the data set.
        choice: which samples.

    Raises:
        FctfgError: as `TalkingClips`.
    """

    def clips(pictures: PictureAugment, sound: SoundAugment) -> TalkingClips:
        frames, decoys = choice.frames, choice.decoys
        return TalkingClips(root, choice.split, frames, decoys, pictures, sound, view=choice.view, seed=choice.seed)

    # how many frames faster speech may need decides where a moment may begin, also that of its original
    plain = clips(NO_PICTURES, NO_SOUND if choice.augment else replace(NO_SOUND, speed=1.0))
    changed = clips(PictureAugment(), SoundAugment()) if choice.augment else None
    for index in range(choice.count):
        original = _moment(plain, index)
        augmented = None if changed is None else _moment(changed, index)
        yield plain.clip(int(original.batch.clip)), original, augmented


def _moment(clips: TalkingClips, index: int) -> Moment:
    sample: Sample = default_collate([clips[(0, index)]])
    batch = to_batch(sample, clips.frames, changed=True)
    wave = change_sound(sample.wave, sample.sound, sample.anchor)[0]
    first, last = int(sample.windows[0, 0, 0]), int(sample.windows[0, -1, -1])
    begin = int(sample.anchor)
    sound = wave[begin : begin + round(clips.frames * SAMPLE_RATE / FPS)]
    return Moment(sample, batch, sound.numpy(), mel_spectrogram(wave)[:, first : last + 1])


def write_show(
    root: Path,
    out: Path,
    choice: Choice,
    points: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write a page with samples, which needs no other file and no network.

    Args:
        root: the data set.
        out: the HTML file.
        choice: which samples.
        points: draw the five points of the face.
        progress: called with the number of samples that are done and of all.

    Raises:
        FctfgError: as `TalkingClips`, or `out` cannot be written.
    """
    sections = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (clip, original, changed) in enumerate(moments(root, choice)):
            progress(number, choice.count)
            shown = {"original": original} | ({"augmented": changed} if changed else {})
            blocks: list[Block] = [Text("Augmented: " + changes_text(changed.sample))] if changed else []
            if choice.seconds is None:
                blocks += _stills(shown, points)
            else:
                blocks += _films(shown, points, Path(folder) / str(number))
            blocks += _mels(shown, derive_seed(choice.seed, "spec_augment", number))
            start = duration_text(int(original.batch.start) / FPS)
            sections.append(Section(f"{number + 1}: {clip.id} ({clip.identity}), from {start}", blocks))
        progress(choice.count, choice.count)
        lead = (
            f"The first {choice.count} samples of split {choice.split}"
            + (f", view “{choice.view}”" if choice.view else "")
            + f", for a run with seed {choice.seed}, {choice.frames} driving frames a sample"
            + (" and augmentation" if choice.augment else "")
            + ". What is called original is the moment without any change, also not mirrored."
        )
        write_report(out, f"Samples of {root.resolve().name}", lead, sections)


def changes_text(sample: Sample) -> str:
    """What happens to a collated sample of one, in words; no change is left out."""
    pictures, sound = sample.pictures, sample.sound
    words = ["mirrored"] if bool(pictures.flip) else []
    for name in ("brightness", "contrast", "gamma"):
        factors = getattr(pictures, name)[0]
        if bool((factors != 1).any()):
            low, high = float(factors.min()), float(factors.max())
            words.append(f"{name} x {low:.2f}" + (f" to {high:.2f}" if high - low > 0.005 else ""))
    if float(pictures.hue):
        words.append(f"hue {math.degrees(float(pictures.hue)):+.1f} degrees")
    if float(pictures.noise):
        words.append(f"noise {100 * float(pictures.noise):.1f} % of white")
    if float(sound.speed) != 1:
        words.append(f"speed x {float(sound.speed):.3f}")
    if float(sound.reverberation):
        level = -20 * math.log10(float(sound.reverberation))
        words.append(f"a room of {float(sound.rt60):.2f} s, direct sound {level:+.0f} dB over it")
    if float(sound.noise):
        colour = "pink" if float(sound.colour) else "white"
        words.append(f"{colour} noise {-20 * math.log10(float(sound.noise)):.0f} dB below the speech")
    if float(sound.gain) != 1:
        words.append(f"loudness {20 * math.log10(float(sound.gain)):+.2f} dB")
    return ", ".join(words) or "nothing was drawn for this sample"


def _stills(shown: dict[str, Moment], points: bool) -> Iterator[Block]:
    for part in ("source", "driving", "decoy"):
        pictures = []
        for name, moment in shown.items():
            images, places = _part(moment.batch, part)
            if len(images):
                content = jpeg(beside(_drawn(images, places, points)), quality=95, full_colour=True)
                pictures.append(Picture(content, f"{part} frames, {name}", name, wide=part != "source"))
        if pictures:
            yield Heading(part.capitalize())
            yield Gallery(pictures, 10)


def _part(batch: Batch, part: str) -> tuple[Tensor, Tensor]:
    """Images [T, 3, H, W] and points [T, 5, 2] of the first sample's source, driving or decoy frames."""
    if part == "source":
        return batch.source[:1], batch.source_points[:1]
    return (batch.driving[0], batch.points[0]) if part == "driving" else (batch.decoy[0], batch.decoy_points[0])


def _mels(shown: dict[str, Moment], seed: int) -> Iterator[Block]:
    """The first windows, and what SpecAugment makes of the last ones shown, masking every window by itself."""
    yield Heading("Mel windows, low frequencies below")
    windows = {name: moment.batch.mel[0, :WINDOW] for name, moment in shown.items()}
    if "augmented" in windows:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            windows["then SpecAugment, as in the sound encoder in training"] = SpecAugment().train()(
                windows["augmented"]
            )
    yield Gallery(
        [
            Picture(png(beside([mel_picture(window[0]) for window in part], gap=6)), f"mel windows, {name}", name)
            for name, part in windows.items()
        ],
        16,
    )


def _films(shown: dict[str, Moment], points: bool, stem: Path) -> Iterator[Block]:
    films, mels = [], []
    for name, moment in shown.items():
        path = stem.with_name(f"{stem.name}_{name}.mp4")
        frames = _drawn(moment.batch.driving[0], moment.batch.points[0], points)
        write_video(path, frames, audio=moment.sound, crf=20)
        over = float(np.mean(np.abs(moment.sound) > 1))
        films.append(Media(path, name + (f", {100 * over:.2g} % of the sound is cut off to be played" if over else "")))
        picture = png(mel_picture(moment.mel))
        mels.append(Picture(picture, f"mel spectrogram, {name}", f"mel of the {name} sound, low frequencies below"))
    yield Gallery(films, 16)
    yield Gallery(mels, 16)


def _drawn(images: Tensor, points: Tensor, wanted: bool) -> list[Pixels]:
    """Images [T, 3, H, W] as pictures, where it is wanted with points [T, 5, 2] as dots of different colours."""
    pictures = to_pixels(images)
    if not wanted:
        return list(pictures)
    height, width = pictures.shape[1:3]
    y, x = np.mgrid[:height, :width] + 0.5
    radius = max(1.0, width / 64)
    for picture, places in zip(pictures, points.numpy(), strict=True):
        for (px, py), colour in zip(places, COLOURS, strict=True):
            picture[(x - px * width) ** 2 + (y - py * height) ** 2 <= radius**2] = colour
    return list(pictures)

"""Moments of talking clips, each read from its position (seed, epoch, index) alone."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fctfg.data.augmentation.pictures import PictureAugment, unchanged_pictures
from fctfg.data.augmentation.sound import SoundAugment, speed_frames, unchanged_sound
from fctfg.data.batch import Sample
from fctfg.data.manifest import Clip, coded, numbers
from fctfg.data.sampler import Key
from fctfg.data.shards import ClipReader
from fctfg.data.views import read_clips
from fctfg.errors import FctfgError
from fctfg.media import FPS, SAMPLE_RATE
from fctfg.ops.mel import HOP
from fctfg.ops.windows import window_index
from fctfg.randomness import rng

PLACES = ("n_frames", "film_at", "sound_at", "mel_at", "track_at")
COLUMNS = ("id", "identity", "shard", "licence", "consent", *PLACES)
LEAD = 40  # mel frames of sound before and after a moment, at least, where it is going to be changed: half a second

FLIP = PictureAugment(
    brightness_chance=0, contrast_chance=0, gamma_chance=0, hue_chance=0, jitter_chance=0, noise_chance=0
)


class TalkingClips(Dataset[Sample]):
    """Samples of one split of a prepared data set.

    Who is seen is drawn first: each lap visits every person once, in an order drawn from the seed, the epoch and the
    lap, so that people with many clips do not outweigh the others. Of the person's clips one is drawn, and from it one
    source frame and one window of consecutive driving frames with the sound of the same moments. Nothing depends on
    the number of workers or processes, and nothing of a clip is in memory but its row.

    Args:
        root: folder written by `fctfg prepare`.
        split: `train`, `val` or `test`.
        frames: T, driving frames per sample.
        decoys: also draw a second window of T frames of the same clip, which does not overlap the first.
        pictures: how pictures are changed; None leaves them.
        sound: how the sound is changed; None leaves it, and takes the mel as it is stored.
        centered_mel: see `fctfg.ops.windows.mel_windows`.
        view: name of a view; None takes all clips.
        seed: the run's seed.

    Raises:
        FctfgError: no manifest, a shard of it is lost, no such view, or no clip of the split is long enough.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        frames: int = 5,
        decoys: bool = False,
        pictures: PictureAugment | None = None,
        sound: SoundAugment | None = None,
        centered_mel: bool = False,
        view: str | None = None,
        seed: int = 0,
    ) -> None:
        self.root = Path(root)
        self.split, self.frames, self.decoys, self.view = split, frames, decoys, view
        self.pictures, self.sound, self.centered_mel, self.seed = pictures, sound, centered_mel, seed
        # faster speech needs more frames; decoys need another window beside each that does not overlap it
        self._span = self._shown = frames  # that are read for the driving frames, and that can be among them
        if sound is not None:
            fastest = unchanged_sound()._replace(speed=torch.tensor(sound.speed))
            self._span = 1 + math.ceil((frames - 1) * sound.speed)
            self._shown = 1 + int(speed_frames(0, frames, fastest)[-1])
        shortest = max(self._span, 2 * frames + self._shown if decoys else frames)
        rows = read_clips(root, view, COLUMNS, split, shortest)
        if not len(rows):
            raise FctfgError(self._none(len(read_clips(root, view, ["id"], split)), shortest))
        self.size = rows.size
        self._reader = ClipReader(rows)
        self._ids = rows.table["id"].combine_chunks()
        self._numbers = {name: numbers(rows, name) for name in PLACES}
        self._shard_names, self._shard = coded(rows, "shard")
        self.identities, self._identity = coded(rows, "identity")  # [people], [clips]
        self.licences, self.consents = coded(rows, "licence")[0], coded(rows, "consent")[0]  # "" where none is said
        self.manifest = rows = replace(rows, table=rows.table.select([]))  # what is needed is above, in less memory
        self._by_identity = np.argsort(self._identity, kind="stable").astype(np.int32)
        self._first = np.searchsorted(self._identity[self._by_identity], np.arange(len(self.identities) + 1))

    def _none(self, clips: int, shortest: int) -> str:
        where = f"{self.root}" + (f" (view {self.view!r})" if self.view else "")
        if not clips and self.view:
            return (
                f"the view {self.view!r} of {self.root} leaves no clip of its split '{self.split}'; choose a wider one"
            )
        if not clips:
            return (
                f"{where} has no clip in its split '{self.split}'; prepare more people, or give the split a larger "
                f"share of them (fctfg prepare --val 0.5 --test 0 divides two people)"
            )
        return (
            f"{where}: none of the {clips} clips of split '{self.split}' has the {shortest} frames that a sample "
            f"needs; prepare longer clips"
        )

    def __len__(self) -> int:
        return len(self._identity)

    @property
    def selection(self) -> str:
        """sha256 that names the clips that are drawn from."""
        return hashlib.sha256("\x1f".join(self._ids.to_pylist()).encode("utf-8", "surrogateescape")).hexdigest()

    def clip(self, index: int) -> Clip:
        """What reading needs of a row."""
        number = {name: int(values[index]) for name, values in self._numbers.items()}
        return Clip(
            id=self._ids[index].as_py(),
            identity=self.identities[self._identity[index]],
            split=self.split,
            shard=self._shard_names[self._shard[index]],
            n_frames=number["n_frames"],
            film_at=number["film_at"],
            sound_at=number["sound_at"],
            mel_at=number["mel_at"],
            track_at=number["track_at"],
        )

    def whole(self, index: int, frames: int | None = None) -> tuple[Clip, np.ndarray, np.ndarray, Tensor]:
        """A clip: its row, frames uint8 [T, H, W, 3], sound float32 [N] at 16 kHz, mel float32 [80, M].

        Args:
            index: the row's.
            frames: how many are read at most, from the first on; None reads all. Sound and mel are whole.
        """
        clip = self.clip(index)
        return clip, self._reader.whole(clip, frames), self._reader.sound(clip), self._reader.mel(clip)

    @property
    def pictures_per_sample(self) -> int:
        """N of `Sample`: the source, the driving frames and the decoy's."""
        return 1 + self.frames * (2 if self.decoys else 1)

    def __getitem__(self, key: Key) -> Sample:
        return self.read(key)

    def read(self, key: Key, out: Tensor | None = None, attempt: int = 0) -> Sample:
        """The sample of a position.

        Args:
            key: (epoch, index within the epoch).
            out: memory for the sample's frames, uint8 [N, S, S, 3] in one piece; None takes new memory.
            attempt: 1 and more give other samples, of any person, to replace one that cannot be read.

        Raises:
            FctfgError: the clip's shard is lost, cut off or damaged.
        """
        clip, draw = self._drawn(key, attempt)
        return self.sample(clip, draw, out)

    def drawn_clip(self, key: Key, attempt: int = 0) -> Clip:
        """The clip that `read` takes."""
        return self.clip(self._drawn(key, attempt)[0])

    def clip_at(self, key: Key) -> str:
        """The id of the clip that the sample of a position is taken from; nothing is read."""
        return str(self._ids[self._drawn(key, 0)[0]].as_py())

    def _drawn(self, key: Key, attempt: int) -> tuple[int, np.random.Generator]:
        """The clip of a position, and what the rest of its sample is drawn from."""
        epoch, index = key
        if attempt:
            draw = rng(self.seed, self.split, "sample", epoch, index, attempt)
            person = int(draw.integers(len(self.identities)))
        else:
            draw = rng(self.seed, self.split, "sample", epoch, index)
            lap, place = divmod(index, len(self.identities))
            person = _order(self.seed, self.split, epoch, lap, len(self.identities))[place]
        return int(self._by_identity[draw.integers(*self._first[person : person + 2])]), draw

    def sample(self, clip: int, draw: np.random.Generator, out: Tensor | None = None) -> Sample:
        """One sample of a clip, everything random taken from `draw`; `out` as in :meth:`read`."""
        row = self.clip(clip)
        length, count = row.n_frames, self.frames
        start = int(draw.integers(0, length - self._span + 1))
        source = int(draw.integers(0, length))
        other = _other_window(draw, start, self._shown, count, length) if self.decoys else 0
        n = self.pictures_per_sample
        drawn = unchanged_pictures(n) if self.pictures is None else self.pictures.draw(draw, n)
        heard = unchanged_sound() if self.sound is None else self.sound.draw(draw)

        read = [self._reader.track(row, source, 1), self._reader.track(row, start, self._span)]
        if self.sound is not None:  # faster or slower, which leaves out or repeats frames
            read[1] = read[1][(speed_frames(start, count, heard) - start).numpy()]
        if self.decoys:
            read.append(self._reader.track(row, other, count))
        if out is None:
            out = torch.empty(n, self.size, self.size, 3, dtype=torch.uint8)
        for place, track in zip((0, 1, 1 + count), read, strict=False):
            self._reader.frames(row, track, out[place : place + len(track)])
        mel, wave, anchor, windows = self._sound(row, start)
        known = torch.tensor([anchor, int(self._identity[clip]), clip, start]).unbind()
        return Sample(
            frames=out.movedim(-1, 1),
            points=torch.from_numpy(np.concatenate([track["points"] for track in read])),
            mel=mel,
            wave=wave,
            anchor=known[0],
            windows=windows,
            identity=known[1],
            clip=known[2],
            start=known[3],
            pictures=drawn,
            sound=heard,
        )

    def _sound(self, row: Clip, start: int) -> tuple[Tensor, Tensor, int, Tensor]:
        """(mel windows, waveform, anchor, window index) of `Sample`."""
        count, samples = self.frames, self._reader.samples(row)
        # windows of frames of unchanged speed, which the changed sound has again
        index = _windows(start, count, self.centered_mel).clamp_max(samples // HOP)
        first, last = int(index[0, 0]), int(index[-1, -1]) + 1
        if self.sound is None:
            windows = self._reader.mel(row, first, last - first).T[index - first]  # [T, 16, 80]
            return windows.transpose(1, 2).unsqueeze(1), torch.zeros(0), 0, index - first
        begin = (first - LEAD) * HOP
        heard = math.ceil(16 + 3.2 * (count + 4))  # mel frames
        after = max(LEAD, math.ceil(heard * (self.sound.speed - 1)))  # the fastest sound takes from there
        size = (LEAD + heard + after) * HOP  # the same for all samples
        low, high = max(begin, 0), min(begin + size, samples)
        wave = np.pad(self._reader.sound(row, low, high - low), (low - begin, begin + size - high))
        anchor = round(start * SAMPLE_RATE / FPS) - begin
        return torch.zeros(0), torch.from_numpy(wave), anchor, index - first + LEAD


@lru_cache(maxsize=16)  # threads are a few laps apart
def _order(seed: int, split: str, epoch: int, lap: int, people: int) -> np.ndarray:
    """Whom each place of a lap shows: all people once, in a random order."""
    return rng(seed, split, "order", epoch, lap).permutation(people)


@lru_cache(maxsize=4096)  # as many as a clip has frames
def _windows(start: int, count: int, centered: bool) -> Tensor:
    """Which mel frames are the windows of `count` frames from `start` on, in a sound without end."""
    return window_index(torch.arange(start, start + count), 1 << 40, FPS, centered)


def _other_window(draw: np.random.Generator, start: int, span: int, count: int, length: int) -> int:
    """The start of a random window of `count` frames that does not overlap the one of `span` from `start` on."""
    before = max(0, start - count + 1)  # windows that end before it
    after = max(0, length - start - span - count + 1)
    number = int(draw.integers(before + after))
    return number if number < before else start + span + number - before


def training_pictures(pictures: PictureAugment, augment: bool, flip: bool) -> PictureAugment:
    """What is drawn in training: all changes or none but the flip, and that only where it is wanted."""
    chosen = pictures if augment else FLIP
    return chosen if flip else replace(chosen, flip_chance=0.0)

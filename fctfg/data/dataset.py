"""Moments of talking clips, each decoded from its position (seed, epoch, index) alone."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fctfg.data.augment import augment
from fctfg.data.batch import Batch
from fctfg.data.clip import read_clip
from fctfg.data.manifest import Clip, read_manifest
from fctfg.data.sampler import Key
from fctfg.errors import FctfgError
from fctfg.media import FPS, read_wav
from fctfg.ops.mel import mel_spectrogram
from fctfg.ops.pixels import to_images
from fctfg.ops.windows import mel_windows
from fctfg.randomness import rng


@lru_cache(maxsize=2048)
def clip_mel(path: Path) -> Tensor:
    """Mel spectrogram of a whole clip, float32 [80, M]; kept, since a clip is visited again and again."""
    return mel_spectrogram(torch.from_numpy(read_wav(path)))


def mirror_points(points: Tensor) -> Tensor:
    """Points [..., 5, 2] of the horizontally flipped picture: x is mirrored, and left and right change places."""
    mirrored = points[..., [1, 0, 2, 4, 3], :].clone()
    mirrored[..., 0] = 1.0 - mirrored[..., 0]
    return mirrored


class TalkingClips(Dataset[Batch]):
    """Samples of one split of a prepared data set.

    Every epoch visits the clips in a new order (a permutation drawn from the seed, the epoch and the lap), and draws
    from each one source frame and one window of consecutive driving frames with the mel windows of the same moments.

    Args:
        root: folder written by `fctfg prepare`.
        split: `train`, `val` or `test`.
        frames: T, driving frames per sample.
        decoys: also draw a second window of T frames of the same clip, which does not overlap the first.
        flip: mirror half of the samples (all frames of a sample alike).
        augment: vary colour and framing of the samples (`fctfg.data.augment`).
        centered_mel: see `fctfg.ops.windows.mel_windows`.
        seed: the run's seed.

    Raises:
        FctfgError: no manifest, a clip of it is lost, or no clip of the split is long enough.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        frames: int = 5,
        decoys: bool = False,
        flip: bool = False,
        augment: bool = False,
        centered_mel: bool = False,
        seed: int = 0,
    ) -> None:
        self.root = Path(root)
        self.split, self.frames, self.decoys = split, frames, decoys
        self.flip, self.augment, self.centered_mel, self.seed = flip, augment, centered_mel, seed
        shortest = 3 * frames if decoys else frames  # so that every window has another one that it does not overlap
        kept = read_manifest(self.root).kept(split)
        long_enough = [i for i, length in enumerate(kept.column("n_frames")) if length >= shortest]
        if not long_enough:
            if not kept:
                raise FctfgError(
                    f"{self.root} has no clip in its split '{split}'; prepare more people, or give the split a larger "
                    f"share of them (fctfg prepare --val 0.5 --test 0 divides two people)"
                )
            raise FctfgError(
                f"{self.root}: none of the {len(kept)} clips of split '{split}' has the {shortest} frames that a "
                f"sample needs; prepare longer clips"
            )
        self.clips: list[Clip] = [kept[i] for i in long_enough]
        self.identities = sorted({clip.identity for clip in self.clips})
        self._lap: Key | None = None  # (epoch, lap) that `_order` is of
        self._order = np.arange(0)
        self._identity_index = {name: i for i, name in enumerate(self.identities)}
        sizes = {clip.size for clip in self.clips}
        if len(sizes) != 1:
            raise FctfgError(
                f"{self.root} holds clips of different sizes ({sorted(sizes)}); prepare them with one --size"
            )
        self.size = sizes.pop()

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: Key) -> Batch:
        epoch, index = key
        lap, place = divmod(index, len(self.clips))
        if self._lap != (epoch, lap):
            self._lap = epoch, lap
            self._order = rng(self.seed, self.split, "order", epoch, lap).permutation(len(self))
        draw = rng(self.seed, self.split, "sample", epoch, index)
        return self.sample(int(self._order[place]), draw)

    def sample(self, clip: int, draw: np.random.Generator) -> Batch:
        """One sample of a clip, everything random taken from `draw`."""
        row = self.clips[clip]
        length = row.n_frames
        start = int(draw.integers(0, length - self.frames + 1))
        source = int(draw.integers(0, length))
        starts = np.arange(length - self.frames + 1)
        other = int(draw.choice(starts[abs(starts - start) >= self.frames])) if self.decoys else 0
        flip = self.flip and bool(draw.random() < 0.5)

        window = np.arange(self.frames)
        chosen = np.concatenate([[source], start + window, other + window[: self.frames if self.decoys else 0]])
        images = to_images(read_clip(self.root / row.path, chosen.tolist()))
        points = torch.from_numpy(row.points[chosen])
        if flip:
            images, points = images.flip(-1), mirror_points(points)
        if self.augment:
            images, points = augment(images, points, draw)
        driving, decoy = slice(1, 1 + self.frames), slice(1 + self.frames, None)

        sound = clip_mel(self.root / row.audio)
        mel = mel_windows(sound, torch.from_numpy(start + window), fps=FPS, centered=self.centered_mel)
        return Batch(
            source=images[0],
            source_points=points[0],
            driving=images[driving],
            points=points[driving],
            decoy=images[decoy],
            decoy_points=points[decoy],
            mel=mel,
            identity=torch.tensor(self._identity_index[row.identity]),
            clip=torch.tensor(clip),
            start=torch.tensor(start),
        )

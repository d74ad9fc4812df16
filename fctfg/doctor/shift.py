"""What an expert hears of a shift between lips and sound, on people whom it has not seen in training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from fctfg.data.manifest import Clip, Manifest, read_manifest
from fctfg.data.scores.sync import lips_seen, speech_heard
from fctfg.data.scores.sync_choice import cut_mouths
from fctfg.data.shards import ClipReader
from fctfg.errors import FctfgError
from fctfg.metrics.sync_accuracy import sync_accuracy, two_way_accuracy
from fctfg.models.experts.syncnet import FRAMES, SyncNet
from fctfg.weights.sync_measurement import SyncMeasurement

MAX_SHIFT = 15  # frames
MARGIN = FRAMES // 2  # frames at a clip's ends whose windows reach over it
SHORTEST = 30  # frames of a clip
LONGEST = 250  # frames of a clip that are looked at
SPLIT = "val"


@dataclass(frozen=True)
class Shift:
    """What an expert hears.

    Attributes:
        measurement: two-way accuracy against shifts of 5-15 frames, the mean over people of the means over their clips.
        accuracy: how often a window's own sound is more like it than one that is so many frames late, by frames, -15
            to 15 (< 0: early); 0.5 at 0 and by chance.
        likeness: mean cosine of a window and the sound that is so many frames late.
        peak: shift with the largest likeness, frames; 0 where the expert and the data agree.
    """

    measurement: SyncMeasurement
    accuracy: dict[int, float]
    likeness: dict[int, float]
    peak: int

    def __str__(self) -> str:
        m = self.measurement
        return (
            f"accuracy {m.accuracy:.3f} (a guess: 0.5) of {m.windows} windows, {m.clips} clips, {m.people} people of "
            f"'{m.split}'; most alike at a shift of {self.peak} frames"
        )


def measure_shift(
    expert: SyncNet,
    root: Path,
    most: int = 64,
    show: Callable[[int, int], None] = lambda done, total: None,
) -> Shift:
    """Compare each window of held-out clips with its own sound and with shifted ones.

    Args:
        expert: in eval mode, on the device that computes.
        root: the data set; of its split `val`, clips of 30 frames and more are taken, their first 10 s.
        most: clips at most, of as many people as there are.
        show: called with the clips that are done and all.

    Raises:
        FctfgError: no such clip, or one is damaged.
    """
    manifest = read_manifest(root).kept(SPLIT)
    clips = list(_by_turns(manifest))[:most]
    if not clips:
        raise FctfgError(
            f"{root}: none of the {len(manifest)} clips of split '{SPLIT}' has the {SHORTEST} frames that measuring a "
            f"shift needs; prepare longer clips"
        )
    reader = ClipReader(manifest)
    people: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {}
    windows = 0
    for number, clip in enumerate(clips, 1):
        face, sound = _embedded(expert, reader, clip)
        windows += len(face)
        against, alike = _curves(face, sound)
        people.setdefault(clip.identity, []).append((sync_accuracy(face, sound), against, alike))
        show(number, len(clips))
    means = [[torch.stack(part).mean(0) for part in zip(*rows, strict=True)] for rows in people.values()]
    accuracy, against, alike = (torch.stack(part).mean(0) for part in zip(*means, strict=True))
    measurement = SyncMeasurement(float(accuracy), SPLIT, manifest.hash, len(people), len(clips), windows)
    return Shift(measurement, _by_shift(against), _by_shift(alike), int(alike.argmax()) - MAX_SHIFT)


def _by_turns(manifest: Manifest) -> Iterator[Clip]:
    """The clips that are long enough: the first one of each person, the second ones, and so on."""
    people: dict[str, list[Clip]] = {}
    for clip in manifest:
        if clip.n_frames >= SHORTEST:
            people.setdefault(clip.identity, []).append(clip)
    for turn in range(max(map(len, people.values()), default=0)):
        yield from (clips[turn] for _, clips in sorted(people.items()) if turn < len(clips))


def _embedded(expert: SyncNet, reader: ClipReader, clip: Clip) -> tuple[Tensor, Tensor]:
    """Unit vectors of the windows around each frame of a clip, and of their sounds: float64 [T, D] each."""
    track = reader.track(clip, 0, min(clip.n_frames, LONGEST))
    pictures = reader.frames(clip, track).movedim(1, -1).numpy()
    face = lips_seen(cut_mouths(expert, pictures, track["points"].copy()), expert)
    sound = speech_heard(reader.sound(clip), expert)[: len(face)]
    return face[MARGIN:-MARGIN], sound[MARGIN : len(face) - MARGIN]


def _curves(face: Tensor, sound: Tensor) -> tuple[Tensor, Tensor]:
    """Accuracy against each shift and likeness at each, [31] each, of a clip's windows [T, D]."""
    similarity = F.normalize(face, dim=1) @ F.normalize(sound, dim=1).T  # [T face, T sound]
    accuracy, likeness = [], []
    for shift in range(-MAX_SHIFT, MAX_SHIFT + 1):
        shifted = similarity.diagonal(shift)  # of faces t = max(0, -shift) ...
        own = similarity.diagonal()[max(0, -shift) :][: len(shifted)]
        accuracy.append(two_way_accuracy(own, shifted))
        likeness.append(shifted.mean())
    return torch.stack(accuracy), torch.stack(likeness)


def _by_shift(values: Tensor) -> dict[int, float]:
    return dict(zip(range(-MAX_SHIFT, MAX_SHIFT + 1), map(float, values), strict=True))


def shift_plot(accuracy: Mapping[int, float]) -> str:
    """A plot of accuracies by shift in text: a bar for each shift, from 0 to 1, with a mark at chance."""
    lines = []
    for shift, value in sorted(accuracy.items()):
        bar = "#" * round(40 * value)
        line = f"{bar:<40}"
        lines.append(f"{shift:+4d} {value:.2f} {line[:20]}|{line[20:]}".rstrip())
    return "\n".join(lines)

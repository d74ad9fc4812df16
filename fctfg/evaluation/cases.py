"""Which results are measured: those of weights on a data set, or videos of any method beside the real ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

from fctfg.data.manifest import Clip, Manifest
from fctfg.errors import FctfgError
from fctfg.file_hash import sha256

T = TypeVar("T")
Protocol = Literal["reconstruction", "cross"]
VIDEO_ENDINGS = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".mpg", ".mpeg", ".m4v")


@dataclass(frozen=True)
class Drive:
    """A result that weights make: who is shown, who drives, and what is heard.

    Attributes:
        name: unique within an evaluation.
        source: its first frame is the portrait.
        driver: gives pose, eyes and expression.
        sound: gives the sound.
        other: a clip of somebody else, whose sound and motion take their place in studies of control; None where
            there is nobody else.
    """

    name: str
    source: Clip
    driver: Clip
    sound: Clip
    other: Clip | None = None

    @property
    def person(self) -> str:
        """Who is shown."""
        return self.source.identity

    @property
    def frames(self) -> int:
        """Length of the result: that of the shorter of driver and sound."""
        return min(self.driver.n_frames, self.sound.n_frames)

    @property
    def inputs(self) -> list[str]:
        """What it is made of, by hashes."""
        return [clip.sha256 for clip in (self.source, self.driver, self.sound, self.other) if clip is not None]

    @property
    def reference(self) -> str:
        """Nothing: the hash of the data set says what it is compared with."""
        return ""


@dataclass(frozen=True)
class Pair:
    """A video that some method has made, and the real one that it is to look like.

    Attributes:
        name: of the files, without their ends.
        made: the method's video.
        real: the real video.
    """

    name: str
    made: Path
    real: Path

    @property
    def person(self) -> str:
        """Who is shown: nobody says, so that each clip counts as a person."""
        return self.name

    @cached_property
    def inputs(self) -> list[str]:
        """What it is made of, by hashes."""
        return [sha256(self.made), self.reference]

    @cached_property
    def reference(self) -> str:
        """Hash of the real video."""
        return sha256(self.real)


Case = Drive | Pair


def evenly(items: Sequence[T], limit: int | None) -> list[T]:
    """At most so many of the items, evenly spread; None takes all."""
    count = len(items) if limit is None else min(limit, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def drives(manifest: Manifest, split: str, protocol: Protocol, limit: int | None = None) -> list[Drive]:
    """The results to be made of a data set.

    `reconstruction` is the paper's protocol: the first frame of a clip is the portrait, the clip drives, with its own
    sound. `cross` takes the portrait of one person, the motion of a second and the sound of a third (of the second,
    where there are two people only); which ones is fixed by the order of the clips.

    Args:
        manifest: of the data set.
        split: whose kept clips.
        protocol: as above.
        limit: clips at most, evenly spread over the split; None takes all.

    Raises:
        FctfgError: the split is empty, or has too few people for `cross`.
    """
    clips = sorted(manifest.kept(split), key=lambda clip: clip.id)
    if not clips:
        raise FctfgError(f"{manifest.root}: no clip in the split '{split}'; choose another --split")
    chosen = evenly(clips, limit)
    if protocol == "reconstruction":
        return [Drive(clip.id, clip, clip, clip, _after(clips, clip)) for clip in chosen]
    found = []
    for clip in chosen:
        place = clips.index(clip)
        driver = _other(clips, place + len(clips) // 3, {clip.identity})
        if driver is None:
            raise FctfgError(
                f"{manifest.root}: all clips of the split '{split}' show '{clip.identity}'; cross-driving needs a "
                f"second person (--protocol reconstruction does not)"
            )
        sound = _other(clips, place + 2 * len(clips) // 3, {clip.identity, driver.identity}) or driver
        start = clips.index(driver) + len(clips) // 2
        other = _other(clips, start, {driver.identity, sound.identity}) or _after(clips, driver)
        found.append(Drive(f"{clip.id}__{driver.id}__{sound.id}", clip, driver, sound, other))
    return found


def _after(clips: Sequence[Clip], clip: Clip) -> Clip | None:
    """A clip of somebody else than whom a clip shows, half the split further on."""
    return _other(clips, clips.index(clip) + len(clips) // 2, {clip.identity})


def _other(clips: Sequence[Clip], start: int, people: set[str]) -> Clip | None:
    """The first clip from a place on, around the end, that shows somebody else."""
    turned = (clips[(start + step) % len(clips)] for step in range(len(clips)))
    return next((clip for clip in turned if clip.identity not in people), None)


def pairs(made: Path, real: Path) -> tuple[list[Pair], list[str]]:
    """Videos of two folders that have the same name but for the end.

    Args:
        made: a method's videos; also in folders below, whose names count.
        real: the real ones.

    Returns:
        The pairs by name, and the names of those real videos that the method has none for.

    Raises:
        FctfgError: a folder is missing, a name is there twice, a made video has no real one, or there is no video.
    """
    generated, truth = (dict(videos(folder)) for folder in (made, real))
    if not generated:
        raise FctfgError(f"{made} holds no video ({', '.join(VIDEO_ENDINGS)})")
    if alone := sorted(generated.keys() - truth.keys()):
        raise FctfgError(
            f"{made}: {len(alone)} of {len(generated)} videos have no partner of the same name in {real} (the first is "
            f"{alone[0]}); rename or remove them"
        )
    found = [Pair(name, generated[name], truth[name]) for name in sorted(generated)]
    return found, sorted(truth.keys() - generated.keys())


def videos(folder: Path) -> Iterator[tuple[str, Path]]:
    """The videos in a folder and below it: (name without its end, file) each.

    Raises:
        FctfgError: there is no such folder, or two videos have one name.
    """
    if not folder.is_dir():
        raise FctfgError(f"{folder} {'is a file' if folder.is_file() else 'is not there'}; name a folder of videos")
    seen: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in VIDEO_ENDINGS and path.is_file():
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name in seen:
                raise FctfgError(f"{path} and {seen[name]} have one name; a pair would not be known; rename one")
            seen[name] = path
            yield name, path

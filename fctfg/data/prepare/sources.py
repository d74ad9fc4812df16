"""The raw videos of a folder: their names, people and rights."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fctfg.data.prepare.layouts import LAYOUTS, Layout, Said
from fctfg.data.prepare.names import printable, source_id
from fctfg.data.prepare.rights import Rights, RightsBook
from fctfg.data.prepare.scan import SUFFIXES, Scan, is_about_rights, scan
from fctfg.errors import FctfgError, UsageError

_UNSAID = Rights()


@dataclass(frozen=True, slots=True)
class Source:
    """One raw video, or something that was met in its place and cannot be used.

    Attributes:
        path: The file.
        name: Its path relative to the prepared folder, with forward slashes, as `printable` gives it.
        id: Unique prefix of its clips' ids: see `source_id`.
        identity: The person.
        split: The split that its folder asks for; None leaves it to `assign_splits`.
        labelled: Whether `identity` is a person that the path names. Otherwise it stands in for one (it is called after
            the file, video or broadcast), and who it is can only be told from the face.
        sound: The file with its sound; None where that is the video itself.
        rights: What is known about the rights in it.
        licence_sha256: Of the licence text that `rights` names; empty where there is none.
        problem: Why it must not be used, ``kind: details``; empty for a video that can be tried.
    """

    path: Path
    name: str
    id: str
    identity: str
    split: str | None
    labelled: bool = True
    sound: Path | None = None
    rights: Rights = _UNSAID
    licence_sha256: str = ""
    problem: str = ""

    @property
    def files(self) -> tuple[Path, ...]:
        """The video, and the file with its sound where that is another one."""
        return (self.path,) if self.sound is None else (self.path, self.sound)

    def state(self) -> tuple[int, int]:
        """By what is seen that the files have changed: their size in bytes, and the sum of their times of change in ns.

        Raises:
            OSError: one of them is gone.
        """
        found = [path.stat() for path in self.files]
        return sum(one.st_size for one in found), sum(one.st_mtime_ns for one in found)


def find_sources(root: Path, skip: Path, layout: str = "folder", licence: str = "", consent: str = "") -> list[Source]:
    """The videos of a folder (recursive, hidden files left out), or one file.

    What cannot be read, links that lead nowhere or to what was met already, videos without consent, and single files
    that do not fit the layout are in the list too, with a `problem`, so that nothing is lost silently.

    Args:
        root: A folder, or one file of any name.
        skip: A folder whose files are left out (the output, should it lie inside).
        layout: How the corpus names its files: a key of `LAYOUTS`.
        licence, consent: From the command line; they come before what the files of the folder say, but for a withdrawn
            consent: see `fctfg.data.prepare.rights`.

    Returns:
        Sorted by name.

    Raises:
        UsageError: There is no such layout.
        FctfgError: `root` does not exist, cannot be read, lies in `skip`, holds no videos or mostly videos that do not
            fit the layout, an identity is in two splits, or a file about rights is wrong.
    """
    if layout not in LAYOUTS:
        raise UsageError(f"--layout must be one of {', '.join(LAYOUTS)}, not {layout!r}")
    if not os.path.exists(root):
        raise FctfgError(f"{root} does not exist; give a video or a folder of videos")
    if os.path.isdir(root):
        found = _listed(root, skip)
    elif os.path.isfile(root):
        root, name = root.parent, root.name
        found = Scan([name], {}, _beside(root))
    else:
        raise FctfgError(f"{root} is neither a file nor a folder; give a video or a folder of videos")
    book = RightsBook(root, found.rights, licence, consent)
    sources = [*_read(root, found.videos, layout, book), *(_unusable(root, *item) for item in found.problems.items())]
    if not sources:
        raise FctfgError(f"{root} holds no videos; files that end in {', '.join(SUFFIXES)} are read")
    _check_disjoint(root, sources)
    return sorted(sources, key=lambda source: source.name)


def _beside(folder: Path) -> list[str]:
    """The files about rights in the folder of a single file."""
    try:
        return sorted(filter(is_about_rights, os.listdir(folder)))
    except PermissionError:  # who may not list a folder can still read a file in it
        return []


def _listed(root: Path, skip: Path) -> Scan:
    real, out = Path(os.path.realpath(root)), os.path.realpath(skip)
    if real.is_relative_to(out):
        raise FctfgError(f"{root} lies in the output folder {skip}; choose another --out")
    found = scan(root, skip)
    if "" in found.problems:
        raise FctfgError(f"{root} cannot be read ({found.problems['']}); give a folder that you may read")
    return found


def _read(root: Path, videos: list[str], layout: str, book: RightsBook) -> Iterator[Source]:
    """The videos as a layout reads them."""
    kind = LAYOUTS[layout]
    read = kind.reader(root)
    videos = [name for name in videos if kind.ignored.isdisjoint(name.split("/")[:-1])]
    said = [read(tuple(name.split("/"))) for name in videos]
    fitting = len(said) - said.count(None)
    if fitting * 2 < len(said):
        first = videos[said.index(None)]
        raise FctfgError(
            f"{root} does not look like {layout}: {printable(first)!r} is not of the form {kind.form} "
            f"({fitting} of {len(said)} videos are); choose another --layout, or the folder above or below"
        )
    sounds: dict[str, Path | None] = {}
    for name, one in zip(videos, said, strict=True):
        yield _unusable(root, name, _stray(kind)) if one is None else _source(root, name, one, book, sounds)


def _stray(kind: Layout) -> str:
    return f"layout: the path is not of the form {kind.form}"


def _source(root: Path, name: str, said: Said, book: RightsBook, sounds: dict[str, Path | None]) -> Source:
    shown = printable(name)
    rights, sha256, objection = book.of(shown, said.identity)
    if said.sound is not None and said.sound not in sounds:
        path = root / said.sound
        sounds[said.sound] = path if path.is_file() else None
    return Source(
        path=root / name,
        name=shown,
        id=source_id(name),
        identity=said.identity,
        split=said.split,
        labelled=said.labelled,
        sound=None if said.sound is None else sounds[said.sound],
        rights=rights,
        licence_sha256=sha256,
        problem=objection,
    )


def _unusable(root: Path, name: str, problem: str) -> Source:
    shown = printable(name)
    return Source(root / name, shown, source_id(name), shown, None, labelled=False, problem=printable(problem))


def _check_disjoint(root: Path, sources: list[Source]) -> None:
    seen: dict[str, Source] = {}
    for source in sources:
        if source.labelled:
            other = seen.setdefault(source.identity, source)
            if other.split != source.split:
                raise FctfgError(
                    f"the identity {source.identity!r} is in two splits of {root} ({other.name} and {source.name}); "
                    f"move one or rename it, because splits must not share people"
                )

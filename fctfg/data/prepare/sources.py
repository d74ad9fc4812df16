"""The raw videos of a folder: their names, people and rights."""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from fctfg.data.manifest import SPLITS
from fctfg.errors import FctfgError

SUFFIXES = (
    *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg"),
    *(".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)
_LONGEST_NAME = 120  # bytes; file systems allow 255, and the clip's number and a temporary name come on top


@dataclass(frozen=True)
class Source:
    """One raw video.

    Attributes:
        path: The file.
        name: Its path relative to the prepared folder, with forward slashes.
        id: Unique prefix of its clips' ids.
        identity: The person.
        split: The split that its folder asks for; None leaves it to `assign_splits`.
    """

    path: Path
    name: str
    id: str
    identity: str
    split: str | None


@dataclass(frozen=True)
class Rights:
    """What is known about the rights in the videos and their origin; empty when not said."""

    licence: str = ""
    consent: str = ""
    provenance: str = ""


def find_sources(root: Path, skip: Path) -> list[Source]:
    """The videos of a folder (recursive, hidden files left out), or one file.

    A file's identity is the name of the uppermost folder that it lies in, or its own name without suffix if it lies
    directly in `root`. Where the uppermost folders are called train, val or test, they are the splits, and the
    identity comes from the folders below.

    Args:
        root: A folder, or one file of any name.
        skip: A folder whose files are left out (the output, should it lie inside).

    Returns:
        Sorted by name.

    Raises:
        FctfgError: `root` does not exist or holds no videos, or an identity is in two splits.
    """
    if not root.exists():
        raise FctfgError(f"{root} does not exist; give a video or a folder of videos")
    if not root.is_dir():
        return [Source(root, root.name, root.stem, root.stem, None)]
    skip = skip.resolve()
    paths = [path for path in sorted(root.rglob("*")) if path.suffix.lower() in SUFFIXES and path.is_file()]
    relatives = [
        (path, path.relative_to(root))
        for path in paths
        if not path.resolve().is_relative_to(skip)
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
    ]
    if not relatives:
        raise FctfgError(f"{root} holds no videos; files that end in {', '.join(SUFFIXES)} are read")
    count = Counter(_joined(relative) for _, relative in relatives)
    sources = [_source(path, relative, count[_joined(relative)] == 1) for path, relative in relatives]
    _check_disjoint(root, sources)
    return sources


def _joined(relative: Path) -> str:
    return "-".join(relative.with_suffix("").parts)


def _source(path: Path, relative: Path, unique: bool) -> Source:
    parts = relative.parts
    split = parts[0] if parts[0] in SPLITS and len(parts) > 1 else None
    people = parts[1:] if split else parts
    name = _joined(relative)
    if not unique or len(name.encode()) > _LONGEST_NAME:
        digest = hashlib.sha256(relative.as_posix().encode()).hexdigest()[:12]
        name = f"{name.encode()[:_LONGEST_NAME].decode(errors='ignore')}-{digest}"
    return Source(path, relative.as_posix(), name, people[0] if len(people) > 1 else Path(people[0]).stem, split)


def _check_disjoint(root: Path, sources: list[Source]) -> None:
    seen: dict[str, Source] = {}
    for source in sources:
        other = seen.setdefault(source.identity, source)
        if other.split != source.split:
            raise FctfgError(
                f"the identity {source.identity!r} is in two splits of {root} ({other.name} and {source.name}); "
                f"move one or rename it, because splits must not share people"
            )


def read_rights(root: Path, licence: str = "", consent: str = "") -> Rights:
    """The rights from the command line, and where they are empty from ``provenance.json`` in the folder.

    Raises:
        FctfgError: The file is not a JSON object of texts.
    """
    path = root / "provenance.json"
    if not path.is_file():
        return Rights(licence, consent)
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        texts = {key: str(said.get(key, "")) for key in ("licence", "consent", "source")}
    except (ValueError, AttributeError, OSError) as error:
        raise FctfgError(f'{path} is not a JSON object like {{"licence": "...", "consent": "..."}}; fix it') from error
    return Rights(licence or texts["licence"], consent or texts["consent"], texts["source"])

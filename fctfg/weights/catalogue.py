"""The catalogue of published weights: where each file comes from, its hash, and what its licence allows.

The figures are those of `catalogue.json`; a size or hash that nobody could confirm is left out there, not guessed.
"""

from __future__ import annotations

import difflib
import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from fctfg.errors import FctfgError

Source = Literal[
    "stylegan2-rosinality",
    "stylegan2-rosinality-d",
    "stylegan2-nvlabs",
    "stylegan2-nvlabs-d",
    "psp",
    "hyperstyle",
    "ir-se50",
    "arcface-onnx",
    "wav2lip",
    "wav2lip-syncnet",
    "syncnet-v2",
    "vgg19-torchvision",
    "lpips",
]
"""Layouts of published files."""

SOURCES: tuple[str, ...] = get_args(Source)
FOLDER = Path("checkpoints")
"""Where files are looked for after the folders of `$FCTFG_WEIGHTS`, and fetched to."""


@dataclass(frozen=True)
class Entry:
    """A published file.

    Attributes:
        name: how it is called here.
        source: its layout; a file that holds a generator and its discriminator is listed once.
        file: its name, as published.
        title: what it holds, in a line.
        url: where a program can download it; None where a person must (a page with buttons, an archive).
        page: where it comes from.
        size: bytes; None where unknown.
        sha256: of the file, in hexadecimal digits, all or the first of them; None where unknown.
        licence: of the weights, and what the terms of their training data add to it.
        commercial: whether licence and data allow commercial use.
        citation: what to cite.
    """

    name: str
    source: Source
    file: str
    title: str
    url: str | None
    page: str
    size: int | None
    sha256: str | None
    licence: str
    commercial: bool
    citation: str

    def fits(self, path: Path, sha256: str) -> bool:
        """Whether a file of this hash can be the published one, as far as its hash or size is known."""
        if self.sha256 is not None:
            return sha256.startswith(self.sha256)
        return self.size is None or self.size == path.stat().st_size


@cache
def _entries() -> tuple[Entry, ...]:
    text = Path(__file__).with_suffix(".json").read_text(encoding="utf-8")
    return tuple(Entry(**fields) for fields in json.loads(text))


def catalogue() -> dict[str, Entry]:
    """All entries by name, in the order of the file."""
    return {entry.name: entry for entry in _entries()}


def entry(name: str) -> Entry:
    """One entry.

    Raises:
        FctfgError: there is none of this name; the message names the nearest ones.
    """
    known = catalogue()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or list(known)
        raise FctfgError(
            f"the catalogue has no weights '{name}'; did you mean {', '.join(near)}? (`fctfg weights list` shows all)"
        )
    return known[name]


def entry_of_file(path: str | Path) -> Entry | None:
    """The entry of a file, by its name; None for a file that the catalogue does not know."""
    return next((entry for entry in _entries() if entry.file == Path(path).name), None)


def folders() -> list[Path]:
    """Where weights are looked for: the folders of `$FCTFG_WEIGHTS`, then `checkpoints/`."""
    given = os.environ.get("FCTFG_WEIGHTS", "").split(os.pathsep)
    return [*(Path(folder).expanduser() for folder in given if folder), FOLDER]


def is_here(name: str) -> bool:
    """Whether the file of an entry lies in one of `folders`."""
    return any((folder / entry(name).file).is_file() for folder in folders())


def locate(name: str, key: str | None = None) -> Path:
    """The file of an entry.

    Args:
        name: of the entry.
        key: the setting that asks for it, for the error.

    Raises:
        FctfgError: no such entry, or its file is in none of `folders`; the message says where to get it, under which
            licence, and by which command.
    """
    wanted = entry(name)
    for folder in folders():
        if (folder / wanted.file).is_file():
            return folder / wanted.file
    how = f"get it with `fctfg weights fetch {name}`"
    if wanted.url is None:
        how = f"download it by hand and run `fctfg weights fetch {name} --file FILE`"
    other = f", or set {key} to another file" if key else ""
    raise FctfgError(
        f"{FOLDER / wanted.file} does not exist: {wanted.title}, from {wanted.page}, licence: {wanted.licence}; {how}, "
        f"or name its folder in FCTFG_WEIGHTS{other}"
    )

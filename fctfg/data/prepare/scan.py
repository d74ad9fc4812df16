"""Listing a folder of raw videos: fast, once per real file, and without losing sight of what cannot be read."""

import heapq
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

SUFFIXES = (
    *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg"),
    *(".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)
_KNOWN = frozenset(SUFFIXES)
_ABOUT_RIGHTS = re.compile(r"licen[cs]e(\.(txt|md))?|consent\.csv|provenance\.json", re.IGNORECASE)


@dataclass(frozen=True)
class Scan:
    """What lies in a folder. All paths are relative to it, with forward slashes.

    Attributes:
        videos: Files with a known suffix, sorted.
        problems: What was met and cannot be used, and why: folders that cannot be read, broken links, second ways to
            the same file or folder.
        rights: Files that tell about rights, sorted: see `fctfg.data.prepare.rights`.
    """

    videos: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    rights: list[str] = field(default_factory=list)


def is_about_rights(name: str) -> bool:
    """Whether a file of this name tells about licence, consent or origin."""
    return _ABOUT_RIGHTS.fullmatch(name) is not None


def scan(root: Path, skip: Path) -> Scan:
    """List the videos below a folder.

    Hidden files and folders (their names start with a dot) are left out. Links are followed: first everything that lies
    in the folder itself is listed, then linked folders, then linked files, both in the order of their names. What was
    listed already, by its real path, is not listed again, so a loop is entered once.

    No file is opened, and only links cost a system call each, so that a million files take seconds.

    Args:
        root: The folder.
        skip: A folder that is left out with all that lies in it, wherever links lead to it.
    """
    walk = _Walk(os.fspath(root), os.path.realpath(skip))
    walk.enter("", os.path.realpath(root))
    while walk.links:
        walk.follow(heapq.heappop(walk.links)[1])
    walk.found.videos.sort()
    walk.found.rights.sort()
    return walk.found


class _Walk:
    """The state of one `scan`."""

    def __init__(self, root: str, skip: str) -> None:
        self.found = Scan()
        self.links: list[tuple[bool, str]] = []  # a heap of (is a file, relative path)
        self._root, self._skip = root, skip
        self._folders: dict[str, str] = {}  # relative path by real path
        self._linked: dict[str, str] = {}  # the same for files that were reached through a link of their own

    def enter(self, relative: str, real: str) -> None:
        """Take in a folder and all below it that is not a link."""
        pending = [(relative, real)]
        while pending:
            relative, real = pending.pop()
            if _below(real, self._skip):
                continue
            if real in self._folders:
                self.found.problems[relative] = f"duplicate: the same folder as {self._folders[real] or '.'}"
                continue
            self._folders[real] = relative
            try:
                with os.scandir(os.path.join(self._root, relative)) as entries:
                    for entry in entries:
                        if not entry.name.startswith("."):
                            path = f"{relative}/{entry.name}" if relative else entry.name
                            if self._take(entry, path):
                                pending.append((path, os.path.join(real, entry.name)))
            except OSError as error:
                self.found.problems[relative] = f"unreadable folder: {error.strerror}"

    def _take(self, entry: "os.DirEntry[str]", path: str) -> bool:
        """File an entry; True for a folder that is to be listed."""
        if entry.is_symlink():
            try:
                is_folder = stat.S_ISDIR(os.stat(entry.path).st_mode)
            except OSError as error:
                if is_about_rights(entry.name):
                    self.found.rights.append(path)  # whoever reads it will complain
                elif _is_video(path) or "." not in entry.name:  # it may have been a folder
                    self.found.problems[path] = f"broken link: {error.strerror}"
                return False
            if is_folder or _is_video(path):
                heapq.heappush(self.links, (not is_folder, path))
            elif is_about_rights(entry.name):
                self.found.rights.append(path)
        elif entry.is_dir(follow_symlinks=False):
            return True
        elif _is_video(path):
            if entry.is_file(follow_symlinks=False):
                self.found.videos.append(path)
            else:
                self.found.problems[path] = "not a file"
        elif is_about_rights(entry.name):
            self.found.rights.append(path)
        return False

    def follow(self, path: str) -> None:
        """Take in what a link leads to, unless it is there already."""
        full = os.path.join(self._root, path)
        real = os.path.realpath(full)
        if os.path.isdir(real):
            self.enter(path, real)
            return
        folder, name = os.path.split(real)
        if _below(real, self._skip):
            return
        first = self._linked.get(real)
        if first is None and folder in self._folders and _is_video(name) and not name.startswith("."):
            first = f"{self._folders[folder]}/{name}".removeprefix("/")
        if first is not None:
            self.found.problems[path] = f"duplicate: the same file as {first}"
        elif not os.path.isfile(real):
            self.found.problems[path] = "not a file"
        else:
            self._linked[real] = path
            self.found.videos.append(path)


def _is_video(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in _KNOWN


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)

"""The checkpoint files of a run: the newest few and the best, each with its hash; the newest intact one is what counts.

    checkpoints/iteration-00012000.ckpt          after 12,000 iterations
    checkpoints/iteration-00012000.ckpt.sha256   its hash, as `sha256sum --check` reads it
    checkpoints/last.ckpt                        a link to the newest
    checkpoints/best-psnr-00009000.ckpt          the best by a metric: the same file as its iteration's (a hard link)

No name is used twice, so that a file and its hash always belong together. Order is by iteration, never by the clock.
"""

from __future__ import annotations

import os
import pickle
import re
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fctfg.atomic import atomic_path, flush, write_error
from fctfg.errors import FctfgError, WriteError
from fctfg.file_hash import sha256

_NAME = re.compile(r"iteration-(\d+)(?:-(\d+))?\.ckpt")
_ASIDE = ".aside"


@dataclass(frozen=True)
class Newest:
    """What a run continues from.

    Attributes:
        path: the newest intact checkpoint; None where there is none at all.
        damaged: newer ones, which cannot be used, and why; newest first.
    """

    path: Path | None
    damaged: tuple[tuple[Path, str], ...] = ()


def load(path: Path) -> Any:
    """What a checkpoint holds; its tensors are mapped, not copied, and nothing in it is run.

    Raises:
        FctfgError: it cannot be read.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FctfgError(f"{path} cannot be read ({reason})") from error


class CheckpointFiles:
    """The files in `checkpoints/` of a run.

    Args:
        folder: `checkpoints/`; made when something is written.
        keep: how many of the newest are kept, at least 1.
    """

    def __init__(self, folder: Path, keep: int = 3) -> None:
        self.folder, self.keep = folder, keep

    @property
    def last(self) -> Path:
        """A link to the newest; the file itself in a run of an earlier version, or where one was put there."""
        return self.folder / "last.ckpt"

    def paths(self) -> list[Path]:
        """All checkpoints but the best ones, newest first."""
        numbered = sorted(
            ((int(match[1]), int(match[2] or 1)), path)
            for path in self.folder.glob("iteration-*.ckpt")
            if (match := _NAME.fullmatch(path.name))
        )
        alone = [self.last] if self.last.is_file() and not self.last.is_symlink() else []
        return [path for _, path in reversed(numbered)] + alone

    def newest(self) -> Newest:
        """The newest intact checkpoint.

        Raises:
            FctfgError: there are some, and all are damaged.
        """
        damaged: list[tuple[Path, str]] = []
        for path in self.paths():
            if (why := _damage(path)) is None:
                return Newest(path, tuple(damaged))
            damaged.append((path, why))
        if damaged:
            (path, why), others = damaged[0], len(damaged) - 1
            all_of_them = f" (nor {others} older ones)" if others else ""
            raise FctfgError(
                f"{path} cannot be read ({why}){all_of_them}; move it away to start this run afresh, or restore it"
            )
        return Newest(None)

    def go_on_from(self, path: Path | None) -> None:
        """Tidy up before a run goes on from `path`, so that it counts as the newest.

        Newer ones, damaged or of a course that was given up, are renamed, and deleted when a new one stands. A hash
        whose checkpoint was never finished is deleted.
        """
        for newer in self.paths():
            if newer == path:
                break
            newer.rename(newer.with_name(newer.name + _ASIDE))
            _hash_file(newer).unlink(missing_ok=True)
        for hashed in self.folder.glob("*.ckpt.sha256"):
            if not hashed.with_suffix("").exists():
                hashed.unlink(missing_ok=True)

    def write(self, iteration: int, content: dict[str, Any]) -> Path:
        """Write a checkpoint beside the others; only when it stands, those that are too many are deleted.

        Args:
            iteration: iterations that the run has done.
            content: what `torch.save` takes.

        Returns:
            Its path.

        Raises:
            WriteError: it cannot be written; the others are as they were.
        """
        path = self._free(iteration)
        try:
            with atomic_path(path) as partial:
                torch.save(content, partial)
                _write_hash(path, sha256(partial))  # stands first, so that no checkpoint is without
            flush(self.folder)
            self._point_to(path)
        except (OSError, RuntimeError) as error:  # the latter is how torch.save says that the disk is full
            raise _write_error(error, path) from error
        finally:
            if not path.exists():
                _hash_file(path).unlink(missing_ok=True)
        self._remove_old()
        return path

    def keep_as_best(self, metric: str, path: Path) -> None:
        """Keep a checkpoint as the best by a metric, in place of the one that was.

        Raises:
            WriteError: it cannot be written; the one that was is kept.
        """
        match = _NAME.fullmatch(path.name)
        assert match is not None
        best = self.folder / f"best-{metric}-{match[1]}.ckpt"
        try:
            with atomic_path(best) as partial:
                partial.unlink()
                try:
                    os.link(path, partial)
                except OSError:  # a file system without hard links
                    shutil.copyfile(path, partial)
                _write_hash(best, _hash_file(path).read_text().split()[0])
        except OSError as error:
            raise _write_error(error, best) from error
        for other in self.folder.glob(f"best-{metric}-*.ckpt"):
            if other != best and re.fullmatch(r"\d+", other.stem.removeprefix(f"best-{metric}-")):
                _remove(other)

    def _free(self, iteration: int) -> Path:
        """A name that no file has."""
        path, copy = self.folder / f"iteration-{iteration:08d}.ckpt", 1
        while path.exists():
            copy += 1
            path = self.folder / f"iteration-{iteration:08d}-{copy}.ckpt"
        return path

    def _point_to(self, path: Path) -> None:
        link = self.folder / f".last.{uuid.uuid4().hex}.ckpt"  # a name that is cleared away when it is left over
        link.symlink_to(path.name)
        os.replace(link, self.last)

    def _remove_old(self) -> None:
        for path in self.paths()[self.keep :]:
            _remove(path)
        for path in self.folder.glob(f"*{_ASIDE}"):
            path.unlink(missing_ok=True)


def _damage(path: Path) -> str | None:
    """Why a checkpoint cannot be used; None when it can."""
    try:
        if not _hash_file(path).is_file():  # put there by hand, or of an earlier version
            load(path)
            return None
        wanted = _hash_file(path).read_text(errors="replace").split()[:1]
        return None if [sha256(path)] == wanted else f"its SHA-256 is not that in {_hash_file(path).name}"
    except FctfgError as error:
        return str(error).removeprefix(f"{path} cannot be read (").removesuffix(")")
    except OSError as error:
        return error.strerror or type(error).__name__


def _write_error(error: OSError | RuntimeError, path: Path) -> WriteError:
    known = write_error(error, path) if isinstance(error, OSError) else None
    return known or WriteError(f"cannot write {path} ({str(error).splitlines()[0]})")


def _hash_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _write_hash(path: Path, digest: str) -> None:
    with atomic_path(_hash_file(path)) as partial:
        partial.write_text(f"{digest}  {path.name}\n")


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    _hash_file(path).unlink(missing_ok=True)

"""Files that are either written completely or not at all."""

import errno
import json
import math
import os
import re
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fctfg.errors import WriteError

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}(\.[^.]+)?")  # the names that `atomic_path` gives
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT}  # the last: in /proc, where nothing can be made
_NOT_A_FOLDER = {errno.ENOTDIR, errno.EEXIST, errno.EISDIR}


def write_error(error: OSError, path: Path) -> WriteError | None:
    """The sentence for a failed write of `path`, or None when the error is not about writing there."""
    if error.errno in _FULL:
        return WriteError(f"cannot write {path}: no space left on the disk of {path.parent}; free some and run again")
    if error.errno in _FORBIDDEN:
        return WriteError(f"cannot write {path}: {path.parent} is not writable; choose another folder")
    if error.errno in _NOT_A_FOLDER:
        return WriteError(
            f"cannot write {path}: {path.parent} is not a folder (or lies below a file); choose another one"
        )
    return None


def make_folder(path: Path) -> Path:
    """Create the folder `path` with its parents.

    Raises:
        FctfgError: It cannot be created (a file is in the way, no permission, disk full).
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(error, path / "*") or error from error
    return path


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary file name beside `path`; on success it becomes `path`, on failure nothing is left.

    The temporary name is hidden (starts with a dot) and keeps the suffix. Missing parent folders are created. The
    content is flushed to the disk before the rename, so a crash leaves either the old file or the new one.

    Args:
        path: The file to write.

    Raises:
        FctfgError: The folder is not writable, or the disk is full.
    """
    path = Path(path)
    make_folder(path.parent)
    temporary = path.with_name(f".{path.stem[:100]}.{uuid.uuid4().hex}{path.suffix}")
    try:
        temporary.touch()
        mode = stat.S_IMODE(temporary.stat().st_mode)  # as the user's umask has it; some writers make files private
        yield temporary
        temporary.chmod(mode)
        flush(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise write_error(error, path) or error from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write tables, lists, strings and numbers; NaN and infinity, which JSON does not know, become null.

    Raises:
        FctfgError: The folder is not writable, or the disk is full.
    """
    with atomic_path(path) as temporary:
        text = json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files that a killed process has left anywhere below `folder`."""
    for path in folder.rglob(".*"):
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

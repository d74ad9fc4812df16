"""Published weights into a folder: downloaded or copied, checked, and with their licence beside them."""

from __future__ import annotations

import fcntl
import http.client
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

import fctfg
from fctfg.atomic import atomic_path, make_folder, write_error
from fctfg.errors import FctfgError, UsageError
from fctfg.file_hash import sha256
from fctfg.weights import catalogue
from fctfg.weights.catalogue import FOLDER, Entry
from fctfg.weights.checkpoint import read_checkpoint
from fctfg.weights.file_kind import file_kind

TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 5  # in a row that bring nothing new
PAUSE = 1.0  # seconds before the second attempt; twice as long before each further one
CHUNK = 1 << 18  # bytes
PASSING = {408, 425, 429, 500, 502, 503, 504}  # what a server says when it may answer later

Progress = Callable[[int, int | None], None]
"""Called with (bytes there, bytes in all; None where the server does not say)."""

log = logging.getLogger("fctfg")


def fetch(
    name: str,
    folder: Path = FOLDER,
    mirror: str | None = None,
    file: Path | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = log.info,
) -> Path:
    """Brings a file of the catalogue, unless it is there: in `folder`, or in a folder of `$FCTFG_WEIGHTS`.

    A download that was cut off goes on from `FILE.part`. `FILE.licence.txt` is written beside the file.

    Args:
        name: of the entry.
        folder: where it goes.
        mirror: address below which the file lies under its own name, instead of the published address.
        file: a copy that was downloaded before; nothing is downloaded then.
        progress: called as bytes arrive.
        say: called with one line, when there is nothing to do.

    Returns:
        The file, checked.

    Raises:
        UsageError: `mirror` is no address, or `mirror` and `file` are both given.
        FctfgError: no such entry; a person must download it; the server or the connection fails; what came is a web
            page, truncated, or another file; another process fetches it; or the folder cannot be written.
    """
    entry = catalogue.entry(name)
    if mirror is not None and file is not None:
        raise UsageError("--mirror and --file exclude each other; give one of them")
    if mirror is not None and urlsplit(mirror).scheme not in ("http", "https"):
        raise UsageError(f"--mirror {mirror}: it is an address that begins with http:// or https://")
    for place in (folder, *(() if file is not None else catalogue.folders())):
        if (found := place / entry.file).is_file():
            try:
                digest = check_file(found, entry)
            except FctfgError as error:
                raise FctfgError(f"{error} (move this one away first)") from error
            if not _licence_file(found).exists() and os.access(place, os.W_OK):
                _write_licence(found, entry, digest, found.stat().st_size)
            say(f"{found} is there already" + (", and is the right file" if entry.sha256 else ""))
            return found
    if file is None and mirror is None and entry.url is None:
        raise FctfgError(
            f"{entry.file} must be downloaded by hand, from {entry.page}, licence: {entry.licence}; then run "
            f"`fctfg weights fetch {name} --file FILE`"
        )
    target = folder / entry.file
    with _held(target):
        if file is not None:
            digest = check_file(file, entry)
            _check_layout(file, entry)
            with atomic_path(target) as partial:
                shutil.copyfile(file, partial)
                _write_licence(target, entry, digest, file.stat().st_size)
            return target
        url = entry.url if mirror is None else f"{mirror.rstrip('/')}/{quote(entry.file)}"
        assert url is not None
        part = _download(url, entry, target, progress)
        with atomic_path(target) as partial:  # what is not the right file goes away with it
            os.replace(part, partial)
            _origin(part).unlink(missing_ok=True)
            digest = check_file(partial, entry, url)
            _check_layout(partial, entry, url)
            _write_licence(target, entry, digest, partial.stat().st_size)
    return target


def check_file(path: Path, entry: Entry, shown: str | None = None) -> str:
    """Makes sure that a file is the published one, as far as the catalogue knows it.

    Args:
        path: the file.
        entry: what it is to be.
        shown: how messages call the file, instead of by its path.

    Returns:
        Its SHA-256, in hexadecimal.

    Raises:
        FctfgError: missing, a web page, a truncated zip, of another size, or of another hash.
    """
    shown = shown or str(path)
    again = f"get it again from {entry.page}"
    try:
        file_kind(path)
    except FctfgError as error:
        raise FctfgError(f"{str(error).replace(str(path), shown)} (from {entry.page})") from error
    size = path.stat().st_size
    if entry.size is not None and size != entry.size:
        what = "is truncated" if size < entry.size else "is another file"
        raise FctfgError(f"{shown} {what} ({size:,} bytes instead of {entry.size:,}); {again}")
    digest = sha256(path)
    if entry.sha256 is None and _recorded(path) not in (None, digest):
        raise FctfgError(
            f"{shown} has changed since it was fetched (another SHA-256 than {_licence_file(path)}); {again}"
        )
    if entry.sha256 is not None and not digest.startswith(entry.sha256):
        raise FctfgError(
            f"{shown} is not the published {entry.file}: its SHA-256 is {digest}, not {entry.sha256}; {again}"
        )
    return digest


def _check_layout(path: Path, entry: Entry, shown: str | None = None) -> None:
    """Makes sure that a file without a known hash at least holds the network that it should."""
    from fctfg.weights.published import identify, source_named  # and with it all the networks

    if entry.sha256 is not None:
        return
    shown = shown or str(path)
    try:
        checkpoint = read_checkpoint(path)
    except FctfgError as error:
        raise FctfgError(f"{str(error).replace(str(path), shown)} (from {entry.page})") from error
    if not source_named(entry.source).recognise(checkpoint):
        found = identify(checkpoint)
        what = "has no layout that fctfg knows" if found is None else f"looks like {found.name}"
        raise FctfgError(f"{shown} {what}, but {entry.file} is {entry.source}; get it again from {entry.page}")


def _recorded(path: Path) -> str | None:
    """The SHA-256 that was written down when a file without a published one was fetched."""
    try:
        found = re.search(r"^SHA-256: (\w+)$", _licence_file(path).read_text(encoding="utf-8"), re.MULTILINE)
    except (OSError, ValueError):
        return None
    return found[1] if found else None


@contextmanager
def _held(target: Path) -> Iterator[None]:
    """The folder of the target, made where it is missing, and the target locked against other processes."""
    make_folder(target.parent)
    lock = target.with_name(f".{target.name}.lock")
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(lock.open("w"))
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FctfgError(f"another process is fetching {target}; wait until it is done") from error
        except OSError as error:
            raise write_error(error, lock) or error from error
        yield


def _download(url: str, entry: Entry, target: Path, progress: Progress | None) -> Path:
    """All bytes of an address into `FILE.part`, going on after lost connections; not checked yet."""
    part = target.with_name(f"{target.name}.part")
    most, failed = _size(part), 0
    while True:
        try:
            _receive(url, entry, part, progress)
            return part
        except (OSError, http.client.HTTPException) as error:  # lost, late or refused for the moment
            most, failed = max(most, _size(part)), 0 if _size(part) > most else failed
            failed += 1
            if failed == ATTEMPTS:
                reason = error.reason if isinstance(error, URLError) else error
                kept = f"the {_size(part):,} bytes so far are kept: " if _size(part) else ""
                raise FctfgError(
                    f"{url} cannot be fetched ({reason or type(error).__name__}, {ATTEMPTS} times); {kept}run the "
                    f"command again to go on, or give another --mirror"
                ) from error
            time.sleep(PAUSE * 2 ** (failed - 1))


def _receive(url: str, entry: Entry, part: Path, progress: Progress | None) -> None:
    """One request, for what `part` still lacks.

    Raises:
        FctfgError: asking again is no use.
        OSError, HTTPException: asking again may help.
    """
    headers = {"User-Agent": f"fctfg/{fctfg.__version__}", "Accept-Encoding": "identity"}
    begun, validator = _size(part), _validator(part, url)
    if begun and (validator or entry.sha256):  # else nothing would tell that both halves are of one file
        headers["Range"] = f"bytes={begun}-"
        if validator:
            headers["If-Range"] = validator
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == 416:  # nothing lies behind the bytes that are there
            whole = re.search(r"\*/(\d+)", error.headers.get("Content-Range", ""))
            if begun == (int(whole[1]) if whole else entry.size):
                return
            part.unlink(missing_ok=True)
            raise ConnectionError("the server has another file than before") from error
        if error.code in PASSING:
            raise
        raise FctfgError(
            f"{url} cannot be fetched (HTTP {error.code} {error.reason}); give another --mirror, or download "
            f"{entry.file} by hand from {entry.page} and give it with --file"
        ) from error
    with response:
        rest = re.match(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if response.status == 206:
            if rest is None or int(rest[1]) != begun:
                part.unlink(missing_ok=True)
                raise ConnectionError("the server sends another part than the one asked for")
            total: int | None = int(rest[2])
        else:
            begun = 0
            length = response.headers.get("Content-Length")
            total = int(length) if length else None
        if (
            total is not None and entry.size is not None and total > entry.size
        ):  # a smaller one is named once it is here
            raise FctfgError(
                f"{url} is another file than {entry.file} ({total:,} bytes instead of {entry.size:,}); give another "
                f"--mirror, or download it by hand from {entry.page} and give it with --file"
            )
        try:
            if not begun:
                _remember(part, url, response.headers)
            stream = part.open("ab" if begun else "wb")
        except OSError as error:
            raise write_error(error, part) or FctfgError(f"cannot write {part} ({error})") from error
        with stream:
            done = begun
            while chunk := response.read(CHUNK):
                try:
                    stream.write(chunk)
                    stream.flush()
                except OSError as error:
                    raise write_error(error, part) or FctfgError(f"cannot write {part} ({error})") from error
                done += len(chunk)
                if progress:
                    progress(done, total)
        if total is not None and done < total:
            raise ConnectionError(f"the connection was lost after {done:,} of {total:,} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _origin(part: Path) -> Path:
    """The file that says where the bytes of `part` come from: the address, and what tells its versions apart."""
    return part.with_name(f"{part.name}.origin")


def _remember(part: Path, url: str, headers: http.client.HTTPMessage) -> None:
    tag = headers.get("ETag", "")
    validator = headers.get("Last-Modified", "") if tag.startswith("W/") or not tag else tag
    _origin(part).write_text(f"{url}\n{validator}\n", encoding="utf-8")


def _validator(part: Path, url: str) -> str:
    """What `If-Range` is to say, or nothing."""
    if not _origin(part).is_file():
        return ""
    address, validator, *_ = [*_origin(part).read_text(encoding="utf-8").splitlines(), "", ""]
    return validator if address == url else ""


def _licence_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.licence.txt")


def _write_licence(path: Path, entry: Entry, digest: str, size: int) -> None:
    with atomic_path(_licence_file(path)) as partial:
        partial.write_text(
            f"{entry.file}: {entry.title}\n"
            f"Source: {entry.page}\n"
            f"Licence: {entry.licence}\n"
            f"Commercial use: {'yes' if entry.commercial else 'no'}\n"
            f"Citation: {entry.citation}\n"
            f"SHA-256: {digest}\n"
            f"Size: {size} bytes\n"
            f"Date: {datetime.now(UTC).date()}\n",
            encoding="utf-8",
        )

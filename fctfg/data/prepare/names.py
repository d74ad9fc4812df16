"""Names of raw videos: an id that is safe as a file name anywhere, and a text for tables."""

import hashlib
import os
import re
import unicodedata

_PLAIN = re.compile(r"[a-z0-9_]+(?:/[a-z0-9_]+)*\.mp4")
_DEVICES = {"con", "prn", "aux", "nul"} | {f"{port}{k}" for port in ("com", "lpt") for k in range(10)}  # Windows'
_LONGEST = 120  # bytes; file systems allow 255, and the clip's number and a temporary name come on top
_DIGITS = 12  # of the hash, 48 bits: ids of a million files with equal readable parts collide with 0.2 % probability
_UNSAFE = re.compile("[\x00-\x1f\x7f\\\\\udc80-\udcff]")


def source_id(relative: str) -> str:
    """The id of a file: readable, unique, and decided by its path alone.

    A path of lower-case ASCII letters, digits and underscores that ends in ``.mp4`` gives its parts joined by hyphens
    (``anna/one.mp4``: ``anna-one``). Any other path gives its letters and digits with hyphens for all else, and two
    hyphens and a hash of its bytes (``Anna/my clip.mp4``: ``Anna-my-clip--6a0c0e3bf2a1``). Only the second form has two
    hyphens in a row, and the first has no capitals, so no two paths share an id, also where file names that differ in
    capitals only are the same, and no other file of the folder matters.

    Args:
        relative: Path relative to the prepared folder, with forward slashes; bytes that are not UTF-8 as `os.fsdecode`
            gives them.

    Returns:
        1 to 120 bytes of UTF-8: letters, marks and digits of any script, ``_`` and ``-``; no name of a Windows device.
    """
    if _PLAIN.fullmatch(relative):
        plain = relative[:-4].replace("/", "-")
        if len(plain) <= _LONGEST and plain not in _DEVICES:
            return plain
    raw = os.fsencode(relative)
    stem = os.path.splitext(raw)[0].decode(errors="replace")
    if stem.isascii():
        readable = re.sub(r"[^A-Za-z0-9_]+", "-", stem)
    else:
        letters = (
            c if c == "_" or unicodedata.category(c)[0] in "LMN" else " " for c in unicodedata.normalize("NFC", stem)
        )
        readable = "-".join("".join(letters).split())
    readable = readable.encode()[: _LONGEST - _DIGITS - 2].decode(errors="ignore").strip("-") or "video"
    return f"{readable}--{hashlib.sha256(raw).hexdigest()[:_DIGITS]}"


def printable(name: str) -> str:
    """A file name as one line of valid UTF-8, unique and reversible.

    Backslashes are doubled; control characters and bytes that are not UTF-8 become ``\\x`` and two hexadecimal digits.
    """
    return _UNSAFE.sub(lambda match: _escape(match[0]), name)


def person(name: str) -> str:
    """A file or folder name as the name of a person: printable, accents composed (NFC), whatever system wrote it."""
    return unicodedata.normalize("NFC", printable(name))


def _escape(letter: str) -> str:
    return "\\\\" if letter == "\\" else f"\\x{ord(letter) & 0xFF:02x}"

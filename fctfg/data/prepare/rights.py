"""What the files of a folder say about the rights in the videos below it.

Any folder of the source may hold

- a licence text: ``LICENSE`` or ``LICENCE``, also with ``.txt`` or ``.md``;
- ``consent.csv``: consent by person or by file;
- ``provenance.json``: ``{"licence": "...", "consent": "...", "source": "..."}``, each of the three optional.

For each of licence, consent and origin the nearest folder above a video that says something counts; in one folder
``consent.csv`` comes before ``provenance.json``, and that before the licence text. The command line comes before all of
them. A withdrawn consent counts wherever it is said, and nothing overrides it.
"""

import csv
import datetime
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import translate
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

from fctfg.data.prepare.names import printable
from fctfg.errors import FctfgError

_COLUMNS = ("identity", "file", "consent", "contact", "date", "expires", "note")
_WITHDRAWN = {"withdrawn", "revoked", "refused", "denied", "no"}
_LINES = 10  # of a licence text that can name it


@dataclass(frozen=True)
class Rights:
    """What is known about the rights in the videos and their origin; empty when not said."""

    licence: str = ""
    consent: str = ""
    provenance: str = ""


class Terms(NamedTuple):
    """What holds for one video.

    Attributes:
        rights: For its rows.
        licence_sha256: Of the licence text, where the licence is from one or stands beside one; else empty.
        objection: Why it must not be used (``consent: withdrawn``, ``consent: expired ...``); else empty.
    """

    rights: Rights
    licence_sha256: str = ""
    objection: str = ""


def is_withdrawn(consent: str) -> bool:
    """Whether a consent says that there is none: withdrawn, revoked, refused, denied or no."""
    return consent.strip().casefold() in _WITHDRAWN


def licence_name(text: str) -> str:
    """The SPDX identifier of a licence text, or its first line where its first ten name none, or several.

    Recognised are ``SPDX-License-Identifier:`` lines, the Creative Commons licences by short and long names, and the
    titles of MIT, Apache 2.0 and BSD (identifiers: spdx.org/licenses).
    """
    lines = [line.strip(" \t#*=-_/<!>") for line in text.splitlines()]
    lines = [line for line in lines if line][:_LINES]
    head = " ".join(lines)
    tagged = re.search(r"SPDX-License-Identifier:\s*([\w.+()-]+(?: (?:AND|OR|WITH) [\w.+()-]+)*)", head)
    if tagged:
        return tagged[1]
    named = {"CC0-1.0"} if re.search(r"\bCC0\b", head) else set()
    for kinds, version in re.findall(r"\bCC[- ]BY((?:[- ](?:NC|SA|ND))*)[- ](\d\.\d)", head, re.IGNORECASE):
        named.add(f"CC-BY{kinds.upper().replace(' ', '-')}-{version}")
    short = {"noncommercial": "NC", "sharealike": "SA", "noderivatives": "ND", "noderivs": "ND"}
    kind = "|".join(short)
    for kinds, version in re.findall(rf"\bAttribution((?:[- ](?:{kind}))*) (\d\.\d)", head, re.IGNORECASE):
        named.add("-".join(["CC-BY", *(short[word] for word in re.split(r"[- ]", kinds.lower())[1:]), version]))
    for title, identifier in (
        (r"\bMIT License\b", "MIT"),
        (r"\bApache License,? Version 2\.0", "Apache-2.0"),
        (r"\bBSD 3-Clause\b", "BSD-3-Clause"),
        (r"\bBSD 2-Clause\b", "BSD-2-Clause"),
    ):
        if re.search(title, head, re.IGNORECASE):
            named.add(identifier)
    return named.pop() if len(named) == 1 else lines[0][:200] if lines else ""


class _Row(NamedTuple):
    """A line of ``consent.csv``."""

    line: int
    identity: str
    file: str
    consent: str
    expires: datetime.date | None


@dataclass(frozen=True)
class _Consents:
    """A ``consent.csv``."""

    people: dict[str, _Row] = field(default_factory=dict)
    files: dict[str, list[_Row]] = field(default_factory=dict)  # without wildcards
    patterns: list[tuple[re.Pattern[str], _Row]] = field(default_factory=list)

    def about(self, file: str, identity: str) -> list[_Row]:
        """The rows about a video, from the least to the most particular: of its person, then of its file."""
        rows = [*self.files.get(file, ()), *(row for pattern, row in self.patterns if pattern.match(file))]
        rows = sorted(row for row in rows if row.identity in ("", identity))
        return [self.people[identity], *rows] if identity in self.people else rows


@dataclass
class _Folder:
    """What the files of one folder say."""

    licence: str = ""
    licence_sha256: str = ""
    consent: str = ""
    provenance: str = ""
    consents: _Consents = field(default_factory=_Consents)


class RightsBook:
    """All that the files of a source say about rights."""

    def __init__(self, root: Path, files: Iterable[str], licence: str = "", consent: str = "") -> None:
        """Read the files.

        Args:
            root: The source.
            files: Licence texts, ``consent.csv`` and ``provenance.json``, relative to `root`, sorted.
            licence, consent: From the command line.

        Raises:
            FctfgError: A file cannot be read, or what it says is not of the form that is expected.
        """
        self._licence, self._consent = licence, consent
        self._folders: dict[str, _Folder] = {}
        self._same: dict[Terms, Terms] = {}  # so that a million videos share them
        for name in files:
            above, _, base = name.rpartition("/")
            folder = self._folders.setdefault(normalize("NFC", printable(above)), _Folder())
            path = root / name
            if base.lower() == "consent.csv":
                folder.consents = _read_consents(path)
            elif base.lower() == "provenance.json":
                said = read_provenance(path)
                folder.licence = said.licence or folder.licence
                folder.consent, folder.provenance = said.consent, said.provenance
            elif not folder.licence_sha256:
                raw = _read(path)
                folder.licence_sha256 = hashlib.sha256(raw).hexdigest()
                folder.licence = folder.licence or licence_name(raw.decode("utf-8-sig", errors="replace"))

    def of(self, name: str, identity: str) -> Terms:
        """What holds for a video.

        Args:
            name: Its path relative to the source, as `printable` gives it.
            identity: Its person.
        """
        licence = consent = provenance = sha256 = ""
        expires: datetime.date | None = None
        withdrawn = is_withdrawn(self._consent)
        for folder, file in self._above(normalize("NFC", name)):
            if not licence:
                licence, sha256 = folder.licence, folder.licence_sha256
            provenance = provenance or folder.provenance
            rows = folder.consents.about(file, identity)
            withdrawn |= is_withdrawn(folder.consent) or any(is_withdrawn(row.consent) for row in rows)
            if not consent:
                consent, expires = (rows[-1].consent, rows[-1].expires) if rows else (folder.consent, None)
        if self._licence:
            licence, sha256 = self._licence, ""
        if withdrawn:
            consent = "withdrawn"
        elif self._consent:
            consent, expires = self._consent, None
        objection = "consent: withdrawn" if withdrawn else ""
        if not objection and expires is not None and expires < datetime.date.today():
            objection = f"consent: expired on {expires}"
        terms = Terms(Rights(licence, consent, provenance), sha256, objection)
        return self._same.setdefault(terms, terms)

    def _above(self, name: str) -> Iterator[tuple[_Folder, str]]:
        """(folder, name relative to it) for the folders above a file that say something, the nearest first."""
        end = len(name) if self._folders else -1
        while end > 0:
            end = name.rfind("/", 0, end)
            folder = self._folders.get(name[: max(end, 0)])
            if folder is not None:
                yield folder, name[end + 1 :]


def read_provenance(path: Path) -> Rights:
    """The content of a ``provenance.json``.

    Raises:
        FctfgError: It is not a JSON object of texts, or cannot be read.
    """
    try:
        said = json.loads(_read(path).decode("utf-8-sig"))
        texts = [str(said.get(key, "")) for key in ("licence", "consent", "source")]
    except (ValueError, AttributeError) as error:
        raise FctfgError(f'{path} is not a JSON object like {{"licence": "...", "consent": "..."}}; fix it') from error
    return Rights(*texts)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FctfgError(
            f"{path} cannot be read ({error.strerror}); it tells about rights, so make it readable"
        ) from error


def _read_consents(path: Path) -> _Consents:
    """The content of a ``consent.csv``."""
    try:
        text = _read(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FctfgError(f"{path} is not UTF-8 text; save it as CSV in UTF-8") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), restval="", strict=True)
    consents, seen = _Consents(), dict[tuple[str, str], _Row]()
    try:
        names = [name.strip().lower() for name in reader.fieldnames or ()]
        reader.fieldnames = names
        unknown = [name for name in names if name not in _COLUMNS]
        if unknown or len(set(names)) < len(names) or "consent" not in names or not {"identity", "file"} & set(names):
            what = (
                f"the column {unknown[0]!r} is not known"
                if unknown
                else f"the columns are {', '.join(names) or 'lost'}"
            )
            raise FctfgError(
                f"{path}, line 1: {what}; give consent and identity or file, and, if you like, contact, date, expires "
                f"and note"
            )
        for cells in reader:
            row = _read_row(path, reader.line_num, cells)
            other = seen.setdefault((row.identity, row.file), row)
            if (other.consent, other.expires) != (row.consent, row.expires):
                raise FctfgError(
                    f"{path}, line {row.line}: {row.identity or row.file!r} stands in line {other.line} with another "
                    f"consent; keep one of them"
                )
            _enter(consents, row)
    except csv.Error as error:
        raise FctfgError(f"{path}, line {reader.line_num}: not CSV ({error}); fix the line") from error
    return consents


def _read_row(path: Path, line: int, cells: dict[str, str]) -> _Row:
    if None in cells:
        raise FctfgError(f"{path}, line {line}: more cells than columns; quote texts that have commas")
    texts = {name: normalize("NFC", text.strip()) for name, text in cells.items()}
    if not texts["consent"]:
        raise FctfgError(f"{path}, line {line}: the consent is empty; say what was given, or 'withdrawn'")
    if not (texts.get("identity") or texts.get("file")):
        raise FctfgError(f"{path}, line {line}: neither identity nor file is given; name one (file * is every file)")
    dates = {}
    for name in ("date", "expires"):
        try:
            dates[name] = datetime.date.fromisoformat(texts[name]) if texts.get(name) else None
        except ValueError as error:
            raise FctfgError(f"{path}, line {line}: {name} is {texts[name]!r}; write it like 2026-01-31") from error
    return _Row(line, texts.get("identity", ""), texts.get("file", ""), texts["consent"], dates["expires"])


def _enter(consents: _Consents, row: _Row) -> None:
    if not row.file:
        consents.people[row.identity] = row
    elif set(row.file) & set("*?["):
        consents.patterns.append((re.compile(translate(row.file)), row))
    else:
        consents.files.setdefault(row.file, []).append(row)

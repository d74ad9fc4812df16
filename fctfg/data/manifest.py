"""The table of a clip data set: one row per clip in ``manifest.parquet``, kept and rejected ones.

A data set is a folder with the manifest and the shards that hold the clips. Every number a filter may want is a
column, so that choosing clips is a query and never a second preparation. What is known of single frames lies with the
frames in the shards, so that a table of a million clips stays small.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from fctfg.atomic import atomic_path
from fctfg.data.scores.table import SCORES
from fctfg.errors import FctfgError

FILE_NAME = "manifest.parquet"
FORMAT = "fctfg-clips-2"
SPLITS = ("train", "val", "test")

_TEXT, _REAL, _INT = pa.string(), pa.float64(), pa.int64()
_FIELDS = [
    ("id", _TEXT),
    ("identity", _TEXT),
    ("split", _TEXT),
    ("label", _TEXT),
    ("given_split", _TEXT),
    ("source", _TEXT),
    ("source_sha256", _TEXT),
    ("person", pa.int32()),
    ("start", _REAL),
    ("n_frames", _INT),
    ("crop", pa.list_(pa.int32())),
    ("sha256", _TEXT),
    ("bytes", _INT),
    ("shard", _TEXT),
    ("at", _INT),
    ("film_at", _INT),
    ("sound_at", _INT),
    ("mel_at", _INT),
    ("track_at", _INT),
    ("repeats", _TEXT),
    ("licence", _TEXT),
    ("licence_sha256", _TEXT),
    ("consent", _TEXT),
    ("provenance", _TEXT),
    ("stage", _TEXT),
    ("reject_reason", _TEXT),
    ("embedding", pa.list_(pa.float32())),
    ("prints", pa.list_(pa.uint64())),
    ("thumbnail", pa.binary()),
]
SCHEMA = pa.schema([*_FIELDS, *((name, pa.float32()) for name in SCORES)])
HEAVY = ("embedding", "prints", "thumbnail")  # columns that are read only where they are asked for
_REPEATED = ("identity", "split", "label", "given_split", "shard", "licence", "consent", "provenance", "stage")


@dataclass(frozen=True)
class Clip:
    """One row, without the `HEAVY` columns.

    Attributes:
        id: Unique name within the data set.
        identity: The person; splits are disjoint by it.
        split: ``train``, ``val`` or ``test``.
        label, given_split: What the corpus itself says of both; empty where it says nothing.
        source: The raw video, relative to the folder that was prepared.
        source_sha256: Of the raw video, and of the file with its sound where that is another.
        person: Which of the people in the picture at one time, 0 for the first or largest.
        start: Time of the first frame in the raw video, in seconds.
        n_frames: Number of frames, 25 a second.
        crop: (x0, y0, x1, y1) of the crop in pixels of the raw video.
        sha256, bytes: Of the clip's part of the shard.
        shard: Name of the file in ``shards/``; empty for rejected clips.
        at: Where the clip begins in the shard, in bytes.
        film_at, sound_at, mel_at, track_at: Where its parts begin in the shard (`clip_file.Places`).
        repeats: Id of an earlier clip that shows the same moment; empty where there is none.
        licence, licence_sha256, consent, provenance: What is known about the rights and the origin; empty when not
            said. The hash is of the licence's text, where the folder has one.
        stage: Where a rejected clip or video was rejected; empty for kept ones.
        reject_reason: Why the clip is not used; None for a kept clip.
        scores: By the names of `fctfg.data.scores.table.SCORES`; NaN where a score could not be measured.
    """

    id: str
    identity: str
    split: str
    label: str = ""
    given_split: str = ""
    source: str = ""
    source_sha256: str = ""
    person: int = 0
    start: float = 0.0
    n_frames: int = 0
    crop: tuple[int, int, int, int] = (0, 0, 0, 0)
    sha256: str = ""
    bytes: int = 0
    shard: str = ""
    at: int = 0
    film_at: int = 0
    sound_at: int = 0
    mel_at: int = 0
    track_at: int = 0
    repeats: str = ""
    licence: str = ""
    licence_sha256: str = ""
    consent: str = ""
    provenance: str = ""
    stage: str = ""
    reject_reason: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"split must be one of {SPLITS}, got {self.split!r}")
        if unknown := set(self.scores) - set(SCORES):
            raise ValueError(f"unknown scores: {sorted(unknown)}")

    def __getitem__(self, column: str) -> Any:
        """The value of one column by its name."""
        return self.scores.get(column, math.nan) if column in SCORES else getattr(self, column)

    def row(self) -> dict[str, Any]:
        """The clip as a table row; the `HEAVY` columns are not in it."""
        row = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "scores"}
        return row | {"crop": list(self.crop)} | {name: self[name] for name in SCORES}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Clip:
        """The inverse of `row`."""
        values = {f.name: row[f.name] for f in fields(cls) if f.name != "scores"}
        scores = {name: math.nan if row[name] is None else row[name] for name in SCORES}
        return cls(**values | {"crop": tuple(row["crop"]), "scores": scores})


def lost_name(row: Mapping[str, Any]) -> str:
    """What people call a rejected row: its video, and of a single clip also where in it that begins.

    Args:
        row: with the columns `source`, `start` and `n_frames`.
    """
    return f"{row['source']} at {row['start']:.1f} s" if row["n_frames"] else row["source"]


@dataclass(frozen=True)
class Manifest:
    """A data set's table; rows are decoded one at a time, so that millions of clips fit in memory.

    Attributes:
        root: The data set's folder.
        table: Rows, all columns of `SCHEMA` or those that were asked for.
        settings: What ``fctfg prepare`` was told, with `size` and `form`.
        hash: Names the kept clips, their media, people and splits.
    """

    root: Path
    table: pa.Table = field(repr=False)
    settings: Mapping[str, Any] = field(default_factory=dict)
    hash: str = ""

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __getitem__(self, index: int) -> Clip:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return Clip.from_row(self.table.slice(index, 1).to_pylist()[0])

    def __iter__(self) -> Iterator[Clip]:
        return (self[index] for index in range(len(self)))

    def where(self, mask: pa.ChunkedArray | pa.Array) -> Manifest:
        """Only the rows where `mask` holds."""
        return replace(self, table=self.table.filter(mask))

    def kept(self, split: str | None = None) -> Manifest:
        """Only the clips that were not rejected, of one split or of all."""
        mask = pc.is_null(self.table["reject_reason"])
        if split is not None:
            mask = pc.and_(mask, pc.equal(self.table["split"], split))
        return self.where(mask)

    def column(self, name: str) -> list[Any]:
        """All values of one column, without decoding the others."""
        return list(self.table[name].to_pylist())

    @property
    def identities(self) -> list[str]:
        """The different people, sorted."""
        return sorted(pc.unique(self.table["identity"]).to_pylist())

    @property
    def size(self) -> int:
        """Side of the clips in pixels."""
        return int(self.settings["size"])

    @property
    def form(self) -> str:
        """How frames are stored, ``jpeg`` or ``raw``."""
        return str(self.settings["form"])


def write_table(folder: str | Path, table: pa.Table, settings: Mapping[str, Any]) -> str:
    """Write ``manifest.parquet`` in one piece.

    Args:
        folder: The data set.
        table: Rows under `SCHEMA`, sorted by id.
        settings: With `size` and `form`.

    Returns:
        The hash of what is kept.

    Raises:
        FctfgError: The folder is not writable, or the disk is full.
    """
    table = table.cast(SCHEMA).combine_chunks()  # what was read from a file names and divides columns otherwise
    kept = table.filter(pc.is_null(table["reject_reason"])).select(["id", "identity", "split", "sha256"])
    digest = hashlib.sha256()
    for name in kept.column_names:
        digest.update("\x1f".join(kept[name].to_pylist()).encode("utf-8", "surrogateescape") + b"\x1e")
    header = {
        "format": FORMAT,
        "settings": json.dumps(settings, sort_keys=True),
        "hash": digest.hexdigest(),
    }
    with atomic_path(Path(folder) / FILE_NAME) as temporary:
        pq.write_table(table.replace_schema_metadata(header), temporary, compression="zstd", row_group_size=1 << 16)
    return digest.hexdigest()


def table_of(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Rows of `Clip.row`, with or without the `HEAVY` columns, as a table."""
    empty: dict[str, Any] = {"embedding": [], "prints": [], "thumbnail": None}
    return pa.Table.from_pylist([empty | dict(row) for row in rows], schema=SCHEMA)


def read_manifest(
    folder: str | Path,
    columns: Sequence[str] | None = None,
    check_files: bool = True,
    rows: pc.Expression | None = None,
) -> Manifest:
    """Read a data set's table.

    Args:
        folder: The data set.
        columns: Which; texts that repeat come as dictionaries then. None reads all but the `HEAVY` ones.
        check_files: Also make sure that all shards are there and not cut off.
        rows: Which, as a condition on columns; others never come into memory. None reads all.

    Raises:
        FctfgError: No manifest, another kind of file, other columns, or shards that are lost.
    """
    root = Path(folder)
    path = root / FILE_NAME
    if not path.is_file() and (root / "ledger").is_dir():
        raise FctfgError(f"{root} is not finished; run the same `fctfg prepare` again (fctfg data status {root})")
    if not path.is_file():
        raise FctfgError(f"{root} is not a clip data set (no {FILE_NAME}); make one with `fctfg prepare`")
    try:
        schema = pq.read_schema(path)
        header = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
        if header.get("format") != FORMAT or not schema.equals(SCHEMA, check_metadata=False):
            raise FctfgError(f"{path} was not written by this version of fctfg; run `fctfg prepare` again")
        names = list(columns or (name for name in SCHEMA.names if name not in HEAVY))
        repeated = [name for name in _REPEATED if columns and name in columns]
        table = _read_rows(path, names, repeated, rows)
    except (pa.ArrowInvalid, OSError) as error:
        raise FctfgError(f"{path} is damaged or not a manifest; run `fctfg prepare` again") from error
    settings = json.loads(header["settings"])
    if check_files:
        _check_shards(root, settings["shards"])
    return Manifest(root=root, table=table, settings=settings, hash=header["hash"])


def _read_rows(path: Path, columns: list[str], dictionaries: list[str], rows: pc.Expression | None) -> pa.Table:
    """Columns of a table's rows, few groups of rows at a time, so that memory holds little but the result."""
    form = pads.ParquetFileFormat(
        read_options=pads.ParquetReadOptions(dictionary_columns=dictionaries),
        default_fragment_scan_options=pads.ParquetFragmentScanOptions(pre_buffer=False),
    )
    scanner = pads.dataset(path, format=form).scanner(
        columns, rows, batch_readahead=1, fragment_readahead=1, batch_size=1 << 14
    )
    return scanner.to_table()


def _check_shards(root: Path, shards: Mapping[str, int]) -> None:
    for name, size in shards.items():
        path = root / "shards" / name
        try:
            found = os.stat(path).st_size
        except OSError:
            found = None
        if found != size:
            wrong = "is lost" if found is None else f"has {found} of {size} bytes"
            raise FctfgError(
                f"{path} {wrong}, though {root / FILE_NAME} names it; copy it again or run `fctfg prepare` again"
            )


def numbers(manifest: Manifest, name: str) -> np.ndarray:
    """A column of numbers as an array; NaN (or 0 among integers) where nothing is known."""
    return manifest.table[name].combine_chunks().to_numpy(zero_copy_only=False)


def coded(manifest: Manifest, name: str) -> tuple[list[str], np.ndarray]:
    """A column of texts as (its different values, sorted; which of them each row has, int32 [rows])."""
    column = manifest.table[name].combine_chunks()
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    indices, values = column.indices.to_numpy(), column.dictionary.to_pylist()
    used = np.flatnonzero(np.bincount(indices, minlength=len(values))).tolist()
    order = sorted(used, key=values.__getitem__)
    place = np.zeros(len(values), np.int32)
    place[order] = np.arange(len(order))
    return [values[i] for i in order], place[indices]

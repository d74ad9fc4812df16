"""The table of a clip data set: one row per clip in ``manifest.parquet``, kept and rejected ones.

A data set is a folder with the manifest and the clips' media; paths in the table are relative to the folder. Every
number a filter may want is a column, so that choosing clips is a query and never a second preprocessing.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fctfg.atomic import atomic_path
from fctfg.errors import FctfgError

FILE_NAME = "manifest.parquet"
FORMAT = "fctfg-clips-1"
SPLITS = ("train", "val", "test")

_TEXT, _REAL, _INT = pa.string(), pa.float64(), pa.int64()
_REALS = pa.list_(pa.float32())
SCHEMA = pa.schema(
    [
        ("id", _TEXT),
        ("identity", _TEXT),
        ("split", _TEXT),
        ("path", _TEXT),
        ("audio", _TEXT),
        ("sha256", _TEXT),
        ("source", _TEXT),
        ("source_sha256", _TEXT),
        ("start", _REAL),
        ("fps", _REAL),
        ("n_frames", _INT),
        ("size", _INT),
        ("crop", pa.list_(pa.float64())),
        ("points", _REALS),
        ("boxes", _REALS),
        ("face_px", _REAL),
        ("confidence", _REAL),
        ("audio_rms", _REAL),
        ("detector", _TEXT),
        ("licence", _TEXT),
        ("consent", _TEXT),
        ("provenance", _TEXT),
        ("reject_reason", _TEXT),
    ]
)

Floats = npt.NDArray[np.float32]


def _no_points() -> Floats:
    return np.zeros((0, 5, 2), np.float32)


def _no_boxes() -> Floats:
    return np.zeros((0, 4), np.float32)


@dataclass(frozen=True)
class Clip:
    """One row.

    Attributes:
        id: Unique name within the data set.
        identity: The person; splits are disjoint by it.
        split: ``train``, ``val`` or ``test``.
        path, audio: mp4 and wav relative to the data set's folder; empty for rejected clips.
        sha256: Of the bytes of mp4 and wav together; empty for rejected clips.
        source: The raw video, relative to the folder that was prepared.
        source_sha256: Of the raw video.
        start: Time of the first frame in the raw video, in seconds.
        fps: Frames per second of the clip.
        n_frames: Number of frames.
        size: Side of the square clip in pixels.
        crop: (x0, y0, x1, y1) of the crop in pixels of the raw video.
        points: float32 [n_frames, 5, 2], (x, y) as fractions of the crop, ArcFace order.
        boxes: float32 [n_frames, 4], the detector's box (x0, y0, x1, y1) as fractions of the crop.
        face_px: Median side of the detector's box in pixels of the raw video.
        confidence: Median of the detector's confidence (its own scale).
        audio_rms: Root mean square of the clip's sound, full scale = 1.
        detector: Which detector found the face.
        licence, consent, provenance: What is known about the rights and the origin; empty when not said.
        reject_reason: Why the clip is not used; None for a kept clip.
    """

    id: str
    identity: str
    split: str
    source: str
    source_sha256: str = ""
    path: str = ""
    audio: str = ""
    sha256: str = ""
    start: float = 0.0
    fps: float = 25.0
    n_frames: int = 0
    size: int = 0
    crop: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    points: Floats = field(default_factory=_no_points, repr=False)
    boxes: Floats = field(default_factory=_no_boxes, repr=False)
    face_px: float = 0.0
    confidence: float = 0.0
    audio_rms: float = 0.0
    detector: str = ""
    licence: str = ""
    consent: str = ""
    provenance: str = ""
    reject_reason: str | None = None

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"split must be one of {SPLITS}, got {self.split!r}")
        if self.reject_reason is None:
            if self.points.shape != (self.n_frames, 5, 2):
                raise ValueError(f"points must be [{self.n_frames}, 5, 2], got {list(self.points.shape)}")
            if self.boxes.shape != (self.n_frames, 4):
                raise ValueError(f"boxes must be [{self.n_frames}, 4], got {list(self.boxes.shape)}")

    def __getitem__(self, column: str) -> Any:
        """The value of one column by its name."""
        return getattr(self, column)

    def row(self) -> dict[str, Any]:
        """The clip as a table row (arrays flattened)."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return values | {
            "crop": list(self.crop),
            "points": np.asarray(self.points, np.float32).ravel(),
            "boxes": np.asarray(self.boxes, np.float32).ravel(),
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Clip":
        """The inverse of `row`."""
        values = {f.name: row[f.name] for f in fields(cls)}
        return cls(
            **values
            | {
                "crop": tuple(row["crop"]),
                "points": np.asarray(row["points"], np.float32).reshape(-1, 5, 2),
                "boxes": np.asarray(row["boxes"], np.float32).reshape(-1, 4),
            }
        )


@dataclass(frozen=True)
class Manifest:
    """A data set's table; rows are decoded one at a time, so that millions of clips fit in memory.

    Attributes:
        root: The data set's folder.
        table: Rows under `SCHEMA`.
        settings: What ``fctfg prepare`` was told.
    """

    root: Path
    table: pa.Table = field(repr=False)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __getitem__(self, index: int) -> Clip:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return Clip.from_row(self.table.slice(index, 1).to_pylist()[0])

    def __iter__(self) -> Iterator[Clip]:
        return (self[index] for index in range(len(self)))

    def kept(self, split: str | None = None) -> "Manifest":
        """Only the clips that were not rejected, of one split or of all."""
        mask = pc.is_null(self.table["reject_reason"])
        if split is not None:
            mask = pc.and_(mask, pc.equal(self.table["split"], split))
        return replace(self, table=self.table.filter(mask))

    def column(self, name: str) -> list[Any]:
        """All values of one column, without decoding the others."""
        return list(self.table[name].to_pylist())

    @property
    def identities(self) -> list[str]:
        """The different people, sorted."""
        return sorted(set(self.column("identity")))


def write_manifest(folder: str | Path, clips: Iterable[Clip], settings: Mapping[str, Any] | None = None) -> Path:
    """Write ``manifest.parquet`` in one piece, rows sorted by id.

    Raises:
        FctfgError: The folder is not writable, or the disk is full.
    """
    path = Path(folder) / FILE_NAME
    rows = [clip.row() for clip in sorted(clips, key=lambda clip: clip.id)]
    header = {"format": FORMAT, "settings": json.dumps(settings or {}, sort_keys=True)}
    table = pa.Table.from_pylist(rows, schema=SCHEMA.with_metadata(header))
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    return path


def read_manifest(folder: str | Path, check_files: bool = True) -> Manifest:
    """Read a data set's table.

    Args:
        folder: The data set.
        check_files: Also make sure that the media of every kept clip are there.

    Raises:
        FctfgError: No manifest, another kind of file, other columns, or media that are lost.
    """
    root = Path(folder)
    path = root / FILE_NAME
    if not path.is_file():
        raise FctfgError(f"{root} is not a clip data set (no {FILE_NAME}); make one with `fctfg prepare`")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise FctfgError(f"{path} is damaged or not a manifest; run `fctfg prepare` again") from error
    header = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    if header.get("format") != FORMAT or not table.schema.equals(SCHEMA, check_metadata=False):
        raise FctfgError(f"{path} was not written by this version of fctfg; run `fctfg prepare` again")
    manifest = Manifest(root=root, table=table, settings=json.loads(header["settings"]))
    if check_files:
        _check_files(manifest.kept())
    return manifest


def _check_files(manifest: Manifest) -> None:
    names = manifest.column("path") + manifest.column("audio")
    lost = [name for name in names if not (manifest.root / name).is_file()]
    if lost:
        others = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise FctfgError(
            f"{manifest.root / FILE_NAME} names {lost[0]}{others}, which is lost; run `fctfg prepare` again"
        )


def dataset_hash(folder: str | Path) -> str:
    """sha256 that names the kept clips, their media, people and splits; for the run's log and the weights' card.

    Raises:
        FctfgError: As `read_manifest`.
    """
    table = read_manifest(folder, check_files=False).kept().table
    rows = table.select(["id", "identity", "split", "sha256"]).to_pylist()
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()

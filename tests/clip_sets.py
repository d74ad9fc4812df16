"""Prepared data sets made of given frames, sounds and points, without a detector."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fctfg.atomic import atomic_path
from fctfg.data.clip_file import TRACK, body_bytes, clip_file, encode_frame
from fctfg.data.ledger import KeptClip
from fctfg.data.manifest import FILE_NAME, Clip, read_manifest, write_table
from fctfg.data.pack import loose_path, pack


def store(
    root: Path, clip: Clip, frames: np.ndarray, sound: np.ndarray, points: np.ndarray | None = None, form: str = "jpeg"
) -> KeptClip:
    """A finished clip, not packed yet; frames uint8 [T, S, S, 3], sound [640 T], points [T, 5, 2] fractions."""
    track = np.zeros(len(frames), TRACK)
    if points is not None:
        track["points"] = points
    track["box"] = (0, 0, 1, 1)
    row: dict[str, Any] = {k: v for k, v in clip.row().items() if v == v}
    row = {k: v for k, v in row.items() if k not in ("shard", "at", "film_at", "sound_at", "mel_at", "track_at")}
    row |= {"n_frames": len(frames)}
    file = clip_file(row, [encode_frame(f, form) for f in frames], sound, track, frames.shape[1], form)
    with atomic_path(loose_path(root, clip.id)) as temporary:
        temporary.write_bytes(file)
    size = body_bytes(file)
    return KeptClip(clip.id, hashlib.sha256(file[:size]).hexdigest(), size, len(frames))


def write_set(
    root: Path,
    kept: Iterable[KeptClip],
    size: int,
    form: str = "jpeg",
    rejects: Iterable[dict[str, Any]] = (),
    **options: Any,
) -> Path:
    """Shards and manifest of stored clips, with identities and splits as their rows say."""
    pack(root, list(kept), iter(rejects), {"size": size, "form": form}, lambda table: table, **options)
    return root


def change_column(root: Path, name: str, change: Callable[[str, str], str]) -> None:
    """Write the manifest again with `change(identity, value)` in a column."""
    manifest = read_manifest(root)
    table = pq.read_table(root / FILE_NAME)
    values = [change(*pair) for pair in zip(manifest.column("identity"), manifest.column(name), strict=True)]
    table = table.set_column(table.schema.get_field_index(name), name, pa.array(values, pa.string()))
    write_table(root, table, manifest.settings)

"""Finished clips to shards and manifest: a pure function of which clips there are, not of who finished first.

Clips go into shards in the order of their ids, and a shard's name says what is in it. So the pass may be interrupted
anywhere and repeated: shards that stand are used as they are, and the data set changes at one moment, when the
manifest is replaced.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fctfg.atomic import atomic_path, make_folder
from fctfg.data.clip_file import read_row
from fctfg.data.ledger import KeptClip
from fctfg.data.manifest import FILE_NAME, SCHEMA, table_of, write_table
from fctfg.data.shards import FOLDER
from fctfg.errors import FctfgError

LOOSE = "clips"  # folder of the clips that are finished but not packed
SHARD_BYTES = 1 << 30
_ENDING = bytes(1024)  # of a tar archive
# columns that are told, not measured
SAID = ("label", "given_split", "licence", "licence_sha256", "consent", "provenance")

Finish = Callable[[pa.Table], pa.Table]
"""Fills in what depends on all clips together: identities, splits, near-duplicates."""


@dataclass(frozen=True)
class _Place:
    """Where a clip's bytes are now."""

    clip: KeptClip
    path: Path
    begin: int


def loose_path(root: Path, clip_id: str) -> Path:
    """The file of a finished clip that is not packed yet."""
    return root / LOOSE / hashlib.sha256(clip_id.encode("utf-8", "surrogateescape")).hexdigest()[:2] / f"{clip_id}.tar"


def pack(
    root: Path,
    clips: Sequence[KeptClip],
    rejects: Iterator[Mapping[str, Any]],
    settings: Mapping[str, Any],
    finish: Finish,
    shard_bytes: int = SHARD_BYTES,
    advance: Callable[[int], None] = lambda done: None,
) -> pa.Table:
    """Bring a data set's shards and manifest up to date.

    Shards of the present manifest all of whose clips stay are kept as they are. All other clips, from their own files
    or from shards that lose some, go into new shards in the order of their ids. What is not needed any more is removed
    at the end.

    Args:
        root: the data set.
        clips: what it shall hold.
        rejects: rows of rejected clips.
        settings: for the manifest.
        finish: fills in identities, splits and near-duplicates.
        shard_bytes: a shard is closed when it has at least so many bytes; the last one may have fewer.
        advance: called with how many clips are packed so far.

    Returns:
        The manifest's table.

    Raises:
        FctfgError: a clip is lost, the folder is not writable, or the disk is full.
    """
    make_folder(root / FOLDER)
    before = _present(root)
    kept, pool = _keep(before, clips)
    tables = [before.filter(pc.is_in(before["shard"], pa.array(sorted(kept), pa.string())))] if kept else []
    places = (
        {row["id"]: row for row in _rows(before, ("id", "shard", "at", "sha256", "identity", *SAID))} if pool else {}
    )
    strays = _strays(root, before)
    done = len(clips) - len(pool)
    first = 1 + max((int(name[:6]) for name in kept), default=-1)
    for number, group in enumerate(_groups(sorted(pool), shard_bytes), start=first):
        digest = hashlib.sha256("".join(f"{clip.id}\n{clip.sha256}\n" for clip in group).encode()).hexdigest()
        path = root / FOLDER / f"{number:06d}-{digest[:8]}.tar"
        if not path.is_file():
            _write_shard(path, [_find(root, clip, places, strays) for clip in group])
        tables.append(_read_shard(path, group, places))
        for clip in group:
            loose_path(root, clip.id).unlink(missing_ok=True)
        done += len(group)
        advance(done)
    table = finish(pa.concat_tables([*tables, table_of(rejects)]).combine_chunks())
    table = table.take(pc.sort_indices(table["id"]))
    shards = {name: (root / FOLDER / name).stat().st_size for name in sorted(set(table["shard"].to_pylist()) - {""})}
    write_table(root, table, {**settings, "shards": shards})
    for path in (root / FOLDER).iterdir():
        if path.name not in shards:
            path.unlink()
    return table


def _present(root: Path) -> pa.Table:
    """The kept clips of the manifest that is there."""
    path = root / FILE_NAME
    if not path.is_file():
        return SCHEMA.empty_table()
    return pq.read_table(path, filters=[("shard", "!=", "")]).replace_schema_metadata(None)


def _rows(table: pa.Table, columns: Sequence[str]) -> list[dict[str, Any]]:
    return table.select(columns).to_pylist()


def _keep(before: pa.Table, clips: Sequence[KeptClip]) -> tuple[set[str], list[KeptClip]]:
    """(shards all of whose clips stay, clips that are in none of them)."""
    wanted = {clip.id: clip for clip in clips}
    held: dict[str, list[str]] = {}
    broken = set()
    for row in _rows(before, ("id", "shard", "sha256")):
        clip = wanted.get(row["id"])
        if clip is None or clip.sha256 != row["sha256"]:
            broken.add(row["shard"])
        held.setdefault(row["shard"], []).append(row["id"])
    kept = held.keys() - broken
    there = {clip for name in kept for clip in held[name]}
    return set(kept), [clip for clip in clips if clip.id not in there]


def _groups(clips: Sequence[KeptClip], shard_bytes: int) -> list[list[KeptClip]]:
    """Neighbours of at least `shard_bytes` together; a small rest goes to those before it."""
    groups: list[list[KeptClip]] = [[]]
    size = 0
    for clip in clips:
        if size >= shard_bytes:
            groups.append([])
            size = 0
        groups[-1].append(clip)
        size += clip.bytes
    if len(groups) > 1 and size < shard_bytes // 4:
        groups[-2] += groups.pop()
    return [group for group in groups if group]


def _find(
    root: Path, clip: KeptClip, before: Mapping[str, Mapping[str, Any]], strays: Mapping[str, tuple[Path, int]]
) -> _Place:
    loose = loose_path(root, clip.id)
    if loose.is_file():
        return _Place(clip, loose, 0)
    row = before.get(clip.id)
    if row is not None and row["sha256"] == clip.sha256:
        return _Place(clip, root / FOLDER / row["shard"], row["at"])
    if clip.id in strays:
        return _Place(clip, *strays[clip.id])
    raise FctfgError(f"{loose} is lost; delete {root / 'ledger'} and run `fctfg prepare` again")


def _strays(root: Path, before: pa.Table) -> dict[str, tuple[Path, int]]:
    """Where clips begin in shards that no manifest names: those of a packing that was broken off."""
    named = set(before["shard"].to_pylist())
    found: dict[str, tuple[Path, int]] = {}
    for path in sorted((root / FOLDER).glob("*.tar")):
        if path.name not in named:
            with tarfile.open(path, "r:") as archive:
                found |= {m.name.removesuffix(".json"): (path, m.offset) for m in archive if m.name.endswith(".json")}
    return found


def _write_shard(path: Path, places: Sequence[_Place]) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as shard:
        for place in places:
            with place.path.open("rb") as file:
                file.seek(place.begin)
                if _copy(file, shard, place.clip.bytes) != place.clip.sha256:
                    raise FctfgError(
                        f"{place.path}: the clip {place.clip.id} is not as it was written; delete "
                        f"{path.parent.parent / 'ledger'} and run `fctfg prepare` again"
                    )
        shard.write(_ENDING)


def _copy(source: BinaryIO, target: BinaryIO, count: int) -> str:
    """Copy `count` bytes and return their sha256."""
    digest = hashlib.sha256()
    while count and (block := source.read(min(count, 1 << 22))):
        digest.update(block)
        target.write(block)
        count -= len(block)
    return digest.hexdigest()


def _read_shard(path: Path, group: Sequence[KeptClip], before: Mapping[str, Mapping[str, Any]]) -> pa.Table:
    """The rows of a shard's clips, and where they lie in it; what the manifest says of rights and people prevails."""
    rows = []
    begin = 0
    with path.open("rb") as file:
        for clip in group:
            row, places = read_row(file, begin)
            at = {
                "at": begin,
                "film_at": places.film,
                "sound_at": places.sound,
                "mel_at": places.mel,
                "track_at": places.track,
            }
            old = before.get(clip.id, {})
            row |= {name: old[name] for name in (*SAID, "identity") if old.get("sha256") == clip.sha256}
            rows.append(row | at | {"shard": path.name, "sha256": clip.sha256, "bytes": clip.bytes})
            begin += clip.bytes
    return table_of(rows)

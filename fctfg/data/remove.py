"""Taking a person out of a data set: out of the manifest, out of the shards, and out of what is prepared later."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fctfg.atomic import atomic_path
from fctfg.data.claims import PACKING, Claims
from fctfg.data.ledger import FOLDER, KeptClip, forget
from fctfg.data.manifest import FILE_NAME, read_manifest
from fctfg.data.pack import pack
from fctfg.errors import FctfgError

RECORD = "removed.jsonl"


@dataclass(frozen=True)
class Removed:
    """Who was taken out, over all times.

    Attributes:
        people: Names.
        clips: Ids of their clips, which do not come back when their videos are prepared again.
    """

    people: frozenset[str]
    clips: frozenset[str]


def read_removed(root: Path) -> Removed:
    """The record of all removals."""
    path = root / RECORD
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
    return Removed(
        frozenset(line["identity"] for line in lines), frozenset(clip for line in lines for clip in line["clips"])
    )


def remove_identity(root: Path, identity: str, reason: str = "") -> int:
    """Take all clips of a person out and record it; shards that held some are written anew without them.

    Asked again, it finishes what was broken off.

    Args:
        root: the data set.
        identity: the person, by the manifest's name.
        reason: for the record.

    Returns:
        How many clips were taken out.

    Raises:
        FctfgError: no such person, or the data set is being prepared by somebody.
    """
    read_manifest(root, columns=["id"])  # before anything is made in a wrong folder
    with Claims(root / FOLDER / "claims") as claims:
        if claims.others() or not claims.take(PACKING):
            raise FctfgError(f"{root} is being prepared by another process; wait until it has finished")
        manifest = read_manifest(root)
        table = pq.read_table(root / FILE_NAME)
        theirs = table.filter(pc.equal(table["identity"], identity))
        gone = read_removed(root)
        if not len(theirs) and identity not in gone.people:
            raise FctfgError(f"{root} has nobody called {identity!r}; `fctfg data report` lists the people")
        if len(theirs):
            _record(root, identity, reason, theirs["id"].to_pylist())
        left = table.filter(pc.not_equal(table["identity"], identity))
        kept = left.filter(pc.is_null(left["reject_reason"]))
        rows = kept.select(["id", "sha256", "bytes", "n_frames"]).to_pylist()
        settings = {name: value for name, value in manifest.settings.items() if name != "shards"}
        decided = {row["id"]: row for row in kept.select(["id", "identity", "split", "repeats"]).to_pylist()}
        rejected = left.filter(pc.is_valid(left["reject_reason"]))
        pack(
            root,
            [KeptClip(**row) for row in rows],
            iter(rejected.to_pylist()),
            settings,
            lambda packed: _as_before(packed, decided),
        )
        forget(root / FOLDER, read_removed(root).clips)
        claims.release(PACKING)
    count = len(theirs) - theirs["reject_reason"].drop_null().length()
    print(f"{root}: {count} clips of {identity} are out")
    return count


def _record(root: Path, identity: str, reason: str, clips: list[str]) -> None:
    path = root / RECORD
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    entry = {
        "identity": identity,
        "clips": clips,
        "reason": reason,
        "when": datetime.now(UTC).isoformat("T", "seconds"),
    }
    with atomic_path(path) as temporary:
        temporary.write_text(before + json.dumps(entry, ensure_ascii=False) + "\n", encoding="utf-8")


def _as_before(table: pa.Table, decided: dict[str, dict[str, Any]]) -> pa.Table:
    """Identities and splits stay as they were; what repeated a clip that is gone repeats nothing any more."""
    for name in ("identity", "split", "repeats"):
        values = [
            decided[clip][name] if clip in decided else value
            for clip, value in zip(table["id"].to_pylist(), table[name].to_pylist(), strict=True)
        ]
        if name == "repeats":
            values = [value if value in decided else "" for value in values]
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values, pa.string()))
    return table

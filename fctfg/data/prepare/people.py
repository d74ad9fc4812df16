"""What depends on all clips together: who is who, which split everybody is in, and what is shown twice."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from fctfg.data.manifest import SPLITS
from fctfg.data.pack import SAID
from fctfg.data.prepare.settings import Settings
from fctfg.data.prepare.sources import Source
from fctfg.data.prepare.splits import assign_splits, shares_left
from fctfg.data.scores.duplicates import near_duplicates
from fctfg.data.scores.identity import cluster

ONE_PERSON = 0.5  # root mean square distance of the embeddings of one person's clips


def finish(table: pa.Table, settings: Settings, sources: Mapping[str, Source]) -> pa.Table:
    """Fill in identities, splits and near-duplicates.

    People are those that the corpus names. A clip that nobody is named for gets its identity from its face: clips
    whose embeddings lie together are one person, called as before, or else after the first of them. Splits are the
    corpus's own, and where it says none, the hash of the identity decides; whoever else is seen in somebody's video
    goes with them, and so does whoever has a file of the same content.

    Args:
        table: rows under `fctfg.data.manifest.SCHEMA`.
        settings: for the shares of the splits.
        sources: the videos by name, whose labels and rights prevail over what their clips' rows say.

    Returns:
        The table, sorted by id.
    """
    table = _told(table.sort_by("id"), sources)
    kept = np.flatnonzero(table["reject_reason"].is_null().to_numpy())
    given, label, ids = (table[name].to_pylist() for name in ("given_split", "label", "id"))
    owner = _owners(table)
    identity = [said or name for said, name in zip(label, ids, strict=True)]
    for row, name in _found(table, [int(row) for row in kept if not label[row]], given, owner).items():
        identity[row] = name
    group = _joined([whose or name for whose, name in zip(owner, identity, strict=True)], table, kept)
    decided = {name: said for said, name in zip(given, group, strict=True) if said}
    decided |= assign_splits({group[row] for row in kept} - decided.keys(), shares_left(given, settings.shares))
    split = [said or decided.get(name, SPLITS[0]) for said, name in zip(given, group, strict=True)]
    repeats = np.full(len(table), "", object)
    first = near_duplicates(_column(table, "prints", kept, np.uint64))
    repeats[kept[first >= 0]] = np.array(ids, object)[kept[first[first >= 0]]]
    for name, values in (("identity", identity), ("split", split), ("repeats", repeats.tolist())):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, pa.array(values, pa.string()))
    return table


def _told(table: pa.Table, sources: Mapping[str, Source]) -> pa.Table:
    """The table with labels, splits and rights as the sources have them now; rights that nobody repeats stay."""
    if not sources:
        return table
    columns: dict[str, list[str]] = {name: [] for name in SAID}
    for row in table.select(["source", "person", *SAID]).to_pylist():
        source = sources.get(row["source"])
        if source is not None:
            label = source.identity if source.labelled and row["person"] == 0 else ""
            rights = source.rights
            terms = (rights.licence, source.licence_sha256, rights.consent, rights.provenance)
            said = (label, source.split or "", *(new or row[name] for name, new in zip(SAID[2:], terms, strict=True)))
            row |= dict(zip(SAID, said, strict=True))
        for name in SAID:
            columns[name].append(row[name])
    for name, values in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values, pa.string()))
    return table


def _owners(table: pa.Table) -> list[str]:
    """Whose video each row is from: the person that it is named for; empty where it is named for nobody."""
    rows = table.select(["source", "label"]).to_pylist()
    named = {row["source"]: row["label"] for row in rows if row["label"]}
    return [named.get(row["source"], "") for row in rows]


def _joined(group: list[str], table: pa.Table, kept: np.ndarray) -> list[str]:
    """The groups of people who share a split, those joined whose clips are from files of the same content."""
    leader: dict[str, str] = {}

    def lead(name: str) -> str:
        while name in leader:
            name = leader[name]
        return name

    holder: dict[str, str] = {}
    content = table["source_sha256"].to_pylist()
    for row in kept:
        first, second = sorted((lead(group[row]), lead(holder.setdefault(content[row], group[row]))))
        if first != second:
            leader[second] = first
    return [lead(name) for name in group]


def _found(table: pa.Table, rows: list[int], given: list[str], owner: list[str]) -> dict[int, str]:
    """Names of the people in clips without a label, by row.

    Those of different given splits, or in videos of different people, are never one, so that splits stay disjoint.
    """
    ids, before = table["id"].to_pylist(), table["identity"].to_pylist()
    found: dict[int, str] = {}
    for place in sorted({(given[row], owner[row]) for row in rows}):
        here = [row for row in rows if (given[row], owner[row]) == place]
        groups = cluster(_column(table, "embedding", np.array(here), np.float32), ONE_PERSON)
        named = {group: f"face-{ids[row]}" for row, group in zip(here[::-1], groups[::-1], strict=True)}
        known = [(group, before[row]) for row, group in zip(here[::-1], groups[::-1], strict=True) if before[row]]
        for group, name in known:
            named[group] = name
        found |= {row: named[group] for row, group in zip(here, groups, strict=True)}
    return found


def _column(table: pa.Table, name: str, rows: np.ndarray, dtype: type) -> np.ndarray:
    """Lists of equal length as an array [len(rows), length]."""
    column = table[name].take(pa.array(rows)).combine_chunks()
    values = column.flatten().to_numpy(zero_copy_only=False).astype(dtype)
    return values.reshape(len(rows), -1) if len(rows) else values.reshape(0, 1)

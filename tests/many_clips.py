"""The manifest of a very large data set, without its media."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fctfg.data.manifest import SCHEMA, write_table
from fctfg.data.scores.table import SCORES
from fctfg.data.shards import FOLDER


def write_many_clips(root: Path, clips: int, identities: int, shards: int, seed: int = 0) -> Path:
    """Write a manifest whose columns are as hard to compress as real ones, and shards of the right size, all holes.

    People have very unequal numbers of clips; 90 % of the people are in train, 5 % each in val and test; one clip of
    fifty was rejected.
    """
    draw = np.random.default_rng(seed)
    person = np.sort((identities * draw.beta(0.7, 1.3, clips)).astype(np.int64).clip(0, identities - 1))
    person[:: clips // identities] = np.arange(len(person[:: clips // identities])) % identities  # everybody once
    person.sort()
    n_frames = draw.integers(64, 1025, clips)
    rejected = draw.random(clips) < 0.02
    shard = np.sort(draw.integers(0, shards, clips))
    size = n_frames * 19_200 // 512 * 512
    at = np.cumsum(size) - size
    at -= np.repeat(at[np.searchsorted(shard, np.arange(shards))], np.bincount(shard, minlength=shards))
    video = _hex(draw, clips, 11)
    names = np.array([f"id{i:05d}" for i in range(identities)], "S")[person]
    source = np.char.add(np.char.add(np.char.add(names, b"/"), video), b".mp4")
    shard_names = np.array([f"{i:06d}-{x.decode()}.tar" for i, x in enumerate(_hex(draw, shards, 8))], "S")
    text = {
        "id": np.char.add(np.char.add(np.char.add(names, b"-"), video), b"-p1-000000"),
        "identity": names,
        "split": np.array([b"train"] * 18 + [b"val", b"test"])[person % 20],
        "label": names,
        "source": source,
        "source_sha256": _hex(draw, clips, 64),
        "sha256": _hex(draw, clips, 64),
        "shard": np.where(rejected, b"", shard_names[shard]),
        "licence": np.where(person % 3, b"CC BY 4.0", b"research only"),
        "stage": np.where(rejected, b"crop", b""),
    }
    number = {
        "start": draw.random(clips) * 600,
        "n_frames": n_frames,
        "bytes": size,
        "at": at,
        "film_at": at + 71_680 + 624 * n_frames,
        "sound_at": at + 71_716 + 624 * n_frames,
        "mel_at": at + 2_176 + 624 * n_frames,
        "track_at": at + 1_664,
        "person": np.zeros(clips, np.int32),
    } | {name: draw.normal(size=clips).astype(np.float32) for name in SCORES}
    columns = []
    for field in SCHEMA:
        if field.name in text:
            column = pa.array(text[field.name]).cast(pa.string())
        elif field.name in number:
            column = pa.array(number[field.name], field.type)
        elif field.name == "crop":
            column = pa.FixedSizeListArray.from_arrays(draw.integers(0, 1080, 4 * clips, np.int32), 4).cast(field.type)
        elif field.name == "reject_reason":
            column = pc.if_else(pa.array(rejected), "no face is large enough", None).cast(field.type)
        else:
            column = pa.array([""] * clips if pa.types.is_string(field.type) else [None] * clips, field.type)
        columns.append(column)
    table = pa.table(columns, schema=SCHEMA).take(pc.sort_indices(pa.array(text["id"])))
    (root / FOLDER).mkdir(parents=True, exist_ok=True)
    sizes = {name.decode(): int(size[shard == i].sum()) for i, name in enumerate(shard_names)}
    for name, count in sizes.items():
        with (root / FOLDER / name).open("wb") as file:
            file.truncate(count)
    write_table(root, table, {"size": 256, "form": "jpeg", "fps": 25.0, "shards": sizes})
    return root


def _hex(draw: np.random.Generator, count: int, digits: int) -> np.ndarray:
    """Random hexadecimal numbers, bytes [count]."""
    letters = np.frombuffer(b"0123456789abcdef", "S1")
    return letters[draw.integers(0, 16, (count, digits))].view(f"S{digits}")[:, 0]

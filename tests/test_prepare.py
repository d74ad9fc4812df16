"""`fctfg prepare` on good input: what is cut, where, when, and how it is named."""

import json
import os
import shutil
import tarfile
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from raw_media import click, click_time, write_raw
from raw_talking import FRAMES, talking, times

from fctfg.cli import main
from fctfg.data.claims import Claims
from fctfg.data.manifest import FILE_NAME, read_manifest
from fctfg.data.pack import pack
from fctfg.data.prepare import Summary, prepare
from fctfg.data.prepare.sources import Source, find_sources
from fctfg.data.prepare.splits import assign_splits
from fctfg.data.prepare.workers import Inline
from fctfg.data.shards import ClipReader
from fctfg.data.status import read_status
from fctfg.errors import FctfgError, UsageError
from fctfg.faces.detector import DlibDetector
from fctfg.media import probe, read_audio, read_frames

SIZE = 64


def cut(source: Path, out: Path, **options: object) -> Summary:
    """`prepare` with small clips and no output."""
    return prepare(source, out, **{"size": SIZE, "min_frames": 20, "progress": False} | options)  # type: ignore[arg-type]


def command(source: Path, out: Path) -> None:
    """The same through the command line."""
    assert main(["prepare", str(source), f"--out={out}", f"--size={SIZE}", "--min-frames=20", "--workers=0"]) == 0


def put(path: Path, person: int = 0) -> Path:
    """A talking clip as a raw video."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures, sound = talking(person)
    return write_raw(path, pictures, times(), sound)


def contents(folder: Path) -> dict[str, bytes]:
    """Manifest and shards, by their names."""
    files = [folder / FILE_NAME, *sorted((folder / "shards").iterdir())]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def reader(folder: Path) -> ClipReader:
    return ClipReader(read_manifest(folder))


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three people: two clips of anna, one of bob and one of carla."""
    root = tmp_path_factory.mktemp("raw")
    put(root / "anna" / "one.mp4", 0)
    put(root / "anna" / "two.mkv", 0)
    put(root / "bob" / "deep" / "er" / "one.mov", 2)
    put(root / "carla.mp4", 3)
    (root / "notes.txt").write_text("not a video")
    (root / ".hidden.mp4").write_text("not a video either")
    return root


@pytest.fixture(scope="module")
def data(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "set"
    summary = cut(raw, out, licence="CC0", consent="asked")
    assert summary.videos == 4
    assert sum(summary.kept.values()) == 4
    assert summary.rejected == ()
    return out


def test_clips_are_what_the_manifest_says(data: Path, tmp_path: Path) -> None:
    clips = reader(data)
    for clip in read_manifest(data):
        (tmp_path / "clip.mov").write_bytes(clips.film(clip))
        assert probe(tmp_path / "clip.mov").fps == 25.0
        frames = list(read_frames(tmp_path / "clip.mov"))
        assert len(frames) == clip.n_frames == FRAMES
        assert frames[0].shape == (SIZE, SIZE, 3)
        assert np.abs(np.stack(frames).astype(int) - clips.whole(clip)).mean() < 2  # two ways to enlarge chroma
        sound = clips.sound(clip)
        assert len(sound) == clip.n_frames * 640
        np.testing.assert_allclose(read_audio(tmp_path / "clip.mov"), sound, atol=1e-6)
        track = clips.track(clip)
        for name, shape in (("points", (5, 2)), ("landmarks", (68, 2))):
            assert track[name].shape == (clip.n_frames, *shape)
            assert ((track[name] > -0.1) & (track[name] < 1.1)).all()
        assert (clip.licence, clip.consent, clip.reject_reason) == ("CC0", "asked", None)
        assert clip["loudness"] > -60
    assert sorted(path.name for path in data.iterdir()) == ["dataset.json", "ledger", FILE_NAME, "shards", "views"]


def test_shards_are_tar_archives(data: Path) -> None:
    (shard,) = (data / "shards").iterdir()
    with tarfile.open(shard) as archive:
        names = archive.getnames()
        film = archive.extractfile(names[3])
        assert film is not None
        first = read_manifest(data)[0]
        assert film.read() == bytes(reader(data).film(first))
    assert names[:4] == [first.id + suffix for suffix in (".json", ".track.npy", ".mel.npy", ".mov")]
    assert len(names) == 4 * len(read_manifest(data))


def test_points_are_where_the_face_is_in_the_clip(data: Path) -> None:
    """The detector run on the finished clip must find what the manifest says."""
    detector, clips = DlibDetector(), reader(data)
    for clip in read_manifest(data):
        frames, track = clips.whole(clip), clips.track(clip)
        for k in (0, 13, 27):
            (face,) = detector.detect(frames[k])
            assert np.abs(face.points / SIZE - track["points"][k]).max() < 0.04


def test_crop_is_the_region_of_the_raw_video(raw: Path, data: Path) -> None:
    clip = next(clip for clip in read_manifest(data) if clip.source == "carla.mp4")
    x0, y0, x1, y1 = map(int, clip.crop)
    before = list(read_frames(raw / clip.source))[5][y0:y1, x0:x1].astype(float)
    after = reader(data).whole(clip)[5].astype(float)
    step = (y1 - y0) / SIZE
    coarse = [
        [
            before[int(r * step) : int((r + 4) * step), int(c * step) : int((c + 4) * step)].mean((0, 1))
            for c in range(0, SIZE, 4)
        ]
        for r in range(0, SIZE, 4)
    ]
    fine = after.reshape(SIZE // 4, 4, SIZE // 4, 4, 3).mean((1, 3))
    assert np.abs(np.array(coarse) - fine).mean() < 6


def test_people_come_from_the_uppermost_folder(data: Path) -> None:
    assert {clip.source: clip.identity for clip in read_manifest(data)} == {
        "anna/one.mp4": "anna",
        "anna/two.mkv": "anna",
        "bob/deep/er/one.mov": "bob",
        "carla.mp4": "face-carla-p1-000000",  # nobody is named: found by the face
    }


def test_small_sets_have_all_splits_disjoint_by_identity(data: Path) -> None:
    splits = {(clip.identity, clip.split) for clip in read_manifest(data)}
    assert len(splits) == 3
    assert {split for _, split in splits} == {"train", "val", "test"}


def test_same_bytes_with_any_number_of_workers(raw: Path, data: Path, tmp_path: Path) -> None:
    cut(raw, tmp_path / "again", workers=2, licence="CC0", consent="asked")
    assert contents(tmp_path / "again") == contents(data)
    assert read_manifest(tmp_path / "again").hash == read_manifest(data).hash


def test_second_run_reuses_what_has_not_changed(raw: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "raw", tmp_path / "out"
    shutil.copytree(raw, source)
    first = cut(source, out)
    before, ledger = contents(out), sum(p.stat().st_size for p in (out / "ledger").glob("*.jsonl"))
    assert first.reused == 0

    assert cut(source, out).reused == 4
    assert contents(out) == before
    assert sum(p.stat().st_size for p in (out / "ledger").glob("*.jsonl")) == ledger

    (source / "anna" / "one.mp4").touch()  # a new time alone changes nothing
    assert cut(source, out).reused == 3
    assert cut(source, out).reused == 4
    assert contents(out) == before

    put(source / "carla.mp4", 4)  # another video under an old name
    assert cut(source, out).reused == 3
    after = contents(out)
    assert after != before
    assert len(read_manifest(out)) == 4

    (source / "carla.mp4").unlink()  # a video that is gone leaves its clips
    assert cut(source, out).reused == 3
    assert contents(out) == after

    assert cut(source, out, licence="new").reused == 3
    assert set(read_manifest(out).column("licence")) == {"new", ""}
    with pytest.raises(FctfgError, match=r"other settings \(min_frames 20, now 21\)"):
        cut(source, out, min_frames=21)


def test_a_sound_file_that_changes_is_heard_again(tmp_path: Path) -> None:
    put(tmp_path / "raw" / "M003" / "video" / "front" / "angry" / "level_1" / "001.mp4")
    voice = tmp_path / "raw" / "M003" / "audio" / "angry" / "level_1" / "001.m4a"
    voice.parent.mkdir(parents=True)
    hashes = []
    for person in (0, 2):
        pictures, sound = talking(person)
        write_raw(voice.with_suffix(".mp4"), pictures, times(), sound).rename(voice)
        assert cut(tmp_path / "raw", tmp_path / "out", layout="mead").reused == 0
        hashes.append(read_manifest(tmp_path / "out")[0].sha256)
        assert cut(tmp_path / "raw", tmp_path / "out", layout="mead").reused == 1
    assert hashes[0] != hashes[1]


def test_a_file_that_keeps_changing_ends_the_run_all_the_same(tmp_path: Path) -> None:
    video, over = put(tmp_path / "raw" / "a.mp4"), threading.Event()

    def touch() -> None:
        while not over.wait(0.01):
            os.utime(video)

    toucher = threading.Thread(target=touch)
    toucher.start()
    try:
        assert sum(cut(tmp_path / "raw", tmp_path / "out").kept.values()) == 1
    finally:
        over.set()
        toucher.join()


def test_the_same_clips_whatever_came_first(raw: Path, data: Path, tmp_path: Path) -> None:
    """A video that comes later: other shards, but the same clips."""
    source = tmp_path / "raw"
    shutil.copytree(raw, source)
    late = (source / "anna" / "one.mp4").rename(tmp_path / "one.mp4")
    cut(source, tmp_path / "out", licence="CC0", consent="asked")
    late.rename(source / "anna" / "one.mp4")
    cut(source, tmp_path / "out", licence="CC0", consent="asked")
    one, two = read_manifest(data), read_manifest(tmp_path / "out")
    same = ("id", "identity", "split", "sha256", "source", "n_frames", "face_px")
    assert all(one.column(name) == two.column(name) for name in same)
    assert len(list((tmp_path / "out" / "shards").iterdir())) == 2


def test_a_lost_ledger_loses_no_clip(raw: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "raw", tmp_path / "out"
    shutil.copytree(raw, source)
    cut(source, out)
    before = read_manifest(out).column("id")
    shutil.rmtree(out / "ledger")
    shutil.rmtree(source / "anna")
    with pytest.raises(FctfgError, match="other settings"):
        cut(source, out, min_frames=21)
    assert read_manifest(out).column("id") == before
    shutil.rmtree(out / "ledger", ignore_errors=True)
    cut(source, out)
    assert read_manifest(out).column("id") == before


def test_a_video_that_vanishes_is_given_up_once(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "raw"
    shutil.copytree(raw, source)
    listed = find_sources(source, tmp_path / "out")
    (source / "carla.mp4").unlink()
    monkeypatch.setattr("fctfg.data.prepare.run.find_sources", lambda *_: listed)
    summary = cut(source, tmp_path / "out")
    assert summary.rejected == (("carla.mp4", "unreadable: No such file or directory"),)
    assert sum(summary.kept.values()) == 3


def test_status_counts_what_is_left_beside_videos_that_are_gone(
    data: Path, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shutil.copytree(data, tmp_path / "out")
    (tmp_path / "new" / "dora").mkdir(parents=True)
    shutil.copy(raw / "anna" / "one.mp4", tmp_path / "new" / "dora")
    (tmp_path / "new" / "broken.mp4").write_text("no video")
    seen = []

    class Watched(Inline):
        def submit(self, source: Source, known: str) -> None:
            status = read_status(out)
            seen.append((status.found, status.states["done"], status.states["pending"]))
            super().submit(source, known)

    monkeypatch.setattr("fctfg.data.prepare.run.Inline", Watched)
    cut(tmp_path / "new", out)
    assert seen == [(2, 4, 2), (2, 4, 1)]
    status = read_status(out)
    assert (status.found, status.states["done"], status.states["pending"]) == (2, 5, 0)


def test_packing_leaves_the_clips_of_those_who_still_work(raw: Path, tmp_path: Path) -> None:
    """Another process has finished a clip that is not in the ledger yet, and writes the next one."""
    out = tmp_path / "out"
    cut(raw / "anna" / "one.mp4", out)
    theirs = [out / "clips" / "00" / "other.tar", out / "clips" / "00" / f".next.{'0' * 32}.tar"]
    theirs[0].parent.mkdir(parents=True)
    with Claims(out / "ledger" / "claims"):
        for path in theirs:
            path.write_bytes(b"x")
        cut(raw, out)
        assert all(path.exists() for path in theirs)
    cut(raw, out)
    assert not (out / "clips").exists()


def test_packing_broken_off_before_another_video_came(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clips of shards that stand already, and that the manifest does not name yet, are found there."""
    source, out = tmp_path / "raw", tmp_path / "out"
    shutil.copytree(raw, source)
    late = (source / "anna" / "one.mp4").rename(tmp_path / "one.mp4")

    def stop(done: int) -> None:
        raise KeyboardInterrupt

    def broken(*arguments: Any, **options: Any) -> Any:
        return pack(*arguments, **options | {"shard_bytes": 1, "advance": stop})

    monkeypatch.setattr("fctfg.data.prepare.run.pack", broken)
    with pytest.raises(KeyboardInterrupt):
        cut(source, out)
    monkeypatch.undo()
    assert len(list((out / "shards").iterdir())) == 1 and not (out / FILE_NAME).exists()
    late.rename(source / "anna" / "one.mp4")
    cut(source, out)
    cut(source, tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


def test_folders_named_after_splits_decide(tmp_path: Path) -> None:
    for name, person in (("train/anna/a.mp4", 0), ("val/bob/b.mp4", 2), ("test/carla/c.mp4", 3)):
        put(tmp_path / "raw" / name, person)
    cut(tmp_path / "raw", tmp_path / "out")
    found = {clip.identity: clip.split for clip in read_manifest(tmp_path / "out")}
    assert found == {"anna": "train", "bob": "val", "carla": "test"}
    put(tmp_path / "raw" / "test" / "anna" / "d.mp4", 0)
    with pytest.raises(FctfgError, match="'anna' is in two splits"):
        cut(tmp_path / "raw", tmp_path / "out2")


def test_rights_from_the_folder(tmp_path: Path) -> None:
    put(tmp_path / "raw" / "a.mp4")
    said = {"licence": "CC BY 4.0", "consent": "given", "source": "our studio"}
    (tmp_path / "raw" / "provenance.json").write_text(json.dumps(said))
    cut(tmp_path / "raw", tmp_path / "out", licence="stricter")
    (clip,) = read_manifest(tmp_path / "out")
    assert (clip.licence, clip.consent, clip.provenance) == ("stricter", "given", "our studio")
    (tmp_path / "raw" / "provenance.json").write_text("[1")
    with pytest.raises(FctfgError, match=r"provenance\.json"):
        cut(tmp_path / "raw", tmp_path / "other")


def test_single_file_of_any_name(tmp_path: Path) -> None:
    path = put(tmp_path / "clip.mp4").rename(tmp_path / "clip.data")
    cut(path, tmp_path / "out")
    (clip,) = read_manifest(tmp_path / "out")
    assert (clip.identity, clip.source) == (f"face-{clip.id}", "clip.data")


def test_names_that_would_collide(tmp_path: Path) -> None:
    for name in ("a/b.mp4", "a-b.mp4", "a/b.mkv"):
        put(tmp_path / "raw" / name)
    cut(tmp_path / "raw", tmp_path / "out")
    assert len(set(read_manifest(tmp_path / "out").column("id"))) == 3


def test_one_file_under_two_names_is_in_one_split(tmp_path: Path) -> None:
    for person in range(4):  # with a few people, each split gets somebody
        put(tmp_path / "raw" / f"p{person}" / "a.mp4", person)
    cut(tmp_path / "raw", tmp_path / "apart", splits=(0.5, 0.25, 0.25))
    apart = {clip.identity: clip.split for clip in read_manifest(tmp_path / "apart")}
    one, two = next((a, b) for a in sorted(apart) for b in sorted(apart) if apart[a] != apart[b])
    shutil.copy(tmp_path / "raw" / one / "a.mp4", tmp_path / "raw" / two / "copy.mp4")
    cut(tmp_path / "raw", tmp_path / "joined", splits=(0.5, 0.25, 0.25))
    manifest = read_manifest(tmp_path / "joined")
    assert len({clip.split for clip in manifest if clip.identity in (one, two)}) == 1
    assert {clip.split for clip in manifest} == {"train", "val", "test"}
    (copy,) = (clip for clip in manifest if clip.repeats)
    assert copy.identity == two


def test_output_inside_the_source_is_not_read_again(tmp_path: Path) -> None:
    put(tmp_path / "raw" / "a.mp4")
    for _ in range(2):
        assert cut(tmp_path / "raw", tmp_path / "raw" / "out").videos == 1


@pytest.mark.parametrize("fps", [15, 30, 60])
def test_any_frame_rate_gives_the_same_clip(tmp_path: Path, fps: int) -> None:
    pictures, sound = talking(0)
    shown = [pictures[min(int(k / fps * 25 + 1e-6), FRAMES - 1)] for k in range(round(FRAMES / 25 * fps))]
    write_raw(tmp_path / "other.mp4", shown, times(len(shown), fps), sound, fps=fps)
    write_raw(tmp_path / "same.mp4", pictures, times(), sound)
    for name in ("other", "same"):
        command(tmp_path / f"{name}.mp4", tmp_path / name)
    (other,), (same,) = read_manifest(tmp_path / "other"), read_manifest(tmp_path / "same")
    assert abs(other.n_frames - same.n_frames) <= 1
    n = min(other.n_frames, same.n_frames) - 2
    one, two = (reader(tmp_path / name).track(clip)["points"] for name, clip in (("other", other), ("same", same)))
    # a frame of the other rate is at most one of its periods old
    lag = np.abs(one[1:n] - two[1:n]).mean(), np.abs(one[1:n] - two[: n - 1]).mean()
    assert min(lag) < 0.02


def test_variable_frame_rate(tmp_path: Path) -> None:
    pictures, sound = talking(0)
    kept = [k for k in range(FRAMES) if k % 5 != 3 and k % 7 != 2]  # dropped frames, as phones write them
    write_raw(tmp_path / "phone.mp4", [pictures[k] for k in kept], [k / 25 for k in kept], sound)
    command(tmp_path / "phone.mp4", tmp_path / "out")
    (clip,) = read_manifest(tmp_path / "out")
    assert abs(clip.n_frames - FRAMES) <= 1


def test_clip_and_sound_are_cut_at_the_same_time(tmp_path: Path) -> None:
    """One second without a face first; the click must keep its distance from the pictures."""
    pictures, _ = talking(0)
    nothing = np.full_like(pictures[0], 90)
    at = 1.72
    sound = click(at, (25 + FRAMES) / 25, 16_000) + 0.01 * np.sin(np.arange(round((25 + FRAMES) * 640)) / 5).astype(
        np.float32
    )
    write_raw(tmp_path / "late.mp4", [nothing] * 25 + list(pictures), times(25 + FRAMES), sound)
    cut(tmp_path / "late.mp4", tmp_path / "out")
    (clip,) = read_manifest(tmp_path / "out")
    assert clip.start == 1.0  # the detection at frame 25
    heard = click_time(reader(tmp_path / "out").sound(clip), 16_000)
    assert abs(heard + clip.start - at) <= 1e-3


def test_long_tracks_are_cut_into_chunks(tmp_path: Path) -> None:
    put(tmp_path / "a.mp4")
    cut(tmp_path / "a.mp4", tmp_path / "out", min_frames=12, max_frames=20)
    clips = list(read_manifest(tmp_path / "out"))
    assert [(c.id, c.start, c.n_frames) for c in clips] == [("a-p1-000000", 0.0, 20), ("a-p1-000020", 0.8, FRAMES - 20)]
    whole = talking(0)[1][0]
    parts = np.concatenate([reader(tmp_path / "out").sound(clip) for clip in clips])
    assert np.corrcoef(parts[: len(whole)], whole)[0, 1] > 0.99  # (the raw video's sound is AAC)


def test_two_people_give_two_clips(tmp_path: Path) -> None:
    (left, sound), (right, _) = talking(0), talking(2)
    both = [np.concatenate(pair, axis=1) for pair in zip(left, right, strict=True)]
    path = tmp_path / "raw" / "anna" / "pair.mp4"
    path.parent.mkdir(parents=True)
    write_raw(path, both, times(), sound)
    put(tmp_path / "raw" / "bob" / "b.mp4", 2)
    put(tmp_path / "raw" / "carla" / "c.mp4", 3)
    cut(tmp_path / "raw", tmp_path / "out")
    pair = [clip for clip in read_manifest(tmp_path / "out") if clip.source == "anna/pair.mp4"]
    assert len(pair) == 2
    assert len({clip.identity for clip in pair}) == 2  # two people are not one identity
    assert len({clip.split for clip in pair}) == 1  # but stay in one split
    centers = sorted((clip.crop[0] + clip.crop[2]) / 2 for clip in pair)
    assert centers[0] < left[0].shape[1] < centers[1]


def test_splits_follow_the_shares_and_are_stable() -> None:
    names = [f"id{k:05d}" for k in range(5000)]
    splits = assign_splits(names, (0.8, 0.15, 0.05))
    count = Counter(splits.values())
    for split, share in (("train", 0.8), ("val", 0.15), ("test", 0.05)):
        assert abs(count[split] / 5000 - share) < 0.02
    fewer = assign_splits(names[:2500], (0.8, 0.15, 0.05))
    assert all(splits[name] == split for name, split in fewer.items())
    assert assign_splits(reversed(names), (0.8, 0.15, 0.05)) == splits


@pytest.mark.parametrize(
    ("people", "expected"),
    [
        (1, {"train": 1}),
        (2, {"train": 1, "test": 1}),
        (3, {"train": 1, "val": 1, "test": 1}),
        (4, {"train": 2, "val": 1, "test": 1}),
    ],
)
def test_splits_of_few_people(people: int, expected: dict[str, int]) -> None:
    for trial in range(20):
        splits = assign_splits([f"{trial}-{k}" for k in range(people)], (1 - 2e-9, 1e-9, 1e-9))
        assert Counter(splits.values()) == expected


@pytest.mark.parametrize(
    "options",
    [
        *({"size": 63}, {"size": 8}, {"min_frames": 0}, {"workers": -1}, {"shard": (3, 2)}, {"form": "gif"}),
        *({"splits": (0.9, 0.2, 0.1)}, {"detector": "eyes"}),
    ],
)
def test_settings_out_of_range(raw: Path, tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        cut(raw, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_insightface_needs_weights(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # workers may have another folder, so they are given the whole path
    for folder, whole in ((tmp_path, tmp_path), (None, tmp_path / "checkpoints" / "insightface")):
        with pytest.raises(FctfgError, match=rf"{whole};.*det_10g\.onnx"):
            cut(raw, tmp_path / "out", detector="insightface", detector_weights=folder)
    assert not (tmp_path / "out").exists()

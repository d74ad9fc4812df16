"""`fctfg prepare` on good input: what is cut, where, when, and how it is named."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from raw_media import click, click_time, write_raw
from raw_talking import FRAMES, talking, times

from fctfg.cli import main
from fctfg.data.manifest import FILE_NAME, Clip, dataset_hash, read_manifest, write_manifest
from fctfg.data.prepare import Summary, prepare
from fctfg.data.prepare.splits import assign_splits
from fctfg.errors import FctfgError, UsageError
from fctfg.faces.detector import DlibDetector
from fctfg.media import probe, read_frames, read_wav

SIZE = 64


def cut(source: Path, out: Path, **options: object) -> Summary:
    """`prepare` with small clips and no output."""
    return prepare(source, out, **{"size": SIZE, "min_frames": 20, "progress": False} | options)  # type: ignore[arg-type]


def command(source: Path, out: Path) -> None:
    """The same through the command line."""
    assert main(["prepare", str(source), f"--out={out}", f"--size={SIZE}", "--min-frames=20"]) == 0


def put(path: Path, person: int = 0) -> Path:
    """A talking clip as a raw video."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures, sound = talking(person)
    return write_raw(path, pictures, times(), sound)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its name."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


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


def test_clips_are_what_the_manifest_says(data: Path) -> None:
    for clip in read_manifest(data):
        info = probe(data / clip.path)
        assert (info.width, info.height, info.fps) == (SIZE, SIZE, 25.0)
        frames = list(read_frames(data / clip.path))
        assert len(frames) == clip.n_frames == FRAMES
        assert len(read_wav(data / clip.audio)) == clip.n_frames * 640
        assert clip.points.shape == (clip.n_frames, 5, 2)
        assert ((clip.points > 0) & (clip.points < 1)).all()
        assert clip.boxes.shape == (clip.n_frames, 4)
        assert (clip.licence, clip.consent, clip.reject_reason, clip.detector) == ("CC0", "asked", None, "dlib")
        assert clip.audio_rms > 0.001
    assert not list(data.glob(".*"))


def test_points_are_where_the_face_is_in_the_clip(data: Path) -> None:
    """The detector run on the finished clip must find what the manifest says."""
    detector = DlibDetector()
    for clip in read_manifest(data):
        frames = list(read_frames(data / clip.path))
        for k in (0, 13, 27):
            (face,) = detector.detect(frames[k])
            assert np.abs(face.points / SIZE - clip.points[k]).max() < 0.04


def test_crop_is_the_region_of_the_raw_video(raw: Path, data: Path) -> None:
    clip = next(clip for clip in read_manifest(data) if clip.source == "carla.mp4")
    x0, y0, x1, y1 = map(int, clip.crop)
    before = list(read_frames(raw / clip.source))[5][y0:y1, x0:x1].astype(float)
    after = list(read_frames(data / clip.path))[5].astype(float)
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
        "carla.mp4": "carla",
    }


def test_small_sets_have_all_splits_disjoint_by_identity(data: Path) -> None:
    splits = {(clip.identity, clip.split) for clip in read_manifest(data)}
    assert len(splits) == 3
    assert {split for _, split in splits} == {"train", "val", "test"}


def test_same_bytes_with_any_number_of_workers(raw: Path, data: Path, tmp_path: Path) -> None:
    cut(raw, tmp_path / "again", workers=2, licence="CC0", consent="asked")
    assert contents(tmp_path / "again") == contents(data)
    assert dataset_hash(tmp_path / "again") == dataset_hash(data)


def test_second_run_reuses_what_has_not_changed(raw: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "raw", tmp_path / "out"
    shutil.copytree(raw, source)
    first = cut(source, out)
    before, stamps = contents(out), {p.name: p.stat().st_mtime_ns for p in (out / "clips").iterdir()}
    assert first.reused == 0

    assert cut(source, out).reused == 4
    assert contents(out) == before
    assert {p.name: p.stat().st_mtime_ns for p in (out / "clips").iterdir()} == stamps

    put(source / "carla.mp4", 4)  # another video under an old name
    (out / "clips" / "anna-one-p1-000000.wav").unlink()  # a lost file
    assert cut(source, out).reused == 2
    assert (out / "clips" / "anna-one-p1-000000.wav").is_file()
    assert contents(out)["clips/carla-p1-000000.mp4"] != before["clips/carla-p1-000000.mp4"]

    (source / "carla.mp4").unlink()
    assert cut(source, out).reused == 3
    assert not list((out / "clips").glob("carla*"))

    assert cut(source, out, min_frames=21).reused == 0
    assert cut(source, out, min_frames=21, licence="new").reused == 3
    assert set(read_manifest(out).column("licence")) == {"new"}


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
        cut(tmp_path / "raw", tmp_path / "out")


def test_single_file_of_any_name(tmp_path: Path) -> None:
    path = put(tmp_path / "clip.mp4").rename(tmp_path / "clip.data")
    cut(path, tmp_path / "out")
    (clip,) = read_manifest(tmp_path / "out")
    assert (clip.identity, clip.source) == ("clip", "clip.data")


def test_names_that_would_collide(tmp_path: Path) -> None:
    for name in ("a/b.mp4", "a-b.mp4", "a/b.mkv"):
        put(tmp_path / "raw" / name)
    cut(tmp_path / "raw", tmp_path / "out")
    assert len(set(read_manifest(tmp_path / "out").column("id"))) == 3


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
    # a frame of the other rate is at most one of its periods old
    lag = np.abs(other.points[1:n] - same.points[1:n]).mean(), np.abs(other.points[1:n] - same.points[: n - 1]).mean()
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
    heard = click_time(read_wav(tmp_path / "out" / clip.audio), 16_000)
    assert abs(heard + clip.start - at) <= 1e-3


def test_long_tracks_are_cut_into_chunks(tmp_path: Path) -> None:
    put(tmp_path / "a.mp4")
    cut(tmp_path / "a.mp4", tmp_path / "out", min_frames=12, max_frames=20)
    clips = list(read_manifest(tmp_path / "out"))
    assert [(c.id, c.start, c.n_frames) for c in clips] == [("a-p1-000000", 0.0, 20), ("a-p1-000020", 0.8, FRAMES - 20)]
    whole = talking(0)[1][0]
    parts = np.concatenate([read_wav(tmp_path / "out" / clip.audio) for clip in clips])
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
    [{"size": 63}, {"size": 8}, {"min_frames": 0}, {"workers": 0}, {"splits": (0.9, 0.2, 0.1)}, {"detector": "eyes"}],
)
def test_settings_out_of_range(raw: Path, tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        cut(raw, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_insightface_needs_weights(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(FctfgError, match=r"det_10g\.onnx"):
        cut(raw, tmp_path / "out", detector="insightface", detector_weights=tmp_path)
    assert not (tmp_path / "out").exists()


def test_manifest_round_trip(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kept = Clip(
        id="ä b",
        identity="x",
        split="val",
        source="ä b.mp4",
        path="clips/ä b.mp4",
        audio="clips/ä b.wav",
        n_frames=3,
        crop=(1.0, 2.0, 3.0, 4.0),
        points=rng.random((3, 5, 2)).astype(np.float32),
        boxes=rng.random((3, 4)).astype(np.float32),
    )
    lost = Clip(id="a", identity="y", split="train", source="a.mp4", reject_reason="no face: none")
    write_manifest(tmp_path, [kept, lost], {"size": 64})
    manifest = read_manifest(tmp_path, check_files=False)
    assert [clip.id for clip in manifest] == ["a", "ä b"]  # by id
    assert manifest.settings == {"size": 64}
    assert manifest.identities == ["x", "y"]
    assert len(manifest.kept()) == len(manifest.kept("val")) == 1
    assert len(manifest.kept("train")) == 0
    (found,) = manifest.kept()
    np.testing.assert_array_equal(found.points, kept.points)
    np.testing.assert_array_equal(found["boxes"], kept.boxes)
    assert (found.crop, found.split, found.reject_reason) == (kept.crop, "val", None)
    assert manifest[0].reject_reason == "no face: none"


def test_dataset_hash_names_the_clips(data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(data, copy)
    assert dataset_hash(copy) == dataset_hash(data)
    clips = list(read_manifest(copy))
    write_manifest(copy, clips[1:])
    assert dataset_hash(copy) != dataset_hash(data)


def test_lost_and_foreign_manifests(data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(data, copy)
    (copy / "clips" / "carla-p1-000000.mp4").unlink()
    with pytest.raises(FctfgError, match=r"carla-p1-000000\.mp4.*lost.*prepare"):
        read_manifest(copy)
    (copy / FILE_NAME).write_bytes((copy / FILE_NAME).read_bytes()[:1000])
    with pytest.raises(FctfgError, match="damaged"):
        read_manifest(copy)
    (copy / FILE_NAME).unlink()
    with pytest.raises(FctfgError, match="fctfg prepare"):
        read_manifest(copy)
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": [1]}), copy / FILE_NAME)
    with pytest.raises(FctfgError, match="not written by this version"):
        read_manifest(copy)

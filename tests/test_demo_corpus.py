"""The embedded corpus keeps what docs/demo_corpus.md promises, and its truth fits its pictures and sound."""

import json
from itertools import combinations
from pathlib import Path

import av
import numpy as np
import pytest

from fctfg.demo_corpus import root, truth
from fctfg.errors import FctfgError
from fctfg.media import read_audio, read_frames

CLIPS = sorted(root().rglob("*.mp4"))
IDS = [str(clip.relative_to(root())) for clip in CLIPS]


def _of(split: str) -> list[Path]:
    return [clip for clip in CLIPS if clip.relative_to(root()).parts[0] == split]


def test_size_and_layout() -> None:
    people = {split: {clip.parent.name for clip in _of(split)} for split in ("train", "val", "test")}
    assert {split: len(names) for split, names in people.items()} == {"train": 9, "val": 1, "test": 2}
    assert all(not a & b for a, b in combinations(people.values(), 2))
    assert len(CLIPS) == 36
    assert sum(path.stat().st_size for path in root().rglob("*") if path.is_file()) < 8e6
    provenance = json.loads((root() / "provenance.json").read_text())
    assert provenance["licence"] == "CC0-1.0"
    assert provenance["consent"] == "rendered, no person depicted"


def test_one_voice_is_heard_only_in_test() -> None:
    voices = {split: {truth(clip)["voice"] for clip in _of(split)} for split in ("train", "val", "test")}
    assert voices["test"].isdisjoint(voices["train"] | voices["val"])
    assert len(voices["train"]) >= 3
    texts = {split: {truth(clip)["text"] for clip in _of(split)} for split in ("train", "test")}
    assert texts["test"].isdisjoint(texts["train"])


@pytest.mark.parametrize("clip", CLIPS, ids=IDS)
def test_media_and_truth(clip: Path) -> None:
    entry = truth(clip)
    with av.open(str(clip)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.width, video.height, video.average_rate) == (128, 128, 25)
        assert (audio.rate, audio.channels) == (16_000, 1)
        seconds = container.duration / av.time_base
    frames = len(entry["yaw"])
    assert 3.0 <= seconds <= 5.0
    assert seconds == pytest.approx(frames / 25, abs=0.05)
    for name in ("yaw", "pitch", "roll", "blink", "jaw", "lip_gap"):
        assert entry[name].shape == (frames,) and entry[name].dtype == np.float32
        assert np.isfinite(entry[name]).all()
    assert entry["points"].shape == (frames, 5, 2)
    assert (entry["points"] > 0).all() and (entry["points"] < 128).all()
    assert len(entry["viseme"]) == frames
    assert np.abs(entry["yaw"]).max() <= 25 and np.abs(entry["roll"]).max() <= 8
    assert entry["pitch"].min() >= -8 and entry["pitch"].max() <= 12
    for name in ("blink", "jaw"):
        assert entry[name].min() >= 0 and entry[name].max() <= 1
    assert entry["blink"].max() > 0.9, "everybody blinks"
    assert entry["lip_gap"].max() > 4, "the mouth opens visibly"
    # phones follow each other without holes and end with the clip
    np.testing.assert_allclose(entry["phone_start"][1:], entry["phone_end"][:-1], atol=2e-3)
    assert entry["phone_end"][-1] == pytest.approx(frames / 25, abs=0.01)


def test_lips_close_on_bilabials_and_open_on_vowels() -> None:
    closed, opened = [], []
    for clip in CLIPS:
        entry = truth(clip)
        for name, start, end in zip(entry["phone"], entry["phone_start"], entry["phone_end"], strict=True):
            frames = np.arange(np.ceil(start * 25), np.floor(end * 25) + 1).astype(int)
            frames = frames[frames < len(entry["lip_gap"])]
            if name in {"p", "b", "m"} and len(frames):
                closed.append(entry["lip_gap"][frames].min())
            if name in {"aa", "ae", "ao"} and len(frames):
                opened.append(entry["lip_gap"][frames].max())
    assert np.median(closed) < 1.0 and np.quantile(closed, 0.9) < 1.5
    assert np.median(opened) > 3.0


def test_mouth_moves_in_time_with_the_sound() -> None:
    """Vowels are loud and stops are silent where the phone times say so, best without a shift."""
    shifts = np.arange(-20, 21, 2)  # x 5 ms
    scores = []
    for clip in CLIPS[::3]:
        entry, wave = truth(clip), read_audio(clip)
        loud = np.log10(np.sqrt(np.convolve(wave**2, np.ones(160) / 160, "same"))[::80] + 1e-4)
        level = np.full(len(loud), np.nan)
        for name, start, end in zip(entry["phone"], entry["phone_start"], entry["phone_end"], strict=True):
            at = slice(int(start * 200), int(end * 200))
            if name[0] in "aeiou":
                level[at] = 1.0
            elif name in {"p", "t", "k", "b", "d", "g", "ch", "jh", "pau"}:
                level[at] = 0.0
        known = np.flatnonzero(~np.isnan(level[25:-25])) + 25
        scores.append([np.corrcoef(level[known], loud[known + shift])[0, 1] for shift in shifts])
    mean = np.mean(scores, axis=0)
    assert abs(shifts[mean.argmax()]) * 5 <= 20  # ms, half a frame
    assert mean.max() > 0.6


def test_pixels_follow_the_truth() -> None:
    """Where the mouth is open it is darker than where it is closed, and the eyes change when they close."""
    differences = []
    for clip in CLIPS[::4]:
        entry, frames = truth(clip), list(read_frames(clip))
        frontal = np.flatnonzero((np.abs(entry["yaw"]) < 15) & (entry["blink"] < 0.1))
        if len(frontal) < 10:
            continue
        order = frontal[np.argsort(entry["lip_gap"][frontal])]

        def darkest(index: int, entry: dict = entry, frames: list = frames) -> float:
            x, y = entry["points"][index, 3:].mean(0).astype(int)
            return float(np.quantile(frames[index][y - 2 : y + 7, x - 4 : x + 5].mean(-1), 0.1))

        shut = np.mean([darkest(i) for i in order[:5]])
        wide = np.mean([darkest(i) for i in order[-5:]])
        differences.append(shut - wide)
    assert np.mean(np.array(differences) > 5) > 0.8


def test_truth_of_a_foreign_clip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FctfgError, match="no ground truth beside the clip"):
        truth(tmp_path / "clip.mp4")
    for content in ("{}", "[1]", "not json", '{"phones": 3}'):
        (tmp_path / "clip.json").write_text(content)
        with pytest.raises(FctfgError, match="not a ground truth"):
            truth(tmp_path / "clip.mp4")

"""Clips that cannot be read while training: their samples are replaced, always by the same ones, and counted."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import faces_data
import numpy as np
import pytest
import torch
from test_loader import write_clips
from trained_runs import Place, arguments, checkpoint, equal

from fctfg.cli import main
from fctfg.data.batch import Sample
from fctfg.data.clip_file import TRACK
from fctfg.data.dataset import TalkingClips
from fctfg.data.loader import BatchLoader
from fctfg.data.manifest import Clip
from fctfg.data.replaced import KIND
from fctfg.data.sampler import PositionSampler
from fctfg.data.shards import ClipReader
from fctfg.errors import FctfgError
from fctfg.troubles import Troubles


def same(batch: Sample, samples: list[Sample]) -> bool:
    fields = ("frames", "points", "mel", "identity", "clip", "start")
    return all(torch.equal(getattr(batch, f), torch.stack([getattr(s, f) for s in samples])) for f in fields)


def overwrite(root: Path, clip: Clip, at: int, content: bytes) -> None:
    with (root / "shards" / clip.shard).open("r+b") as file:
        file.seek(at)
        file.write(content)


def lose(root: Path, clip: Clip) -> None:
    (root / "shards" / clip.shard).unlink()


def damage_pictures(root: Path, clip: Clip) -> None:
    data = TalkingClips(root, "train")
    for record in ClipReader(data.manifest).track(clip):
        overwrite(root, clip, clip.film_at + int(record["at"]), bytes(40))


def damage_track(root: Path, clip: Clip) -> None:
    """Places of frames that are anywhere."""
    noise = np.random.default_rng(0).bytes(clip.n_frames * TRACK.itemsize)
    overwrite(root, clip, clip.track_at, noise)


def damage_points(root: Path, clip: Clip) -> None:
    track = ClipReader(TalkingClips(root, "train").manifest).track(clip)
    track["points"] = np.nan
    overwrite(root, clip, clip.track_at, track.tobytes())


def damage_mel(root: Path, clip: Clip) -> None:
    overwrite(root, clip, clip.mel_at, np.full(4000, 1e30, np.float32).tobytes())


@pytest.mark.parametrize("damage", [lose, damage_pictures, damage_track, damage_points, damage_mel])
def test_the_samples_of_a_damaged_clip_are_replaced_and_no_others(
    tmp_path: Path, damage: Callable[[Path, Clip], None], caplog: pytest.LogCaptureFixture
) -> None:
    data = TalkingClips(write_clips(tmp_path, 12, "jpeg"), "train")
    keys = [(0, index) for index in range(36)]
    whole = [data[key] for key in keys]
    victim = data.clip(int(whole[7].clip))
    expected = [
        data.read(key, attempt=1) if one.clip == whole[7].clip else one for key, one in zip(keys, whole, strict=True)
    ]
    number = int(whole[7].clip)
    assert sum(one.clip == number for one in whole) == 3  # once a lap
    if any(one.clip == number for one in expected):
        pytest.fail("choose another seed: a replacement is of the damaged clip too")
    data = TalkingClips(tmp_path, "train")  # has not opened any file yet
    damage(tmp_path, victim)
    for workers in (0, 1, 4):
        troubles = Troubles()
        caplog.clear()
        batches = list(BatchLoader(data, PositionSampler(12, 3), workers, troubles=troubles))
        assert all(same(batch, expected[3 * i : 3 * i + 3]) for i, batch in enumerate(batches))
        assert troubles.counts == {KIND: 3}
        (line,) = caplog.messages
        assert victim.id in line


def test_one_bad_clip_of_few_goes_on_and_several_stop(tmp_path: Path) -> None:
    root = write_clips(tmp_path, 12, "jpeg")
    data, another = (TalkingClips(root, "train") for _ in range(2))
    lose(root, data.clip(3))
    troubles = Troubles()
    assert len(list(BatchLoader(data, PositionSampler(60, 5), 2, troubles=troubles))) == 60
    assert troubles.counts[KIND] >= 300 / 12
    lose(root, another.clip(5))
    done = 0
    with pytest.raises(FctfgError, match=r"2 clips .*copy the data set again"):
        for _ in BatchLoader(another, PositionSampler(60, 5), 2):
            done += 1
    assert 100 // 5 - 2 <= done <= 30  # each of the two threads may be within a batch at the hundredth sample


def test_a_lost_disk_stops_at_once(tmp_path: Path) -> None:
    root = write_clips(tmp_path, 4, "jpeg")
    data = TalkingClips(root, "train")
    (root / "shards").rename(root / "gone")
    with pytest.raises(FctfgError, match=r"10 clips in a row cannot be read .*make sure that its disk is there"):
        next(iter(BatchLoader(data, PositionSampler(60, 5), 2)))


def test_a_reader_that_hangs_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A pipe in place of a shard: who opens it waits until somebody opens its other end."""
    root = write_clips(tmp_path, 6, "jpeg")
    data = TalkingClips(root, "train")
    victim = data.drawn_clip((0, 2))
    lose(root, victim)
    os.mkfifo(root / "shards" / victim.shard)
    troubles = Troubles()
    batches = iter(BatchLoader(data, PositionSampler(2, 3), 1, troubles=troubles, patience=0.1))

    def free() -> None:
        while not troubles.counts:
            time.sleep(0.05)
        os.close(os.open(root / "shards" / victim.shard, os.O_WRONLY))

    threading.Thread(target=free).start()
    assert len(list(batches)) == 2
    assert troubles.counts["waits of 0.1 s for the data"] >= 1 and troubles.counts[KIND] == 1
    assert f"{victim.id} ({root / 'shards' / victim.shard})" in caplog.messages[0]


@pytest.mark.usefixtures("untracked")
def test_a_run_with_a_damaged_clip_continues_exactly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "data").mkdir()
    here: Place = faces_data.make(tmp_path / "data"), tmp_path / "runs"
    victim = TalkingClips(here[0], "train").drawn_clip((0, 1))
    damage_pictures(here[0], victim)
    more = ("--data.batches_per_epoch=6",)
    assert main(arguments(here, "sync_expert", "damaged", *more, "--trainer.max_epochs=2")) == 0
    assert f"The clip {victim.id} cannot be read" in caplog.text
    assert f"Troubles since the start: {KIND}: " in caplog.messages[-1]
    for epochs in (1, 2):
        command = arguments(here, "sync_expert", "damaged_cut", *more, f"--trainer.max_epochs={epochs}")
        assert main([*command, "--data.num_workers=2"]) == 0
    one, other = checkpoint(here, "damaged"), checkpoint(here, "damaged_cut")
    assert equal(one["state_dict"], other["state_dict"])

"""The checks of `fctfg doctor sync`, each against what was put in."""

import re
from fractions import Fraction
from pathlib import Path

import faces_data
import numpy as np
import pytest
from clip_sets import store, write_set
from torch import Tensor
from torch.nn import functional as F

from fctfg.data.manifest import Clip
from fctfg.doctor.clock import MARKS, RATES, click_and_flash, distances
from fctfg.doctor.evidence import Evidence
from fctfg.doctor.overfit import measure_overfit
from fctfg.doctor.rules import RULES
from fctfg.doctor.shift import measure_shift, shift_plot
from fctfg.media import read_audio, read_frames, write_video
from fctfg.models.experts.syncnet import FRAMES, SyncNet, SyncNetConfig

FRAME = 640  # samples
TINY = SyncNetConfig(0.125, 16)


class Bright(SyncNet):
    """Sees which of its five frames are bright, and hears which fifths of its window are loud."""

    def embed_faces(self, faces: Tensor) -> Tensor:
        seen = faces.unflatten(1, (FRAMES, 3)).mean((2, 3, 4))
        return F.normalize(seen - seen.mean(1, keepdim=True), dim=1)

    def embed_audio(self, mel: Tensor) -> Tensor:
        heard = F.adaptive_avg_pool1d(mel.mean(2), FRAMES)[:, 0]
        return F.normalize(heard - heard.mean(1, keepdim=True), dim=1)


def flickering(root: Path, late: int, frames: int = 80) -> Path:
    """Two people for training and two held out, whose pictures are bright when their sound, that much later, is
    loud."""
    rows = []
    for number in range(4):
        rng = np.random.default_rng(number)
        level = rng.random(frames)
        pictures = np.broadcast_to((255 * level)[:, None, None, None], (frames, 32, 32, 3)).astype(np.uint8)
        loudness = np.repeat(10 ** (2 * np.roll(level, late) - 3), FRAME)
        sound = (loudness * rng.normal(size=frames * FRAME)).clip(-1, 1).astype(np.float32)
        clip = Clip(f"p{number}", f"p{number}", "train" if number < 2 else "val", source=f"p{number}")
        rows.append(store(root, clip, pictures, sound, np.broadcast_to(faces_data.POINTS, (frames, 5, 2))))
    return write_set(root, rows, 32)


@pytest.mark.parametrize("late", [-8, 0, 3])
def test_a_shift_is_found(late: int, tmp_path: Path) -> None:
    """The best sound is where it was put; the accuracy against it counts against the expert."""
    shift = measure_shift(Bright(TINY).eval(), flickering(tmp_path, late))
    assert shift.peak == late == max(shift.likeness, key=shift.likeness.__getitem__)
    assert shift.accuracy[0] == 0.5
    if late == 0:
        assert shift.measurement.accuracy > 0.9 and min(shift.accuracy[s] for s in range(5, 16)) > 0.85
    else:
        assert shift.accuracy[late] < 0.1
    found = shift.measurement
    assert (found.people, found.clips, found.windows, found.split) == (2, 2, 2 * 76, "val")


def test_a_random_expert_is_at_chance(tmp_path: Path) -> None:
    shift = measure_shift(SyncNet(TINY).eval(), flickering(tmp_path, 0))
    assert 0.4 < shift.measurement.accuracy < 0.6


def test_few_clips_are_enough_if_few_are_asked_for(tmp_path: Path) -> None:
    """Each person comes first once."""
    root = faces_data.make(tmp_path)
    steps: list[tuple[int, int]] = []
    found = measure_shift(SyncNet(TINY).eval(), root, 2, lambda done, total: steps.append((done, total))).measurement
    assert (found.people, found.clips) == (2, 2)
    assert steps == [(1, 2), (2, 2)]


def test_the_plot_shows_chance() -> None:
    lines = shift_plot({-1: 1.0, 0: 0.5, 1: 0.25}).splitlines()
    assert lines[0] == "  -1 1.00 " + 20 * "#" + "|" + 20 * "#"
    assert lines[1] == "  +0 0.50 " + 20 * "#" + "|"
    assert lines[2] == "  +1 0.25 " + 10 * "#" + 10 * " " + "|"


@pytest.mark.parametrize("fps", RATES, ids=str)
@pytest.mark.parametrize("late", [-4, 0, 1])
def test_a_click_that_is_late_is_found(fps: Fraction, late: int, tmp_path: Path) -> None:
    click_and_flash(tmp_path / "a.mp4", fps, late)
    assert distances(tmp_path / "a.mp4") == [late] * len(MARKS)


def test_a_video_without_clicks_is_not_right(tmp_path: Path) -> None:
    click_and_flash(tmp_path / "a.mp4", Fraction(25))
    silence = np.zeros(6 * 16000, np.float32)
    write_video(tmp_path / "silent.mp4", read_frames(tmp_path / "a.mp4"), audio=silence)
    assert distances(tmp_path / "silent.mp4") == [25] * len(MARKS)
    dark = (np.zeros((64, 64, 3), np.uint8) for _ in range(140))
    write_video(tmp_path / "dark.mp4", dark, audio=read_audio(tmp_path / "a.mp4"))
    assert distances(tmp_path / "dark.mp4") == [25] * len(MARKS)


def test_clips_are_learnt_by_heart(tmp_path: Path) -> None:
    found = measure_overfit(faces_data.make(tmp_path), TINY, 200, 60)
    assert found.learnt and found.decided and found.loss < found.chance == pytest.approx(np.log(64))
    assert (found.clips, found.windows) == (8, 64)


def test_what_has_no_sound_cannot_be_learnt(tmp_path: Path) -> None:
    points = np.broadcast_to(faces_data.POINTS, (50, 5, 2))
    rng = np.random.default_rng(0)
    rows = [
        store(
            tmp_path,
            Clip(f"p{n}", f"p{n}", "train", source=f"p{n}"),
            rng.integers(0, 255, (50, 32, 32, 3), np.uint8),
            np.zeros(50 * FRAME, np.float32),
            points,
        )
        for n in range(3)
    ]
    root = write_set(tmp_path, rows, 32)
    found = measure_overfit(root, TINY, 50, 60)
    assert found.decided and not found.learnt and found.accuracy == pytest.approx(0.5, abs=0.15)
    short = measure_overfit(root, TINY, 500, 0.01)
    assert not short.decided and short.iterations < 500


def test_rules_name_what_is_measured() -> None:
    """Each rule belongs to a check, and its words name checks only."""
    assert len({rule.name for rule in RULES}) == len(RULES)
    for rule in RULES:
        named = re.findall(r"\{(\w+)", rule.cause)
        assert {rule.check, *named} <= set(Evidence.__dataclass_fields__), rule.name
        assert set(named) <= {rule.check, "amount"}, rule.name  # what is there whenever the rule is asked

"""The checks of `fctfg doctor sync`, each against what was put in."""

import math
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import faces_data
import numpy as np
import pytest
from clip_sets import store, write_set
from torch import Tensor
from torch.nn import functional as F

from fctfg.data.manifest import Clip
from fctfg.data.views import Counts
from fctfg.doctor.amount import Amount
from fctfg.doctor.clock import MARKS, RATES, Clock, click_and_flash, distances
from fctfg.doctor.evidence import Evidence
from fctfg.doctor.overfit import Overfit, measure_overfit
from fctfg.doctor.rules import RULES, diagnose, verdicts
from fctfg.doctor.shift import Shift, measure_shift, shift_plot
from fctfg.doctor.sound import Sound
from fctfg.doctor.sources import Sources
from fctfg.doctor.training import Training
from fctfg.media import read_audio, read_frames, write_video
from fctfg.models.experts.syncnet import FRAMES, SyncNet, SyncNetConfig
from fctfg.weights.sync_measurement import SyncMeasurement

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


def healthy() -> Evidence:
    """Nothing is wrong."""
    amount = Amount(Counts(30_000, 30.0, 400), Counts(500, 0.5, 10), Counts(500, 0.5, 10))
    shares = dict(unknown=0.0, silent=0.05, music=0.01, crowded=0.1, unsure=0.1, near=0.97, late=0.02, offset=0.0)
    sound = Sound(clips=31_000, seconds=4.0, offsets={0: 31_000}, confidence=2.0, **shares)
    flat = dict.fromkeys(range(-15, 16), 0.95)
    measurement = SyncMeasurement(0.95, "val", "0" * 64, people=10, clips=64, windows=6000)
    return Evidence(
        amount=amount,
        sound=sound,
        sources=Sources({"25": 10, "29.97": 40}, slow=0.0, missing=0),
        clock=Clock({"25": 0}),
        training=Training(50_000, 128, 1e-4, math.log(128), 1.2, 1.5, math.log(128), 0.95, same_data=True),
        overfit=Overfit(200, 1600, 1.0, 512, 300, 600, 50.0, 0.1, math.log(64), 0.95),
        shift=Shift(measurement, flat, flat, peak=0),
    )


def test_a_healthy_expert_needs_nothing() -> None:
    evidence = healthy()
    assert diagnose(evidence) == [] and set(verdicts(evidence, []).values()) == {"ok"}
    unasked = replace(evidence, sources=None, training=None, overfit=None, shift=None)
    assert diagnose(unasked) == [] and set(verdicts(unasked, [])) == {"amount", "sound", "clock"}


@pytest.mark.parametrize(
    ("check", "changes", "expected"),
    [
        ("sound", {"late": 0.9, "offset": -3.0}, "offset"),
        ("sound", {"late": 0.2}, "offset of some"),
        ("sound", {"unsure": 0.95, "near": 0.1, "late": 1.0}, "foreign sound"),
        ("sound", {"unsure": 0.95, "near": 0.9}, "unsure"),
        ("sound", {"unsure": 0.95, "near": 0.6, "seconds": 1.5}, "unsure"),
        ("sound", {"silent": 0.3}, "silence of some"),
        ("sound", {"silent": 0.9}, "silence"),
        ("sound", {"music": 0.8}, "music"),
        ("sound", {"crowded": 0.6}, "several people"),
        ("clock", {"apart": {"30": -5}}, "clock"),
        ("sources", {"slow": 0.5}, "slow sources"),
        ("sources", {"rates": {}, "missing": 27}, "lost sources"),
        ("training", {"val_accuracy": 0.52}, "learnt by heart"),
        ("training", {"loss": 4.84}, "not begun"),
        ("training", {"same_data": False}, "other data"),
        ("overfit", {"accuracy": 0.6, "iterations": 600}, "broken"),
        ("overfit", {"accuracy": 0.6}, "undecided"),
        ("shift", {"peak": 4, "accuracy": {4: 0.1}}, "another clock"),
        ("shift", {"measurement": SyncMeasurement(0.95, "val", "0" * 64, 2, 4, 90)}, "few held out"),
        ("amount", {"train": Counts(100, 30.0, 1)}, "few people"),
        ("amount", {"train": Counts(100, 2.0, 50)}, "few hours"),
    ],
)
def test_one_thing_that_is_wrong_is_the_one_that_is_said(check: str, changes: dict[str, Any], expected: str) -> None:
    evidence = replace(healthy(), **{check: replace(getattr(healthy(), check), **changes)})
    (finding,) = diagnose(evidence)
    assert finding.rule == expected and "{" not in finding.cause
    assert {name for name, verdict in verdicts(evidence, [finding]).items() if verdict != "ok"} == {check}


def test_what_is_bad_comes_before_what_is_suspect() -> None:
    evidence = healthy()
    little = replace(evidence.amount, train=Counts(9, 0.1, 1))
    assert evidence.training is not None
    evidence = replace(evidence, amount=little, training=replace(evidence.training, val_accuracy=0.5))
    assert [finding.rule for finding in diagnose(evidence)] == ["learnt by heart", "few people", "few hours"]

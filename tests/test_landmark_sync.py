"""The lip-sync expert on landmarks: what it cannot see, and offsets that it finds for rendered people never seen."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from fctfg.data.scores.sync import WEIGHTS, SyncScore, audio_video_offset, sync_expert
from fctfg.demo_corpus import root
from fctfg.faces.detector import DlibDetector
from fctfg.media import read_audio, read_frames
from fctfg.models.experts.landmark_sync import LandmarkSync, LandmarkSyncConfig
from fctfg.ops.mel import mel_spectrogram
from fctfg.weights.artifact import build, load_artifact
from fctfg.weights.licences import commercial_use

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from landmark_sync.augment import JAW, MIRROR, add, draw, piece, wander
from landmark_sync.clips import Clip, detect
from landmark_sync.contrast import contrast, curves

FRAME = 640  # samples
LENGTH = 88  # frames of the demo's clips
Talk = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def talks() -> list[Talk]:
    """Landmarks and sound of two clips of each of the demo's test people."""
    detector = DlibDetector()
    clips = [root() / "test" / person / f"{clip}.mp4" for person in ("p010", "p011") for clip in ("c0", "c1")]
    return [(detect(clip, detector), read_audio(clip)) for clip in clips]


@pytest.fixture(scope="module")
def small() -> LandmarkSync:
    """A network with random weights."""
    torch.manual_seed(0)
    return LandmarkSync(LandmarkSyncConfig(width=8, dim=4)).eval().requires_grad_(False)


def late(wave: np.ndarray, frames: int) -> np.ndarray:
    """The sound `frames` later (earlier when negative), silence where there is none."""
    gap = np.zeros(abs(frames) * FRAME, np.float32)
    if frames >= 0:
        return np.concatenate([gap, wave])[: len(wave)]
    return np.concatenate([wave[len(gap) :], gap])


# ---- the network


def test_the_head_may_move_turn_and_come_nearer(small: LandmarkSync, talks: list[Talk]) -> None:
    landmarks = torch.from_numpy(talks[0][0])[None]
    frames = landmarks.shape[1]
    angle, size = 0.4 * torch.sin(torch.arange(frames) / 9), torch.linspace(0.5, 2, frames)
    turn = size * torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()])  # [4, T]
    turn = turn.T.view(1, frames, 2, 2)
    moved = landmarks @ turn.mT + torch.randn(1, frames, 1, 2, generator=torch.Generator().manual_seed(0)) * 100
    torch.testing.assert_close(small.movement(moved), small.movement(landmarks), atol=2e-3, rtol=0)


def test_a_persons_mean_is_not_seen(small: LandmarkSync, talks: list[Talk]) -> None:
    assert small.movement(torch.from_numpy(talks[0][0])[None]).mean(2).abs().max() < 1e-4


def test_volume_is_not_heard(small: LandmarkSync) -> None:
    wave = 0.3 * torch.randn(1, 40_000, generator=torch.Generator().manual_seed(0))
    soft, loud = (small.embed_sound(mel_spectrogram(gain * wave)) for gain in (0.1, 1.0))
    torch.testing.assert_close(soft, loud, atol=1e-4, rtol=1e-4)


def test_steps_of_the_sound_are_video_frames(small: LandmarkSync) -> None:
    generator = torch.Generator().manual_seed(0)
    wave = 0.1 * torch.randn(1, 60 * FRAME, generator=generator)
    wave = torch.cat([wave, wave.flip(1)], 1)
    late, early = (small.embed_sound(mel_spectrogram(part)) for part in (wave[:, : -5 * FRAME], wave[:, 5 * FRAME :]))
    assert early.shape == (1, 116, 4)  # both ends of 115 frames
    # less what the ends and the means of the bands change
    spread = early.std()
    assert (late[:, 25:90] - early[:, 20:85]).abs().max() < 0.1 * spread
    assert (late[:, 25:90] - early[:, 21:86]).abs().max() > spread


def test_shapes_and_sizes_are_checked(small: LandmarkSync) -> None:
    with pytest.raises(ValueError, match=r"\[B, T, 68, 2\]"):
        small.movement(torch.zeros(1, 30, 5, 2))
    with pytest.raises(ValueError, match="positive"):
        LandmarkSyncConfig(width=0)


# ---- the score


def plain_curve(landmarks: np.ndarray, wave: np.ndarray, expert: LandmarkSync, first: int) -> np.ndarray:
    """The docstring's formula, a loop at a time."""
    lips = expert.embed_mouth(torch.from_numpy(landmarks)[None])[0].double().numpy()
    heard = expert.embed_sound(mel_spectrogram(torch.from_numpy(wave))[None])[0].double().numpy()
    curve = []
    for shift in range(-15, 16):
        pairs = [(lips[t], heard[first + t + shift]) for t in range(len(lips)) if 0 <= first + t + shift < len(heard)]
        seen, sound = (np.array(side) for side in zip(*pairs, strict=True))
        seen, sound = seen - seen.mean(0), sound - sound.mean(0)
        correlation = (seen * sound).sum() / np.sqrt((seen**2).sum() * (sound**2).sum())
        curve.append(correlation * np.sqrt(len(pairs) / len(lips)))
    return np.array(curve)


@pytest.mark.parametrize("before", [0, 7])
def test_the_curve_is_the_formula(small: LandmarkSync, talks: list[Talk], before: int) -> None:
    landmarks, wave = talks[1]
    landmarks = landmarks[before:50]
    score = audio_video_offset(landmarks, wave, small, before=before * FRAME)
    expected = plain_curve(landmarks, wave, small, before)
    np.testing.assert_allclose(score.curve, expected, atol=1e-5)
    assert score.offset == expected.argmax() - 15


@pytest.mark.parametrize("shift", [-12, -5, -1, 0, 3, 8, 12])
def test_offsets_of_unseen_people_are_found(talks: list[Talk], shift: int) -> None:
    for landmarks, wave in talks:
        score = audio_video_offset(landmarks, late(wave, shift), sync_expert())
        assert abs(score.offset - shift) <= 1
        assert score.curve.shape == (31,)
        assert np.abs(score.curve).max() <= 1


def test_clips_of_a_longer_video(talks: list[Talk]) -> None:
    """Sound around a clip lets every shift see all of its frames."""
    for landmarks, wave in talks:
        for shift in (-10, 0, 10):
            score = audio_video_offset(landmarks[20:70], late(wave, shift), sync_expert(), before=20 * FRAME + 100)
            assert abs(score.offset - shift) <= 1


def test_sound_of_somebody_else_gives_less_confidence(talks: list[Talk]) -> None:
    def confidence(lips: int, sound: int) -> float:
        return audio_video_offset(talks[lips][0], talks[sound][1], sync_expert()).confidence

    own = [confidence(k, k) for k in range(4)]
    others = [confidence(k, other) for k in range(4) for other in range(4) if k // 2 != other // 2]
    assert min(own) > 1
    assert min(own) > max(others)


def test_no_sound_no_movement_no_confidence(talks: list[Talk]) -> None:
    landmarks, wave = talks[0]
    for still, sound in ((landmarks, 0 * wave), (np.repeat(landmarks[:1], LENGTH, 0), wave)):
        score = audio_video_offset(still, sound, sync_expert())
        assert (score.offset, score.confidence) == (0, 0.0)
    noise = 0.1 * np.random.default_rng(0).normal(size=len(wave)).astype(np.float32)
    assert audio_video_offset(landmarks, noise, sync_expert()).confidence < 1


def test_short_clips_and_wrong_shapes_are_refused(small: LandmarkSync, talks: list[Talk]) -> None:
    landmarks, wave = talks[0]
    assert isinstance(audio_video_offset(landmarks[:25], wave[: 25 * FRAME], small), SyncScore)
    for arguments, message in (
        ((landmarks[:24], wave), "24 frames is too short"),
        ((landmarks[:, :5], wave), r"\[T, 68, 2\]"),
        ((landmarks, wave[None]), r"wave \[N\]"),
        ((landmarks, wave[:3000]), "3000 samples, 0 of them before the clip, are too few"),
    ):
        with pytest.raises(ValueError, match=message):
            audio_video_offset(*arguments, small)
    with pytest.raises(ValueError, match="before"):
        audio_video_offset(landmarks, wave, small, before=-1)


def test_the_packaged_weights() -> None:
    assert WEIGHTS.stat().st_size < 1e6
    artifact = load_artifact(WEIGHTS)
    assert isinstance(build(artifact, "landmark_sync"), LandmarkSync)
    licences = artifact.card["licences"]
    assert all(commercial_use(licence) == "yes" for licence in (*licences["data"], *licences["weights"].values()))
    with safe_open(str(WEIGHTS), framework="pt") as file:
        assert file.metadata()["stage"] == "landmark_sync"


# ---- training


def test_mirrored_faces_have_the_landmarks_of_mirrored_pictures() -> None:
    assert [MIRROR[k] for k in MIRROR] == list(range(68))
    detector, picture = DlibDetector(), next(read_frames(root() / "test" / "p010" / "c0.mp4"))
    mirrored = np.ascontiguousarray(picture[:, ::-1])
    (face,), (other,) = detector.detect(picture), detector.detect(mirrored)
    expected = detector.landmarks68(picture, face.box)[list(MIRROR)] * [-1, 1] + [picture.shape[1], 0]
    found = detector.landmarks68(mirrored, other.box)
    side = face.box[2] - face.box[0]
    assert np.abs(found - expected).mean() < 0.03 * side  # neighbouring landmarks are 0.1 apart


def test_powers_of_sounds_add() -> None:
    decibels = torch.tensor([[-30.0, -20.0, -60.0], [-30.0, -40.0, -10.0]])
    expected = 10 * (10 ** (decibels / 10)).sum(0).log10()
    unit = 12.5  # dB: 100 dB are 8 units
    torch.testing.assert_close(add(*(decibels / unit)), expected / unit)


def test_wandering_noise_has_its_variance_and_memory() -> None:
    torch.manual_seed(0)
    noise = wander((50, 400, 4), 0.8)
    assert noise.std().item() == pytest.approx(1, abs=0.03)
    assert (noise[:, 1:] * noise[:, :-1]).mean().item() == pytest.approx(0.8, abs=0.03)


def test_pieces_keep_sound_and_lips_together() -> None:
    """Landmarks and mel that both tell the time tell the same one, up to the speed and the jitter."""
    torch.manual_seed(0)
    clock = torch.arange(150.0)
    clip = Clip("a", clock[:, None, None].expand(-1, 68, 2), torch.zeros(150 * FRAME))
    mel = (torch.arange(481) / 3.2).expand(80, -1)
    for _ in range(20):
        seen, heard = piece(clip, mel, frames=50, margin=15)
        assert seen.shape == (50, 68, 2)
        assert heard.shape == (80, 257)
        apart = heard[0, (torch.arange(20, 40) + 15) * 16 // 5] - seen[20:40, 0, 0]
        assert apart.abs().max() < 0.35 * 4 + 0.5


def test_curves_and_contrast_by_loops() -> None:
    torch.manual_seed(0)
    lips, heard = torch.randn(3, 12, 4), torch.randn(3, 16, 4)
    curve = curves(lips, heard)
    assert curve.shape == (3, 3, 5)
    for i, j, s in np.ndindex(3, 3, 5):
        seen, sound = lips[i] - lips[i].mean(0), heard[j, s : s + 12] - heard[j, s : s + 12].mean(0)
        expected = (seen * sound).sum() / (seen.norm() * sound.norm())
        torch.testing.assert_close(curve[i, j, s], expected)
    loss = contrast(curve, torch.tensor(10.0))
    expected = torch.zeros(())
    for i in range(3):
        alone, among = 10 * curve[i, i], 10 * curve[i].flatten()
        for s, share in ((1, 0.15), (2, 0.7), (3, 0.15)):
            own = 10 * curve[i, i, s]
            expected += share * (alone.logsumexp(0) - own + among.logsumexp(0) - own) / 3
    torch.testing.assert_close(loss, expected)


def test_a_batch_of_disturbed_pieces(talks: list[Talk]) -> None:
    torch.manual_seed(0)
    clips = [Clip(str(k), torch.from_numpy(points), torch.from_numpy(wave)) for k, (points, wave) in enumerate(talks)]
    mels = [mel_spectrogram(clip.wave) for clip in clips]
    landmarks, mel = draw(clips, mels, batch=4, frames=60, margin=15)
    assert landmarks.shape == (4, 60, 68, 2)
    assert mel.shape == (4, 80, 289)
    assert mel.abs().max() <= 4
    assert torch.isfinite(landmarks).all()
    assert landmarks[:, :, list(JAW)].std(1).mean() > 0  # still moving

"""`fctfg prepare --sync-expert`: what an expert on pixels sees and hears of each frame, and who takes the scores."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import published_files as published
import pytest
import torch
from raw_media import write_raw
from raw_talking import talking, times
from torch import Tensor
from torch.nn import functional as F

from fctfg.cli import main
from fctfg.data.batch import Batch
from fctfg.data.manifest import read_manifest
from fctfg.data.prepare import prepare
from fctfg.data.scores.sync import WEIGHTS, audio_video_offset, sync_expert
from fctfg.data.scores.sync_choice import SyncChoice, chance_of, cut_mouths, open_sync_expert
from fctfg.data.scores.table import SCORES
from fctfg.data.shards import ClipReader
from fctfg.errors import FctfgError
from fctfg.models.experts.syncnet import FRAMES as WINDOW
from fctfg.models.experts.syncnet import SyncNet, SyncNetConfig
from fctfg.ops.mel import mel_spectrogram
from fctfg.ops.windows import mel_windows
from fctfg.stages.networks import Networks
from fctfg.stages.sync_expert import SyncExpert
from fctfg.weights.artifact import save_artifact

FRAME = 640  # samples
PACKAGED = Path(WEIGHTS).with_name("talking_face.safetensors")


class Bright(SyncNet):
    """Sees how bright each of its five frames is, and hears how loud each fifth of its window is."""

    def embed_faces(self, faces: Tensor) -> Tensor:
        return faces.unflatten(1, (WINDOW, 3)).mean((2, 3, 4))

    def embed_audio(self, mel: Tensor) -> Tensor:
        return F.adaptive_avg_pool1d(mel.mean(2), WINDOW)[:, 0]


def flickering(frames: int) -> tuple[np.ndarray, np.ndarray]:
    """(mouths [T, 3, 48, 96], noise [640 T]) that are bright and loud at the same frames."""
    rng = np.random.default_rng(0)
    level = rng.random(frames).astype(np.float32)
    mouths = np.broadcast_to(level[:, None, None, None], (frames, 3, 48, 96))
    loudness = np.repeat(10 ** (2 * level - 3), FRAME)  # -60 to -20 dB
    return mouths, (loudness * rng.normal(size=frames * FRAME)).astype(np.float32)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small SyncNet with random weights, as stage 0 exports it."""
    path = tmp_path_factory.mktemp("expert") / "syncnet.safetensors"
    save_artifact(path, {"sync_expert": published.sync_expert()}, "sync_expert", {})
    return path


@pytest.fixture(scope="module")
def packaged_chance() -> float:
    """The unit that is measured for the package's expert."""
    return chance_of(sync_expert())


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("raw") / "a.mp4"
    pictures, sound = talking(0)
    return write_raw(path, pictures, times(), sound)


def command(video: Path, out: Path, *more: object) -> int:
    options = ("--size=64", "--min-frames=20", "--workers=0", "--form=raw", *more)
    return main(["prepare", str(video), f"--out={out}", *map(str, options)])


@pytest.fixture(scope="module")
def prepared(video: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("own") / "set"
    assert command(video, out, "--sync-expert", weights) == 0
    return out


# ---- what it sees and hears


@pytest.mark.parametrize("centered", [False, True])
def test_frames_are_seen_and_heard_as_in_training(centered: bool) -> None:
    """Each window of stage 0 is what prepare sees and hears of the window's middle frame."""
    torch.manual_seed(0)
    stage = SyncExpert(Networks(sync_expert=SyncNetConfig(0.125, 16), centered_mel=centered))
    stage.sync_expert = published.sync_expert()
    frames, points = torch.rand(1, 40, 3, 64, 64) * 2 - 1, torch.rand(1, 40, 5, 2)
    mel = mel_spectrogram(0.1 * torch.randn(40 * FRAME))
    heard = mel_windows(mel, torch.arange(40), centered=centered)[None]
    batch = Batch(**dict.fromkeys(Batch._fields, torch.empty(0)) | dict(driving=frames, points=points, mel=heard))
    with torch.no_grad():
        face, sound = stage.embed(*stage.cut(batch))
        mouths = stage.sync_expert.mouths_of(frames[0], points[0])[None]
        seen, spoken = stage.sync_expert.embed_mouth(mouths), stage.sync_expert.embed_sound(mel[None])
    assert seen.shape == spoken.shape == (1, 40, 16)
    torch.testing.assert_close(seen[:, 2::5], face)
    torch.testing.assert_close(spoken[:, 2::5], sound)
    assert (seen[:, 3::5] - face).abs().max() > 0.01 < (spoken[:, 3::5] - sound).abs().max()


def test_ends_repeat() -> None:
    expert = Bright(SyncNetConfig(0.125, 16))
    ramp = torch.arange(100.0)
    mouths = ramp[None, :, None, None, None].expand(1, 100, 3, 48, 96)
    seen = expert.embed_mouth(mouths)[0]
    for frame in (0, 1, 31, 32, 33, 98, 99):
        assert seen[frame].tolist() == [min(max(frame + k, 0), 99) for k in range(-2, 3)]
    for length in (320, 321, 323, 324):  # mel frames; 3.2 are a video frame
        heard = expert.embed_sound(torch.arange(float(length)).expand(1, 80, length))[0]
        assert len(heard) == np.ceil((length - 1) / 3.2)
        assert heard[50, 0] == np.floor(48 * 3.2) + 1.5  # four of sixteen, from frame 48 on
        assert heard[0, 0] == 0 and heard[-1, -1] == length - 1


@pytest.mark.parametrize("late", [-15, -12, -5, -1, 0, 1, 3, 8, 12, 15])
def test_offsets_are_exact(late: int) -> None:
    expert = Bright(SyncNetConfig(0.125, 16))
    mouths, wave = flickering(120)
    around = wave[(30 - 15) * FRAME : (90 + 15) * FRAME]  # of the frames from 30 to 90
    assert audio_video_offset(mouths[30 + late : 90 + late], around, expert, before=15 * FRAME).offset == late
    # the same with sound that does not reach over the clip
    assert audio_video_offset(mouths[30 + late : 90 + late], wave[30 * FRAME : 90 * FRAME], expert).offset == late


def test_a_clip_begins_anywhere_in_its_sound() -> None:
    """Mel windows begin at whole mel frames, which are 3.2 to a video frame."""
    expert = Bright(SyncNetConfig(0.125, 16))
    mouths, wave = flickering(120)
    for begin in range(5):
        score = audio_video_offset(mouths[begin : begin + 60], wave, expert, before=begin * FRAME + 7)
        assert score.offset == 0
        assert score.curve[15] > np.delete(score.curve, 15).max() + 0.2


def test_nothing_seen_nothing_heard() -> None:
    expert = published.sync_expert()
    mouths, wave = flickering(60)
    for seen, sound in ((0 * mouths, wave), (mouths, 0 * wave)):
        score = audio_video_offset(seen, sound, expert)
        assert (score.offset, score.confidence) == (0, 0.0)
    with pytest.raises(ValueError, match=r"\[T, 3, 48, 96\]"):
        audio_video_offset(mouths[:, :, :, :40], wave, expert)


def test_the_unit_of_the_packages_expert_is_what_was_measured_with_more_people(packaged_chance: float) -> None:
    """docs/log.md: 95 % of pieces of 50 frames with another's sound below 0.94 of 3.3."""
    assert packaged_chance == pytest.approx(0.94 * 3.3, rel=0.15)


# ---- the command


def test_scores_are_those_of_the_expert(prepared: Path, weights: Path) -> None:
    """Stored frames (without a loss), points and sound give the stored scores again."""
    expert = open_sync_expert(weights)
    clips = ClipReader(read_manifest(prepared))
    (clip,) = read_manifest(prepared)
    mouths = cut_mouths(expert.network, clips.whole(clip), clips.track(clip)["points"])
    assert mouths.shape == (clip.n_frames, *SyncNet.mouth_shape)
    chance = chance_of(expert.network)
    score = audio_video_offset(mouths, clips.sound(clip), expert.network, chance=chance)
    assert clip["raw_offset"] == clip["offset"] == score.offset
    assert clip["confidence"] == pytest.approx(score.confidence, rel=1e-3)
    assert score.confidence > 0


def test_nothing_else_changes(prepared: Path, video: Path, tmp_path: Path) -> None:
    assert command(video, tmp_path / "set") == 0
    (own,), (packaged,) = read_manifest(prepared), read_manifest(tmp_path / "set")
    for name in SCORES.keys() - {"offset", "raw_offset", "confidence"}:
        assert own[name] == packaged[name], name
    assert own["confidence"] != packaged["confidence"]


def test_the_same_from_a_worker(prepared: Path, video: Path, weights: Path, tmp_path: Path) -> None:
    options = {"size": 64, "min_frames": 20, "form": "raw", "progress": False}
    prepare(video, tmp_path / "set", workers=1, sync_expert=weights, **options)
    assert read_manifest(tmp_path / "set").hash == read_manifest(prepared).hash


def test_an_expert_on_landmarks(packaged_chance: float, video: Path, tmp_path: Path) -> None:
    """The package's own, named as a file: the same scores but for the unit of confidence, which is measured then."""
    assert command(video, tmp_path / "none") == 0
    assert command(video, tmp_path / "named", "--sync-expert", WEIGHTS) == 0
    (one,), (two,) = read_manifest(tmp_path / "none"), read_manifest(tmp_path / "named")
    assert (one["offset"], one["raw_offset"]) == (two["offset"], two["raw_offset"])
    assert two["confidence"] * packaged_chance == pytest.approx(one["confidence"] * 3.3, rel=1e-4)


def test_a_data_set_has_one_expert(
    prepared: Path, video: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = open_sync_expert(weights).sha256
    settings = json.loads((prepared / "dataset.json").read_text())["settings"]
    assert settings["sync_expert"] == digest == read_manifest(prepared).settings["sync_expert"]
    assert command(video, prepared, "--sync-expert", weights) == 0  # the same one again
    capsys.readouterr()

    def refused(out: Path, *more: object) -> str:
        assert command(video, out, *more) == 1
        return capsys.readouterr().err

    assert f"with a sync expert of your own (sha256 {digest}), now the sync expert in the package" in refused(prepared)
    other = tmp_path / "other.safetensors"
    save_artifact(other, {"sync_expert": SyncNet(SyncNetConfig(0.125, 8))}, "sync_expert", {})
    error = refused(prepared, "--sync-expert", other)
    assert digest in error and open_sync_expert(other).sha256 in error and "choose another folder" in error

    assert command(video, tmp_path / "set") == 0
    before = read_manifest(tmp_path / "set").settings
    assert "sync_expert" not in before  # as in sets from before there was a choice
    assert "with the sync expert in the package, now" in refused(tmp_path / "set", "--sync-expert", weights)


def test_a_published_file(tmp_path: Path) -> None:
    """Wav2Lip's layout, without an import."""
    expert = published.sync_expert()
    path = published.save({"state_dict": published.state(expert)}, tmp_path / "lipsync_expert.pth")
    network = open_sync_expert(path).network
    assert isinstance(network, SyncNet) and not network.training
    mel = torch.randn(2, 1, 80, 16)
    torch.testing.assert_close(network.embed_audio(mel), expert.embed_audio(mel))


def missing(path: Path, weights: Path) -> str:
    return "do not exist (--sync-expert)"


def another_network(path: Path, weights: Path) -> str:
    path.write_bytes(PACKAGED.read_bytes())
    return "holds no sync expert, only generator, "


def truncated(path: Path, weights: Path) -> str:
    path.write_bytes(weights.read_bytes()[:-1000])
    return "truncated"


def empty_folder(path: Path, weights: Path) -> str:
    path.mkdir()
    return "has no export/weights.safetensors"


def not_weights(path: Path, weights: Path) -> str:
    path.write_text("hello")
    return str(path)


@pytest.mark.parametrize("make", [missing, another_network, truncated, empty_folder, not_weights])
def test_bad_files(
    make: Callable[[Path, Path], str], weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Said before anything is looked at: the video is none."""
    (tmp_path / "a.mp4").write_text("not a video")
    expected = make(tmp_path / "w.safetensors", weights)
    assert command(tmp_path / "a.mp4", tmp_path / "out", "--sync-expert", tmp_path / "w.safetensors") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and expected in error and "w.safetensors" in error
    assert not (tmp_path / "out").exists()


def test_a_file_that_changes_stops_the_run(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(weights.read_bytes())
    choice = SyncChoice(path, open_sync_expert(path).sha256, 1.0)
    assert choice.load().mouth_shape == (3, 48, 96)
    save_artifact(path, {"sync_expert": SyncNet(SyncNetConfig(0.125, 8))}, "sync_expert", {})
    with pytest.raises(FctfgError, match="changed while it was in use"):
        choice.load()

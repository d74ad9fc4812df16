"""The page of samples shows what a step sees, and the same again for the same seed."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import faces_data
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import default_collate

from fctfg.cli import main
from fctfg.data.augmentation.pictures import PictureAugment
from fctfg.data.augmentation.sound import SoundAugment, change_sound
from fctfg.data.batch import to_batch
from fctfg.data.dataset import TalkingClips
from fctfg.data.query import Query
from fctfg.data.views import save_view
from fctfg.data_show import COLOURS, NO_PICTURES, NO_SOUND, Choice, changes_text, moments
from fctfg.media import read_audio, read_frames
from fctfg.media.mel_picture import mel_picture
from fctfg.ops.mel import SILENCE, mel_spectrogram
from fctfg.ops.pixels import to_pixels
from fctfg.strip import GAP, beside

SIZE, LENGTH, COUNT = 32, 60, 4


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return faces_data.make(tmp_path_factory.mktemp("show") / "clips", SIZE, LENGTH)


def show(clips: Path, out: Path, *options: str) -> str:
    """The page's text after a call of the command line."""
    assert main(["data", "show", str(clips), "--count", str(COUNT), "--out", str(out), *options]) == 0
    page = out.read_text()
    assert all(s.startswith("data:") for s in re.findall(r'(?:src|href)="([^"]*)"', page)) and "<script" not in page
    return page


def embedded(page: str, alt: str) -> list[np.ndarray]:
    """The pictures with an alternative text, in order, int [H, W, 3]."""
    found = re.findall(rf'<img alt="{alt}" src="data:image/\w+;base64,([^"]+)"', page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(part)))).astype(int) for part in found]


def test_still_pictures_are_what_a_step_sees(clips: Path, tmp_path: Path) -> None:
    page = show(clips, tmp_path / "show.html", "--frames", "--augment", "--decoys", "--seed", "3")
    data = TalkingClips(clips, "train", 5, True, PictureAugment(), SoundAugment(), seed=3)
    shown = {part: embedded(page, f"{part} frames, augmented") for part in ("source", "driving", "decoy")}
    plain = embedded(page, "driving frames, original")
    mels = embedded(page, "mel windows, augmented")
    assert {len(pictures) for pictures in (*shown.values(), plain, mels)} == {COUNT}
    different = 0
    for index in range(COUNT):
        batch = to_batch(default_collate([data[(0, index)]]), 5, True)
        for part, images in (("source", batch.source), ("driving", batch.driving[0]), ("decoy", batch.decoy[0])):
            true = beside(list(to_pixels(images))).astype(int)
            assert shown[part][index].shape == true.shape
            assert np.abs(shown[part][index] - true).mean() < 3  # of JPEG
        different += np.abs(plain[index] - shown["driving"][index]).mean() > 6
        windows = beside([mel_picture(window[0]) for window in batch.mel[0]], gap=6)
        assert np.array_equal(mels[index], windows)
    assert different  # what augmentation does is more than what JPEG does


def test_original_is_the_same_moment_unchanged(clips: Path) -> None:
    reference = TalkingClips(clips, "train", 5, seed=1)
    for index, (clip, original, changed) in enumerate(moments(clips, Choice(count=6, seed=1, augment=True))):
        assert changed is not None and clip.id == reference.clip(int(changed.batch.clip)).id
        assert original.batch.clip == changed.batch.clip and original.batch.start == changed.batch.start
        assert changes_text(original.sample) == "nothing was drawn for this sample"
        row, start = int(original.batch.clip), int(original.batch.start)
        _, frames, sound, _ = reference.whole(row)
        assert np.array_equal(to_pixels(original.batch.driving[0]), frames[start : start + 5])
        assert np.allclose(original.sound, sound[640 * start : 640 * (start + 5)], atol=1e-6), index


def test_without_augmentation_the_samples_are_those_of_a_run_without_it(clips: Path, tmp_path: Path) -> None:
    data = TalkingClips(clips, "val", 5, seed=2)
    for index, (_, original, changed) in enumerate(moments(clips, Choice("val", count=6, seed=2))):
        batch = to_batch(default_collate([data[(0, index)]]), 5, False)
        assert changed is None and torch.equal(original.batch.driving, batch.driving)
        assert torch.equal(original.batch.source, batch.source)
        inner = (original.batch.mel - batch.mel).abs().amax(dim=(0, 2, 3, 4))  # [T]; only the clip's ends may differ
        assert int(batch.start) == 0 or inner[:3].max() < 1e-3
    page = show(clips, tmp_path / "show.html", "--frames", "--split", "val")
    assert "augmented" not in page.lower() and len(embedded(page, "mel windows, original")) == COUNT


def test_spec_augment_masks_bands_with_silence(clips: Path, tmp_path: Path) -> None:
    page = show(clips, tmp_path / "show.html", "--frames", "--augment")
    before = embedded(page, "mel windows, augmented")
    after = embedded(page, "mel windows, then SpecAugment, as in the sound encoder in training")
    silent = mel_picture(np.full((1, 1), SILENCE))[0, 0]
    changed = [np.abs(a - b).any(axis=2) for a, b in zip(after, before, strict=True)]
    assert any(mask.any() for mask in changed)
    for picture, mask in zip(after, changed, strict=True):
        assert (picture[mask] == silent).all()


def test_films_play_the_augmented_sound(clips: Path, tmp_path: Path) -> None:
    page = show(clips, tmp_path / "show.html", "--clips", "--augment", "--seconds", "1.6", "--seed", "5")
    films = re.findall(r'<video[^>]*src="data:video/mp4;base64,([^"]+)"', page)
    assert len(films) == 2 * COUNT and page.count("<video controls") == 2 * COUNT
    data = TalkingClips(clips, "train", 40, False, PictureAugment(), SoundAugment(), seed=5)
    path = tmp_path / "film.mp4"
    for index in range(COUNT):
        path.write_bytes(base64.b64decode(films[2 * index + 1]))
        sample = default_collate([data[(0, index)]])
        true = to_pixels(to_batch(sample, 40, True).driving[0]).astype(int)
        shown = np.stack(list(read_frames(path))).astype(int)
        assert shown.shape == true.shape and np.abs(shown - true).mean() < 8
        wave = change_sound(sample.wave, sample.sound, sample.anchor)[0, int(sample.anchor) :][: 40 * 640]
        heard = read_audio(path)[: len(wave)]
        assert np.corrcoef(heard, wave.clamp(-1, 1).numpy())[0, 1] > 0.95  # of AAC


def test_the_picture_of_a_films_mel_is_that_of_its_sound(clips: Path) -> None:
    for _, original, _ in moments(clips, Choice(count=2, seconds=1.6)):
        reference = mel_spectrogram(torch.from_numpy(original.sound))
        assert (original.mel[:, 4:120] - reference[:, 4:120]).abs().max() < 0.01 or int(original.batch.start) % 5


def test_points_are_drawn_where_they_are(clips: Path, tmp_path: Path) -> None:
    page = show(clips, tmp_path / "with.html", "--frames", "--points", "--augment")
    without = show(clips, tmp_path / "without.html", "--frames", "--augment")
    drawn = embedded(page, "driving frames, augmented"), embedded(without, "driving frames, augmented")
    for (_, _, changed), dotted, plain in zip(moments(clips, Choice(count=COUNT, augment=True)), *drawn, strict=True):
        assert changed is not None
        assert 0 < (np.abs(dotted - plain).sum(axis=2) > 60).mean() < 0.1
        for frame, points in enumerate(changed.batch.points[0].numpy() * SIZE):
            for (x, y), colour in zip(points.astype(int), COLOURS, strict=True):
                left = frame * (SIZE + GAP) + x
                near = dotted[y - 1 : y + 2, left - 1 : left + 2]
                assert np.abs(near - np.array(colour)).sum(axis=2).min() < 90


def test_a_seed_gives_the_same_page_and_another_one_does_not(clips: Path, tmp_path: Path) -> None:
    options = ("--frames", "--augment")
    torch.manual_seed(1)
    first = show(clips, tmp_path / "a.html", *options)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert show(clips, tmp_path / "b.html", *options) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert show(clips, tmp_path / "c.html", *options, "--seed", "1") != first


def test_changes_are_named() -> None:
    draw = np.random.default_rng(0)
    sound = replace(
        NO_SOUND, reverberation_chance=1, rt60_min=0.4, rt60_max=0.4, direct_min=6, direct_max=6, noise_chance=1,
        snr_min=20, snr_max=20, pink=1,
    )  # fmt: skip
    pictures = replace(NO_PICTURES, flip_chance=1, hue_chance=1)

    class Drawn:
        """The two parts of a collated sample that the words are about."""

        def __init__(self) -> None:
            self.pictures = default_collate([pictures.draw(draw, 6)])
            self.sound = default_collate([sound.draw(draw)])

    text = changes_text(Drawn())  # type: ignore[arg-type]
    assert text.startswith("mirrored, hue ") and "contrast" not in text and "speed" not in text
    assert "a room of 0.40 s, direct sound +6 dB over it, pink noise 20 dB below the speech" in text


def test_views_and_errors(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_view(clips, "one", Query('identity == "p2"'))
    page = show(clips, tmp_path / "one.html", "--frames", "--view", "one")
    assert len(re.findall(r"<h2>\d+: p2_\d-?\S* \(p2\)", page)) == COUNT
    assert capsys.readouterr().out.strip() == str(tmp_path / "one.html")
    wrong = (
        (["--frames", "--split", "test"], 1, "no clip in its split 'test'"),
        (["--clips", "--seconds", "3"], 1, "prepare longer clips"),
        (["--frames", "--count", "0"], 2, "--count"),
        (["--clips", "--seconds", "0"], 2, "--seconds"),
        (["--clips", "--decoys"], 2, "--decoys"),
        (["--frames", "--view", "lost"], 1, "no view 'lost'"),
        (["--frames", "--clips"], 2, "not allowed"),
        ([], 2, "required"),
    )
    for options, status, words in wrong:
        assert main(["data", "show", str(clips), *options]) == status, options
        assert words in capsys.readouterr().err
    assert main(["data", "show", str(tmp_path / "nowhere"), "--frames"]) == 1
    assert "is not a clip data set" in capsys.readouterr().err
    assert not (clips / "show.html").exists()

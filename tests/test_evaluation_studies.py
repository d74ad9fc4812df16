"""Recursion, canonical images and control: what a model of which everybody knows what it does is said to do."""

import math
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from evaluation_data import PEOPLE, dataset
from torch import Tensor

from fctfg.data.manifest import read_manifest
from fctfg.data.shards import ClipReader
from fctfg.demo_corpus import root
from fctfg.evaluation.cases import Drive, drives
from fctfg.evaluation.judges import Judges
from fctfg.evaluation.recursion import recursion
from fctfg.evaluation.studies import study
from fctfg.media import FPS, SAMPLE_RATE, read_frames

Frames = Iterable[np.ndarray]


class Known:
    """Stands where the network stands, and does one known thing.

    Args:
        result: of the portrait, the sound and the driver, one picture for each frame.
        canonical: of pictures [N, 3, S, S].
    """

    device = torch.device("cpu")

    def __init__(
        self,
        result: Callable[[np.ndarray, np.ndarray, Frames | None], Frames],
        canonical: Callable[[Tensor], Tensor] = torch.zeros_like,
    ) -> None:
        self._result = result
        self.model = SimpleNamespace(canonical_image=canonical)

    def animate(
        self, portrait: np.ndarray, sound: np.ndarray, driver: Frames | None = None, batch: int = 1
    ) -> Iterator[np.ndarray]:
        yield from self._result(portrait, sound, driver)


def known(*what: Any) -> Any:
    return Known(*what)


@pytest.fixture(scope="module")
def judges() -> Judges:
    return Judges()


# ---- recursion


def repeated(picture: np.ndarray, sound: np.ndarray) -> list[np.ndarray]:
    return [picture] * round(len(sound) * FPS / SAMPLE_RATE)


def test_a_portrait_that_stays_as_it_is_does_not_drift(judges: Judges) -> None:
    portrait = next(read_frames(root() / "test" / PEOPLE[0] / "c0.mp4"))
    found = recursion(portrait, known(lambda picture, sound, driver: repeated(picture, sound)), judges)
    for count in (1, 2, 10, 50):
        assert found[f"CSIM after {count}[dlib]"] == pytest.approx(1)
        assert found[f"colour drift after {count}"] == found[f"shape drift after {count}"] == 0


def test_a_level_lighter_each_time_adds_up(judges: Judges) -> None:
    portrait = np.minimum(next(read_frames(root() / "test" / PEOPLE[0] / "c0.mp4")), 200)
    found = recursion(portrait, known(lambda picture, sound, driver: repeated(picture + 1, sound)), judges)
    assert [found[f"colour drift after {count}"] for count in (1, 2, 10, 50)] == pytest.approx([1, 2, 10, 50])
    assert found["CSIM after 50[dlib]"] < found["CSIM after 1[dlib]"] <= 1


def test_a_face_that_is_lost_is_not_known(judges: Judges) -> None:
    portrait = next(read_frames(root() / "test" / PEOPLE[0] / "c0.mp4"))
    found = recursion(portrait, known(lambda picture, sound, driver: repeated(picture // 64, sound)), judges)
    assert math.isnan(found["CSIM after 1[dlib]"]) and math.isnan(found["shape drift after 1"])
    assert found["colour drift after 1"] > 50


# ---- canonical images and control


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Drive, ClipReader]:
    manifest = read_manifest(dataset(tmp_path_factory.mktemp("studies"), frames=40))
    return drives(manifest, "test", "reconstruction")[0], ClipReader(manifest)


def studied(case: tuple[Drive, ClipReader], model: Any, judges: Judges, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("fctfg.evaluation.studies.recursion", lambda *_: {})  # has its own tests
    return study(case[0], model, case[1], judges)


def test_a_model_that_does_not_listen(
    case: tuple[Drive, ClipReader], judges: Judges, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shows its driver. So other sound moves nothing, and another driver takes the mouth along."""
    copies = known(lambda portrait, sound, driver: driver, lambda pictures: pictures)
    figures, poses = studied(case, copies, judges, monkeypatch)
    assert math.isnan(figures["moved by sound outside"]) and figures["pose moved by sound"] == 0
    assert figures["mouth moved by driver"] > 0.3
    assert figures["canonical CSIM[dlib]"] == pytest.approx(1) and figures["canonical spread"] > 1
    np.testing.assert_array_equal(poses["canonical pose"], poses["portrait pose"])


def test_a_model_that_does_nothing_but_listen(
    case: tuple[Drive, ClipReader], judges: Judges, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shows whoever belongs to the sound. So other sound moves everything, and another driver nothing."""
    drive, reader = case
    clips = [(reader.sound(clip, 0, SAMPLE_RATE), clip) for clip in (drive.driver, drive.other) if clip is not None]

    def speaker(portrait: np.ndarray, sound: np.ndarray, driver: Frames | None) -> Frames:
        (clip,) = [clip for own, clip in clips if np.array_equal(own, sound[:SAMPLE_RATE])]
        frames: np.ndarray = reader.frames(clip, reader.track(clip, 0, 40)).movedim(1, -1).numpy()
        return frames

    figures, poses = studied(case, known(speaker), judges, monkeypatch)
    assert figures["mouth moved by driver"] == pytest.approx(0, abs=1e-9)
    assert figures["pose moved by sound"] > 1 and figures["moved by sound outside"] > 0.5
    assert figures["canonical spread"] == 0 and math.isnan(figures["canonical CSIM[dlib]"])
    assert len(poses["canonical pose"]) == 0 and len(poses["portrait pose"]) == 1

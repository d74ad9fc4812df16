"""Recognised faces, clusters of them, and clips that repeat others."""

import itertools
import time

import numpy as np
import pytest
from PIL import Image
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist

from fctfg.data.scores.duplicates import (
    PRINT_FRAMES,
    SOUND_BITS,
    clip_print,
    near_duplicates,
    picture_hash,
    sound_hash,
)
from fctfg.data.scores.identity import agreement, cluster
from fctfg.demo_corpus import root
from fctfg.faces.detector import DlibDetector
from fctfg.faces.recogniser import DIMENSIONS, SAME_PERSON, DlibRecogniser
from fctfg.media import read_audio, read_frames

CLIPS = sorted(root().rglob("*.mp4"))


def people_around(centers: int, rows: int, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(embeddings [rows, 128], person of each): people are 0.85 apart, clips `spread` from their person."""
    rng = np.random.default_rng(seed)
    middle = rng.standard_normal((centers, 128))
    middle *= 0.6 / np.linalg.norm(middle, axis=1, keepdims=True)
    person = rng.integers(centers, size=rows)
    noise = rng.standard_normal((rows, 128)) * spread / np.sqrt(128)
    return (middle[person] + noise).astype(np.float32), person


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    return len(set(zip(a, b, strict=True))) == len(set(a)) == len(set(b))


@pytest.fixture(scope="module")
def embeddings() -> dict[str, np.ndarray]:
    """Two frames of each clip of the corpus, [2, 128] by the clip's name."""
    detector, recogniser = DlibDetector(), DlibRecogniser()
    found = {}
    for clip in CLIPS:
        frames = list(read_frames(clip))[10:60:49]
        landmarks = [detector.landmarks68(frame, detector.detect(frame)[0].box) for frame in frames]
        found[clip.relative_to(root()).as_posix()] = recogniser.embed_many(frames, landmarks)
    return found


def test_people_are_told_apart(embeddings: dict[str, np.ndarray]) -> None:
    names = list(embeddings)
    distances = {True: [], False: []}
    for a, b in itertools.combinations(names, 2):
        same = a.rsplit("/", 1)[0] == b.rsplit("/", 1)[0]
        distances[same].append(np.linalg.norm(embeddings[a].mean(0) - embeddings[b].mean(0)))
    assert max(distances[True]) < SAME_PERSON
    assert np.mean(np.array(distances[True])[:, None] < np.array(distances[False])) > 0.999


def test_an_embedding_does_not_depend_on_the_pictures_size() -> None:
    frame = next(read_frames(CLIPS[0]))
    recogniser, detector = DlibRecogniser(), DlibDetector()
    landmarks = detector.landmarks68(frame, detector.detect(frame)[0].box)
    large = np.array(Image.fromarray(frame).resize((512, 512), Image.Resampling.BILINEAR))
    wide = np.pad(frame, ((50, 0), (80, 30), (0, 0)))
    places = [landmarks, 4 * landmarks, landmarks + np.array([80, 50])]
    one, other, moved = found = recogniser.embed_many([frame, large, wide], places)
    assert found.shape == (3, DIMENSIONS)
    assert found.dtype == np.float32
    assert np.linalg.norm(one - other) < 0.15
    np.testing.assert_allclose(moved, one, atol=0.05)
    assert recogniser.embed_many([], []).shape == (0, DIMENSIONS)


def test_what_is_no_face_is_refused() -> None:
    recogniser, picture = DlibRecogniser(), np.zeros((64, 64, 3), np.uint8)
    points = np.random.default_rng(0).uniform(10, 50, (68, 2)).astype(np.float32)
    with pytest.raises(ValueError, match="uint8"):
        recogniser.embed_many([picture.astype(np.float32)], [points])
    with pytest.raises(ValueError, match=r"\[68, 2\]"):
        recogniser.embed_many([picture], [points[:5]])
    with pytest.raises(ValueError, match="outside"):
        recogniser.embed_many([picture], [points + 1000])


def test_agreement(embeddings: dict[str, np.ndarray]) -> None:
    names = list(embeddings)
    mine = np.concatenate([embeddings[name] for name in names[:3]])  # of one person
    jumped = np.concatenate([mine, embeddings[names[-1]][:1]])
    assert agreement(np.ones((4, 8), np.float32)) == 0
    assert agreement(mine) < 0.4 < agreement(jumped)
    line = np.array([[0.0, 0], [1, 0], [2, 0], [7, 0]], np.float32)
    assert agreement(line) == pytest.approx(5.5)
    with pytest.raises(ValueError, match="K >= 1"):
        agreement(np.zeros((0, 8), np.float32))


@pytest.mark.parametrize(("spread", "threshold"), [(0.4, 0.5), (0.7, 0.6), (0.7, 0.8), (1.0, 0.9), (0.0, 0.5)])
def test_clusters_are_those_of_average_linkage(spread: float, threshold: float) -> None:
    rows, _ = people_around(40, 300, spread)
    tree = linkage(pdist(rows.astype(np.float64), "sqeuclidean"), "average")
    assert same_partition(cluster(rows, threshold), fcluster(tree, threshold**2, "distance"))


def test_clusters_do_not_depend_on_order_and_place() -> None:
    rows, _ = people_around(30, 200, 0.6)
    labels = cluster(rows, 0.6)
    order = np.random.default_rng(1).permutation(len(rows))
    assert same_partition(cluster(rows[order], 0.6), labels[order])
    assert same_partition(cluster(rows + 50, 0.6), labels)
    _, first = np.unique(labels, return_index=True)
    assert (np.diff(first) > 0).all()  # numbered by first appearance
    assert labels[0] == 0


def test_clusters_do_not_chain() -> None:
    """Two people and a row of clips that leads from one to the other."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 0.01, (20, 8)), rng.normal(0, 0.01, (20, 8)) + np.eye(8)[0]
    between = np.linspace(0.2, 0.8, 4)[:, None] * np.eye(8)[0]
    labels = cluster(np.concatenate([a, b, between]).astype(np.float32), 0.45)
    assert set(labels[:20]).isdisjoint(labels[20:40])


def test_clusters_of_few_and_of_equal_rows() -> None:
    assert cluster(np.zeros((0, 4), np.float32), 0.5).tolist() == []
    assert cluster(np.ones((1, 4), np.float32), 0.5).tolist() == [0]
    assert cluster(np.ones((7, 4), np.float32), 0.5).tolist() == [0] * 7
    grid = np.arange(6, dtype=np.float32)[:, None]  # every neighbour is equally near
    assert len(set(cluster(grid, 0.9))) == 6
    assert len(set(cluster(grid, 100.0))) == 1


def test_clusters_of_the_corpus_are_its_people(embeddings: dict[str, np.ndarray]) -> None:
    names = list(embeddings)
    labels = cluster(np.stack([np.median(embeddings[name], axis=0) for name in names]), 0.32)
    people = np.unique([name.rsplit("/", 1)[0] for name in names], return_inverse=True)[1]
    assert len(set(labels)) == 12
    assert same_partition(labels, people)


def test_thousands_of_clips_take_seconds() -> None:
    rows, person = people_around(500, 5000, 0.35)
    begin = time.process_time()
    assert same_partition(cluster(rows, 0.6), person)
    assert time.process_time() - begin < 10


@pytest.mark.parametrize("bad", [np.zeros(4), np.full((2, 2), np.nan)])
def test_what_cannot_be_clustered(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="embeddings"):
        cluster(bad.astype(np.float32), 0.5)
    with pytest.raises(ValueError, match="threshold"):
        cluster(np.zeros((2, 2), np.float32), 0.0)


def print_of(frames: list[np.ndarray], wave: np.ndarray) -> np.ndarray:
    return clip_print(np.stack([frames[int(len(frames) * place)] for place in PRINT_FRAMES]), wave)


def again(frames: list[np.ndarray]) -> list[np.ndarray]:
    """The pictures smaller, cropped a little differently, darker and through JPEG-like rounding."""
    copies = []
    for frame in frames:
        side = frame.shape[0]
        box = (0.015 * side, 0.01 * side, 0.99 * side, 0.985 * side)
        small = np.array(Image.fromarray(frame).resize((96, 96), Image.Resampling.BICUBIC, box=box))
        copies.append((0.9 * small).astype(np.uint8) // 8 * 8)
    return copies


@pytest.fixture(scope="module")
def media() -> list[tuple[list[np.ndarray], np.ndarray]]:
    return [(list(read_frames(clip)), read_audio(clip)) for clip in CLIPS]


def test_copies_are_found_and_other_clips_are_not(media: list[tuple[list[np.ndarray], np.ndarray]]) -> None:
    rng = np.random.default_rng(0)
    prints = [print_of(*clip) for clip in media]
    assert (near_duplicates(np.stack(prints)) == -1).all()
    copies = []
    for frames, wave in media:
        noisy = 0.4 * wave + 0.02 * wave.std() * rng.standard_normal(len(wave))
        copies.append(print_of(again(frames), noisy.astype(np.float32)))
    found = near_duplicates(np.stack(prints + copies))
    assert (found[: len(prints)] == -1).all()
    assert (found[len(prints) :] == np.arange(len(prints))).all()
    late = [print_of(frames[1:], wave[640:]) for frames, wave in media]  # a frame later
    assert (near_duplicates(np.stack(prints + late))[len(prints) :] == np.arange(len(prints))).mean() > 0.9


def test_both_sound_and_pictures_must_agree(media: list[tuple[list[np.ndarray], np.ndarray]]) -> None:
    (frames, wave), (_, other_wave), (other_frames, _) = media[0], media[1], media[5]
    prints = [print_of(frames, wave), print_of(frames, other_wave), print_of(other_frames, wave)]
    assert near_duplicates(np.stack(prints)).tolist() == [-1, -1, -1]


def test_candidates_are_those_of_all_pairs() -> None:
    """Random prints with copies that differ in up to 15 bits of sound, against the comparison of all pairs."""
    rng = np.random.default_rng(0)
    prints = rng.integers(0, 2**64, (1500, 4), dtype=np.uint64)
    for row in range(700, 1500):
        prints[row] = prints[rng.integers(row)]
        for word, bits in ((rng.integers(2), rng.integers(8)), (2, rng.integers(30))):
            for bit in rng.integers(64, size=bits):
                prints[row, word] ^= np.uint64(1) << np.uint64(bit)
    differ = np.bitwise_count(prints[:, None] ^ prints[None])
    sound, pictures = differ[..., :2].sum(-1, dtype=int), differ[..., 2:].sum(-1, dtype=int)
    alike = np.tril((sound <= SOUND_BITS) & (pictures <= 24), -1)
    certain = np.tril((sound <= 15) & (pictures <= 24), -1)
    found = near_duplicates(prints)
    for row, first in enumerate(found):
        assert first == -1 or alike[row, first]
        if certain[row].any():
            assert 0 <= first <= np.flatnonzero(certain[row])[0]


def test_hashes_do_not_depend_on_size_and_level(media: list[tuple[list[np.ndarray], np.ndarray]]) -> None:
    frames, wave = media[0]
    double = [np.repeat(np.repeat(frame, 2, 0), 2, 1) for frame in frames[:3]]
    np.testing.assert_array_equal(picture_hash(np.stack(double)), picture_hash(np.stack(frames[:3])))
    assert np.bitwise_count(sound_hash(0.1 * wave) ^ sound_hash(wave)).sum() <= 1
    assert len({tuple(sound_hash(wave)) for _, wave in media}) == len(media)


def test_empty_and_wrong_prints() -> None:
    assert near_duplicates(np.zeros((0, 4), np.uint64)).tolist() == []
    assert near_duplicates(np.ones((3, 4), np.uint64)).tolist() == [-1, 0, 0]
    with pytest.raises(ValueError, match="prints"):
        near_duplicates(np.zeros((3, 2), np.uint64))
    with pytest.raises(ValueError, match="2 pictures"):
        clip_print(np.zeros((1, 8, 8, 3), np.uint8), np.zeros(16000, np.float32))
    with pytest.raises(ValueError, match="frames"):
        picture_hash(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="wave"):
        sound_hash(np.zeros(10, np.float32))

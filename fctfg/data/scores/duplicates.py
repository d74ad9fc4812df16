"""Clips that show the same moment under another name: encoded again, scaled, cropped a little differently."""

import itertools

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from fctfg.media.units import SAMPLE_RATE, Pixels, Samples

Bits = npt.NDArray[np.uint64]

PRINT_FRAMES = (0.25, 0.75)  # the places of a print's two pictures, as shares of the clip
WORDS = 4  # of a print: two of sound, two of pictures
SOUND_BITS = PICTURE_BITS = 24  # of 128 each, that prints of one moment may differ in

_SIDE, _LOW = 32, 8  # pixels of the reduced picture; its lowest frequencies in each direction that are kept
_SLOTS, _BANDS = 17, 9  # times and frequencies of the sound's energies, whose differences are 16 x 8 bits
_WINDOW, _HOP = 1024, 320  # samples: 64 ms every 20 ms
_LOWEST, _HIGHEST = 250.0, 3400.0  # Hz; what telephones and every codec keep
_FLOOR = 1e-6  # of the mean energy; below it there is nothing but a codec's noise
_BUCKET = 1000  # clips; a key that more of them share says nothing about them
_PAIRS = 1 << 21  # compared at a time: about 200 MB


def picture_hash(frames: Pixels) -> Bits:
    """Perceptual hash of pictures: the signs of the lowest frequencies of luma.

    The picture is reduced to 32 x 32 by area. Of its discrete cosine transform the 8 x 8 lowest frequencies but the
    mean are compared with their median, so brightness, contrast, size and compression hardly matter.

    Args:
        frames: uint8 [N, H, W, 3].

    Returns:
        uint64 [N], 63 bits used. Compare by the number of bits that differ, `np.bitwise_count(a ^ b)`: 0 to 8 after
        strong compression or a crop that is 2 % off, about 30 between people.

    Raises:
        ValueError: Another type or shape.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise ValueError(f"frames must be uint8 [N, H, W, 3], got {frames.dtype} {list(frames.shape)}")
    luma = torch.from_numpy(frames @ np.array([0.299, 0.587, 0.114], np.float32))
    small = F.adaptive_avg_pool2d(luma[:, None], _SIDE)[:, 0].numpy()  # [N, 32, 32]
    k = np.arange(_LOW)
    cosine = np.cos(np.pi * (2 * np.arange(_SIDE) + 1) * k[:, None] / (2 * _SIDE))  # DCT-II, [8, 32]
    spectrum = (cosine @ small @ cosine.T).reshape(len(frames), -1)[:, 1:]
    return _packed(np.pad(spectrum > np.median(spectrum, axis=1, keepdims=True), ((0, 0), (0, 1))))[:, 0]


def sound_hash(wave: Samples) -> Bits:
    """Perceptual hash of a sound: how the slope of its spectrum changes from each time to the next.

    With the energies E in 9 bands (250 to 3400 Hz) of 17 equal parts of the sound, a bit is (after Haitsma and Kalker,
    A Highly Robust Audio Fingerprinting System, 2002)

        (log E(t+1, b+1) - log E(t+1, b)) - (log E(t, b+1) - log E(t, b)) > 0

    so level, equalising and compression hardly matter.

    Args:
        wave: float32 [N] at 16 kHz, at least 0.1 s.

    Returns:
        uint64 [2], 128 bits; each 16 bits belong to one pair of bands.

    Raises:
        ValueError: Another shape, or too short.
    """
    if wave.ndim != 1 or len(wave) < SAMPLE_RATE // 10:
        raise ValueError(f"wave must be [N] with N >= {SAMPLE_RATE // 10}, got {list(wave.shape)}")
    window = torch.hann_window(_WINDOW)
    power = (
        torch.stft(torch.from_numpy(wave), _WINDOW, _HOP, window=window, return_complex=True).abs().square()
    )  # [F, T]
    edges = np.round(np.geomspace(_LOWEST, _HIGHEST, _BANDS + 1) * _WINDOW / SAMPLE_RATE).astype(int)
    bands = torch.stack([power[a:b].sum(dim=0) for a, b in itertools.pairwise(edges)])
    energy = F.adaptive_avg_pool1d(bands[None], _SLOTS)[0].double().numpy()  # [9, 17]
    level = np.log(energy + _FLOOR * energy.mean() + np.finfo(np.float64).tiny)
    return _packed((np.diff(np.diff(level, axis=0), axis=1) > 0).reshape(2, 64))[:, 0]


def clip_print(frames: Pixels, wave: Samples) -> Bits:
    """What `near_duplicates` compares of a clip.

    Args:
        frames: uint8 [2, H, W, 3], the clip's pictures at `PRINT_FRAMES` of its length.
        wave: float32 [N] at 16 kHz, the whole clip's sound.

    Returns:
        uint64 [4]: `sound_hash` and the two pictures' `picture_hash`.

    Raises:
        ValueError: Not two frames, or as in the two hashes.
    """
    if len(frames) != len(PRINT_FRAMES):
        raise ValueError(f"a print has {len(PRINT_FRAMES)} pictures, got {len(frames)}")
    return np.concatenate([sound_hash(wave), picture_hash(frames)])


def near_duplicates(prints: Bits) -> npt.NDArray[np.int64]:
    """Which clips show the same moment as an earlier one.

    Two clips do when both their sounds and their pictures differ in at most 24 of 128 bits. The sound tells clips of
    one person in one studio apart (pictures of them hardly differ), the pictures two people who are seen while the same
    sound is heard. Copies must begin within a frame of each other: a moment that was cut elsewhere is not found.

    Not all pairs are compared: candidates share one of the 8 keys of 16 bits that the sound consists of, up to one bit.
    That finds all pairs of sounds that differ in up to 15 bits, and 3 of 4 where 24 bits differ at random. Keys that
    more than 1000 clips share are passed over, so silent clips do not all meet each other. 200,000 clips take 10 s on
    one core; the time grows with the square of the number.

    Args:
        prints: uint64 [N, 4] of `clip_print`.

    Returns:
        int64 [N]: the first clip that each one repeats, or -1.

    Raises:
        ValueError: Another type or shape.
    """
    if prints.dtype != np.uint64 or prints.ndim != 2 or prints.shape[1] != WORDS:
        raise ValueError(f"prints must be uint64 [N, {WORDS}], got {prints.dtype} {list(prints.shape)}")
    _, first, same = np.unique(prints, axis=0, return_index=True, return_inverse=True)
    once = np.sort(first)  # rows of the different prints, in order
    rank = np.argsort(np.argsort(first))[same.reshape(-1)]  # the place of each row's print in `once`
    found = _first_match(np.ascontiguousarray(prints[once]))
    earlier = np.where(found < len(once), once[np.minimum(found, len(once) - 1)], -1) if len(once) else found
    repeated = earlier[rank]
    copies = np.where(once[rank] < np.arange(len(prints)), once[rank], -1)
    return np.where(repeated >= 0, repeated, copies)


def _first_match(prints: Bits) -> npt.NDArray[np.int64]:
    """The first row that each row is a near duplicate of; the number of rows where there is none before it."""
    count = len(prints)
    matched = np.full(count, count)
    keys = np.ascontiguousarray(prints[:, :2]).view(np.uint16)  # [N, 8]
    for key in keys.T:
        order = np.argsort(key, kind="stable")
        begin = np.searchsorted(key[order], np.arange((1 << 16) + 1))
        for flip in np.array([0, *(1 << np.arange(16))]):
            other = key.astype(np.int64) ^ flip
            length = begin[other + 1] - begin[other]
            length[length > _BUCKET] = 0
            for rows in _pieces(length):
                i = np.repeat(np.arange(rows.start, rows.stop), length[rows])
                within = np.arange(len(i)) - np.repeat(np.cumsum(length[rows]) - length[rows], length[rows])
                j = order[begin[other[i]] + within]
                i, j = i[j < i], j[j < i]
                differ = np.bitwise_count(prints[i] ^ prints[j])
                sound, pictures = differ[:, :2].sum(axis=1), differ[:, 2:].sum(axis=1)
                alike = (sound <= SOUND_BITS) & (pictures <= PICTURE_BITS)
                np.minimum.at(matched, i[alike], j[alike])
    return matched


def _pieces(length: npt.NDArray[np.int64]) -> list[slice]:
    """Consecutive rows with about `_PAIRS` candidates together."""
    part = np.cumsum(length) // _PAIRS
    edges = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(length)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def _packed(bits: npt.NDArray[np.bool_]) -> Bits:
    """[N, 64] bits to uint64 [N, 1]."""
    return np.packbits(bits, axis=1).view(np.uint64)

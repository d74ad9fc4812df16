"""What is heard, and the networks that hear, against themselves written out in NumPy, in float64.

The mel spectrogram's reference is in test_ops.py.
"""

import math

import numpy as np
import pytest
import torch
from layout import layout, parameters
from numpy_layers import Weights, batch_norm, conv, max_pool, numpy_weights, randomized, under

from fctfg.metrics.lse import lip_sync, shifted_distances, sync_windows
from fctfg.models.audio_encoder import ConvBlock, ConvSpec
from fctfg.models.experts.syncnet_v2 import SyncNetV2, SyncNetV2Config
from fctfg.ops.mfcc import mfcc


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def same(got: torch.Tensor, want: np.ndarray) -> None:
    """Equal up to float64's rounding."""
    assert got.dtype == torch.float64
    np.testing.assert_allclose(got.detach().numpy(), want, rtol=1e-10, atol=1e-10 * np.abs(want).max())


# ------------------------------------------------------------------------------------------------------------- MFCC


def spectrum(window: np.ndarray) -> np.ndarray:
    """|DFT|^2 / 512 of 400 samples and 112 zeros, at 257 bins."""
    angle = 2 * np.pi / 512 * np.outer(np.arange(257), np.arange(400))
    return ((np.cos(angle) @ window) ** 2 + (np.sin(angle) @ window) ** 2) / 512


def triangles() -> np.ndarray:
    """[26, 257]: each filter climbs from the bin of its lower neighbour's peak, and falls to the upper one's."""
    top = 2595 * math.log10(1 + 8000 / 700)
    edges = [math.floor(513 * 700 * (10 ** (top * i / 27 / 2595) - 1) / 16000) for i in range(28)]
    filters = np.zeros((26, 257))
    for m, (low, peak, high) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        for b in range(low, peak):
            filters[m, b] = (b - low) / (peak - low)
        for b in range(peak, high):
            filters[m, b] = (high - b) / (high - peak)
    return filters


def reference_mfcc(wave: np.ndarray) -> np.ndarray:
    """[N] on the 16-bit scale -> [13, M]."""
    emphasized = np.array([wave[0]] + [wave[n] - 0.97 * wave[n - 1] for n in range(1, len(wave))])
    tiny, filters, columns, start = 2.0**-52, triangles(), [], 0
    while True:
        window = np.zeros(400)
        part = emphasized[start : start + 400]
        window[: len(part)] = part
        power = spectrum(window)
        loudness = [math.log((filters[m] @ power) or tiny) for m in range(26)]
        column = [math.log(power.sum() or tiny)]
        for n in range(1, 13):
            cosine = sum(loudness[m] * math.cos(math.pi * n * (m + 0.5) / 26) for m in range(26)) * math.sqrt(2 / 26)
            column.append(cosine * (1 + 11 * math.sin(math.pi * n / 22)))
        columns.append(column)
        if start + 400 >= len(wave):
            return np.array(columns).T
        start += 160


@pytest.mark.parametrize("samples", [1, 399, 400, 401, 560, 561, 2000])
def test_mfcc_is_the_recipe_written_out(samples: int) -> None:
    t = np.arange(samples) / 16000
    wave = 9000 * np.sin(2 * np.pi * (300 + 3000 * t) * t) + 300 * draw(samples)
    want = reference_mfcc(wave)
    got = mfcc(torch.from_numpy(wave / 32768))
    assert got.shape == want.shape == (13, 1 + max(0, math.ceil((samples - 400) / 160)))
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy(), want, atol=5e-6)
    np.testing.assert_allclose(mfcc(torch.from_numpy(wave / 32768).float()).numpy(), want, atol=2e-4)


def test_mfcc_of_silence_and_of_batches() -> None:
    silence = mfcc(torch.zeros(800))
    np.testing.assert_allclose(silence.numpy(), reference_mfcc(np.zeros(800)), atol=1e-5)
    waves = torch.from_numpy(draw(2, 3, 1000)).float() * 0.1
    coefficients = mfcc(waves)
    assert coefficients.shape == (2, 3, 13, 5)
    torch.testing.assert_close(coefficients[1, 2], mfcc(waves[1, 2]))


@pytest.mark.parametrize("wave", [torch.zeros(0), torch.tensor(0.5), torch.zeros(800, dtype=torch.int16)])
def test_mfcc_refuses_what_is_no_waveform(wave: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"floating-point \[..., N\] in \[-1, 1\] with N >= 1, not"):
        mfcc(wave)


# ------------------------------------------------------------------------------------------------ Wav2Lip's networks


@pytest.mark.parametrize(("channels", "stride", "residual"), [(3, 1, True), (4, (3, 2), False)])
def test_the_block_of_wav2lip(channels: int, stride: int | tuple[int, int], residual: bool) -> None:
    """The residual is added before the ReLU."""
    block, x = randomized(ConvBlock(3, ConvSpec(channels, 3, stride, 1, residual))), draw(2, 3, 9, 8)
    w = under(numpy_weights(block), "conv_block")
    y = batch_norm(conv(x, w["0.weight"], w["0.bias"], pad=1), under(w, "1"))
    if stride != 1:
        y = y[:, :, ::3, ::2]
    same(block(torch.from_numpy(x)), np.maximum(y + x if residual else y, 0))


# ------------------------------------------------------------------------------------------------------- SyncNet v2


@pytest.fixture(scope="module")
def syncnet() -> SyncNetV2:
    network = randomized(SyncNetV2(SyncNetV2Config(width=1 / 64)))
    assert isinstance(network, SyncNetV2)
    return network


def layer(x: np.ndarray, w: Weights, number: int, stride: int = 1, pad: int = 1) -> np.ndarray:
    """Convolution, batch norm, ReLU; a 3-D kernel of one frame is one of the picture."""
    weight = w[f"{number}.weight"]
    weight = weight[:, :, 0] if weight.ndim == 5 else weight
    return np.maximum(batch_norm(conv(x, weight, w[f"{number}.bias"], stride, pad), under(w, str(number + 1))), 0)


def head(x: np.ndarray, w: Weights) -> np.ndarray:
    """[N, C, 1, 1] -> [N, 1024]."""
    assert x.shape[2:] == (1, 1)
    y = np.maximum(batch_norm(x[:, :, 0, 0] @ w["0.weight"].T + w["0.bias"], under(w, "1")), 0)
    return y @ w["3.weight"].T + w["3.bias"]


def test_syncnet_v2_hears(syncnet: SyncNetV2) -> None:
    windows = draw(3, 1, 13, 20)
    w = under(numpy_weights(syncnet), "netcnnaud")
    x = layer(layer(windows, w, 0), w, 4)
    x = max_pool(x, 3, (1, 2))
    assert x.shape[2:] == (11, 9)
    x = max_pool(layer(layer(layer(x, w, 8), w, 11), w, 14), 3, (2, 2))
    assert x.shape[2:] == (5, 4)
    want = head(layer(x, w, 18, pad=0), under(numpy_weights(syncnet), "netfcaud"))
    same(syncnet.audio(torch.from_numpy(windows)), want)


def test_syncnet_v2_sees(syncnet: SyncNetV2) -> None:
    frames = draw(2, 3, 5, 224, 224)
    w = under(numpy_weights(syncnet), "netcnnlip")
    # The first kernel covers all five frames: one of the picture with 3 x 5 channels.
    first = w | {"0.weight": w["0.weight"].reshape(-1, 15, 7, 7)}
    x = layer(frames.reshape(2, 15, 224, 224), first, 0, stride=2, pad=0)
    assert x.shape[2:] == (109, 109)
    x = layer(max_pool(x, 3, (2, 2)), w, 4, stride=2)
    assert x.shape[2:] == (26, 26)
    x = max_pool(x, 3, (2, 2), pad=1)
    assert x.shape[2:] == (13, 13)
    x = max_pool(layer(layer(layer(x, w, 8), w, 11), w, 14), 3, (2, 2))
    want = head(layer(x, w, 18, pad=0), under(numpy_weights(syncnet), "netfclip"))
    same(syncnet.lips(torch.from_numpy(frames)), want)


def test_syncnet_v2_refuses_other_shapes(syncnet: SyncNetV2) -> None:
    with pytest.raises(ValueError, match=r"\[B, 1, 13, 20\], not \[2, 13, 20\]"):
        syncnet.audio(torch.zeros(2, 13, 20))
    with pytest.raises(ValueError, match=r"\[B, 3, 5, 224, 224\], not \[1, 5, 3, 224, 224\]"):
        syncnet.lips(torch.zeros(1, 5, 3, 224, 224))
    with pytest.raises(ValueError, match="width must be positive"):
        SyncNetV2Config(width=0)


def test_syncnet_v2_has_the_published_layout() -> None:
    with torch.device("meta"):
        network = SyncNetV2(SyncNetV2Config())
    assert layout(network) == (102, "5319945ef8d6cd36")
    assert parameters(network) == 13_631_616


# -------------------------------------------------------------------------------------------------------------- LSE


def reference_distances(lips: np.ndarray, audio: np.ndarray, max_shift: int) -> np.ndarray:
    """The table of distances, one pair after the other."""
    frames, dim = lips.shape
    found = np.empty((2 * max_shift + 1, frames))
    for t in range(frames):
        for row in range(2 * max_shift + 1):
            other = t + row - max_shift
            heard = audio[other] if 0 <= other < frames else np.zeros(dim)
            found[row, t] = math.sqrt(sum((a - b + 1e-6) ** 2 for a, b in zip(lips[t], heard, strict=True)))
    return found


@pytest.mark.parametrize(("frames", "max_shift"), [(30, 15), (9, 3), (4, 6), (1, 0)])
def test_lse_written_out(frames: int, max_shift: int) -> None:
    lips, audio = draw(frames, 8), draw(frames, 8, seed=1)
    want = reference_distances(lips, audio, max_shift)
    tracks = torch.from_numpy(lips), torch.from_numpy(audio)
    same(shifted_distances(*tracks, max_shift), want)
    got, mean = lip_sync(*tracks, max_shift), want.mean(1)
    assert got.offset == max_shift - int(mean.argmin())
    assert got.distance.item() == pytest.approx(mean.min())
    assert got.confidence.item() == pytest.approx(sorted(mean)[max_shift] - mean.min())


@pytest.mark.parametrize("late", [-4, 0, 7])
def test_a_planted_offset_is_found(late: int) -> None:
    events = torch.from_numpy(draw(80, 16)).float()
    lips, audio = events[10:70], events[10 - late : 70 - late]  # what is seen at t is heard at t + late
    got = lip_sync(lips, audio + 0.1 * torch.from_numpy(draw(60, 16, seed=1)).float())
    assert got.offset == -late
    assert got.confidence > 1
    assert lip_sync(lips, torch.from_numpy(draw(60, 16, seed=2)).float()).confidence < 0.5


def test_lse_refuses_what_it_cannot_compare() -> None:
    for lips, audio in ((torch.zeros(5, 4), torch.zeros(6, 4)), (torch.zeros(0, 4), torch.zeros(0, 4))):
        with pytest.raises(ValueError, match=r"two \[T, D\] with T >= 1"):
            lip_sync(lips, audio)
    with pytest.raises(ValueError, match="must not be negative"):
        lip_sync(torch.zeros(5, 4), torch.zeros(5, 4), max_shift=-1)


@pytest.mark.parametrize(("frames", "samples"), [(12, 640 * 12), (12, 640 * 20), (30, 640 * 11 + 639), (30, 640 * 11)])
def test_windows_of_the_demonstration(frames: int, samples: int) -> None:
    pictures = torch.arange(float(frames)).view(-1, 1, 1, 1).expand(-1, 3, 4, 2)
    wave = torch.from_numpy(draw(samples)).float() * 0.1
    faces, sound = sync_windows(pictures, wave)
    count = min(frames, samples // 640) - 5
    assert faces.shape == (count, 3, 5, 4, 2)
    assert sound.shape == (count, 1, 13, 20)
    coefficients = mfcc(wave)
    for n in range(count):
        assert faces[n, 2, :, 3, 1].tolist() == [n, n + 1, n + 2, n + 3, n + 4]
        assert torch.equal(sound[n, 0], coefficients[:, 4 * n : 4 * n + 20])


def test_windows_need_six_frames_and_the_right_shapes() -> None:
    with pytest.raises(ValueError, match="a clip of 5 frames and 9600 samples is too short"):
        sync_windows(torch.zeros(5, 3, 4, 4), torch.zeros(9600))
    with pytest.raises(ValueError, match="a clip of 9 frames and 3000 samples is too short"):
        sync_windows(torch.zeros(9, 3, 4, 4), torch.zeros(3000))
    with pytest.raises(ValueError, match=r"\[T, 3, H, W\] and wave \[N\]"):
        sync_windows(torch.zeros(9, 4, 4, 3), torch.zeros(9600))

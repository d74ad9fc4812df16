"""The operations against references written from their definitions, in float64 NumPy."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from fctfg.ops.mel import _filter_bank, mel_spectrogram
from fctfg.ops.modulated_conv import demodulation, modulated_conv2d, modulated_rgb
from fctfg.ops.similarity import (
    ARCFACE_TEMPLATE,
    align,
    invert_similarity,
    pixel_points,
    similarity_from_points,
    transform_points,
    warp,
)
from fctfg.ops.upfirdn2d import fir_kernel, upfirdn2d
from fctfg.ops.windows import mel_windows, window_start


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal float64."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# ---------------------------------------------------------------------------------------------------- upfirdn2d


def reference_upfirdn2d(x: np.ndarray, kernel: np.ndarray, up: int, down: int, pad: tuple[int, int]) -> np.ndarray:
    batch, channels, height, width = x.shape
    grown = np.zeros((batch, channels, height * up, width * up))
    grown[:, :, ::up, ::up] = x
    grown = np.pad(grown, ((0, 0), (0, 0), pad, pad))
    k = kernel.shape[0]
    rows, columns = grown.shape[2] - k + 1, grown.shape[3] - k + 1
    y = np.zeros((batch, channels, rows, columns))
    for i, j in product(range(k), range(k)):
        y += kernel[k - 1 - i, k - 1 - j] * grown[:, :, i : i + rows, j : j + columns]
    return y[:, :, ::down, ::down]


@pytest.mark.parametrize(
    ("up", "down", "pad"),
    [(1, 1, (1, 1)), (1, 1, (2, 1)), (1, 2, (1, 1)), (1, 2, (2, 2)), (2, 1, (2, 1)), (2, 1, (0, 3)), (2, 2, (2, 1))],
)
def test_upfirdn2d_is_its_definition(up: int, down: int, pad: tuple[int, int]) -> None:
    x, kernel = draw(2, 3, 6, 5), draw(4, 4, seed=1)
    want = reference_upfirdn2d(x.numpy(), kernel.numpy(), up, down, pad)
    np.testing.assert_allclose(upfirdn2d(x, kernel, up, down, pad).numpy(), want, atol=1e-12)


@pytest.mark.parametrize(
    ("up", "down", "pad"),
    [(1, 1, (1, 1)), (1, 1, (2, 1)), (1, 2, (1, 1)), (2, 1, (2, 1)), (2, 1, (0, 3)), (2, 3, (2, 2))],
)
def test_upfirdn2d_can_be_differentiated_twice(up: int, down: int, pad: tuple[int, int]) -> None:
    x, kernel = draw(1, 2, 4, 5).requires_grad_(), draw(3, 3, seed=1)
    assert torch.autograd.gradcheck(lambda x: upfirdn2d(x, kernel, up, down, pad), x)
    assert torch.autograd.gradgradcheck(lambda x: upfirdn2d(x, kernel, up, down, pad).sin(), x)


def test_the_filter_keeps_the_brightness() -> None:
    kernel = fir_kernel(gain=4.0)
    assert kernel.sum() == 4.0
    assert torch.equal(kernel, kernel.t())
    inside = upfirdn2d(torch.ones(1, 1, 8, 8), kernel, up=2, pad=(2, 1))[:, :, 2:-2, 2:-2]
    torch.testing.assert_close(inside, torch.ones_like(inside))


# ------------------------------------------------------------------------------------------ modulated convolution


def reference_modulated(x: Tensor, weight: Tensor, style: Tensor, scale: float, up: bool, demodulate: bool) -> Tensor:
    """One image after the other, with weights made for it; ``weight`` [N, O, I, k, k]."""
    found = []
    for image, own, scales in zip(x, weight, style, strict=True):
        w = own * scale * scales[None, :, None, None]
        if demodulate:
            w = w / (w.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up:
            found.append(torch.nn.functional.conv_transpose2d(image[None], w.transpose(0, 1), stride=2))
        else:
            found.append(torch.nn.functional.conv2d(image[None], w, padding=w.shape[-1] // 2))
    return torch.cat(found)


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("sources", [None, 2, 4])
def test_modulated_convolution_is_the_one_with_weights_per_image(up: bool, sources: int | None) -> None:
    n, scale = 4, 0.3
    x, style = draw(n, 3, 5, 5), draw(n, 3, seed=1)
    weight = draw(*([] if sources is None else [sources]), 6, 3, 3, 3, seed=2)
    per_image = weight.expand(n, -1, -1, -1, -1) if sources is None else weight.repeat_interleave(n // sources, 0)
    want = reference_modulated(x, per_image, style, scale, up, demodulate=True)
    factor = demodulation(weight, style, scale)
    got = modulated_conv2d(x, weight, style, up=up) * (factor * scale)[:, :, None, None]
    torch.testing.assert_close(got, want)
    want = reference_modulated(x, per_image, style, scale, up, demodulate=False)
    torch.testing.assert_close(modulated_conv2d(x, weight, style, scale, up), want)


@pytest.mark.parametrize("sources", [None, 2])
def test_rgb_is_a_modulated_1x1_convolution(sources: int | None) -> None:
    x, style = draw(4, 5, 3, 2), draw(4, 5, seed=1)
    weight = draw(*([] if sources is None else [sources]), 3, 5, seed=2)
    per_image = (weight.expand(4, -1, -1) if sources is None else weight.repeat_interleave(2, 0))[..., None, None]
    want = reference_modulated(x, per_image, style, 0.7, up=False, demodulate=False)
    torch.testing.assert_close(modulated_rgb(x, weight, style, 0.7), want)


def test_modulated_convolution_can_be_differentiated_twice() -> None:
    x, weight, style = (t.requires_grad_() for t in (draw(2, 2, 3, 3), draw(2, 2, 3, 3, seed=1), draw(2, 2, seed=2)))
    assert torch.autograd.gradgradcheck(lambda *a: modulated_conv2d(*a, up=True).square(), (x, weight, style))


def test_demodulation_is_float32_under_autocast() -> None:
    assert demodulation(torch.randn(4, 3, 3, 3).bfloat16(), torch.randn(2, 3).bfloat16(), 1.0).dtype == torch.float32


# ------------------------------------------------------------------------------------------------------------ mel


def slaney_mel(hertz: np.ndarray) -> np.ndarray:
    return np.where(hertz < 1000, hertz * 3 / 200, 15 + 27 * np.log(np.maximum(hertz, 1e-9) / 1000) / np.log(6.4))


def slaney_hertz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))


def reference_mel(wave: np.ndarray) -> np.ndarray:
    """[N] -> [80, M], the recipe written out: no FFT, no library filters."""
    emphasized = wave.copy()
    emphasized[1:] -= 0.97 * wave[:-1]
    padded = np.pad(emphasized, 400, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(800) / 800)
    frames = np.stack([padded[s : s + 800] * window for s in range(0, len(wave) + 1, 200)], axis=1)  # [800, M]
    angle = 2 * np.pi / 800 * np.outer(np.arange(401), np.arange(800))
    magnitude = np.hypot(np.cos(angle) @ frames, np.sin(angle) @ frames)  # [401, M]
    edges = slaney_hertz(np.linspace(slaney_mel(np.array(55.0)), slaney_mel(np.array(7600.0)), 82))
    hertz = np.arange(401) * 20.0
    filters = np.zeros((80, 401))
    for m in range(80):
        rise = (hertz - edges[m]) / (edges[m + 1] - edges[m])
        fall = (edges[m + 2] - hertz) / (edges[m + 2] - edges[m + 1])
        filters[m] = np.maximum(0, np.minimum(rise, fall)) * 2 / (edges[m + 2] - edges[m])
    decibel = 20 * np.log10(np.maximum(1e-5, filters @ magnitude)) - 20
    return np.clip(8 * (decibel + 100) / 100 - 4, -4, 4)


def test_mel_is_the_recipe_written_out() -> None:
    t = np.arange(2001) / 16000
    wave = 0.3 * np.sin(2 * np.pi * (300 + 4000 * t) * t) + np.random.default_rng(0).normal(size=len(t)) * 0.01
    got = mel_spectrogram(torch.from_numpy(wave).float())
    assert got.shape == (80, 11)
    np.testing.assert_allclose(got.numpy(), reference_mel(wave), atol=1e-3)


def test_mel_of_silence_batches_and_short_sounds() -> None:
    assert torch.equal(mel_spectrogram(torch.zeros(1600)), torch.full((80, 9), -4.0))
    wave = torch.randn(2, 3, 800, generator=torch.Generator().manual_seed(0)) * 0.1
    torch.testing.assert_close(mel_spectrogram(wave)[1, 2], mel_spectrogram(wave[1, 2]))
    with pytest.raises(ValueError, match="400 samples is too short: at least 401"):
        mel_spectrogram(torch.zeros(400))


def test_mel_first_taken_in_inference_mode_has_gradients_later() -> None:
    _filter_bank.cache_clear()
    wave = 0.1 * torch.randn(2, 800, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        want = mel_spectrogram(wave)
    got = mel_spectrogram(wave.requires_grad_())
    got.sum().backward()
    assert torch.equal(got, want)
    assert wave.grad is not None and (wave.grad != 0).any(1).all()


# -------------------------------------------------------------------------------------------------------- windows


def test_windows_start_where_wav2lip_has_them() -> None:
    assert [window_start(frame) for frame in range(6)] == [0, 3, 6, 9, 12, 16]
    assert window_start(100, fps=29.97) == int(8000 / 29.97)
    assert [window_start(frame, centered=True) for frame in (0, 2, 7)] == [-7, 0, 16]


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("fps", [25.0, 29.97])
def test_windows_repeat_the_edges(centered: bool, fps: float) -> None:
    mel = torch.arange(40.0).expand(80, -1)  # the value is the mel frame's number
    frames = torch.arange(14)
    got = mel_windows(mel, frames, fps, centered)
    assert got.shape == (14, 1, 80, 16)
    for frame, window in zip(frames.tolist(), got, strict=True):
        start = window_start(frame, fps, centered)
        want = [float(min(max(start + i, 0), 39)) for i in range(16)]
        assert window[0, 0].tolist() == window[0, 79].tolist() == want


# ----------------------------------------------------------------------------------------------------- similarity


def umeyama(src: np.ndarray, dst: np.ndarray) -> np.ndarray:
    """Umeyama 1991, by singular values."""
    p, q = src - src.mean(0), dst - dst.mean(0)
    u, s, vt = np.linalg.svd(q.T @ p / len(p))
    sign = np.diag([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ sign @ vt
    scale = (s * np.diag(sign)).sum() / p.var(0).sum()
    return np.column_stack([scale * rotation, dst.mean(0) - scale * rotation @ src.mean(0)])


def test_similarity_is_umeyamas() -> None:
    src = draw(20, 5, 2) * 30 + 50
    got = similarity_from_points(src, ARCFACE_TEMPLATE)
    for points, matrix in zip(src.numpy(), got.numpy(), strict=True):
        np.testing.assert_allclose(matrix, umeyama(points, ARCFACE_TEMPLATE.double().numpy()), atol=1e-8)


def test_similarity_finds_a_known_transform_and_inverts() -> None:
    angle, scale = 0.3, 1.7
    linear = scale * torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]).double()
    matrix = torch.cat([linear, torch.tensor([[5.0], [-3.0]])], dim=1)[None]
    src = draw(1, 5, 2)
    dst = src @ linear.t() + matrix[:, :, 2]
    torch.testing.assert_close(similarity_from_points(src, dst), matrix)
    torch.testing.assert_close(invert_similarity(matrix), similarity_from_points(dst, src))


def test_warp_samples_bilinearly_at_pixel_indices() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(size=(7, 9))
    matrix = torch.tensor([[[0.8, -0.3, 2.0], [0.3, 0.8, 0.5]]])
    got = warp(torch.from_numpy(image)[None, None], matrix, (4, 5))[0, 0].numpy()
    for y, x in product(range(4), range(5)):
        u, v = 0.8 * x - 0.3 * y + 2.0, 0.3 * x + 0.8 * y + 0.5  # input x, y
        u, v = min(max(u, 0), 8), min(max(v, 0), 6)
        i, j = min(int(v), 5), min(int(u), 7)
        a, b = v - i, u - j
        want = (1 - a) * ((1 - b) * image[i, j] + b * image[i, j + 1])
        want += a * ((1 - b) * image[i + 1, j] + b * image[i + 1, j + 1])
        assert got[y, x] == pytest.approx(want, abs=1e-5)


def test_warp_by_the_identity_changes_nothing_and_passes_gradients() -> None:
    images = draw(2, 3, 6, 6).requires_grad_()
    identity = torch.eye(2, 3).expand(2, -1, -1)
    got = warp(images, identity, (6, 6))
    torch.testing.assert_close(got, images, atol=1e-5, rtol=1e-5)
    got.sum().backward()
    assert images.grad is not None
    torch.testing.assert_close(images.grad, torch.ones_like(images), atol=1e-4, rtol=1e-4)


def test_similarities_are_float32_under_autocast() -> None:
    src, dst = draw(4, 5, 2).float() * 30 + 50, draw(4, 5, 2).flip(0).float() * 20 + 90

    def matrices() -> list[Tensor]:
        matrix = similarity_from_points(src, dst)
        return [matrix, invert_similarity(matrix), transform_points(src, matrix)]

    want = matrices()
    with torch.autocast("cpu", torch.bfloat16):
        got = matrices()
    for one, other in zip(got, want, strict=True):
        assert one.dtype == torch.float32 and torch.equal(one, other)


@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16, torch.float64])
def test_alignment_is_float32_under_autocast_and_keeps_the_frames_type(given: torch.dtype) -> None:
    frames = torch.rand(3, 3, 128, 160).to(given)
    points = torch.tensor([0.2, 0.1]) + 0.5 * (ARCFACE_TEMPLATE + 2 * draw(3, 5, 2).float()) / 112
    want = align(frames, points, ARCFACE_TEMPLATE, (112, 112))
    with torch.autocast("cpu", torch.bfloat16):
        got = align(frames, points, ARCFACE_TEMPLATE, (112, 112))
    assert got.dtype == want.dtype == given and torch.equal(got, want)
    exact = align(frames.double(), points.double(), ARCFACE_TEMPLATE, (112, 112))
    # float32 places pixels to 1e-5 px, bfloat16 would to 0.5 px; the values of bfloat16 pictures are 2^-9 apart
    assert float((got - exact).abs().max()) < (0.004 if given == torch.bfloat16 else 1e-4)


def test_points_as_fractions_become_pixel_indices() -> None:
    corners = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.5, 0.25]])
    assert pixel_points(corners, height=4, width=8).tolist() == [[-0.5, -0.5], [7.5, 3.5], [3.5, 0.5]]

"""The convolution peak of a device, which shares of `fctfg bench` are of."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16}
PEAK_SHAPES = ((128, 128), (512, 64), (512, 32))  # channels, side in px; two images
LAYOUTS = (torch.contiguous_format, torch.channels_last)


def work_of_peak(shape: tuple[int, int]) -> float:
    """GFLOP of a 3x3 convolution of two images, with as many channels out as in."""
    channels, side = shape
    return 2 * 2 * 9 * channels**2 * side**2 / 1e9


def peak_call(precision: str, layout: torch.memory_format, shape: tuple[int, int], device: str) -> Callable[[], object]:
    """The forward pass of a 3x3 convolution of two images, called once already."""
    channels, side = shape
    dtype = PRECISIONS[precision]
    x = torch.randn(2, channels, side, side, device=device).to(dtype).contiguous(memory_format=layout)
    weight = torch.randn(channels, channels, 3, 3, device=device).to(dtype).contiguous(memory_format=layout)

    def call() -> object:
        with torch.no_grad():
            y = F.conv2d(x, weight, padding=1)
        if y.is_cuda:
            torch.cuda.synchronize()
        return y

    call()
    return call


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def convolution_peak(precision: str, device: str, rounds: int) -> float:
    """The highest rate of the shapes and layouts, GFLOP/s, over some rounds."""
    calls = [(shape, peak_call(precision, layout, shape, device)) for layout in LAYOUTS for shape in PEAK_SHAPES]
    return max(work_of_peak(shape) / seconds(call) for _ in range(rounds) for shape, call in calls)

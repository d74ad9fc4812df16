"""Compare ways to keep talking clips on a disk: `python scripts/bench_storage.py --videos DIR`.

Prepares the videos with raw frames and again as JPEG, writes the other forms (`storage_forms.py`) from the raw ones,
and reads from each the same random samples: one source frame, five consecutive driving frames, their mel windows. Forms
take turns in one process; what counts is the median over the samples of all rounds, of time on the clock and of
processor time. "Cold" is after the system was told to forget the form's files (posix_fadvise), where the disk's own
cache still remembers them.

Columns: GB per 100 hours of talking (pictures only); PSNR of the stored against the cut frames, dB; ms per sample warm
(median, 95th percentile, processor time), ms cold; samples per second with threads, and with processes that hand
tensors over as torch's `DataLoader` does.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import time
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np
import torch
import torch.multiprocessing
from rich.console import Console
from rich.table import Table
from storage_forms import FRAMES, Files, Films, Form, Ours, Packed, Place, RawMap, Tar, by_cv2, jpeg, with_cv2

from fctfg.data.dataset import TalkingClips
from fctfg.data.prepare import prepare
from fctfg.data.shards import ClipReader
from fctfg.host_memory import keep_freed_memory
from fctfg.media import FPS
from fctfg.ops.mel import mel_spectrogram
from fctfg.ops.windows import mel_windows


def psnr(form: Form, clips: list[np.ndarray]) -> float:
    """Of what `form` gives back against the cut frames, dB, over all windows of five that do not overlap."""
    out, error, count = np.empty((1 + FRAMES, *clips[0].shape[1:]), np.uint8), 0.0, 0
    for c, frames in enumerate(clips):
        for start in range(0, len(frames) - FRAMES + 1, FRAMES):
            form.read((c, start, start), out)
            error += float(np.square(out[1:].astype(np.float32) - frames[start : start + FRAMES]).sum())
            count += out[1:].size
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 * count / error))


def drop(folder: Path) -> None:
    """Ask the system to forget a folder's files."""
    for path in folder.rglob("*"):
        if path.is_file():
            file = os.open(path, os.O_RDONLY)
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)


_shared: dict[str, Any] = {}  # what forked processes read from


def _read_new(place: Place) -> torch.Tensor:
    """A sample in new memory; in another process, torch hands it over as shared memory."""
    out = torch.empty(_shared["shape"], dtype=torch.uint8)
    _shared["form"].read(place, out.numpy())
    return out


def rate(form: Form, places: list[Place], shape: tuple[int, ...], workers: int, processes: bool) -> float:
    """Samples per second of several workers."""
    _shared.update(form=form, shape=shape)
    pool = torch.multiprocessing.get_context("fork").Pool(workers) if processes else ThreadPool(workers)
    best = 0.0
    for _ in range(3):
        begin = time.perf_counter()
        count = sum(1 for _ in pool.imap(_read_new, places, chunksize=4))
        best = max(best, count / (time.perf_counter() - begin))
    pool.terminate()
    pool.join()
    return best


def measure_mel(data: TalkingClips, places: list[Place], folder: Path) -> dict[str, float]:
    """Median ms of a sample's mel windows: stored, of the window's own sound, of the whole clip's."""
    reader, times = ClipReader(data.manifest), {"stored": [], "of the window": [], "of the clip": []}
    wave = folder / "sound"
    wave.mkdir(parents=True)
    for c in range(len(data)):
        np.save(wave / f"{c}.npy", reader.sound(data.clip(c)))
    for c, _, start in places:
        clip, frames = data.clip(c), torch.arange(start, start + FRAMES)
        begin = time.thread_time()
        data._sound(clip, start)
        stored = time.thread_time()
        low = max(0, 640 * start - 800)
        part = torch.from_numpy(reader.sound(clip, low, min(640 * (start + FRAMES) + 4000, reader.samples(clip)) - low))
        mel_windows(mel_spectrogram(part), frames - start)
        window = time.thread_time()
        mel_windows(mel_spectrogram(torch.from_numpy(np.load(wave / f"{c}.npy"))), frames)
        whole = time.thread_time()
        for name, taken in zip(times, (stored - begin, window - stored, whole - window), strict=True):
            times[name].append(1e3 * taken)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, required=True, help="folder of talking people")
    parser.add_argument("--work", type=Path, required=True, help="folder for the forms, 40 GB per hour of talking")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--clips", type=int, default=8, help="at most so many clips")
    parser.add_argument("--samples", type=int, default=40, help="of each round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    keep_freed_memory()

    sets = {form: options.work / form for form in ("raw", "jpeg")}
    for form, folder in sets.items():
        prepare(options.videos, folder, size=options.size, splits=(1.0, 0.0, 0.0), form=form)
    data = TalkingClips(sets["raw"], "train", FRAMES)
    clips = [data.whole(c)[1] for c in range(min(options.clips, len(data)))]
    folder = options.work / "forms"
    shutil.rmtree(folder, ignore_errors=True)
    best = (cv2.IMWRITE_WEBP_QUALITY, 95), (cv2.IMWRITE_WEBP_QUALITY, 101)
    forms: dict[str, Form] = {
        "this project, JPEG: a whole training sample": Ours(sets["jpeg"], True),
        "this project, JPEG: its frames": Ours(sets["jpeg"], False),
        "this project, raw: a whole training sample": Ours(sets["raw"], True),
        "this project, raw: its frames": Ours(sets["raw"], False),
        "a JPEG file per frame, torchvision": Files(folder / "files_tv", clips, "torchvision"),
        "a JPEG file per frame, OpenCV": Files(folder / "files_cv2", clips, "cv2"),
        "tar of JPEG files with an index": Tar(folder / "tar", clips, jpeg(95)),
        "packed JPEG, memory map": Packed(folder / "mapped", clips, jpeg(95), mapped=True),
        "packed JPEG, OpenCV": Packed(folder / "cv2", clips, jpeg(95), by_cv2),
        "packed JPEG, quality 90": Packed(folder / "q90", clips, jpeg(90)),
        "packed JPEG, quality 95": Packed(folder / "q95", clips, jpeg(95)),
        "packed JPEG, quality 97": Packed(folder / "q97", clips, jpeg(97)),
        "packed JPEG, quality 95, 4:4:4": Packed(folder / "q95_444", clips, jpeg(95, 0)),
        "packed WebP, quality 95": Packed(folder / "webp", clips, with_cv2(".webp", *best[0]), by_cv2),
        "packed WebP, lossless": Packed(folder / "webp_lossless", clips, with_cv2(".webp", *best[1]), by_cv2),
        "packed PNG": Packed(folder / "png", clips, with_cv2(".png"), by_cv2),
        "H.264, key frame every 12": Films(folder / "gop12", clips, 12),
        "H.264, key frame every 5": Films(folder / "gop5", clips, 5),
        "raw, NumPy memory map": RawMap(folder / "raw_map", clips),
    }
    draw = np.random.default_rng(0)

    def some() -> list[Place]:
        chosen = draw.integers(0, len(clips), options.samples)
        return [
            (int(c), int(draw.integers(len(clips[c]))), int(draw.integers(len(clips[c]) - FRAMES + 1))) for c in chosen
        ]

    shape = (1 + FRAMES, options.size, options.size, 3)
    out = np.empty(shape, np.uint8)
    hours = sum(map(len, clips)) / FPS / 3600
    rows: dict[str, dict[str, float]] = {}
    for name, form in forms.items():
        form.open()
        rows[name] = {"gb_per_100_h": form.bytes() / hours * 100 / 1e9}
        if not getattr(form, "whole", False):
            rows[name]["psnr"] = psnr(form, clips)
    wall: dict[str, list[float]] = {name: [] for name in forms}
    cpu: dict[str, list[float]] = {name: [] for name in forms}
    cold: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(options.rounds):
        places = some()
        for name, form in forms.items():
            for place in places:
                begin, begin_cpu = time.perf_counter(), time.thread_time()
                form.read(place, out)
                wall[name].append(1e3 * (time.perf_counter() - begin))
                cpu[name].append(1e3 * (time.thread_time() - begin_cpu))
    places = [*some(), *some()]
    for name, form in forms.items():
        rows[name] |= {"ms": statistics.median(wall[name]), "p95": float(np.percentile(wall[name], 95))}
        rows[name] |= {"cpu_ms": statistics.median(cpu[name])}
        for processes in (False, True):
            for workers in (1, 2, 4):
                kind = "processes" if processes else "threads"
                rows[name][f"{workers} {kind}"] = rate(form, places, shape, workers, processes)
    for _ in range(options.rounds):
        for name, form in forms.items():
            for place in places[:5]:
                form.close()
                drop(form.folder)
                form.open()
                begin = time.perf_counter()
                form.read(place, out)
                cold[name].append(1e3 * (time.perf_counter() - begin))
    for name in forms:
        rows[name]["cold_ms"] = statistics.median(cold[name])
    mel = measure_mel(data, places, folder)
    show(rows, mel)
    if options.json:
        options.json.write_text(json.dumps({"forms": rows, "mel_ms": mel}, indent=2))


def show(rows: dict[str, dict[str, float]], mel: dict[str, float]) -> None:
    columns = ("gb_per_100_h", "psnr", "ms", "p95", "cpu_ms", "cold_ms")
    columns += tuple(f"{n} {kind}" for kind in ("threads", "processes") for n in (1, 2, 4))
    table = Table("form", *columns)
    for name, row in rows.items():
        table.add_row(
            name,
            *(f"{row[c]:.{0 if row[c] >= 100 else 1 if row[c] >= 20 else 2}f}" if c in row else "" for c in columns),
        )
    Console(width=230).print(table)
    print("mel windows of a sample, ms of processor time:", {name: round(ms, 3) for name, ms in mel.items()})


if __name__ == "__main__":
    main()

"""Render talking heads with exact ground truth: `python scripts/render_corpus.py --out DIR`.

Needs scripts/corpus/requirements.txt and the program `flite`. Identities, poses and face actions come from anny's
head (MakeHuman data, CC0), speech with phone times from flite. Everything random derives from (seed, identity, clip),
so identity 7 is the same person in a corpus of 12 and of 120.

Layout: DIR/{train,val,test}/<identity>/<clip>.mp4 with <clip>.json beside it; see docs/demo_corpus.md.
"""

import argparse
import importlib.metadata
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np
import torch
from corpus.body import Body, load_body
from corpus.motion import Motion, move
from corpus.paint import Canvas
from corpus.person import Person, create
from corpus.scene import Painter, surroundings
from corpus.sentences import TEST, TRAIN, shuffled
from corpus.speech import Speech, Style, Voice, speak, varied_style

from fctfg.media import FPS, SAMPLE_RATE, write_video

# flite voices of each split and gender with the range of vocal tract scalings; awb is heard only in test
VOICES = {
    ("train", True): (("slt", 0.90, 1.14), ("kal16", 1.16, 1.30), ("slt", 0.94, 1.06)),
    ("train", False): (("rms", 0.88, 1.14), ("kal16", 0.86, 1.08)),
    ("test", True): (("awb", 1.16, 1.28),),
    ("test", False): (("awb", 0.90, 1.06),),
}


@dataclass(frozen=True)
class Task:
    """One identity and its clips."""

    out: Path
    split: str
    index: int
    clips: int
    seconds: float
    size: int
    seed: int
    crf: int
    varied: bool


def _rounded(values: np.ndarray, digits: int) -> list:
    return np.round(np.asarray(values, dtype=np.float64), digits).tolist()


def _frames(
    painter: Painter, body: Body, motion: Motion, gaps: list[float], points: list[np.ndarray]
) -> Iterator[np.ndarray]:
    flat = body.actions.reshape(len(body.actions), -1)
    for k in range(len(motion.yaw)):
        face = (motion.actions[k] @ flat).reshape(-1, 3)
        image, gap, five = painter.draw(face, motion.yaw[k], motion.pitch[k], motion.roll[k], motion.shift[k])
        gaps.append(gap)
        points.append(five)
        yield image


def _truth(
    person: Person,
    task: Task,
    voice: Voice,
    speech: Speech,
    motion: Motion,
    gaps: list[float],
    points: list[np.ndarray],
) -> dict:
    return {
        "identity": person.name,
        "split": task.split,
        "seed": task.seed,
        "fps": FPS,
        "size": task.size,
        "voice": voice.base,
        "voice_warp": round(voice.warp, 4),
        "text": speech.text,
        "gender": "female" if person.female else "male",
        "age": round(20 + 60 * person.age),
        "hair": person.style,
        "phones": [[name, round(start, 4), round(end, 4)] for name, start, end in speech.phones],
        "viseme": motion.viseme,
        "yaw": _rounded(motion.yaw, 2),
        "pitch": _rounded(motion.pitch, 2),
        "roll": _rounded(motion.roll, 2),
        "blink": _rounded(motion.blink, 3),
        "jaw": _rounded(motion.jaw, 3),
        "lip_gap": _rounded(np.array(gaps), 2),
        "points": _rounded(np.array(points), 1),
    }


_shared: tuple[Body, Canvas] | None = None


def _render(task: Task) -> tuple[str, int, float]:
    """Render all clips of one identity; returns its name, the number of frames and the seconds they took."""
    global _shared
    if _shared is None:
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        body = load_body()
        _shared = body, Canvas(body)
    body, canvas = _shared
    started = time.perf_counter()
    rng = np.random.default_rng([task.seed, task.index])
    person = create(body, canvas, f"p{task.index:03d}", rng, female=task.index % 2 == 1, race=task.index // 2 % 3)
    options = VOICES["test" if task.split == "test" else "train", person.female]
    base, low, high = options[rng.integers(len(options))]
    voice = Voice(base, float(rng.uniform(low, high)))
    folder = task.out / task.split / person.name
    folder.mkdir(parents=True, exist_ok=True)
    count = round(task.seconds * FPS)
    for clip in range(task.clips):
        rng = np.random.default_rng([task.seed, task.index, clip + 1])
        sentences, style = TEST if task.split == "test" else TRAIN, Style()
        if task.varied:
            sentences, style = shuffled(sentences, rng), varied_style(rng)
            base, low, high = options[rng.integers(len(options))]
            voice = Voice(base, float(rng.uniform(low - 0.05, high + 0.05)))
        speech = speak(voice, sentences, count / FPS, rng)
        motion = move(body.action_names, speech, np.arange(count) / FPS, rng, style)
        painter = Painter(body, person, surroundings(task.size, rng), task.size)
        gaps: list[float] = []
        points: list[np.ndarray] = []
        path = folder / f"c{clip}.mp4"
        frames = _frames(painter, body, motion, gaps, points)
        write_video(path, frames, audio=speech.samples, sample_rate=SAMPLE_RATE, crf=task.crf)
        truth = _truth(person, task, voice, speech, motion, gaps, points)
        path.with_suffix(".json").write_text(json.dumps(truth, separators=(",", ":")) + "\n")
    return person.name, count * task.clips, time.perf_counter() - started


def _flite_version() -> str:
    said = subprocess.run(["flite", "--version"], capture_output=True, text=True, check=False).stdout
    return next((line.split()[1] for line in said.splitlines() if "version" in line), "unknown")


def main() -> None:
    """Render a corpus."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--identities", type=int, default=12)
    parser.add_argument("--first", type=int, default=0, help="number of the first identity, to enlarge a corpus")
    parser.add_argument("--clips", type=int, default=3, help="per identity")
    parser.add_argument("--seconds", type=float, default=3.5, help="length of each clip")
    parser.add_argument("--size", type=int, default=128, help="side of the frames in px")
    parser.add_argument("--splits", default="9:1:2", help="identities train:val:test, scaled to --identities")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--crf", type=int, default=16, help="x264 quality")
    parser.add_argument(
        "--varied",
        action="store_true",
        help="each clip: its own voice, way of moving the mouth, sentences of mixed words",
    )
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()

    shares = np.array([float(x) for x in args.splits.split(":")])
    ends = np.round(np.cumsum(shares) / shares.sum() * args.identities).astype(int)
    tasks = [
        Task(args.out, ("train", "val", "test")[int(np.searchsorted(ends, i, side="right"))], i, args.clips,
             args.seconds, args.size, args.seed, args.crf, args.varied)
        for i in range(args.first, args.identities)
    ]  # fmt: skip
    args.out.mkdir(parents=True, exist_ok=True)
    frames, started = 0, time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(args.workers) as pool:
        for done, (name, count, seconds) in enumerate(pool.imap_unordered(_render, tasks), 1):
            frames += count
            print(f"{name}: {count} frames, {count / seconds:.1f} frames/s; {done}/{len(tasks)}", flush=True)
    print(f"{frames} frames in {time.perf_counter() - started:.0f} s")
    record = args.out / "provenance.json"
    first = f"--first {args.first} " if args.first else ""
    earlier = json.loads(record.read_text())["command"] + "; " if first and record.exists() else ""
    provenance = {
        "licence": "CC0-1.0",
        "consent": "rendered, no person depicted",
        "source": f"scripts/render_corpus.py, anny {importlib.metadata.version('anny')}, flite {_flite_version()}",
        "command": f"{earlier}python scripts/render_corpus.py {first}--identities {args.identities} "
        f"--clips {args.clips} --seconds {args.seconds} --size {args.size} --splits {args.splits} --seed {args.seed} "
        f"--crf {args.crf}{' --varied' * args.varied}",
    }
    record.write_text(json.dumps(provenance, indent=2) + "\n")


if __name__ == "__main__":
    main()

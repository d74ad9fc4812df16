"""Train the lip-sync expert that looks at landmarks: `python scripts/train_landmark_sync.py --corpus DIR DIR`.

Renders nothing itself. The expert in the package was trained on two corpora (docs/demo_corpus.md says what rendering
needs), of which the second varies how people articulate:

    render="renderer/bin/python scripts/render_corpus.py"
    $render --out plain --identities 80 --clips 3 --seconds 5 --size 160 --splits 70:0:10 --seed 11
    $render --out varied --identities 100 --clips 2 --seconds 6 --splits 1:0:0 --seed 12 --varied
    $render --out varied --first 100 --identities 120 --clips 2 --seconds 6 --splits 0:0:1 --seed 12 --varied
    python scripts/train_landmark_sync.py --corpus plain varied --cache landmarks

Landmarks are detected once and kept in --cache (8 ms a frame). Training draws pieces of 1.6 to 4 s of the train
people, disturbs landmarks and sound, and is seeded; then it measures offset and confidence on the test people, their
own and others' sound, and writes the weights with these figures in their card.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from landmark_sync.augment import draw
from landmark_sync.clips import Clip, read_split
from landmark_sync.contrast import contrast, curves
from torch import Tensor, nn
from torch.nn import functional as F

from fctfg.data.scores.sync import WEIGHTS, SyncScore, audio_video_offset
from fctfg.file_hash import sha256
from fctfg.models.experts.landmark_sync import LandmarkSync, LandmarkSyncConfig
from fctfg.ops.mel import mel_spectrogram
from fctfg.weights.artifact import save_artifact
from fctfg.weights.card import complete_card

MAX_SHIFT = 15  # frames
FRAMES = (40, 100)  # of a piece
SAMPLES = 640  # of a frame
STEPS = 25  # frames between the test's pieces


def train(clips: list[Clip], iterations: int, batch: int, learning_rate: float, width: int) -> LandmarkSync:
    """A trained expert, in eval mode."""
    mels = [mel_spectrogram(clip.wave) for clip in clips]
    net, scale = LandmarkSync(LandmarkSyncConfig(width)), nn.Parameter(torch.tensor(2.5))
    optimizer = torch.optim.AdamW([*net.parameters(), scale], lr=learning_rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, iterations, pct_start=0.1)
    total = 0.0
    for iteration in range(1, iterations + 1):
        frames = int(torch.randint(FRAMES[0], FRAMES[1] + 1, (1,)))
        with torch.no_grad():
            landmarks, mel = draw(clips, mels, batch, frames, MAX_SHIFT)
        heard = net.embed_sound(mel)[:, : frames + 2 * MAX_SHIFT]
        loss = contrast(curves(net.embed_mouth(landmarks), heard), scale.exp())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total += float(loss.detach())
        if iteration % 100 == 0:
            print(f"{iteration}: loss {total / 100:.3f}", flush=True)
            total = 0.0
    return net.eval().requires_grad_(False)


def measure(net: LandmarkSync, clips: list[Clip], frames: int) -> dict[str, float]:
    """Offset and confidence of pieces of `frames`, with sound for 0.6 s around, up to 12 frames late or early.

    Each piece is heard with its own sound and with another person's.
    """
    rng, margin = np.random.default_rng(0), MAX_SHIFT * SAMPLES
    errors, own, others = [], [], []
    for number, clip in enumerate(clips):
        stranger = next(c for c in clips[number:] + clips if c.person != clip.person)
        for start in range(0, len(clip.landmarks) - frames + 1, STEPS):
            seen, at = clip.landmarks[start : start + frames].numpy(), start * SAMPLES
            shift = int(rng.integers(-12, 13))

            def score(wave: Tensor, seen: np.ndarray = seen, at: int = at, shift: int = shift) -> SyncScore:
                late = F.pad(wave, (shift * SAMPLES, -shift * SAMPLES))  # silence in front, or behind
                sound = late[max(at - margin, 0) : at + frames * SAMPLES + margin]
                return audio_video_offset(seen, sound.numpy(), net, before=min(at, margin))

            found = score(clip.wave)
            errors.append(found.offset - shift)
            own.append(found.confidence)
            if len(stranger.wave) >= at + frames * SAMPLES:
                others.append(score(stranger.wave).confidence)
    error, sure, other = np.abs(errors), np.array(own), np.array(others)
    figures = {
        "pieces": len(own),
        "within one frame": np.mean(error <= 1),
        "mean error": np.mean([x for x in errors if abs(x) <= 3]),
        "confidence: 5 %": np.quantile(sure, 0.05),
        "confidence: median": np.median(sure),
        "confidence above 1": np.mean(sure > 1),
        "within one frame of these": np.mean(error[sure > 1] <= 1),
        "another's sound: median": np.median(other),
        "another's sound: 95 %": np.quantile(other, 0.95),
        "own above another's": np.mean(sure[:, None] > other),
    }
    return {name: round(float(value), 3) for name, value in figures.items()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, nargs="+", required=True, help="folders of scripts/render_corpus.py")
    parser.add_argument("--cache", type=Path, default=Path("landmarks"), help="where detected landmarks are kept")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="file to write")
    parser.add_argument("--iterations", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=32, help="clips")
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--width", type=int, default=64, help="channels of the network")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    clips = {
        split: [clip for corpus in options.corpus for clip in read_split(corpus, split, options.cache)]
        for split in ("train", "test")
    }
    print(f"{len(clips['train'])} clips to train on, {len(clips['test'])} to test on")
    net = train(clips["train"], options.iterations, options.batch, options.learning_rate, options.width)
    metrics = {f"{frames} frames": measure(net, clips["test"], frames) for frames in (125, 75, 50, 25)}
    print(json.dumps(metrics, indent=2))
    card = {
        "config": {name: getattr(options, name) for name in ("iterations", "batch", "learning_rate", "width", "seed")},
        "data": [json.loads((corpus / "provenance.json").read_text()) for corpus in options.corpus],
        "dataset_hash": None,
        "metrics": metrics,
        "licences": {"data": ["CC0-1.0"], "weights": {"landmark_sync": "Apache-2.0"}},
    }
    save_artifact(options.out, {"landmark_sync": net}, "landmark_sync", complete_card(card, "landmark_sync"))
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.2f} MB, sha256 {sha256(options.out)}")


if __name__ == "__main__":
    main()

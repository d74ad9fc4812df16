"""The curves of all stages over their first 20 iterations at micro size, which test_curves.py compares.

    python tests/curves.py    writes tests/curves.json anew

Do so when a change is meant to move the curves, and say in the commit why they moved.
"""

import json
import os
import tempfile
from pathlib import Path

import faces_data
from trained_runs import STAGES, Place, arguments

from fctfg.cli import main

FILE = Path(__file__).with_name("curves.json")
BESIDE = ("train/grad_norm_", "train/learning_rate", "train/skipped")  # what is no term of a loss
ITERATIONS = 20
SLOWER = ("--model.learning_rate=1e-5",)  # at 1e-4 the sync expert amplifies the last bit to 0.1 in ten iterations
Curves = dict[str, dict[str, dict[str, float]]]  # stage -> term -> iteration -> value


def curves(place: Place) -> Curves:
    """Trains every stage, each from the ones before it, and returns all that was logged of training."""
    found: Curves = {}
    for stage in STAGES:
        length = "--trainer.max_epochs=1", f"--data.batches_per_epoch={ITERATIONS}", "--data.val_samples=2"
        slower = SLOWER if stage == "sync_expert" else ()
        assert main(arguments(place, stage, None, *length, *slower)) == 0, stage
        terms = found.setdefault(stage, {})
        for row in (place[1] / stage / "metrics.csv").read_text().splitlines()[1:]:
            step, name, value, *_ = row.split(",")
            if name.startswith("train/") and not name.startswith(BESIDE):
                terms.setdefault(name.removeprefix("train/"), {})[step] = float(f"{float(value):.6g}")
    return found


def measure(folder: Path) -> Curves:
    """The curves on the painted faces, in an empty folder."""
    (folder / "data").mkdir()
    return curves((faces_data.make(folder / "data"), folder / "runs"))


if __name__ == "__main__":
    os.environ["WANDB_MODE"] = "disabled"
    with tempfile.TemporaryDirectory() as folder:
        FILE.write_text(json.dumps(measure(Path(folder)), indent=1) + "\n", encoding="utf-8")

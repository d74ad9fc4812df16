"""What is wrong with a run of stages 1 to 3: from its log, and from its evaluation where there is one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fctfg.errors import FctfgError
from fctfg.file_hash import sha256
from fctfg.report import read_metrics
from fctfg.run_state import read_state

LEAST_APART = 0.2  # logits between training and generated faces
TENTH = 10  # parts that a run is divided into; its first and last one are compared
TERMS = ("orthogonality", "sync", "identity", "reconstruction", "perceptual", "adversarial", "lpips", "l2")

Values = Mapping[str, float]


@dataclass(frozen=True)
class Symptom:
    """What is wrong when something holds.

    Attributes:
        name: short.
        needs: values without which nothing can be said; see `read_values`.
        holds: whether it is so.
        cause: what is wrong; values in braces, with `/` as `_`.
        remedy: what to do.
    """

    name: str
    needs: tuple[str, ...]
    holds: Callable[[Values], bool]
    cause: str
    remedy: str

    def applies(self, values: Values) -> bool:
        """Whether the values are known, and show it."""
        return all(math.isfinite(values.get(name, math.nan)) for name in self.needs) and self.holds(values)


def memorised(values: Values) -> float:
    """Where held-out faces are between generated ones (1) and training faces (0), as the discriminator sees them.

    Adaptive augmentation shows it augmented training faces and plain held-out ones, which hides some of it. Where it
    hardly tells real from generated ones (less than 0.2), it knows nothing by heart.
    """
    real, fake, held_out = values["train/real_score"], values["train/fake_score"], values["val/real_score"]
    return (real - held_out) / (real - fake) if real - fake > LEAST_APART else 0.0


def _dead(term: str, values: Values) -> bool:
    return max(abs(values[f"train/{term}"]), abs(values[f"train/{term}, first"])) < 1e-7


SYMPTOMS = (
    Symptom(
        "learnt by heart",
        ("train/real_score", "train/fake_score", "val/real_score"),
        lambda v: memorised(v) > 0.5,
        "the discriminator knows the training faces by heart: it gives them {train_real_score:.2f}, held-out ones "
        "{val_real_score:.2f}, generated ones {train_fake_score:.2f}",
        "add more people, or in stage 1 configs/small_data.yaml (adaptive augmentation), in stage 3 data.augment; the "
        "best weights are earlier ones",
    ),
    Symptom(
        "discriminator wins",
        ("train/adversarial", "train/real_sign"),
        lambda v: v["train/real_sign"] > 0.95 and v["train/adversarial"] > 3,
        "the discriminator knows nearly every real image (mean sign {train_real_sign:.2f}), and the generator, whose "
        "adversarial loss is {train_adversarial:.1f}, learns little from so sure a judge",
        "raise model.init_args.r1_weight tenfold, or lower the discriminator's learning rate",
    ),
    *(
        Symptom(
            f"dead term: {term}",
            (f"train/{term}", f"train/{term}, first"),
            partial(_dead, term),
            f"the term {term} is 0 throughout, so it teaches nothing",
            f"look whether model.init_args.weights.{term} is what you mean, and whether its judge gets faces at all "
            f"(samples/ of the run)",
        )
        for term in TERMS
    ),
    Symptom(
        "worse than the portrait",
        ("val/psnr", "val/psnr_copy_source"),
        lambda v: v["val/psnr"] < v["val/psnr_copy_source"] - 1,
        "held-out results are further from the truth ({val_psnr:.1f} dB) than the unchanged portrait "
        "({val_psnr_copy_source:.1f} dB)",
        "train longer; if it stands still, the inversion of stage 2 is the limit: look at its val/psnr first",
    ),
    Symptom(
        "lips are not learnt",
        ("train/sync", "train/sync, first"),
        lambda v: v["train/sync"] > max(0.3, 0.95 * v["train/sync, first"]),
        "the sync term has not fallen ({train_sync_first:.3f} to {train_sync:.3f})",
        "examine the expert: fctfg doctor sync --data DIR --expert RUN; then raise model.init_args.weights.sync",
    ),
    Symptom(
        "no face",
        ("faces found",),
        lambda v: v["faces found"] < 0.9,
        "a face was found in only {faces found:.0%} of the frames of its results",
        "the generator has not learnt faces: train stage 1 longer, and look at its samples",
    ),
    Symptom(
        "motion vanished",
        ("opening correlation", "train/orthogonality"),
        lambda v: v["opening correlation"] < 0.3 and v["train/orthogonality"] < 0.05,
        "the orthogonality term is small ({train_orthogonality:.3f}) and the mouth does not follow (correlation "
        "{opening correlation:.2f}): a motion code of nothing is orthogonal to everything",
        "lower model.init_args.weights.orthogonality and raise weights.sync until the mouth moves",
    ),
    Symptom(
        "canonical images are posed",
        ("canonical spread",),
        lambda v: v["canonical spread"] > 8,
        "the canonical images of one clip differ by {canonical spread:.1f} levels: pose and mouth are still in them",
        "raise model.init_args.weights.orthogonality, and see that data.frames shows different poses",
    ),
    Symptom(
        "identity lost",
        ("verification AUC",),
        lambda v: v["verification AUC"] < 0.8,
        "results are taken for somebody else: verification AUC {verification AUC:.2f} (a guess: 0.5)",
        "raise model.init_args.weights.identity, or train stage 2 on more people; the inversion is the limit",
    ),
    Symptom(
        "blurry",
        ("sharpness",),
        lambda v: v["sharpness"] < 0.6,
        "results have {sharpness:.0%} of the real frames' sharpness",
        "raise model.init_args.weights.adversarial and weights.perceptual; stage 1 must be sharp first",
    ),
    Symptom(
        "never blinks",
        ("blink F1",),
        lambda v: v["blink F1"] < 0.2,
        "the driver's blinks are not in the results (F1 {blink F1:.2f})",
        "blinks are few frames: train longer, on drivers that blink; lower model.init_args.weights.identity, which "
        "prefers open eyes",
    ),
)
"""In the order of their likelihood as the cause of what stands below them."""


def read_values(run: Path) -> tuple[dict[str, float], str]:
    """What a run has logged and what its evaluation has found.

    Args:
        run: its folder.

    Returns:
        Of each logged term the mean over the last tenth of its values, and, of ten and more, as `NAME, first` over the
        first tenth; of
        the evaluation in `RUN/evaluation`, each figure's mean by its name without brackets. And what somebody has to
        know of the evaluation, empty where there is nothing: one of other weights than the run's does not count.

    Raises:
        FctfgError: nothing was logged, the run is of stage 0, or the evaluation is damaged.
    """
    if not run.is_dir():
        raise FctfgError(f"{run}: no such run; `fctfg runs` lists them")
    state = read_state(run)
    if state is not None and state.stage in ("sync_expert", "identity_expert"):
        remedy = (
            f"fctfg doctor sync --data DIR --run {run}" if state.stage == "sync_expert" else f"read {run}/metrics.csv"
        )
        raise FctfgError(f"{run} is a run of stage 0 ({state.stage}), which has other symptoms; {remedy}")
    values: dict[str, float] = {}
    for name, points in read_metrics(run / "metrics.csv").items():
        known = [value for _, value in points if math.isfinite(value)]
        if known:
            part = max(1, len(known) // TENTH)
            values[name] = sum(known[-part:]) / part
            if len(known) >= TENTH:
                values[f"{name}, first"] = sum(known[:part]) / part
    path = run / "evaluation" / "results.json"
    if not path.is_file():
        return values, ""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = {name: each["mean"] for name, each in content["figures"].items()}
        found |= {name: each["value"] for name, each in content["whole"].items()}
        measured = content["made_with"]["weights"]["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise FctfgError(f"{path} is damaged; run fctfg evaluate again") from error
    weights = run / "export" / "weights.safetensors"
    if not weights.is_file() or measured != sha256(weights):
        return values, f"{path} is of other weights than the run has now, and does not count; evaluate again"
    return values | {name.split("[")[0]: value for name, value in found.items() if value is not None}, ""


def diagnose_run(values: Values) -> list[tuple[str, str, str]]:
    """What is wrong, the likeliest cause first.

    Args:
        values: of `read_values`.

    Returns:
        (name, cause, remedy) of each symptom.
    """
    told = {name.replace("/", "_").replace(", first", "_first"): value for name, value in values.items()}
    return [(each.name, each.cause.format(**told), each.remedy) for each in SYMPTOMS if each.applies(values)]


def asked(values: Values) -> tuple[list[str], list[str]]:
    """Which symptoms could be looked for, and which could not, by name."""
    known = [each for each in SYMPTOMS if all(math.isfinite(values.get(name, math.nan)) for name in each.needs)]
    return [each.name for each in known], [each.name for each in SYMPTOMS if each not in known]

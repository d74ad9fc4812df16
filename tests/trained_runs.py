"""Runs of all stages at micro size, and the command line that makes them."""

from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
CONFIGS = HERE.parent / "configs"
BEFORE = {  # what each stage takes over
    "sync_expert": {},
    "identity_expert": {},
    "generator": {},
    "encoder": {"generator": "generator", "identity_expert": "identity_expert"},
    "hypernetwork": {"inversion": "encoder", "identity_expert": "identity_expert"},
    "talking_face": {
        "generator": "generator",
        "identity_expert": "identity_expert",
        "inversion": "hypernetwork",
        "sync_expert": "sync_expert",
    },
}
STAGES = tuple(BEFORE)
Place = tuple[Path, Path]  # data, runs


def arguments(place: Place, stage: str, run: str | None = None, *more: str) -> list[str]:
    data, runs = place
    configs = [CONFIGS / "base.yaml", CONFIGS / f"{stage}.yaml", HERE / "micro.yaml"]
    taken = [f"--model.init_from.{role}={runs / name}" for role, name in BEFORE[stage].items()]
    return [
        "train",
        *(f"--config={path}" for path in configs),
        f"--run={run or stage}",
        f"--runs={runs}",
        f"--data.root={data}",
        "--data.batch_size=2",
        *taken,
        *more,
    ]


def checkpoint(place: Place, run: str) -> dict[str, Any]:
    return torch.load(place[1] / run / "checkpoints" / "last.ckpt", weights_only=True)


def numbers(place: Place, run: str) -> list[str]:
    """The rows of a run's metrics that do not depend on the clock."""
    rows = (place[1] / run / "metrics.csv").read_text().splitlines()
    return [row for row in rows if ",speed/" not in row]


def equal(one: Any, other: Any) -> bool:
    """Equal to the bit, through all containers."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(equal(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)

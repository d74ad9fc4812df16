"""The order of the code: a file imports from lower tiers and from its own folder only, and inference stays light."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "fctfg"

# A unit is a folder directly in fctfg/, or a file there. Files of one tier may import each other, folders may not.
TIERS = (
    {"errors", "atomic", "file_hash", "randomness", "ranges", "host_memory", "run_state", "troubles"},
    {"media"},
    {"ops", "demo_corpus"},
    {"models"},
    {"losses", "weights", "faces"},
    {"data", "metrics", "inference", "inputs"},
    {"stages"},
    {"report", "report_media", "report_style", "chart", "histogram", "scatter"},
    {"doctor", "evaluation"},
    {
        "cli",
        "cli_data",
        "cli_doctor",
        "cli_evaluate",
        "doctor_report",
        "cli_weights",
        "bench",
        "bench_data",
        "bench_memory",
        "bench_networks",
        "bench_peak",
        "bench_train",
        "train",
        "continuation",
        "run_lock",
        "runs",
        "setting_errors",
        "demo",
        "demo_result",
        "demo_report",
        "held_out",
        "strip",
        "data_report",
        "data_show",
        "config_files",
        "__main__",
    },
)
TIER = {unit: number for number, units in enumerate(TIERS) for unit in units}

# What only the training side may import, and which files are the training side.
TRAINING_LIBRARIES = {"pytorch_lightning", "lightning", "wandb", "yaml", "jsonargparse"}
TRAINING_SIDE = ("data/datamodule.py", "stages/", "train.py", "demo.py", "evaluation/tracking.py")


def source_files() -> list[Path]:
    """Every Python file of the package except its root `__init__`, which only offers names lazily."""
    return sorted(file for file in PACKAGE.rglob("*.py") if file != PACKAGE / "__init__.py")


def unit_of(file: Path) -> str:
    """`models` for models/experts/vgg.py, `media` for media.py."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(file: Path) -> Iterator[tuple[int, str]]:
    """Yields (line, absolute dotted name) of each import anywhere in the file; `from a import b` gives `a.b`."""
    package = ("fctfg", *file.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), str(file))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [] if node.level == 0 else list(package[: len(package) + 1 - node.level])
            base += node.module.split(".") if node.module else []
            yield from ((node.lineno, ".".join([*base, alias.name])) for alias in node.names)


def test_every_unit_has_a_tier() -> None:
    units = {unit_of(file) for file in source_files()}
    assert units <= TIER.keys(), f"add to the table of tiers: {units - TIER.keys()}"


@pytest.mark.parametrize("file", source_files(), ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_imports_point_downwards(file: Path) -> None:
    unit = unit_of(file)
    wrong = []
    for line, module in imported_modules(file):
        if not module.startswith("fctfg.") or module == "fctfg.__version__":
            continue
        target = module.split(".")[1]
        is_file = (PACKAGE / f"{unit}.py").is_file() and (PACKAGE / f"{target}.py").is_file()
        same_place = target == unit or (is_file and TIER.get(target) == TIER[unit])
        if not same_place and TIER.get(target, len(TIERS)) >= TIER[unit]:
            wrong.append(f"line {line}: {module}")
    assert not wrong, f"{file.name} is in tier {TIER[unit]} ({unit}) and must not import: {wrong}"


@pytest.mark.parametrize("file", source_files(), ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_only_the_training_side_imports_training_libraries(file: Path) -> None:
    if file.relative_to(PACKAGE).as_posix().startswith(TRAINING_SIDE):
        return
    wrong = [module for _, module in imported_modules(file) if module.split(".")[0] in TRAINING_LIBRARIES]
    assert not wrong, f"{file.relative_to(PACKAGE)} must not import {wrong}"


def loaded_modules(statement: str) -> set[str]:
    """The top-level names in `sys.modules` after a fresh interpreter has run the statement."""
    program = f"import json, sys; {statement}; print(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(result.stdout.splitlines()[-1]))


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert not loaded_modules("import fctfg") & {"torch", "numpy", "pyarrow", "av", "cv2", "dlib"}


def test_inference_loads_no_trainer() -> None:
    loaded = loaded_modules("import fctfg.inference")
    assert "torch" in loaded
    assert not loaded & {"pytorch_lightning", "lightning", "wandb", "yaml"}

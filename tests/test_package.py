"""The package as it is installed: every shipped file where the code looks for it."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from fctfg import config_files
from fctfg.errors import FctfgError

ROOT = Path(__file__).parents[1]


def test_shipped_configurations_are_those_of_the_repository() -> None:
    in_repository = {
        file.relative_to(ROOT / "configs").with_suffix("").as_posix() for file in ROOT.glob("configs/**/*.yaml")
    }
    assert set(config_files.names()) == in_repository
    assert {"base", "tiny"} <= in_repository
    assert config_files.path("base").read_text() == (ROOT / "configs" / "base.yaml").read_text()


def test_unknown_configuration_names_the_known_ones() -> None:
    with pytest.raises(FctfgError, match=r"'bsae'.*base"):
        config_files.path("bsae")


@pytest.mark.slow
def test_wheel_holds_code_configurations_and_data(tmp_path: Path) -> None:
    source = tmp_path / "source"
    skipped = shutil.ignore_patterns(".*", "runs", "wandb", "build", "dist", "checkpoints", "__pycache__", "*.egg-info")
    shutil.copytree(ROOT, source, symlinks=True, ignore=skipped)
    command = [sys.executable, "-m", "build", "--outdir", str(tmp_path / "dist"), str(source)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    [wheel] = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    shipped = {".py", ".yaml", ".json", ".mp4", ".safetensors", ".typed"}
    files = [file for file in (ROOT / "fctfg").rglob("*") if file.suffix in shipped]
    expected = {file.relative_to(ROOT).as_posix() for file in files}
    expected |= {f"fctfg/{file.relative_to(ROOT).as_posix()}" for file in ROOT.glob("configs/**/*.yaml")}
    assert expected <= inside, f"not in the wheel: {sorted(expected - inside)}"

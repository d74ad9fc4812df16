"""Files that are no weights of ours: each is refused in one sentence, and nothing in it is executed."""

import json
import pickle
import struct
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tiny_talking_face import run_folder

from fctfg.errors import FctfgError
from fctfg.models.stylegan2 import GeneratorConfig
from fctfg.weights.artifact import load_artifact
from fctfg.weights.config_json import config_to_dict


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_folder(tmp_path_factory.mktemp("runs") / "talking face ü")


def refused(path: Path) -> str:
    with pytest.raises(FctfgError) as error:
        load_artifact(path)
    text = str(error.value)
    assert str(path) in text and "\n" not in text
    return text


def test_missing_file_and_run_without_an_export(tmp_path: Path) -> None:
    assert "do not exist" in refused(tmp_path / "nothing")
    (tmp_path / "run").mkdir()
    assert "has no export/weights.safetensors" in refused(tmp_path / "run")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "is a web page"),
        (b"\n<html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
        (b"not weights at all, but long enough to be read", "truncated, or no weights file"),
        (struct.pack("<Q", 10**18) + b"{}", "truncated, or no weights file"),
    ],
)
def test_files_of_another_kind(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    assert message in refused(path)


@pytest.mark.parametrize("keep", [0.01, 0.5, 0.999])
def test_truncated_file(tmp_path: Path, run: Path, keep: float) -> None:
    content = (run / "export" / "weights.safetensors").read_bytes()
    path = tmp_path / "w.safetensors"
    path.write_bytes(content[: int(len(content) * keep)])
    assert "is truncated" in refused(path)


class Bomb:
    """A pickle that creates a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", ["pickle", "torch", "torch_legacy"])
def test_pickles_are_refused_and_never_executed(tmp_path: Path, kind: str) -> None:
    path, evidence = tmp_path / "last.ckpt", tmp_path / "executed"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Bomb(evidence)))
    else:
        torch.save(Bomb(evidence), path, _use_new_zipfile_serialization=kind == "torch")
    assert "is a pickle" in refused(path)
    assert not evidence.exists()


def test_foreign_safetensors(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    assert "fctfg did not write" in refused(tmp_path / "foreign.safetensors")
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors", metadata={"format": "fctfg-2"})
    assert "'fctfg-2'" in refused(tmp_path / "other.safetensors")


def test_damaged_headers(tmp_path: Path, run: Path) -> None:
    with safe_open(run / "export" / "weights.safetensors", framework="pt") as file:
        good = dict(file.metadata())

    def header(**changes: str | None) -> str:
        path = tmp_path / "w.safetensors"
        metadata = {key: value for key, value in {**good, **changes}.items() if value is not None}
        save_file({"generator.x": torch.zeros(2)}, path, metadata=metadata)
        return refused(path)

    assert "header" in header(stage=None)
    assert "header" in header(card="{")
    assert "header" in header(configs="[]")
    assert "does not know (generator_v2)" in header(configs='{"generator_v2": {}}')
    assert "belongs to no network" in header(configs="{}")
    config = json.dumps({"generator": config_to_dict(GeneratorConfig()) | {"fused": True}})
    assert "unknown fused" in header(configs=config)

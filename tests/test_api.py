"""The Python API as the README shows it."""

import re
from pathlib import Path

import numpy as np
import pytest
from raw_media import write_wav
from tiny_talking_face import run_folder

import fctfg
from fctfg.inference import TalkingFace
from fctfg.media import write_image

README = Path(__file__).parents[1] / "README.md"


def test_the_readme_snippet_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snippets = [code for code in re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)]
    [snippet] = [code for code in snippets if "TalkingFace" in code]
    monkeypatch.chdir(tmp_path)
    run_folder(Path("runs/talking_face"))
    write_image("face_crop.png", np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    write_wav("speech.wav", np.zeros(16_000, np.float32))
    names: dict[str, object] = {}
    exec(compile(snippet, str(README), "exec"), names)
    assert isinstance(names["model"], TalkingFace)
    frame = names["frame"]  # the last one
    assert isinstance(frame, np.ndarray) and frame.shape == (32, 32, 3) and frame.dtype == np.uint8


def test_the_package_offers_talking_face_and_nothing_by_accident() -> None:
    assert fctfg.TalkingFace is TalkingFace
    with pytest.raises(AttributeError, match="no attribute 'TalkingFaces'"):
        fctfg.TalkingFaces  # noqa: B018

"""The catalogue of published weights, and where their files are looked for."""

import dataclasses
import hashlib
import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from fctfg.errors import FctfgError
from fctfg.weights import catalogue
from fctfg.weights.catalogue import SOURCES, Entry
from fctfg.weights.licences import commercial_use

ENTRIES = catalogue.catalogue()


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, and no `FCTFG_WEIGHTS`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FCTFG_WEIGHTS", raising=False)
    return tmp_path


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES.keys())
def test_an_entry_is_complete(entry: Entry) -> None:
    assert re.fullmatch(r"[a-z0-9-]+", entry.name)
    assert entry.source in SOURCES
    assert entry.file == Path(entry.file).name
    assert all((entry.title, entry.page, entry.licence, entry.citation))
    assert entry.url is None or entry.url.startswith("https://")
    assert entry.size is None or entry.size > 1000
    assert entry.sha256 is None or re.fullmatch(r"[0-9a-f]{8,64}", entry.sha256)
    assert isinstance(entry.commercial, bool)


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES.keys())
def test_the_licence_says_what_the_entry_says_of_commercial_use(entry: Entry) -> None:
    assert commercial_use(entry.licence) == ("yes" if entry.commercial else "no")


def test_names_and_files_are_unique() -> None:
    shipped = json.loads((Path(catalogue.__file__).with_suffix(".json")).read_text())
    assert [list(fields) for fields in shipped] == [[f.name for f in dataclasses.fields(Entry)]] * len(shipped)
    assert len(ENTRIES) == len(shipped) == len({entry.file for entry in ENTRIES.values()})


def test_torchvisions_hashes_begin_with_the_digits_of_their_names() -> None:
    for name in ("vgg16-imagenet", "vgg19-imagenet", "alexnet-imagenet"):
        entry = catalogue.entry(name)
        assert entry.sha256 is not None
        assert entry.sha256.startswith(Path(entry.file).stem.split("-")[-1])


@pytest.mark.parametrize("trunk", ["alex", "vgg"])
def test_the_heads_are_those_of_the_lpips_package(trunk: str) -> None:
    spec = find_spec("lpips")
    assert spec is not None and spec.origin is not None
    data = (Path(spec.origin).parent / "weights" / "v0.1" / f"{trunk}.pth").read_bytes()
    entry = catalogue.entry(f"lpips-{trunk}")
    assert (entry.file, entry.size) == (f"{trunk}.pth", len(data))
    assert entry.sha256 == hashlib.sha256(data).hexdigest()


def test_an_unknown_name_is_answered_with_near_ones() -> None:
    with pytest.raises(FctfgError, match=r"'wav2lips'; did you mean wav2lip,"):
        catalogue.entry("wav2lips")


def test_a_file_has_its_entry_in_any_folder() -> None:
    entry = catalogue.entry_of_file("/somewhere/vgg19-dcbb9e9d.pth")
    assert entry is not None and entry.name == "vgg19-imagenet"
    assert catalogue.entry_of_file("mine.pth") is None


def test_a_file_is_found_in_the_folders_in_turn(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("one", "two", "checkpoints"):
        (elsewhere / folder).mkdir()
    (elsewhere / "checkpoints" / "wav2lip.pth").touch()
    monkeypatch.setenv("FCTFG_WEIGHTS", f"{elsewhere / 'one'}:{elsewhere / 'two'}")
    assert catalogue.locate("wav2lip") == Path("checkpoints/wav2lip.pth")
    (elsewhere / "two" / "wav2lip.pth").touch()
    assert catalogue.locate("wav2lip") == elsewhere / "two" / "wav2lip.pth"
    (elsewhere / "one" / "wav2lip.pth").touch()
    assert catalogue.locate("wav2lip") == elsewhere / "one" / "wav2lip.pth"


def test_a_missing_file_is_described(elsewhere: Path) -> None:
    with pytest.raises(FctfgError) as caught:
        catalogue.locate("vgg19-imagenet", key="networks.perceptual.weights")
    said = str(caught.value)
    entry = catalogue.entry("vgg19-imagenet")
    for part in (entry.file, entry.page, entry.licence, "fctfg weights fetch vgg19-imagenet", "FCTFG_WEIGHTS"):
        assert part in said
    assert "set networks.perceptual.weights to another file" in said
    with pytest.raises(FctfgError, match=r"by hand and run `fctfg weights fetch wav2lip --file FILE`"):
        catalogue.locate("wav2lip")


def test_the_catalogue_is_light() -> None:
    program = "import sys, fctfg.weights.catalogue; print({'torch', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "set()\n"


def test_the_page_on_weights_shows_each_import_and_each_licence() -> None:
    page = (Path(__file__).parents[1] / "docs" / "weights.md").read_text(encoding="utf-8")
    listed = page.split("## The catalogue")[1]
    for source in SOURCES:
        assert f"`fctfg weights import {source} " in page, source
    for entry in ENTRIES.values():
        row = next(line for line in listed.splitlines() if line.startswith(f"| `{entry.name}` |"))
        assert f"| {entry.licence} | {'yes' if entry.commercial else 'no'} | {entry.citation} |" in row

"""`fctfg train --commercial_safe`, and the licences that cards list."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from clip_sets import change_column
from trained_runs import Place, arguments

from fctfg.cli import main
from fctfg.models.experts.vgg import VGG19, VGGConfig
from fctfg.weights.licences import commercial_use, of_weights

pytestmark = pytest.mark.usefixtures("untracked")

SHORT = ("--trainer.max_epochs=1", "--data.batches_per_epoch=1")


@pytest.mark.parametrize(
    ("licence", "use"),
    [
        ("CC0-1.0", "yes"),
        ("CC BY 4.0", "yes"),
        ("CC-BY-SA-4.0", "yes"),
        ("Creative Commons Attribution 4.0 International", "yes"),
        ("MIT", "yes"),
        ("Apache-2.0 AND BSD-3-Clause", "yes"),
        ("our own recordings, with written consent", "yes"),
        ("stock footage, commercial use licensed", "yes"),
        ("CC BY-NC 4.0", "no"),
        ("CC-BY-NC-SA-4.0", "no"),
        ("Creative Commons Attribution-NonCommercial 4.0", "no"),
        ("MIT; trained on LRS2: research only", "no"),
        ("for academic use", "no"),
        ("not for commercial use", "no"),
        ("Commercial use is prohibited", "no"),
        ("CC BY-ND 4.0", "unknown"),
        ("MIT and the terms of the data", "unknown"),
        ("no licence, MIT perhaps", "unknown"),
        ("ask Jane", "unknown"),
        ("MIT code, NVIDIA Source Code License", "unknown"),
        ("MIT for the encoder, S-Lab License 1.0 for the weights", "unknown"),
        ("MIT for research", "unknown"),
        ("Apache-2.0 (data: for research)", "unknown"),
        ("Apache-2.0 with Commons Clause", "unknown"),
        ("MIT. Weights: academic use", "unknown"),
        ("Commercial use is allowed only with a paid licence", "unknown"),
        ("MIT, limited to scientific purposes", "unknown"),
        ("GPL-3.0-or-later", "yes"),
        ("the MIT License", "yes"),
        ("Apache License 2.0", "yes"),
        ("Apache License, Version 2.0", "yes"),
        ("Mozilla Public License 2.0; trained on our own videos", "unknown"),
        ("Mozilla Public License version 2.0", "yes"),
        ("Apache License, Version 2.0, for research only", "no"),
        ("MIT OR Apache-2.0", "yes"),
        ("MIT or Apache-2.0", "yes"),
        ("MIT OR CC-BY-NC-4.0", "yes"),
        ("CC BY-NC 4.0 OR Apache License 2.0", "yes"),
        ("CC-BY-NC-4.0 OR CC-BY-ND-4.0", "unknown"),
        ("CC-BY-NC-4.0 OR CC-BY-NC-SA-4.0", "no"),
        ("MIT AND CC-BY-NC-4.0 OR CC-BY-ND-4.0 AND MIT", "unknown"),
        ("MIT OR Apache-2.0 AND CC-BY-NC-4.0", "yes"),
        ("(MIT OR Apache-2.0) AND CC-BY-NC-4.0", "no"),
        ("(MIT OR (CC-BY-NC-4.0 AND CC0-1.0)) AND BSD-3-Clause", "yes"),
        ("MIT OR Apache-2.0; trained on LRS2: research only", "no"),
        ("MIT OR Apache-2.0 for research use only", "no"),
        ("MIT OR Apache-2.0 (data: for research)", "unknown"),
        ("MIT OR the terms of the data", "unknown"),
        ("CC BY or the terms of the uploader", "unknown"),
        ("CC-BY-4.0 or CC-BY-NC-4.0", "no"),
        ("not said", "unknown"),
        ("", "unknown"),
    ],
)
def test_what_a_licence_allows(licence: str, use: str) -> None:
    assert commercial_use(licence) == use


@pytest.fixture(scope="module")
def licensed(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes the data set of the runs under another licence of one of its people."""

    def make(licence: str) -> Path:
        folder = tmp_path_factory.mktemp("licensed") / "data"
        shutil.copytree(place[0], folder)
        change_column(folder, "licence", lambda identity, before: licence if identity == "p1" else before)
        return folder

    return make


def card(run: Path) -> dict[str, object]:
    return json.loads((run / "export" / "card.json").read_text())["licences"]


@pytest.mark.parametrize(
    "option",
    [("--commercial-safe",), ("--commercial_safe",), ("--commercial-safe=true",), ("--commercial_safe", "yes")],
)
def test_data_that_forbid_it_are_refused(
    place: Place, licensed: Callable[[str], Path], option: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    data = licensed("CC BY-NC 4.0")
    assert main(arguments((data, place[1]), "encoder", "refused", *option)) == 1
    said = capsys.readouterr().err
    assert f"{data}: the licence of data (CC BY-NC 4.0) forbids it" in said
    assert "CC0" not in said
    assert not (place[1] / "refused").exists()


def test_data_without_a_licence_are_refused(
    place: Place, licensed: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments((licensed(""), place[1]), "sync_expert", "refused", "--commercial-safe")) == 1
    said = capsys.readouterr().err
    assert "the licence of data (not said) does not clearly allow it" in said
    assert "with --licence" in said


def test_free_data_and_weights_pass(place: Place) -> None:
    assert main(arguments(place, "encoder", "free", "--commercial-safe", *SHORT)) == 0
    assert card(place[1] / "free") == {"data": ["CC0-1.0"], "weights": {}}
    assert json.loads((place[1] / "free" / "export" / "card.json").read_text())["consents"] == ["signed"]
    assert "commercial_safe: true" in (place[1] / "free" / "config.yaml").read_text()


def test_a_licence_follows_the_weights(
    place: Place, licensed: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    runs = place[1]
    assert main(arguments((licensed("CC BY-NC 4.0"), runs), "identity_expert", "bound_judge", *SHORT)) == 0
    judge = f"--model.init_from.identity_expert={runs / 'bound_judge'}"
    assert main(arguments(place, "encoder", "bound", judge, "--commercial-safe", *SHORT)) == 1
    named = f"{runs / 'bound_judge'} (model.init_args.init_from.identity_expert): the licence of data (CC BY-NC 4.0)"
    assert named in capsys.readouterr().err
    assert not (runs / "bound").exists()

    assert main(arguments(place, "encoder", "bound", judge, *SHORT)) == 0
    assert card(runs / "bound") == {"data": ["CC BY-NC 4.0", "CC0-1.0"], "weights": {}}
    later = f"--model.init_from.inversion={runs / 'bound'}"  # two stages later
    assert main(arguments(place, "hypernetwork", "later", later, "--commercial-safe")) == 1
    assert f"{runs / 'bound'} (model.init_args.init_from.inversion)" in capsys.readouterr().err


def test_a_run_that_goes_on_keeps_its_licences(
    place: Place, licensed: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    bound = licensed("CC BY-NC 4.0"), place[1]
    assert main(arguments(bound, "sync_expert", "goes_on", *SHORT)) == 0
    again = ("--trainer.max_epochs=2", "--data.batches_per_epoch=1")
    assert main(arguments(place, "sync_expert", "goes_on", "--commercial-safe", *again)) == 1
    assert f"{place[1] / 'goes_on'}, so far: the licence of data (CC BY-NC 4.0)" in capsys.readouterr().err
    assert main(arguments(place, "sync_expert", "goes_on", *again)) == 0
    assert card(place[1] / "goes_on") == {"data": ["CC BY-NC 4.0", "CC0-1.0"], "weights": {}}


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the layout and the name of torchvision's AlexNet."""
    shapes = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
    state = {}
    for index, (after, before, size) in shapes.items():
        state[f"features.{index}.weight"] = torch.randn(after, before, size, size) * 0.02
        state[f"features.{index}.bias"] = torch.zeros(after)
    path = tmp_path_factory.mktemp("weights") / "alexnet-owt-7be5be79.pth"
    torch.save(state, path)
    return path


def test_published_judges_are_refused_and_listed(
    place: Place, alexnet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = f"--networks.lpips={alexnet}"
    assert main(arguments(place, "encoder", "judged", judge, "--commercial-safe")) == 1
    said = capsys.readouterr().err
    assert f"{alexnet} (networks.lpips): the licence of alexnet-imagenet (BSD-3-Clause; trained on ImageNet" in said
    assert "lpips-alex" not in said

    assert main(arguments(place, "encoder", "judged", judge, *SHORT)) == 0
    weights = card(place[1] / "judged")["weights"]
    assert isinstance(weights, dict) and list(weights) == ["alexnet-imagenet", "lpips-alex"]
    assert of_weights(place[1] / "judged").weights == weights

    unknown = alexnet.with_name("mine.pth")
    shutil.copyfile(alexnet, unknown)
    assert main(arguments(place, "encoder", "other", f"--networks.lpips={unknown}", "--commercial-safe")) == 1
    assert f"the licence of {unknown} (not said) does not clearly allow it" in capsys.readouterr().err


def test_vgg_is_refused(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "vgg19-dcbb9e9d.pth"
    head = {"features.34.weight": torch.zeros(1)}  # of what lies behind the features
    torch.save(VGG19(VGGConfig()).state_dict() | head, path)
    vgg = (f"--networks.perceptual.weights={path}", "--networks.perceptual.width=1.0", "--commercial-safe")
    assert main(arguments(place, "talking_face", "seen", *vgg)) == 1
    assert f"{path} (networks.perceptual.weights): the licence of vgg19-imagenet" in capsys.readouterr().err


def test_weights_of_an_earlier_version_say_nothing(place: Place, tmp_path: Path) -> None:
    assert of_weights(tmp_path / "lost").weights == {str(tmp_path / "lost"): "not said"}
    (tmp_path / "alex.pth").touch()  # of another size than the entry that is called so, and free
    assert of_weights(tmp_path / "alex.pth").weights == {str(tmp_path / "alex.pth"): "not said"}
    assert of_weights("wav2lip").weights.keys() == of_weights(tmp_path / "wav2lip.pth").weights.keys() == {"wav2lip"}

"""Stages that start from published files, named by path or by their name in the catalogue, through the command line."""

from pathlib import Path
from typing import Any

import onnx
import published_files as published
import pytest
import torch
from published_files import save, state
from test_arcface_onnx import network as onnx_network
from torch import Tensor, nn
from torchvision.models import alexnet
from torchvision.models.vgg import cfgs, make_layers
from trained_runs import Place, arguments

from fctfg.cli import main
from fctfg.models.audio_encoder import AudioEncoder, AudioEncoderConfig
from fctfg.models.discriminator import Discriminator, DiscriminatorConfig
from fctfg.models.experts.arcface import ArcFace, ArcFaceConfig
from fctfg.models.experts.syncnet import SyncNet, SyncNetConfig
from fctfg.models.irse import IRSEConfig
from fctfg.models.stylegan2 import Generator, GeneratorConfig
from fctfg.weights.artifact import build, load_artifact
from fctfg.weights.sources.stylegan2_nvlabs import state_for_nvlabs

pytestmark = pytest.mark.usefixtures("untracked")

GENERATOR = GeneratorConfig(resolution=32, style_dim=16, n_mlp=2, channel_base=256, channel_max=16)  # of micro.yaml
BODY = IRSEConfig(channels=(8, 12, 16, 20), blocks=(1, 1, 1, 1), se_reduction=4)
RESTING = ("--trainer.max_epochs=1", "--data.batches_per_epoch=1", "--model.init_args.learning_rate=0")


def parameters(network: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in network.named_parameters()}


def equal(one: nn.Module, other: nn.Module) -> bool:
    """Equal parameters; statistics of batch norm move with every batch, whatever the learning rate."""
    a, b = parameters(one), parameters(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def stylegan2() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    sizes = DiscriminatorConfig(GENERATOR.resolution, GENERATOR.channel_base, GENERATOR.channel_max)
    return {
        "generator": published.shaken(Generator(GENERATOR)),
        "generator_raw": published.shaken(Generator(GENERATOR)),
        "discriminator": published.shaken(Discriminator(sizes)),
    }


def train(place: Place, stage: str, run: str, *more: str) -> dict[str, Any]:
    """Trains one iteration at learning rate 0; returns the networks of the run's export."""
    assert main(arguments(place, stage, run, *RESTING, *more)) == 0
    artifact = load_artifact(place[1] / run)
    return {name: build(artifact, name) for name in artifact.configs}


@pytest.mark.parametrize("layout", ["rosinality", "nvlabs", "imported"])
def test_stage_1_starts_from_a_published_stylegan2(place: Place, tmp_path: Path, layout: str) -> None:
    theirs = stylegan2()
    if layout == "nvlabs":
        parts = {"G_ema": "generator", "G": "generator_raw", "D": "discriminator"}
        content = {name: state_for_nvlabs(theirs[ours]) for name, ours in parts.items()}
        path = published.nvlabs_pickle(tmp_path / "snapshot.pkl", content)
    else:
        parts = {"g_ema": "generator", "g": "generator_raw", "d": "discriminator"}
        content = {name: state(theirs[ours]) for name, ours in parts.items()} | {"latent_avg": torch.zeros(16)}
        path = save(content, tmp_path / "g.pt")
    if layout == "imported":
        out = tmp_path / "g.safetensors"
        assert main(["weights", "import", "stylegan2-rosinality", str(path), "--out", str(out)]) == 0
        path = out
    average = "--model.init_args.ema_half_life=1e9"
    got = train(place, "generator", f"warm_{layout}", f"--model.init_from.generator={path}", average)
    assert all(equal(got[name], theirs[name]) for name in ("generator_raw", "discriminator"))
    for name, value in parameters(got["generator"]).items():
        torch.testing.assert_close(value, parameters(theirs["generator"])[name], atol=1e-5, rtol=1e-5)


def test_stage_1_makes_a_discriminator_where_the_file_has_none(
    place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = stylegan2()
    path = save({"g_ema": state(theirs["generator"]), "latent_avg": torch.zeros(16)}, tmp_path / "g.pt")
    got = train(place, "generator", "warm_without_d", f"--model.init_from.generator={path}")
    assert equal(got["generator_raw"], theirs["generator"])
    assert "discriminator: new" in caplog.text and "generator: starts from" in caplog.text


def test_a_file_of_another_size_is_refused(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save({"g_ema": state(published.generator())}, tmp_path / "g.pt")  # more channels and layers
    command = arguments(place, "generator", "refused", f"--model.init_from.generator={path}")
    assert main(command) == 1
    said = capsys.readouterr().err
    assert "does not fit generator" in said and "n_mlp is 3 instead of 2" in said
    assert not (place[1] / "refused").exists()


def test_the_sync_expert_starts_from_wav2lips(place: Place, tmp_path: Path) -> None:
    torch.manual_seed(1)
    theirs = published.shaken(SyncNet(SyncNetConfig(width=0.125, dim=16)))
    content = {"state_dict": state(theirs, "module."), "optimizer": None}
    path = save(content, tmp_path / "lipsync_expert.pth")
    got = train(place, "sync_expert", "warm_sync", f"--model.init_from.sync_expert={path}")
    assert equal(got["sync_expert"], theirs)


def test_stage_2_starts_from_ir_se50_of_the_catalogue(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(2)
    theirs = published.shaken(ArcFace(ArcFaceConfig(BODY, dim=16)))
    save(state(theirs), tmp_path / "model_ir_se50.pth")
    monkeypatch.setenv("FCTFG_WEIGHTS", str(tmp_path))
    got = train(place, "encoder", "warm_encoder", "--model.init_from.identity_expert=ir-se50")
    assert equal(got["visual_encoder"].body, theirs.body)
    assert equal(got["visual_encoder"].input_layer, theirs.input_layer)
    assert "its body starts as the identity expert's" in caplog.text


def test_the_identity_expert_starts_from_ir_se50(place: Place, tmp_path: Path) -> None:
    torch.manual_seed(3)
    theirs = published.shaken(ArcFace(ArcFaceConfig(BODY, dim=16)))
    path = save(state(theirs), tmp_path / "face.pth")
    got = train(place, "identity_expert", "warm_identity", f"--model.init_from.identity_expert={path}")
    assert equal(got["identity_expert"], theirs)


def test_stage_3_hears_with_wav2lips_encoder_and_sees_with_an_onnx_recogniser(place: Place, tmp_path: Path) -> None:
    torch.manual_seed(4)
    theirs = published.shaken(AudioEncoder(AudioEncoderConfig(width=0.125, dim=16)))
    tensors = {key.replace("layers.", "module.audio_encoder."): t for key, t in state(theirs).items()}
    path = save({"state_dict": tensors}, tmp_path / "wav2lip.pth")
    onnx.save(onnx_network(), tmp_path / "face.onnx")
    got = train(
        place,
        "talking_face",
        "warm_talking",
        f"--model.init_from.audio_encoder={path}",
        f"--model.init_from.identity_expert={tmp_path / 'face.onnx'}",
    )
    assert equal(got["audio_encoder"], theirs)


def test_judges_come_from_files_of_the_catalogue(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(5)
    features = {f"features.{key}": value for key, value in make_layers(cfgs["E"]).state_dict().items()}
    save(features, tmp_path / "vgg19-dcbb9e9d.pth")
    trunk = {key: value for key, value in alexnet().state_dict().items() if key.startswith("features.")}
    save(trunk, tmp_path / "alexnet-owt-7be5be79.pth")
    monkeypatch.setenv("FCTFG_WEIGHTS", str(tmp_path))
    published_vgg = "--networks.perceptual.weights=vgg19-imagenet", "--networks.perceptual.width=1"
    train(place, "talking_face", "warm_judged", *published_vgg)
    train(place, "encoder", "warm_compared", "--networks.lpips=alexnet-imagenet")
    for run in ("warm_judged", "warm_compared"):
        assert "random" not in (place[1] / run / "export" / "card.json").read_text().split('"notes"')[1]


@pytest.mark.parametrize(
    ("stage", "setting", "file", "key"),
    [
        ("encoder", "--model.init_from.identity_expert=ir-se50", "model_ir_se50.pth", "init_from.identity_expert"),
        ("encoder", "--networks.lpips=alexnet-imagenet", "alexnet-owt-7be5be79.pth", "networks.lpips"),
        ("talking_face", "--model.init_from.audio_encoder=wav2lip", "wav2lip.pth", "init_from.audio_encoder"),
        (
            "encoder",
            "--model.init_from.identity_expert=w/w600k_r50.onnx",
            "w600k_r50.onnx",
            "init_from.identity_expert",
        ),
        (
            "talking_face",
            "--networks.perceptual={weights: vgg19-imagenet, width: 1}",
            "vgg19-dcbb9e9d.pth",
            "perceptual.weights",
        ),
    ],
)
def test_a_missing_file_says_where_to_get_it_its_licence_and_the_setting(
    place: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stage: str,
    setting: str,
    file: str,
    key: str,
) -> None:
    monkeypatch.delenv("FCTFG_WEIGHTS", raising=False)
    monkeypatch.chdir(tmp_path)
    assert main(arguments(place, stage, "refused", setting)) == 1
    said = capsys.readouterr().err
    for part in (file, "licence: ", "fctfg weights fetch ", key):
        assert part in said
    assert not (place[1] / "refused").exists()


def test_a_name_that_is_neither_a_file_nor_in_the_catalogue(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(place, "encoder", "refused", "--networks.lpips=alexnet")) == 1
    assert "alexnet: no such file and no name of the catalogue (networks.lpips)" in capsys.readouterr().err
    assert main(arguments(place, "encoder", "refused", "--model.init_from.identity_expert=ir_se50")) == 1
    assert "did you mean ir-se50, of the catalogue?" in capsys.readouterr().err

"""Published weights in and out, through the command line: every row of docs/weights.md."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import published_files as published
import pytest
import torch
from published_files import save, state
from safetensors.torch import load_file
from test_arcface_onnx import network as onnx_network
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers
from trained_runs import equal

import fctfg.weights
from fctfg.cli import main
from fctfg.errors import FctfgError
from fctfg.models.discriminator import Discriminator, DiscriminatorConfig
from fctfg.models.experts.syncnet_v2 import SyncNetV2, SyncNetV2Config
from fctfg.models.experts.vgg import TAPS
from fctfg.models.hypernetwork import refine
from fctfg.models.stylegan2 import Generator, GeneratorConfig
from fctfg.weights.artifact import build, load_artifact, save_artifact
from fctfg.weights.catalogue import SOURCES as CATALOGUE_SOURCES
from fctfg.weights.catalogue import catalogue
from fctfg.weights.sources import SOURCES
from fctfg.weights.sources.stylegan2_nvlabs import state_for_nvlabs


def same(one: nn.Module, other: nn.Module) -> bool:
    """Equal configurations and tensors, less what a checkpoint does not hold."""
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def imported(path: Path, source: str, out: Path) -> dict[str, nn.Module]:
    """Through `fctfg weights import` and back from its file."""
    assert main(["weights", "import", source, str(path), "--out", str(out)]) == 0
    artifact = load_artifact(out)
    assert artifact.card["imported"]["source"] == source
    assert artifact.card["imported"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    return {name: build(artifact, name).eval() for name in artifact.configs}


def exported(weights: Path, source: str, out: Path) -> Any:
    assert main(["weights", "export", str(weights), source, "--out", str(out)]) == 0
    return load_file(out) if out.suffix == ".safetensors" else torch.load(out, weights_only=True)


def test_catalogue_and_layouts_name_the_same_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert tuple(SOURCES) == CATALOGUE_SOURCES
    assert main(["weights", "list"]) == 0
    said = capsys.readouterr().out
    for name in (*SOURCES, *catalogue(), *(entry.file for entry in catalogue().values())):
        assert name in said, name
    assert main(["weights", "list", "ir-se50"]) == 0
    said = capsys.readouterr().out
    for part in ("licence:", "MS-Celeb-1M", "sha256:", "citation:", "model_ir_se50.pth"):
        assert part in said


# ----------------------------------------------------------------------------------------------------- StyleGAN2


def test_rosinality_there_and_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = published.rosinality()
    path = save(content, tmp_path / "g.pt")
    networks = imported(path, "stylegan2-rosinality", tmp_path / "g.safetensors")
    assert "holds no latent_avg: computed as the mean of 100,000 mapped latents" in caplog.text
    assert list(networks) == ["generator", "generator_raw", "discriminator"]
    back = exported(tmp_path / "g.safetensors", "stylegan2-rosinality", tmp_path / "back.pt")
    for part in ("g", "g_ema", "d"):
        assert equal(back[part], content[part]), part
    average = networks["generator"].latent_avg
    z = torch.randn(50_000, 16, generator=torch.Generator().manual_seed(9))
    torch.testing.assert_close(average, networks["generator"].mapping(z).mean(0), atol=0.02, rtol=0)
    again = exported(tmp_path / "g.safetensors", "stylegan2-rosinality-d", tmp_path / "d.pt")
    assert list(again) == ["d"] and equal(again["d"], content["d"])
    only = imported(tmp_path / "d.pt", "stylegan2-rosinality-d", tmp_path / "d.safetensors")
    assert same(only["discriminator"], published.discriminator())


def test_a_mean_latent_in_the_file_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    average = torch.randn(16)
    content = {"g_ema": state(published.generator()), "latent_avg": average}
    net = fctfg.weights.load(save(content, tmp_path / "g.pt"), "stylegan2-rosinality")
    assert isinstance(net, Generator) and not net.training
    assert torch.equal(net.latent_avg, average)
    codes = torch.randn(2, 8, 16)
    assert torch.equal(net(codes), published.generator()(codes))
    assert caplog.text == ""


@pytest.mark.parametrize(
    "config",
    [
        GeneratorConfig(resolution=8, style_dim=4, n_mlp=1, channel_base=64, channel_max=8),
        GeneratorConfig(resolution=64, style_dim=8, n_mlp=2, channel_base=512, channel_max=16),
        GeneratorConfig(resolution=128, style_dim=12, n_mlp=5, channel_base=256, channel_max=4),
    ],
)
def test_sizes_are_read_from_the_tensors(tmp_path: Path, config: GeneratorConfig) -> None:
    average = torch.zeros(config.style_dim)
    content = {"g_ema": state(published.generator(config)), "latent_avg": average}
    content["d"] = state(published.discriminator(config))
    path = save(content, tmp_path / "g.pt")
    networks = fctfg.weights.load_all(path, "stylegan2-rosinality")
    for size in (2**n for n in range(2, config.resolution.bit_length())):
        assert networks["generator"].config.channels(size) == config.channels(size)
        assert networks["discriminator"].config.channels(size) == config.channels(size)
    assert networks["generator"].config.n_mlp == config.n_mlp
    theirs = SOURCES["stylegan2-nvlabs"].write(networks)
    again = fctfg.weights.load_all(save(theirs, tmp_path / "n.pt"), "stylegan2-nvlabs")
    assert all(same(again[name], networks[name]) for name in networks)


def test_the_papers_sizes_are_recognised_as_the_defaults() -> None:
    """So that a file and a configuration that leave everything as it is agree, also where several constants fit."""
    from fctfg.weights.sources.stylegan2_rosinality import discriminator_config, generator_config

    for resolution in (32, 64, 256, 1024):
        g, d = GeneratorConfig(resolution), DiscriminatorConfig(resolution)
        with torch.device("meta"):
            one, two = Generator(g).state_dict(), Discriminator(d).state_dict()
        assert generator_config(Path("g"), one) == g
        assert discriminator_config(Path("d"), two) == d


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_nvlabs_there_and_back(tmp_path: Path, suffix: str) -> None:
    generator, discriminator = published.generator(), published.discriminator()
    content = {"G_ema": state_for_nvlabs(generator), "D": state_for_nvlabs(discriminator)}
    networks = imported(save(content, tmp_path / "n.pt"), "stylegan2-nvlabs", tmp_path / "n.safetensors")
    assert same(networks["generator"], generator) and same(networks["discriminator"], discriminator)
    back = exported(tmp_path / "n.safetensors", "stylegan2-nvlabs", tmp_path / f"back{suffix}")
    flat = {f"{name}.{key}": tensor for name, part in content.items() for key, tensor in part.items()}
    if suffix == ".pt":
        assert equal(back, content)
    else:
        assert equal(back, flat)
    again = fctfg.weights.load_all(tmp_path / f"back{suffix}", "stylegan2-nvlabs")
    assert same(again["generator"], generator) and same(again["discriminator"], discriminator)
    d = fctfg.weights.load(tmp_path / f"back{suffix}", "stylegan2-nvlabs-d")
    assert same(d, discriminator)


def test_nvlabs_generator_that_was_averaged_goes_along(tmp_path: Path) -> None:
    networks = {"generator": published.generator(), "generator_raw": published.generator(seed=1)}
    save_artifact(tmp_path / "g.safetensors", networks, "generator", {})
    exported(tmp_path / "g.safetensors", "stylegan2-nvlabs", tmp_path / "n.safetensors")
    again = fctfg.weights.load_all(tmp_path / "n.safetensors", "stylegan2-nvlabs")
    assert all(same(again[name], networks[name]) for name in networks)


def test_nvlabs_bare_state_dicts(tmp_path: Path) -> None:
    generator, discriminator = published.generator(), published.discriminator()
    path = save(state_for_nvlabs(generator), tmp_path / "g.pt")
    assert same(fctfg.weights.load(path, "stylegan2-nvlabs"), generator)
    path = save(state_for_nvlabs(discriminator), tmp_path / "d.pt")
    assert same(fctfg.weights.load(path, "stylegan2-nvlabs-d"), discriminator)


def test_the_layout_of_nvlabs_256_px_networks() -> None:
    """Number of tensors and SHA-256 over their sorted `key shape` lines, of stylegan2-ada-pytorch's own networks."""
    for config, want in (
        (GeneratorConfig(), (144, "e54eb076ae818ad7")),
        (DiscriminatorConfig(), (64, "04d4b8e715b32e46")),
    ):
        network = Generator(config) if isinstance(config, GeneratorConfig) else Discriminator(config)
        lines = sorted(f"{key} {list(tensor.shape)}" for key, tensor in state_for_nvlabs(network).items())
        assert (len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]) == want


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_nvlabs_pickle_is_read_and_nothing_of_it_is_run(
    tmp_path: Path, protocol: int, caplog: pytest.LogCaptureFixture
) -> None:
    generator, discriminator = published.generator(), published.discriminator()
    parts = {"G": state_for_nvlabs(published.generator(seed=1)), "D": state_for_nvlabs(discriminator)}
    parts["G_ema"] = state_for_nvlabs(generator)
    path = published.nvlabs_pickle(tmp_path / "snapshot.pkl", parts, protocol)
    networks = imported(path, "stylegan2-nvlabs", tmp_path / "n.safetensors")
    assert same(networks["generator"], generator) and same(networks["discriminator"], discriminator)
    assert same(networks["generator_raw"], published.generator(seed=1))
    d = fctfg.weights.load(path, "stylegan2-nvlabs-d")
    assert same(d, discriminator) and d.config.stddev_group == 8  # which a state dict does not say
    assert "was trained with activations limited to +-256" in caplog.text


def test_a_generator_of_the_time_before_noise_was_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = published.rosinality()
    content["latent_avg"] = torch.zeros(16)
    for part in ("g", "g_ema"):
        content[part] = {key: t for key, t in content[part].items() if not key.startswith("noises.")}
    path = save(content, tmp_path / "g.pt")
    one, other = (fctfg.weights.load(path, "stylegan2-rosinality") for _ in range(2))
    assert "holds no noise images (noises.*): they are drawn" in caplog.text
    assert same(one, other) and one.noises.noise_3.std() > 0.5
    content["g_ema"]["noises.noise_0"] = torch.zeros(1, 1, 4, 4)
    with pytest.raises(FctfgError, match=r"missing: noises\.noise_1, "):
        fctfg.weights.load(save(content, path), "stylegan2-rosinality")


# ----------------------------------------------------------------------------------------------------- inversion


def test_psp_there_and_back(tmp_path: Path) -> None:
    content = published.psp()
    networks = imported(save(content, tmp_path / "psp.pt"), "psp", tmp_path / "psp.safetensors")
    assert list(networks) == ["visual_encoder", "generator"]
    assert same(networks["visual_encoder"], published.encoder())
    assert same(networks["generator"], published.generator())
    back = exported(tmp_path / "psp.safetensors", "psp", tmp_path / "back.pt")
    assert equal(back["state_dict"], content["state_dict"]) and equal(back["latent_avg"], content["latent_avg"])
    assert back["opts"]["start_from_latent_avg"] is True
    assert back["opts"]["n_styles"] == 8 and back["opts"]["output_size"] == 32
    assert {"device", "dataset_type"} <= back["opts"].keys()  # which pixel2style2pixel takes from there
    card = json.loads((tmp_path / "back.pt.card.json").read_text())
    assert card["exported"]["source"] == "psp" and "psp.pt" in card["licences"]["weights"]
    decoder = fctfg.weights.load(tmp_path / "psp.pt", "stylegan2-rosinality")
    assert same(decoder, published.generator())


def test_psp_adds_the_mean_latent_when_its_options_say_so(tmp_path: Path) -> None:
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    with_mean = fctfg.weights.load(save(published.psp(), tmp_path / "a.pt"), "psp")(images)
    content = published.psp(start_from_latent_avg=False)
    networks = imported(save(content, tmp_path / "b.pt"), "psp", tmp_path / "b.safetensors")
    without = networks["visual_encoder"](images)
    average = published.generator().latent_avg.expand(2, 8, 16)
    torch.testing.assert_close(with_mean - without, average, atol=1e-4, rtol=1e-4)
    back = exported(tmp_path / "b.safetensors", "psp", tmp_path / "back.pt")
    assert back["opts"]["start_from_latent_avg"] is False and equal(back["latent_avg"], content["latent_avg"])


def test_hyperstyle_gives_offsets_that_our_generator_takes(tmp_path: Path) -> None:
    path = save(published.hyperstyle(), tmp_path / "h.pt")
    networks = imported(path, "hyperstyle", tmp_path / "h.safetensors")
    hypernetwork, generator = networks["hypernetwork"], networks["generator"]
    assert same(hypernetwork, published.hypernetwork()) and same(generator, published.generator())
    assert hypernetwork.config == published.hypernetwork().config
    images, codes = torch.rand(2, 3, 32, 32) * 2 - 1, torch.randn(2, 8, 16)
    deltas = hypernetwork(images, generator(codes))
    assert [delta is None for delta in deltas] == [c.to_rgb for c in generator.config.convolutions]
    assert generator(codes, deltas=refine(hypernetwork, generator, images, codes, 2)).shape == images.shape


def test_hyperstyle_that_tunes_some_layers(tmp_path: Path) -> None:
    content = published.hyperstyle()
    content["state_dict"] = {k: t for k, t in content["state_dict"].items() if "refinement_blocks.9." not in k}
    network = imported(save(content, tmp_path / "h.pt"), "hyperstyle", tmp_path / "h.safetensors")["hypernetwork"]
    every = published.hypernetwork()
    images = torch.rand(2, 2, 3, 32, 32) * 2 - 1
    for index, (got, want) in enumerate(zip(network(*images), every(*images), strict=True)):
        assert (got is None) == (want is None or index == 9)
        assert got is None or torch.equal(got, want)


def test_tensors_that_are_shared_are_stored_once(tmp_path: Path) -> None:
    path = save(published.hyperstyle(), tmp_path / "h.pt")
    imported(path, "hyperstyle", tmp_path / "h.safetensors")
    held = load_file(tmp_path / "h.safetensors")
    shared = [key for key in held if key.endswith(".w2")]
    assert len(shared) == 1
    networks = fctfg.weights.load_all(path, "hyperstyle")
    assert sum(key.endswith(".w2") for key in networks["hypernetwork"].state_dict()) > 3


def test_a_hypernetwork_for_a_larger_generator_looks_at_smaller_images() -> None:
    """As HyperStyle at 1024 px, whose hypernetwork sees 256 px."""
    large = replace(published.GENERATOR, resolution=64)
    hypernetwork = published.hypernetwork()
    config = replace(hypernetwork.config, generator=large)
    made = published.shaken(type(hypernetwork)(config))
    generator = published.generator(large)
    images, codes = torch.rand(1, 3, 32, 32) * 2 - 1, torch.randn(1, 10, 16)
    deltas = refine(made, generator, images, codes, 2)
    first = made(images, nn.functional.avg_pool2d(generator(codes), 2))
    second = made(images, nn.functional.avg_pool2d(generator(codes, deltas=first), 2))
    for got, a, b in zip(deltas, first, second, strict=True):
        assert (got is None) == (a is None)
        if got is not None and a is not None and b is not None:
            torch.testing.assert_close(got, a + b)


# ------------------------------------------------------------------------------------------------------- experts


def test_ir_se50_there_and_back(tmp_path: Path) -> None:
    content = state(published.recogniser())
    networks = imported(save(content, tmp_path / "f.pth"), "ir-se50", tmp_path / "f.safetensors")
    assert same(networks["identity_expert"], published.recogniser())
    assert networks["identity_expert"].config == published.recogniser().config
    assert equal(exported(tmp_path / "f.safetensors", "ir-se50", tmp_path / "back.pth"), content)


def test_arcface_as_onnx(tmp_path: Path) -> None:
    onnx.save(onnx_network(), tmp_path / "face.onnx")
    network = imported(tmp_path / "face.onnx", "arcface-onnx", tmp_path / "f.safetensors")["identity_expert_onnx"]
    faces = torch.rand(3, 3, 112, 112, requires_grad=True)
    embedding = network(faces)
    assert torch.equal(embedding, fctfg.weights.load(tmp_path / "face.onnx", "arcface-onnx")(faces))
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(3))
    embedding[:, 0].sum().backward()
    assert faces.grad is not None and (faces.grad.abs().sum((1, 2, 3)) > 0).all()


def test_old_files_lack_the_counters_of_batch_norm(tmp_path: Path) -> None:
    content = {key: t for key, t in state(published.recogniser()).items() if "num_batches" not in key}
    loaded = fctfg.weights.load(save(content, tmp_path / "f.pth"), "ir-se50")
    faces = torch.rand(2, 3, 112, 112) * 2 - 1
    assert torch.equal(loaded(faces), published.recogniser()(faces))


@pytest.mark.parametrize("wrapped", [True, False])
def test_wav2lips_audio_encoder(tmp_path: Path, wrapped: bool) -> None:
    content = published.wav2lip()
    if not wrapped:
        content["state_dict"] = {key.removeprefix("module."): t for key, t in content["state_dict"].items()}
    networks = imported(save(content, tmp_path / "w.pth"), "wav2lip", tmp_path / "w.safetensors")
    assert same(networks["audio_encoder"], published.audio_encoder())


def test_wav2lips_expert_there_and_back(tmp_path: Path) -> None:
    content = {"state_dict": state(published.sync_expert()), "optimizer": None, "global_step": 0, "global_epoch": 0}
    networks = imported(save(content, tmp_path / "s.pth"), "wav2lip-syncnet", tmp_path / "s.safetensors")
    assert same(networks["sync_expert"], published.sync_expert())
    assert equal(exported(tmp_path / "s.safetensors", "wav2lip-syncnet", tmp_path / "back.pth"), content)


def test_syncnet_v2(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = published.shaken(SyncNetV2(SyncNetV2Config()))
    networks = imported(save(state(network), tmp_path / "syncnet_v2.model"), "syncnet-v2", tmp_path / "s.safetensors")
    assert same(networks["syncnet_v2"], network)
    assert networks["syncnet_v2"].audio(torch.randn(2, 1, 13, 20)).shape == (2, 1024)


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Sequential]:
    """A file as torchvision publishes it (with a token classifier), and its network."""
    torch.manual_seed(0)
    features = make_layers(cfgs["E"])
    content = {f"features.{key}": value for key, value in features.state_dict().items()}
    content |= {"classifier.0.weight": torch.zeros(1), "classifier.0.bias": torch.zeros(1)}
    return save(content, tmp_path_factory.mktemp("vgg") / "vgg19.pth"), features


def test_vgg19_gives_torchvisions_features(vgg_file: tuple[Path, nn.Sequential], tmp_path: Path) -> None:
    path, features = vgg_file
    images = torch.rand(1, 3, 32, 32) * 2 - 1
    x = ((images + 1) / 2 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    wanted = []
    for index, layer in enumerate(features):
        x = nn.functional.relu(x) if isinstance(layer, nn.ReLU) else layer(x)
        if index in TAPS:
            wanted.append(x)
    vgg = imported(path, "vgg19-torchvision", tmp_path / "v.safetensors")["perceptual"]
    for got, want in zip(vgg(images), wanted, strict=True):
        torch.testing.assert_close(got, want)
    assert "vgg19.pth" in vgg.description
    assert not vgg.train().training and not any(p.requires_grad for p in vgg.parameters())


# ------------------------------------------------------------------------------------- forms in which files come


def test_half_precision_becomes_single(tmp_path: Path) -> None:
    content = {key: t.half() if t.is_floating_point() else t for key, t in state(published.sync_expert()).items()}
    path = save(content, tmp_path / "s.pth")
    network = imported(path, "wav2lip-syncnet", tmp_path / "s.safetensors")["sync_expert"]
    assert all(t.dtype == torch.float32 for t in network.state_dict().values() if t.is_floating_point())
    assert torch.equal(network.state_dict()["face_encoder.0.conv_block.0.weight"].half(), next(iter(content.values())))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_wrappers_of_keys_are_seen_through(tmp_path: Path, prefix: str) -> None:
    content = state(published.recogniser(), prefix)
    networks = imported(save(content, tmp_path / "f.pth"), "ir-se50", tmp_path / "f.safetensors")
    assert same(networks["identity_expert"], published.recogniser())


def test_old_torch_files_and_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    content = state(published.recogniser())
    torch.save(content, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(content, tmp_path / "f.safetensors")
    for path in (tmp_path / "old.pth", tmp_path / "f.safetensors"):
        assert same(fctfg.weights.load(path, "ir-se50"), published.recogniser())


def test_loading_a_network_leaves_nothing_on_the_meta_device(tmp_path: Path) -> None:
    for name, content in (
        ("wav2lip-syncnet", state(published.sync_expert())),
        ("ir-se50", state(published.recogniser())),
    ):
        network = fctfg.weights.load(save(content, tmp_path / f"{name}.pth"), name)
        tensors: list[Tensor] = [*network.parameters(), *network.buffers()]
        assert {t.device.type for t in tensors} == {"cpu"}


# -------------------------------------------------------------------------------------------------------- verify


def test_verify_reads_everything_and_fails_on_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FCTFG_WEIGHTS", str(tmp_path / "w"))
    monkeypatch.chdir(tmp_path)
    assert main(["weights", "verify"]) == 1
    assert "no weights in" in capsys.readouterr().err
    (tmp_path / "w").mkdir()
    path = save(state(published.recogniser()), tmp_path / "w" / "face.pth")
    imported(path, "ir-se50", tmp_path / "w" / "face.safetensors")
    capsys.readouterr()
    onnx.save(onnx_network(), tmp_path / "w" / "graph.onnx")
    imported(tmp_path / "w" / "graph.onnx", "arcface-onnx", tmp_path / "w" / "graph.safetensors")
    save({"layer.weight": torch.zeros(2)}, tmp_path / "w" / "detector.pth")
    capsys.readouterr()
    assert main(["weights", "verify"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["left", "ok", "ok", "ok", "ok"] and "identity_expert 0.0" in lines[1]
    assert main(["weights", "verify", str(tmp_path / "w" / "detector.pth")]) == 1
    capsys.readouterr()
    damaged = bytearray(path.read_bytes())
    path.write_bytes(damaged[: len(damaged) // 2])
    assert main(["weights", "verify"]) == 1
    said = capsys.readouterr()
    assert "FAILED" in said.out and "is truncated" in said.out and "1 of 5 files failed" in said.err


def test_a_state_dict_inside_a_wrapper(tmp_path: Path) -> None:
    path = save({"state_dict": state(published.recogniser()), "epoch": 3}, tmp_path / "f.pth")
    assert fctfg.weights.load(path, "ir-se50").config.dim == 24


def test_verify_compares_an_exported_file_with_its_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = state(published.recogniser())
    source = save(content, tmp_path / "f.pth")
    assert main(["weights", "import", "ir-se50", str(source), "--out", str(tmp_path / "f.safetensors")]) == 0
    assert "licence: unknown" in capsys.readouterr().out
    (tmp_path / "out").mkdir()
    exported(tmp_path / "f.safetensors", "ir-se50", tmp_path / "out" / "back.pth")
    assert main(["weights", "verify", str(tmp_path / "out")]) == 0  # a folder of files
    content["output_layer.4.bias"] += 1
    save(content, tmp_path / "out" / "back.pth")
    assert main(["weights", "verify", str(tmp_path / "out")]) == 1
    assert "is not what" in capsys.readouterr().out


def test_verify_compares_a_run_with_its_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tiny_talking_face import run_folder

    run = run_folder(tmp_path / "run")
    assert main(["weights", "verify", str(run)]) == 0
    card = run / "export" / "card.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"weights_sha256": "0" * 64}))
    assert main(["weights", "verify", str(run)]) == 1
    assert "is not what" in capsys.readouterr().out

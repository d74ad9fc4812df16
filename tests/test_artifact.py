"""Weights files: what goes in comes out; a run's export, the hand-off, the Python API."""

import json
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from tiny_talking_face import CARD, discriminator, generator, run_folder, talking_face

import fctfg
from fctfg.errors import FctfgError
from fctfg.models.audio_encoder import AudioEncoder, AudioEncoderConfig
from fctfg.models.experts.arcface_onnx import ArcFaceONNXConfig
from fctfg.models.fctfg import FCTFG
from fctfg.models.stylegan2 import Generator
from fctfg.weights.artifact import (
    FCTFG_PARTS,
    NETWORKS,
    Artifact,
    build,
    load_artifact,
    load_into,
    require,
    save_artifact,
    write_export,
)
from fctfg.weights.card import git_revision
from fctfg.weights.config_json import config_differences, config_from_dict, config_to_dict
from fctfg.weights.package import package_weights


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_folder(tmp_path_factory.mktemp("runs") / "talking face ü", discriminator=discriminator())


@pytest.fixture(scope="module")
def artifact(run: Path) -> Artifact:
    return load_artifact(run)


def assert_same_weights(a: torch.nn.Module, b: torch.nn.Module) -> None:
    ours, theirs = a.state_dict(), b.state_dict()
    assert ours.keys() == theirs.keys()
    for key, tensor in ours.items():
        assert torch.equal(tensor, theirs[key]), key


# ---- round trip


def test_everything_comes_back(run: Path, artifact: Artifact) -> None:
    assert artifact.stage == "talking_face"
    assert set(artifact.configs) == {"latent", "generator", "visual_encoder", "audio_encoder", "discriminator"}
    model = talking_face()
    rebuilt = build(artifact, "fctfg")
    assert isinstance(rebuilt, FCTFG)
    assert rebuilt.config == model.config and rebuilt.generator.config == model.generator.config
    assert_same_weights(rebuilt, model)


@pytest.mark.parametrize("part", [part for part in FCTFG_PARTS if part != "hypernetwork"])
def test_another_stage_can_take_a_single_part(artifact: Artifact, part: str) -> None:
    assert_same_weights(build(artifact, part), getattr(talking_face(), part))


def test_a_hypernetwork_is_exported_when_it_is_used(tmp_path: Path) -> None:
    model = talking_face(hypernetwork="frozen")
    save_artifact(tmp_path / "w.safetensors", {"fctfg": model}, "talking_face", {})
    rebuilt = build(load_artifact(tmp_path / "w.safetensors"), "fctfg")
    assert isinstance(rebuilt, FCTFG)
    assert_same_weights(rebuilt, model)
    picture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        assert torch.equal(rebuilt.eval().canonical_image(picture), model.canonical_image(picture))


def test_load_into_says_how_many_tensors(artifact: Artifact) -> None:
    target = generator()
    assert load_into(artifact, "generator", target) == len(target.state_dict())
    assert_same_weights(target, talking_face().generator)


def test_a_file_and_its_run_folder_are_the_same(run: Path, artifact: Artifact) -> None:
    by_file = load_artifact(run / "export" / "weights.safetensors")
    assert by_file.sha256 == artifact.sha256 and by_file.configs == artifact.configs


def test_card_says_where_the_weights_come_from(run: Path, artifact: Artifact) -> None:
    card = json.loads((run / "export" / "card.json").read_text(encoding="utf-8"))
    assert card["weights_sha256"] == artifact.sha256
    assert card["fctfg_version"] == fctfg.__version__ and card["torch_version"] == torch.__version__
    assert card["stage"] == "talking_face" and card["dataset_hash"] == CARD["dataset_hash"]
    assert card["licences"] == {"data": "CC0-1.0", "weights": "Apache-2.0"}
    model = talking_face()
    assert card["parameters"]["generator"] == sum(p.numel() for p in model.generator.parameters())
    split = sum(card["parameters"][name] for name in ("latent", "generator", "visual_encoder", "audio_encoder"))
    assert split == sum(p.numel() for p in model.parameters())
    assert artifact.card == {key: value for key, value in card.items() if key != "weights_sha256"}


def test_card_must_be_complete(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lacks metrics"):
        write_export(
            tmp_path, {"generator": generator()}, "generator", {k: v for k, v in CARD.items() if k != "metrics"}
        )
    for licences in ({"data": "CC0-1.0"}, {"data": "CC0-1.0", "other": "MIT"}):
        with pytest.raises(ValueError, match="'data' and 'weights'"):
            write_export(tmp_path, {"generator": generator()}, "generator", {**CARD, "licences": licences})
    assert not list(tmp_path.iterdir())


def test_git_revision_is_that_of_the_clone() -> None:
    package = Path(fctfg.__file__).parent
    head = subprocess.run(["git", "-C", str(package), "rev-parse", "HEAD"], capture_output=True, text=True)
    revision = git_revision()
    if (package.parent / ".git").exists() and head.returncode == 0:
        assert revision is not None and revision.removesuffix("+changes") == head.stdout.strip()
    else:
        assert revision is None


def test_raw_and_average_generator_live_in_one_file(tmp_path: Path) -> None:
    average, raw = generator(), generator()
    save_artifact(tmp_path / "g.safetensors", {"generator": average, "generator_raw": raw}, "generator", {})
    loaded = load_artifact(tmp_path / "g.safetensors")
    assert_same_weights(build(loaded, "generator"), average)
    assert_same_weights(build(loaded, "generator_raw"), raw)


def test_others_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    save_artifact(tmp_path / "g.safetensors", {"generator": generator()}, "generator", CARD)
    assert (tmp_path / "g.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_half_precision_halves_the_file_and_keeps_11_bits(tmp_path: Path) -> None:
    network = generator()
    save_artifact(tmp_path / "full.safetensors", {"generator": network}, "generator", {})
    save_artifact(tmp_path / "half.safetensors", {"generator": network}, "generator", {}, dtype="float16")
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "full")]
    assert sizes[0] < 0.65 * sizes[1]
    restored = build(load_artifact(tmp_path / "half.safetensors"), "generator")
    for key, tensor in restored.state_dict().items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, network.state_dict()[key], rtol=2**-11, atol=1e-7)


def test_weights_for_the_package_hold_only_what_generates(tmp_path: Path) -> None:
    run, config = tmp_path / "run", {"seed": 0, "data": {"root": "/home/me/clips"}, "configs": ["/etc/a.yaml", "b/c"]}
    networks = {"fctfg": talking_face(), "discriminator": discriminator()}
    write_export(run, networks, "talking_face", CARD | {"config": config})
    size = package_weights(run, tmp_path / "packaged.safetensors")
    packaged = load_artifact(tmp_path / "packaged.safetensors")
    assert (
        size
        == (tmp_path / "packaged.safetensors").stat().st_size
        < 0.6 * (run / "export/weights.safetensors").stat().st_size
    )
    assert "discriminator" not in packaged.configs and "discriminator" not in packaged.card["parameters"]
    assert "half precision" in packaged.card["notes"][-1]
    assert packaged.card["config"] == {"seed": 0, "data": {"root": "clips"}, "configs": ["a.yaml", "b/c"]}
    before = (tmp_path / "packaged.safetensors").read_bytes()
    with pytest.raises(FctfgError, match="train smaller networks"):
        package_weights(run, tmp_path / "packaged.safetensors", limit=1000)
    assert (tmp_path / "packaged.safetensors").read_bytes() == before
    save_artifact(tmp_path / "g.safetensors", {"generator": generator()}, "generator", CARD)
    with pytest.raises(FctfgError, match="of stage 'generator'"):
        package_weights(tmp_path / "g.safetensors", tmp_path / "packaged.safetensors")


def test_half_precision_keeps_what_it_cannot_hold_and_integers(tmp_path: Path) -> None:
    network = AudioEncoder(AudioEncoderConfig(width=0.125, dim=16))
    norm = network.layers[0].conv_block[1]
    norm.running_var.fill_(1e6)  # beyond the largest float16, 65504
    norm.num_batches_tracked.fill_(123_457)
    save_artifact(tmp_path / "a.safetensors", {"audio_encoder": network}, "talking_face", {}, dtype="float16")
    restored = build(load_artifact(tmp_path / "a.safetensors"), "audio_encoder").layers[0].conv_block[1]
    assert torch.equal(restored.running_var, norm.running_var)
    assert restored.num_batches_tracked.item() == 123_457


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_default_config_of_every_network_survives_json(name: str) -> None:
    config_class = NETWORKS[name][1]
    config = config_class(graph="abc") if config_class is ArcFaceONNXConfig else config_class()
    assert config_from_dict(config_class, json.loads(json.dumps(config_to_dict(config))), name) == config


# ---- configs are strict


@dataclass(frozen=True)
class Inner:
    sizes: tuple[int, ...] = (1, 2)
    pair: tuple[float, str] = (0.5, "a")


@dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    many: tuple[Inner, ...] = (Inner(), Inner((3,)))
    maybe: tuple[int, ...] | None = None
    rate: float = 0.1

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise ValueError(f"rate must not be negative, got {self.rate}")


def test_nested_configs_and_tuples_are_restored() -> None:
    for config in (Outer(), Outer(maybe=(4, 5), inner=Inner(pair=(1.0, "b")))):
        assert config_from_dict(Outer, json.loads(json.dumps(config_to_dict(config))), "x") == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rte": 1.0}, "unknown rte"),
        ({"inner": {"sizes": [1]}}, "missing pair"),
        ({"inner": {"sizes": 3, "pair": [0.5, "a"]}}, "3 where a list belongs"),
        ({"inner": {"sizes": [3], "pair": [0.5]}}, "1 values where 2 belong"),
        ({"inner": 3}, "not a table"),
        ({"rate": -1.0}, "rate must not be negative"),
    ],
)
def test_configs_that_do_not_fit_are_refused(change: dict, message: str) -> None:
    with pytest.raises(FctfgError, match=message) as error:
        config_from_dict(Outer, config_to_dict(Outer()) | change, "weights.safetensors, generator")
    assert "weights.safetensors" in str(error.value)


def test_differences_name_nested_fields() -> None:
    lines = config_differences(Outer(), Outer(inner=Inner(sizes=(9,)), rate=0.2))
    assert lines == ["inner.sizes is (9,) instead of (1, 2)", "rate is 0.2 instead of 0.1"]


# ---- what does not fit a network


def test_wrong_size_names_the_fields_and_changes_nothing(artifact: Artifact) -> None:
    target = generator(64)
    before = {key: tensor.clone() for key, tensor in target.state_dict().items()}
    with pytest.raises(FctfgError, match="resolution is 32 instead of 64") as error:
        load_into(artifact, "generator", target)
    assert str(artifact.path) in str(error.value) and "missing: " in str(error.value)
    for key, tensor in target.state_dict().items():
        assert torch.equal(tensor, before[key])


def test_other_shapes_are_named(artifact: Artifact) -> None:
    config = replace(artifact.configs["generator"], channel_max=8)
    with pytest.raises(FctfgError, match=r"other shape: .*conv1\.bias \(16,\) instead of \(8,\)|other shape: .*\.\.\."):
        load_into(artifact, "generator", Generator(config))


def test_missing_and_unexpected_keys_are_named_and_counted(artifact: Artifact) -> None:
    state = dict(artifact.state_dicts["generator"])
    for key in list(state)[:7]:
        state[f"zz.{key}"] = state.pop(key)
    lost = sorted(generator().state_dict().keys() - state.keys())
    broken = replace(artifact, state_dicts={**artifact.state_dicts, "generator": state})
    with pytest.raises(FctfgError) as error:
        build(broken, "generator")
    text = str(error.value)
    assert f"missing: {', '.join(lost[:5])}, ... (7 in all)" in text
    assert "unexpected: zz." in text and text.count("(7 in all)") == 2


def test_a_missing_part_is_named(artifact: Artifact) -> None:
    configs = {name: config for name, config in artifact.configs.items() if name != "audio_encoder"}
    with pytest.raises(FctfgError, match=r"holds no audio_encoder, only .*generator, visual_encoder"):
        build(replace(artifact, configs=configs), "fctfg")


def test_parts_that_do_not_fit_together_are_refused(artifact: Artifact) -> None:
    config = artifact.configs["latent"]
    foreign = replace(artifact, configs=artifact.configs | {"latent": replace(config, hypernetwork="frozen")})
    with pytest.raises(FctfgError, match="holds no hypernetwork"):
        build(foreign, "fctfg")
    larger = generator(64)
    mixed = replace(
        artifact,
        configs=artifact.configs | {"generator": larger.config},
        state_dicts=artifact.state_dicts | {"generator": larger.state_dict()},
    )
    with pytest.raises(FctfgError, match="resolution of generator and visual encoder differ: 64 and 32"):
        build(mixed, "fctfg")


def test_another_stage_is_refused(tmp_path: Path) -> None:
    save_artifact(tmp_path / "g.safetensors", {"generator": generator()}, "generator", {})
    with pytest.raises(FctfgError, match=r"stage 'generator' .*stage 'talking_face' are needed"):
        require(load_artifact(tmp_path / "g.safetensors"), "talking_face")


# ---- what cannot be saved


def test_misuse_raises_before_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    for networks, message in (
        ({}, "no network"),
        ({"generatr": generator()}, "unknown network 'generatr'"),
        ({"generator": discriminator()}, "must be a Generator, got Discriminator"),
        ({"fctfg": generator()}, "must be a FCTFG, got Generator"),
        ({"fctfg": talking_face(), "generator": generator()}, "contains another one"),
    ):
        with pytest.raises(ValueError, match=message):
            save_artifact(path, networks, "talking_face", {})
    assert not list(tmp_path.iterdir())


def test_unwritable_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FctfgError, match="is not a folder"):
        write_export(tmp_path / "file", {"generator": generator()}, "generator", CARD)

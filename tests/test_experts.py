"""The judges: published layouts, what they look at, their weight files, and that they stay frozen."""

import copy
import pickle

import pytest
import torch
from layout import layout, parameters
from torch import Tensor, nn

from fctfg.models.experts.arcface import ArcFace, ArcFaceConfig
from fctfg.models.experts.frozen import freeze
from fctfg.models.experts.lpips import LPIPS, LPIPSConfig
from fctfg.models.experts.syncnet import TEMPLATE, SyncNet, SyncNetConfig
from fctfg.models.experts.vgg import VGG19, VGGConfig
from fctfg.models.irse import IRSEConfig
from fctfg.ops.similarity import ARCFACE_TEMPLATE

BODY = IRSEConfig(channels=(8, 8, 12, 16), blocks=(1, 1, 1, 1), se_reduction=4)


def test_keys_shapes_and_sizes_are_the_published_ones() -> None:
    with torch.device("meta"):
        sync, face = SyncNet(SyncNetConfig()), ArcFace(ArcFaceConfig())
    assert layout(sync) == (217, "5d21bcb76d753f1d")
    assert parameters(sync) == 16_435_072
    assert layout(face) == (397, "b0af237e50fcbd36")
    assert parameters(face) == 43_797_696


# ---------------------------------------------------------------------------------------------------------- freeze


def test_a_frozen_network_stays_in_eval_and_still_passes_gradients() -> None:
    parent = nn.Module()
    parent.expert = freeze(ArcFace(ArcFaceConfig(BODY, dim=8)))
    parent.other = nn.Dropout()
    parent.train()
    assert parent.other.training
    assert not any(module.training for module in parent.expert.modules())
    faces = torch.randn(2, 3, 112, 112, requires_grad=True)
    parent.expert(faces).square().sum().backward()
    assert faces.grad is not None
    assert all(parameter.grad is None for parameter in parent.expert.parameters())
    assert parent.expert.train() is parent.expert


def test_copies_of_a_frozen_network_are_frozen_by_themselves() -> None:
    expert = freeze(nn.Sequential(nn.Dropout()))
    for copied in (copy.deepcopy(expert), pickle.loads(pickle.dumps(expert))):
        assert copied.train() is copied
        assert not copied[0].training
        assert copied is not expert


# --------------------------------------------------------------------------------------------------------- lip sync


@pytest.fixture(scope="module")
def syncnet() -> SyncNet:
    torch.manual_seed(0)
    return SyncNet(SyncNetConfig(width=0.125, dim=16)).eval()


def test_embeddings_have_unit_length(syncnet: SyncNet) -> None:
    audio, face = syncnet(torch.randn(3, 1, 80, 16), torch.rand(3, 15, 48, 96))
    assert audio.shape == face.shape == (3, 16)
    for embedding in (audio, face):
        torch.testing.assert_close(embedding.norm(dim=1), torch.ones(3))


def test_mouths_of_a_face_in_place_are_its_lower_half_in_bgr(syncnet: SyncNet) -> None:
    frames = torch.rand(2, 5, 3, 96, 96) * 2 - 1
    points = ((TEMPLATE + 0.5) / 96).expand(2, 5, 5, 2)
    mouths = syncnet.mouths(frames, points)
    assert mouths.shape == (2, 15, 48, 96)
    for frame in range(5):
        for channel, rgb in enumerate((2, 1, 0)):
            want = (frames[:, frame, rgb, 48:] + 1) / 2
            torch.testing.assert_close(mouths[:, 3 * frame + channel], want, atol=1e-3, rtol=0)


def test_mouths_follow_a_turned_and_moved_face(syncnet: SyncNet) -> None:
    """On a picture that is linear in x and y, aligned values are those of the transformed coordinates."""
    linear, offset = torch.tensor([[1.2, -0.5], [0.5, 1.2]]), torch.tensor([40.0, 20.0])
    where = TEMPLATE @ linear.t() + offset  # pixel indices in a 200 px frame
    y, x = torch.meshgrid(torch.arange(200.0), torch.arange(200.0), indexing="ij")
    frames = (torch.stack([x, y, x + y]) / 200 - 1).expand(1, 5, 3, 200, 200)
    mouths = syncnet.mouths(frames, ((where + 0.5) / 200).expand(1, 5, 5, 2))
    face = torch.tensor([[30.0, 60.0], [60.0, 80.0]])  # points of the 96 px face
    for (px, py), (fx, fy) in zip((face @ linear.t() + offset).tolist(), face.long().tolist(), strict=True):
        bgr = mouths[0, :3, fy - 48, fx]
        torch.testing.assert_close(bgr, torch.tensor([px + py, py, px]) / 400, atol=1e-4, rtol=0)


def test_mouths_are_float32_under_autocast(syncnet: SyncNet) -> None:
    frames = torch.rand(2, 3, 160, 160) * 2 - 1
    points = ((TEMPLATE + torch.randn(2, 5, 2)) * 1.3 + 15.5) / 160
    want = syncnet.mouths_of(frames, points)
    with torch.autocast("cpu", torch.bfloat16):
        got = syncnet.mouths_of(frames, points)
    assert got.dtype == torch.float32 and torch.equal(got, want)


def test_mouths_pass_gradients_and_refuse_wrong_shapes(syncnet: SyncNet) -> None:
    frames = torch.zeros(1, 5, 3, 64, 64, requires_grad=True)
    points = ((TEMPLATE + 0.5) / 96).expand(1, 5, 5, 2)
    syncnet.mouths(frames, points).sum().backward()
    assert frames.grad is not None
    assert frames.grad[:, :, :, 40:].abs().sum() > 0
    assert frames.grad[:, :, :, :20].abs().sum() == 0
    with pytest.raises(ValueError, match=r"frames must be \[B, 5, 3, H, W\]"):
        syncnet.mouths(frames[:, :4], points[:, :4])


# --------------------------------------------------------------------------------------------------------- identity


def test_faces_in_place_are_not_changed_by_alignment() -> None:
    expert = ArcFace(ArcFaceConfig(BODY, dim=8)).eval()
    frames = torch.randn(2, 3, 112, 112)
    faces = expert.align(frames, ((ARCFACE_TEMPLATE + 0.5) / 112).expand(2, 5, 2))
    torch.testing.assert_close(faces, frames, atol=1e-3, rtol=0)
    embedding = expert(faces)
    assert embedding.shape == (2, 8)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(2))
    with pytest.raises(ValueError, match=r"\[B, 3, 112, 112\]"):
        expert(frames[:, :, :100])


# -------------------------------------------------------------------------------------------------------- perceptual


def test_random_features_repeat_and_keep_their_scale() -> None:
    torch.manual_seed(1)
    one = VGG19(VGGConfig(width=0.25))
    torch.manual_seed(2)
    other = VGG19(VGGConfig(width=0.25))
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    maps = one(images)
    assert [m.shape[1:] for m in maps] == [(16, 32, 32), (32, 16, 16), (64, 8, 8), (128, 4, 4), (128, 2, 2)]
    for a, b in zip(maps, other(images), strict=True):
        assert torch.equal(a, b)
        assert 0.2 < a.std() < 5
    assert "random" in one.description
    assert not any(p.requires_grad for p in one.parameters())


def pictures() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 64, 64, generator=draw) * 2 - 1, torch.rand(2, 3, 64, 64, generator=draw) * 2 - 1


def test_random_lpips_says_so_and_orders_differences() -> None:
    distance, (a, b) = LPIPS(LPIPSConfig()), pictures()
    assert distance.description.startswith("not LPIPS")
    assert distance(a, a).item() == 0
    assert 0 < distance(a, 0.9 * a + 0.1 * b).item() < distance(a, b).item()

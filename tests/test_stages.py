"""The stages' steps: which network each term trains, and what keeps runs exact."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from torch import Tensor, nn

from fctfg.data.batch import Batch
from fctfg.errors import FctfgError
from fctfg.losses.adversarial import d_logistic_fake, d_logistic_real
from fctfg.losses.weighted import weighted
from fctfg.models.audio_encoder import AudioEncoder
from fctfg.models.discriminator import Discriminator
from fctfg.models.experts.syncnet import SyncNet
from fctfg.ops.draws import Draws
from fctfg.stages import ema
from fctfg.stages.adversarial import discriminator_gradients, r1_gradients
from fctfg.stages.generator import GeneratorStage
from fctfg.stages.identity_expert import IdentityExpert
from fctfg.stages.inversion import EncoderStage, HypernetworkStage, InversionWeights
from fctfg.stages.networks import Networks
from fctfg.stages.sync_expert import SyncExpert, vary
from fctfg.stages.talking_face import TalkingFaceStage, TalkingFaceWeights, borrow_audio_layers
from fctfg.weights.artifact import save_artifact

MICRO = yaml.safe_load((Path(__file__).parent / "micro.yaml").read_text())["networks"]
POINTS = torch.tensor([[0.37, 0.4], [0.63, 0.4], [0.5, 0.55], [0.4, 0.7], [0.6, 0.7]])


def micro(**changes: object) -> Networks:
    """The networks of `micro.yaml`, as the command line reads them."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Networks, "networks")
    return parser.instantiate(parser.parse_object({"networks": {**MICRO, **changes}})).networks


def batch(size: int = 2, frames: int = 5, decoys: bool = True) -> Batch:
    """Random pictures and sound, faces in the middle."""
    draw = torch.Generator().manual_seed(0)

    def images(*shape: int) -> Tensor:
        return torch.rand(*shape, 3, 32, 32, generator=draw) * 2 - 1

    decoy = frames if decoys else 0
    return Batch(
        source=images(size),
        source_points=POINTS.expand(size, 5, 2),
        driving=images(size, frames),
        points=POINTS.expand(size, frames, 5, 2),
        decoy=images(size, decoy),
        decoy_points=POINTS.expand(size, decoy, 5, 2),
        mel=torch.rand(size, frames, 1, 80, 16, generator=draw) * 8 - 4,
        identity=torch.arange(size),
        clip=torch.arange(size),
        start=torch.zeros(size, dtype=torch.long),
    )


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Untrained networks, exported as their stages export them."""
    folder, networks = tmp_path_factory.mktemp("exports"), micro()
    torch.manual_seed(0)
    card = {"config": {}, "dataset_hash": None, "metrics": {}, "licences": {"data": [], "weights": "none"}}
    paths = {name: str(folder / f"{name}.safetensors") for name in ("generator", "inversion", "sync", "identity")}
    generator = GeneratorStage(networks, seed=0)
    with torch.no_grad():  # a generator that draws something, so that gradients are not lost in its first noise
        generator.generator_ema.latent_avg.normal_()
    save_artifact(
        Path(paths["generator"]),
        {"generator": generator.generator_ema, "discriminator": generator.discriminator},
        "generator",
        card,
    )
    save_artifact(Path(paths["sync"]), {"sync_expert": SyncExpert(networks).sync_expert}, "sync_expert", card)
    expert = IdentityExpert(networks).identity_expert
    save_artifact(Path(paths["identity"]), {"identity_expert": expert}, "identity_expert", card)
    stage2 = {"generator": paths["generator"], "identity_expert": paths["identity"]}
    encoder = EncoderStage(networks, stage2)
    save_artifact(Path(paths["inversion"]), encoder.exports(), "encoder", card)
    return paths


def talking_face(exports: dict[str, str], networks: Networks | None = None, **settings: Any) -> TalkingFaceStage:
    init_from = {
        "generator": exports["generator"],
        "inversion": exports["inversion"],
        "sync_expert": exports["sync"],
        "identity_expert": exports["identity"],
    }
    return TalkingFaceStage(networks or micro(), init_from, **settings)


def trained(module: nn.Module) -> bool:
    """Whether a gradient reached the module."""
    return any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in module.parameters())


# term -> networks that it must reach (orthogonality does not pass through the generator or the temporal fusion)
REACHES = {
    "orthogonality": {"visual_encoder", "audio_encoder", "latent"},
    "sync": {"generator", "visual_encoder", "audio_encoder", "latent"},
    "identity": {"generator", "visual_encoder", "audio_encoder", "latent"},
    "reconstruction": {"generator", "visual_encoder", "audio_encoder", "latent"},
    "perceptual": {"generator", "visual_encoder", "audio_encoder", "latent"},
    "adversarial": {"generator", "visual_encoder", "audio_encoder", "latent"},
}


@pytest.mark.parametrize("term", sorted(asdict(TalkingFaceWeights())))
def test_each_term_trains_its_networks_and_no_judge(exports: dict[str, str], term: str) -> None:
    torch.manual_seed(1)
    stage = talking_face(exports).train()
    stage.discriminator.requires_grad_(False)  # as in the generator's half of a step
    data = batch()
    output = stage.network(data.source, stage.driver(data), data.mel)
    stage.terms(data, output)[term].backward()
    parts = ("generator", "visual_encoder", "audio_encoder", "latent")
    assert {name for name in parts if trained(getattr(stage.network, name))} == REACHES[term]
    for judge in (stage.sync_expert, stage.identity_expert, stage.vgg, stage.discriminator, stage.network_ema):
        assert all(p.grad is None for p in judge.parameters())
    for judge in (stage.sync_expert, stage.identity_expert, stage.vgg):
        assert not any(module.training for module in judge.modules())


def test_a_judge_without_weight_is_not_asked(exports: dict[str, str]) -> None:
    weights = TalkingFaceWeights(sync=0.0, identity=0.0, perceptual=0.0, adversarial=0.0)
    stage = talking_face(exports, weights=weights).train()
    data = batch()
    output = stage.network(data.source, stage.driver(data), data.mel)
    assert stage.terms(data, output).keys() == {"orthogonality", "reconstruction"}
    assert stage.eval().terms(data, output).keys() == asdict(TalkingFaceWeights()).keys()  # validation shows all


def test_weights_are_the_papers() -> None:
    assert asdict(TalkingFaceWeights()) == {
        "orthogonality": 1.0,
        "sync": 0.1,
        "identity": 0.5,
        "reconstruction": 1.0,
        "perceptual": 1.0,
        "adversarial": 0.1,
    }


def test_stage_3_goes_on_from_the_weights_of_stage_3(exports: dict[str, str], tmp_path: Path) -> None:
    before = talking_face(exports)
    with torch.no_grad():
        before.network_ema.audio_encoder.layers[0].conv_block[0].weight.add_(1.0)
        before.network_ema.latent.canonical_encoder.hidden.weight.add_(1.0)
    experts = {"sync_expert": exports["sync"], "identity_expert": exports["identity"]}
    with_judge, without = tmp_path / "all.safetensors", tmp_path / "network.safetensors"
    save_artifact(with_judge, before.exports(), "talking_face", {})
    save_artifact(without, {"fctfg": before.network_ema}, "talking_face", {})
    after = TalkingFaceStage(micro(), {"talking_face": str(with_judge), **experts})
    for kept, now in ((before.network_ema, after.network), (before.discriminator, after.discriminator)):
        assert all(
            torch.equal(a, b) for a, b in zip(kept.state_dict().values(), now.state_dict().values(), strict=True)
        )
    anew = TalkingFaceStage(micro(), {"talking_face": str(without), **experts}).discriminator.state_dict()
    assert any(
        not torch.equal(a, b) for a, b in zip(before.discriminator.state_dict().values(), anew.values(), strict=True)
    )
    with pytest.raises(FctfgError, match="talking_face and generator both"):
        TalkingFaceStage(micro(), {"talking_face": str(without), "generator": exports["generator"], **experts})


def test_stage_3_starts_from_the_mean_of_both_inversions(exports: dict[str, str]) -> None:
    stage, data = talking_face(exports).eval(), batch()
    network = stage.network
    with torch.no_grad():
        network.latent.motion_encoder.audio_weight.zero_()
        source, driving = (network.visual_encoder(x)[:, network.manipulated] for x in (data.source, data.driving[:, 2]))
        fused = network(data.source, data.driving, data.mel).z_fused[:, 2]
    within = (source - network.center).abs().maximum((driving - network.center).abs()) < 2
    assert within.float().mean() > 0.5
    torch.testing.assert_close(fused[within], ((source + driving) / 2)[within], atol=1e-5, rtol=1e-4)


def test_switches_of_stage_3(exports: dict[str, str]) -> None:
    data = batch()
    stages = {form: talking_face(exports, orthogonality_form=form) for form in ("mean", "sum", "cosine")}
    output = stages["mean"].network(data.source, data.driving, data.mel)
    values = {form: stage.terms(data, output)["orthogonality"].item() for form, stage in stages.items()}
    assert values["sum"] == pytest.approx(16 * values["mean"], rel=1e-4)
    assert 0 <= values["cosine"] <= 1 and values["cosine"] != pytest.approx(values["mean"])
    first = SyncNet.state_dict(talking_face(exports).sync_expert)["audio_encoder.0.conv_block.0.weight"]
    for borrow in (True, False):
        weight = talking_face(exports, borrow_audio=borrow).network.audio_encoder.layers[0].conv_block[0].weight
        assert torch.equal(weight, first) is borrow


def test_the_generator_has_a_learning_rate_of_its_own(exports: dict[str, str]) -> None:
    stage = talking_face(exports)
    others, drawn = stage.configure_optimizers()[0].param_groups
    assert (others["lr"], drawn["lr"]) == (1e-4, 1e-4)
    stage = talking_face(exports, generator_learning_rate=2e-3, discriminator_learning_rate=0.0)
    assert stage.configure_optimizers()[1].param_groups[0]["lr"] == 0.0
    others, drawn = stage.configure_optimizers()[0].param_groups
    assert (others["lr"], drawn["lr"]) == (1e-4, 2e-3)
    generator = {id(p) for p in stage.network.generator.parameters()}
    assert {id(p) for p in drawn["params"]} == generator
    assert len(others["params"]) + len(generator) == len(list(stage.network.parameters()))


def test_centered_windows_are_those_of_the_middle_frame(exports: dict[str, str]) -> None:
    starting, centered = talking_face(exports), talking_face(exports, replace(micro(), centered_mel=True))
    data = batch()
    output = starting.network(data.source, data.driving, data.mel)
    shifted = data._replace(mel=data.mel.roll(2, dims=1))  # frame 2 now has what frame 0 had
    assert torch.equal(starting.terms(data, output)["sync"], centered.terms(shifted, output)["sync"])
    face, sound = SyncExpert(micro(), augment=False).eval(), SyncExpert(replace(micro(), centered_mel=True)).eval()
    sound.load_state_dict(face.state_dict())
    long = batch(size=2, frames=12)
    late = long._replace(mel=long.mel.roll(2, dims=1))
    assert torch.equal(face.embed(*face.cut(long))[1], sound.embed(*sound.cut(late))[1])


@pytest.mark.parametrize("term", ["l2", "lpips", "identity"])
def test_inversion_terms_train_the_encoder_only(exports: dict[str, str], term: str) -> None:
    stage = EncoderStage(micro(), {"generator": exports["generator"], "identity_expert": exports["identity"]}).train()
    images, points = stage._images(batch())
    stage.terms(images, points, stage.invert(images))[term].backward()
    assert trained(stage.visual_encoder)
    assert all(
        p.grad is None
        for network in (stage.generator, stage.identity_expert, stage.lpips)
        for p in network.parameters()
    )


def test_the_encoders_body_starts_as_the_identity_experts(exports: dict[str, str]) -> None:
    stage = EncoderStage(micro(), {"generator": exports["generator"], "identity_expert": exports["identity"]})
    ours, theirs = stage.visual_encoder.body.state_dict(), stage.identity_expert.body.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert torch.equal(stage.visual_encoder.latent_avg, stage.generator.latent_avg)


def test_an_encoder_goes_on_with_its_generator(exports: dict[str, str]) -> None:
    taken = {"inversion": exports["inversion"], "identity_expert": exports["identity"]}
    weights = InversionWeights(lpips=0.0, identity=0.0)
    stage = EncoderStage(micro(), taken, weights=weights, generator_learning_rate=1e-3).train()
    assert torch.equal(stage.visual_encoder.latent_avg, stage.generator.latent_avg)
    images, points = stage._images(batch())
    terms = stage.terms(images, points, stage.invert(images))
    assert terms.keys() == {"l2"}  # the others are not computed
    weighted(terms, weights).backward()
    assert trained(stage.visual_encoder) and trained(stage.generator.convs)
    assert [len(group["params"]) > 0 for group in stage.configure_optimizers().param_groups] == [True, True]
    kept = EncoderStage(micro(), taken).train()
    assert set(kept.terms(images, points, images)) == {"l2", "lpips", "identity"}
    kept.invert(images).sum().backward()
    assert trained(kept.visual_encoder) and all(p.grad is None for p in kept.generator.parameters())


def test_refinement_trains_the_hypernetwork_only(exports: dict[str, str]) -> None:
    init_from = {"identity_expert": exports["identity"], "inversion": exports["inversion"]}
    stage = HypernetworkStage(micro(), init_from, refinements=2).train()
    images, points = stage._images(batch())
    sum(stage.terms(images, points, stage.invert(images)).values()).backward()  # type: ignore[union-attr]
    assert trained(stage.hypernetwork)
    assert all(p.grad is None for network in (stage.generator, stage.visual_encoder) for p in network.parameters())


def test_driver_shows_another_mouth(exports: dict[str, str]) -> None:
    stage = talking_face(exports)
    data = batch()
    shown = stage.driver(data)
    changed = (shown != data.driving).any(2).float().mean((0, 1))  # [H, W]
    assert changed[12, 12] == 0 and changed[22, 16] == 1  # between the eyes; the mouth
    assert torch.equal(stage.driver(batch(decoys=False)), batch(decoys=False).driving)


def test_audio_layers_are_borrowed_by_their_shapes() -> None:
    networks = micro()
    encoder, expert = AudioEncoder(networks.audio_encoder), SyncNet(networks.sync_expert)
    copied = borrow_audio_layers(encoder, expert)
    assert copied == len(encoder.layers.state_dict()) > 0
    assert torch.equal(encoder.layers[0].conv_block[0].weight, expert.audio_encoder[0].conv_block[0].weight)
    assert torch.equal(encoder.layers[-1].conv_block[0].weight, expert.audio_encoder[-1].conv_block[0].weight)
    wider = micro(sync_expert={"width": 0.25, "dim": 16})
    assert borrow_audio_layers(encoder, SyncNet(wider.sync_expert)) == 0


def test_the_discriminator_s_parts_add_up_to_its_loss_with_r1() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(micro().discriminator)
    real, fake = batch().source, batch().driving[:, 0]
    parts: list[bool] = []

    def backward(loss: Tensor, last: bool) -> None:
        loss.backward()
        parts.append(last)

    terms = r1_gradients(discriminator, real, 10.0, 16, backward)
    terms |= discriminator_gradients(discriminator, real, fake, backward)
    assert parts == [False, False, True]
    got = {name: p.grad for name, p in discriminator.named_parameters()}
    image = real.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(image).sum(), image, create_graph=True)
    penalty = gradient.square().sum((1, 2, 3)).mean()
    loss = d_logistic_real(discriminator(real)) + d_logistic_fake(discriminator(fake))
    assert torch.allclose(terms["r1"], penalty, rtol=1e-4)
    assert torch.allclose(terms["discriminator"], loss, rtol=1e-4)
    discriminator.zero_grad()
    (loss + 10.0 / 2 * 16 * penalty).backward()
    for name, parameter in discriminator.named_parameters():
        torch.testing.assert_close(got[name], parameter.grad, atol=1e-4, rtol=1e-3)


def test_styles_mix_two_latents_at_one_layer() -> None:
    stage = GeneratorStage(micro(), style_mixing=0.5)
    torch.manual_seed(0)
    codes = stage.styles(Draws(torch.arange(200)))  # [200, L, D]
    changes = (codes[:, 1:] != codes[:, :-1]).any(-1).sum(1)
    assert set(changes.tolist()) == {0, 1}
    assert 70 < int((changes == 1).sum()) < 130


def test_average_follows_its_closed_form() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    average = ema.shadow(network)
    start = [p.clone() for p in network.parameters()]
    with torch.no_grad():
        for p in network.parameters():
            p.add_(1.0)
        network[1].running_mean.fill_(5.0)
    for _ in range(3):
        ema.update(average, network, 0.9)
    for p, s in zip(average.parameters(), start, strict=True):
        assert torch.allclose(p, s + 1 - 0.9**3, atol=1e-6)
    assert torch.equal(average[1].running_mean, network[1].running_mean)


def test_sync_expert_sees_every_window_with_its_own_sound() -> None:
    stage = SyncExpert(micro(), augment=False).eval()
    data = batch(size=2, frames=12)
    face, sound = stage.embed(*stage.cut(data))
    assert face.shape == sound.shape == (2, 2, 16)
    second = stage.sync_expert.embed_faces(stage.sync_expert.mouths(data.driving[:, 5:10], data.points[:, 5:10]))
    assert torch.allclose(face[:, 1], second, atol=1e-5)
    assert torch.allclose(sound[:, 1], stage.sync_expert.embed_audio(data.mel[:, 5]), atol=1e-5)


def test_varied_windows_stay_in_place_and_in_range() -> None:
    torch.manual_seed(0)
    data = batch()
    seen = vary(data, Draws(torch.arange(2)))
    assert (seen.points - data.points).abs().max() < 0.06
    assert not torch.equal(seen.points, data.points)
    assert seen.driving.abs().max() <= 1 and seen.mel.abs().max() <= 4
    shift = seen.points - data.points
    assert torch.allclose(shift, shift[:, :1].expand_as(shift), atol=1e-6)  # alike in all frames of a sample


def test_resolutions_must_agree() -> None:
    with pytest.raises(Exception, match="resolution"):
        micro(discriminator={"resolution": 64, "channel_base": 256, "channel_max": 16})

"""The networks between image, sound and generator: published layouts, references and the composition of Fig. 3."""

import numpy as np
import pytest
import torch
from layout import layout, parameters
from torch import nn

from fctfg.models.audio_encoder import AudioEncoder, AudioEncoderConfig
from fctfg.models.fctfg import FCTFG, FCTFGConfig
from fctfg.models.hypernetwork import Hypernetwork, HypernetworkConfig, add_deltas, refine
from fctfg.models.irse import IRSEConfig, stage_ends
from fctfg.models.latent_mlps import CanonicalEncoder, MotionEncoder
from fctfg.models.spec_augment import SpecAugment
from fctfg.models.stylegan2 import Generator, GeneratorConfig
from fctfg.models.temporal_fusion import TemporalFusion
from fctfg.models.visual_encoder import VisualEncoder, VisualEncoderConfig

GENERATOR = GeneratorConfig(resolution=32, style_dim=16, n_mlp=2, channel_base=512, channel_max=16)
BODY = IRSEConfig(channels=(8, 8, 12, 16), blocks=(1, 2, 1, 1), se_reduction=4)
ENCODER = VisualEncoderConfig(resolution=32, style_dim=16, n_styles=8, body=BODY)
HYPER = HypernetworkConfig(32, (8, 8, 12, 16), (1, 1, 1, 1), 12, 8, 8, GENERATOR)


def scrambled(network: nn.Module, seed: int = 0) -> nn.Module:
    """In eval mode, with noise on all parameters, so that nothing is zero or the identity by its initialization."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
    return network.eval()


# ---------------------------------------------------------------------------------------------- published layouts


def test_keys_shapes_and_sizes_are_the_published_ones() -> None:
    with torch.device("meta"):
        psp = VisualEncoder(VisualEncoderConfig())
        hyper = Hypernetwork(HypernetworkConfig())
        audio = AudioEncoder(AudioEncoderConfig())
    assert layout(psp, without=("latent_avg",)) == (565, "08cbd7357f994784")
    assert parameters(psp) == 209_450_688
    assert layout(hyper) == (397, "91f2bebe9431a88c")
    assert parameters(hyper) == 312_984_640
    assert layout(audio, prefix="layers.") == (91, "6a127ffda2feb7f6")
    assert parameters(audio) == 2_812_672


def test_the_latent_space_of_the_paper_has_this_size() -> None:
    with torch.device("meta"):
        canonical, motion = CanonicalEncoder(8, 512), MotionEncoder(8, 512, 512, (4, 5))
        fusion = TemporalFusion(8, 512)
    linear = 512 * 512 + 512
    assert parameters(canonical) == 8 * 2 * linear
    assert parameters(motion) == 8 * 3 * linear + 2 * 512 * 512
    assert parameters(fusion) == 8 * (3 * 512 * 512 + 512)


# --------------------------------------------------------------------------------------------------- visual encoder


def test_styles_come_from_the_published_scales() -> None:
    config = VisualEncoderConfig()
    assert [config.tap_size(style) for style in range(14)] == [16] * 3 + [32] * 4 + [64] * 7
    assert stage_ends(config.body) == (2, 6, 20, 23)


def test_images_become_codes_around_the_mean_latent() -> None:
    torch.manual_seed(0)
    encoder = VisualEncoder(ENCODER).eval()
    images = torch.randn(2, 3, 32, 32)
    codes = encoder(images)
    assert codes.shape == (2, 8, 16)
    encoder.set_latent_avg(torch.arange(16.0))
    torch.testing.assert_close(encoder(images), codes + torch.arange(16.0))
    with pytest.raises(ValueError, match=r"\[B, 3, 32, 32\], not \[2, 3, 16, 16\]"):
        encoder(images[:, :, ::2, ::2])


# ---------------------------------------------------------------------------------------------------------- sound


def test_sound_becomes_a_vector() -> None:
    encoder = AudioEncoder(AudioEncoderConfig(width=0.125, dim=16)).eval()
    assert encoder(torch.randn(3, 1, 80, 16)).shape == (3, 16)
    with pytest.raises(ValueError, match=r"\[B, 1, 80, 16\], not \[3, 80, 16\]"):
        encoder(torch.randn(3, 80, 16))


def test_masks_are_silence_in_training_only_and_differ_by_window() -> None:
    torch.manual_seed(0)
    augment, mel = SpecAugment(time_mask=4, freq_mask=16), torch.ones(64, 1, 80, 16)
    assert augment.eval()(mel) is mel
    masked = augment.train()(mel)
    assert set(masked.unique().tolist()) == {-4.0, 1.0}
    silent = (masked == -4).squeeze(1)
    frames, bins = silent.all(1).sum(1), silent.all(2).sum(1)
    assert frames.max() <= 4
    assert bins.max() <= 16
    assert len(frames.unique()) > 2
    assert len(bins.unique()) > 5
    assert torch.equal(mel, torch.ones_like(mel))
    off = SpecAugment(time_mask=0, freq_mask=0).train()
    assert torch.equal(off(mel), mel)


# ---------------------------------------------------------------------------------------------------- latent space


def mlp(x: np.ndarray, *layers: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    for index, (weight, bias) in enumerate(layers):
        x = x @ weight + bias
        if index < len(layers) - 1:
            x = np.where(x > 0, x, 0.2 * x)
    return x


def numpy_layer(linear: nn.Module, layer: int) -> tuple[np.ndarray, np.ndarray]:
    return linear.weight[layer].detach().numpy(), linear.bias[layer, 0].detach().numpy()  # type: ignore[union-attr,operator,index,return-value]


def test_the_canonical_encoder_is_one_mlp_per_layer() -> None:
    encoder = scrambled(CanonicalEncoder(3, 6))
    z = torch.randn(2, 3, 6)
    got = encoder(z).detach().numpy()
    for layer in range(3):
        want = mlp(z[:, layer].numpy(), numpy_layer(encoder.hidden, layer), numpy_layer(encoder.output, layer))
        np.testing.assert_allclose(got[:, layer], want, atol=1e-5)


def test_the_motion_encoder_concatenates_sound_on_its_layers_only() -> None:
    encoder = scrambled(MotionEncoder(4, 6, 5, audio_layers=(1, 3)))
    z_audio, z_driving = torch.randn(2, 3, 5), torch.randn(2, 3, 4, 6)
    got = encoder(z_audio, z_driving).detach().numpy()
    assert got.shape == (2, 3, 4, 6)
    for layer in range(4):
        x, (weight, bias) = z_driving[:, :, layer].numpy(), numpy_layer(encoder.driving, layer)
        if layer in (1, 3):
            x = np.concatenate([z_audio.numpy(), x], axis=-1)
            weight = np.concatenate([encoder.audio_weight[(layer - 1) // 2].detach().numpy(), weight])
        want = mlp(x, (weight, bias), numpy_layer(encoder.hidden, layer), numpy_layer(encoder.output, layer))
        np.testing.assert_allclose(got[:, :, layer], want, atol=1e-5)


def test_temporal_fusion_starts_as_the_identity() -> None:
    z = torch.randn(2, 5, 3, 4)
    torch.testing.assert_close(TemporalFusion(3, 4)(z), z)


@pytest.mark.parametrize("frames", [1, 5])
def test_temporal_fusion_is_a_convolution_over_time_per_layer(frames: int) -> None:
    fusion = scrambled(TemporalFusion(3, 4, kernel=3))
    z = torch.randn(2, frames, 3, 4)
    weight = fusion.conv.weight.detach().numpy().reshape(3, 4, 4, 3)  # [layer, out, in, tap]
    bias = fusion.conv.bias.detach().numpy().reshape(3, 4)
    want = np.zeros(z.shape)
    for t in range(frames):
        want[:, t] = bias
        for tap in range(3):
            x = z[:, min(max(t + tap - 1, 0), frames - 1)].numpy()
            want[:, t] += np.einsum("loi,bli->blo", weight[..., tap], x)
    np.testing.assert_allclose(fusion(z).detach().numpy(), want, atol=1e-5)


# ----------------------------------------------------------------------------------------------------- hypernetwork


def test_the_full_width_convolutions_share_the_published_set_at_256_px() -> None:
    config = HypernetworkConfig()
    convolutions = config.generator.convolutions
    shared = [i for i, convolution in enumerate(convolutions) if config.shares(convolution)]
    own = [i for i, convolution in enumerate(convolutions) if i not in shared and not convolution.to_rgb]
    assert shared == [0, 2, 3, 5, 6, 8, 9, 11, 12]
    assert own == [14, 15, 17, 18]


def test_offsets_fit_the_generator_at_any_size() -> None:
    hyper = scrambled(Hypernetwork(HYPER))
    images = torch.randn(2, 3, 32, 32)
    deltas = hyper(images, images.flip(0))
    assert len(deltas) == hyper.n_deltas == len(GENERATOR.convolutions)
    for delta, convolution in zip(deltas, GENERATOR.convolutions, strict=True):
        assert (delta is None) == convolution.to_rgb
        if delta is not None:
            assert delta.shape == (2, convolution.out_channels, convolution.in_channels, 3, 3)
            assert delta.isfinite().all()
            assert not torch.equal(delta[0], delta[1])


def test_refinement_adds_up_offsets_and_looks_at_the_current_image() -> None:
    torch.manual_seed(0)
    hyper, generator = scrambled(Hypernetwork(HYPER)), Generator(GENERATOR)
    images, codes = torch.randn(1, 3, 32, 32), torch.randn(1, 8, 16)
    first = hyper(images, generator(codes))
    second = hyper(images, generator(codes, deltas=first))
    want = add_deltas(first, second)
    for got, delta in zip(refine(hyper, generator, images, codes, iterations=2), want, strict=True):
        assert (got is None) == (delta is None)
        if got is not None:
            torch.testing.assert_close(got, delta)


# ---------------------------------------------------------------------------------------------------------- Fig. 3


def talking_face(**fields: object) -> FCTFG:
    torch.manual_seed(0)
    config = FCTFGConfig.for_styles(8, style_dim=16, audio_dim=12, **fields)
    hyper = None if config.hypernetwork == "off" else scrambled(Hypernetwork(HYPER))
    encoder = VisualEncoder(ENCODER)
    encoder.set_latent_avg(torch.randn(16))
    audio = AudioEncoder(AudioEncoderConfig(width=0.125, dim=12))
    model = FCTFG(config, Generator(GENERATOR), encoder, audio, hyper)
    for part in (model.visual_encoder, model.audio_encoder, model.latent):
        scrambled(part)
    return model.eval()


SOURCE = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))
DRIVING = torch.randn(2, 5, 3, 32, 32, generator=torch.Generator().manual_seed(6))
MEL = torch.randn(2, 5, 1, 80, 16, generator=torch.Generator().manual_seed(7))


def test_the_papers_layers_are_the_default() -> None:
    config = FCTFGConfig()
    assert [layer + 1 for layer in config.manipulated] == [1, 2, 3, 4, 7, 8, 9, 10]
    assert [layer + 1 for layer in config.audio_layers] == [7, 8]
    assert FCTFGConfig.for_styles(14) == config
    assert FCTFGConfig.for_styles(10).audio_layers == (4, 5)
    with pytest.raises(ValueError, match="no default layers for 9 styles"):
        FCTFGConfig.for_styles(9)


@pytest.mark.parametrize(
    "fields",
    [
        {"manipulated": (1, 1), "audio_layers": ()},
        {"manipulated": (2, 1), "audio_layers": ()},
        {"manipulated": (0, 1), "audio_layers": (2,)},
        {"temporal_kernel": 2},
        {"hypernetwork": "maybe"},
    ],
)
def test_impossible_settings_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        FCTFGConfig(**fields)  # type: ignore[arg-type]


def test_networks_that_do_not_fit_are_refused() -> None:
    encoder, audio = VisualEncoder(ENCODER), AudioEncoder(AudioEncoderConfig(width=0.125, dim=12))
    config = FCTFGConfig.for_styles(8, style_dim=16, audio_dim=13)
    with pytest.raises(ValueError, match="audio_dim differ: 12 and 13"):
        FCTFG(config, Generator(GENERATOR), encoder, audio)
    config = FCTFGConfig.for_styles(8, style_dim=16, audio_dim=12, hypernetwork="frozen")
    with pytest.raises(ValueError, match='hypernetwork is "frozen" but none was given'):
        FCTFG(config, Generator(GENERATOR), encoder, audio)


def test_shapes_of_the_output() -> None:
    output = talking_face()(SOURCE, DRIVING, MEL)
    assert output.frames.shape == (2, 5, 3, 32, 32)
    assert output.z_canonical.shape == (2, 6, 16)
    assert output.z_motion.shape == output.z_fused.shape == (2, 5, 6, 16)


def test_layers_that_are_not_manipulated_keep_the_source() -> None:
    model, seen = talking_face(), []
    model.generator.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    output = model(SOURCE, DRIVING, MEL)
    codes = seen[0].unflatten(0, (2, 5))
    z_source = model.visual_encoder(SOURCE)
    torch.testing.assert_close(codes[:, :, 6:], z_source[:, None, 6:].expand(-1, 5, -1, -1))
    torch.testing.assert_close(codes[:, :, :6], output.z_fused)


def test_sound_changes_its_layers_only() -> None:
    model = talking_face()
    one, other = model(SOURCE, DRIVING, MEL), model(SOURCE, DRIVING, MEL.flip(0))
    moved = (one.z_motion - other.z_motion).abs().sum((0, 1, 3)) > 0
    assert moved.nonzero().flatten().tolist() == [3, 4]
    assert torch.equal(one.z_canonical, other.z_canonical)


def test_motion_does_not_see_the_source_nor_the_canonical_code_the_driver() -> None:
    model = talking_face()
    one, other = model(SOURCE, DRIVING, MEL), model(SOURCE.flip(0), DRIVING, MEL)
    assert torch.equal(one.z_motion, other.z_motion)
    assert not torch.equal(one.z_canonical, other.z_canonical)
    other = model(SOURCE, DRIVING.flip(1), MEL)
    assert torch.equal(one.z_canonical, other.z_canonical)


def test_subtracting_latent_avg_moves_codes_to_the_mean_latent_and_back() -> None:
    centered, plain = talking_face(), talking_face(subtract_latent_avg=False)
    plain.visual_encoder.latent_avg.zero_()
    center = centered.visual_encoder.latent_avg
    one, other = centered(SOURCE, DRIVING, MEL), plain(SOURCE, DRIVING, MEL)
    torch.testing.assert_close(one.z_canonical, other.z_canonical, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(one.z_fused, other.z_fused + center, atol=1e-5, rtol=1e-4)


def test_the_parts_for_streaming_give_the_whole() -> None:
    model = talking_face(hypernetwork="finetuned", refinements=1)
    want = model(SOURCE, DRIVING, MEL)
    z_source, z_canonical, deltas = model.encode_source(SOURCE)
    assert deltas is not None
    z_fused = model.fuse(z_canonical, model.encode_motion(DRIVING, MEL))
    torch.testing.assert_close(model.decode(z_source, z_fused, deltas), want.frames)


def test_the_canonical_image_belongs_to_the_source_alone() -> None:
    model = talking_face()
    image = model.canonical_image(SOURCE)
    assert image.shape == (2, 3, 32, 32)
    z_source, z_canonical, _ = model.encode_source(SOURCE)
    codes = z_source.clone()
    codes[:, :6] = z_canonical + model.center
    torch.testing.assert_close(image, model.generator(codes))


def test_gradients_reach_every_network_that_is_trained() -> None:
    model = talking_face().train()
    output = model(SOURCE, DRIVING, MEL)
    output.frames.square().mean().backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None and "generator.style" not in name]
    assert missing == []


@pytest.mark.parametrize("mode", ["off", "frozen", "finetuned"])
def test_the_hypernetwork_is_off_frozen_or_trained(mode: str) -> None:
    model = talking_face(hypernetwork=mode, refinements=2).train()
    output = model(SOURCE, DRIVING, MEL)
    output.frames.square().mean().backward()
    if mode == "off":
        assert model.hypernetwork is None
        return
    assert model.hypernetwork is not None
    gradients = [p.grad is not None for p in model.hypernetwork.parameters()]
    assert all(gradients) if mode == "finetuned" else not any(gradients)
    assert model.hypernetwork.training == (mode == "finetuned")
    plain = talking_face().train()(SOURCE, DRIVING, MEL)
    assert not torch.equal(plain.frames, output.frames)


def test_batch_norms_of_the_inversion_keep_their_statistics() -> None:
    model = talking_face().train()
    norm = model.visual_encoder.body[0].res_layer[0]
    sound = model.audio_encoder.layers[0].conv_block[1]
    before = norm.running_mean.clone(), sound.running_mean.clone()
    model(SOURCE, DRIVING, MEL)
    assert torch.equal(norm.running_mean, before[0])
    assert not torch.equal(sound.running_mean, before[1])
    free = talking_face(freeze_batch_norm=False).train()
    assert free.visual_encoder.body[0].res_layer[0].training


def test_bfloat16_stays_close() -> None:
    model = talking_face(hypernetwork="finetuned", refinements=1)
    want = model(SOURCE, DRIVING, MEL)
    with torch.autocast("cpu", torch.bfloat16):
        got = model(SOURCE, DRIVING, MEL)
    assert got.frames.dtype == torch.float32
    assert (got.frames - want.frames).square().mean().sqrt() < 0.1 * want.frames.std()

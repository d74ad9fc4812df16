"""The networks and the configurations of the paper's ablations."""

from dataclasses import replace

import pytest
import torch
from trained_runs import CONFIGS, Place, arguments

from fctfg.cli import main
from fctfg.inference import TalkingFace
from fctfg.models.discriminator import Discriminator, DiscriminatorConfig
from fctfg.models.fctfg import FCTFGConfig, Latent
from fctfg.models.lstm_fusion import LSTMFusion
from fctfg.models.video_discriminator import VideoDiscriminator, VideoDiscriminatorConfig
from fctfg.weights.artifact import build, load_artifact
from fctfg.weights.config_json import config_from_dict, config_to_dict

SIZES = DiscriminatorConfig(16, channel_base=128, channel_max=8)
ABLATIONS = sorted(path.stem for path in (CONFIGS / "ablations").glob("*.yaml"))


def scrambled(fusion: LSTMFusion) -> LSTMFusion:
    """With an output that is not zero."""
    torch.nn.init.normal_(fusion.output.weight)
    return fusion


# --------------------------------------------------------------------------------------------------------- LSTM fusion


def test_the_lstm_starts_as_the_identity_and_learns() -> None:
    z = torch.randn(2, 5, 3, 4)
    fusion = LSTMFusion(3, 4)
    assert torch.equal(fusion(z), z)
    fusion(z).sum().backward()
    assert fusion.output.weight.grad is not None and fusion.output.weight.grad.abs().sum() > 0


def test_the_lstm_written_out() -> None:
    """Gates i, f, g, o of each frame and layer from the frame and the state before (PyTorch's order)."""
    torch.manual_seed(0)
    fusion, z = scrambled(LSTMFusion(2, 3)).double(), torch.randn(1, 4, 2, 3, dtype=torch.float64)
    got = fusion(z)
    for layer, lstm in enumerate(fusion.lstms):
        h = c = torch.zeros(3, dtype=torch.float64)
        for frame in range(4):
            gates = lstm.weight_ih_l0 @ z[0, frame, layer] + lstm.bias_ih_l0 + lstm.weight_hh_l0 @ h + lstm.bias_hh_l0
            i, f, g, o = gates.chunk(4)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            want = z[0, frame, layer] + h @ fusion.output.weight[layer] + fusion.output.bias[layer, 0]
            torch.testing.assert_close(got[0, frame, layer], want)


def test_the_lstm_looks_back_only_and_at_its_own_layer() -> None:
    torch.manual_seed(0)
    fusion, z = scrambled(LSTMFusion(3, 4)), torch.randn(1, 5, 3, 4)
    changed = z.clone()
    changed[0, 2, 1] += 1
    moved = (fusion(changed) - fusion(z)).abs().sum(-1)[0] > 0  # [T, L']
    want = torch.zeros(5, 3, dtype=torch.bool)
    want[2:, 1] = True
    assert torch.equal(moved, want)


def test_files_from_before_the_setting_have_the_convolution() -> None:
    config = FCTFGConfig()
    values = config_to_dict(config)
    assert values.pop("temporal_fusion") == "convolution"
    assert config_from_dict(FCTFGConfig, values, "file") == config
    assert isinstance(
        Latent(replace(config, style_dim=8, audio_dim=8, temporal_fusion="lstm")).temporal_fusion, LSTMFusion
    )
    with pytest.raises(ValueError, match="temporal_fusion"):
        FCTFGConfig(temporal_fusion="gru")  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------------------- video discriminator


def test_frames_that_are_alike_are_judged_as_the_image_was() -> None:
    torch.manual_seed(0)
    image = Discriminator(SIZES)
    torch.nn.init.normal_(image.final_conv[1].bias)
    video = VideoDiscriminator(VideoDiscriminatorConfig(**config_to_dict(SIZES), frames=5))
    video.start_as(image)
    frames = torch.randn(4, 3, 16, 16)
    torch.testing.assert_close(video(frames[:, None].expand(-1, 5, -1, -1, -1)), image(frames), atol=1e-5, rtol=1e-4)


def test_the_order_of_frames_matters_once_it_learns() -> None:
    torch.manual_seed(0)
    video, frames = VideoDiscriminator(VideoDiscriminatorConfig(16, 128, 8, frames=3)), torch.randn(2, 3, 3, 16, 16)
    assert (video(frames) - video(frames.flip(1))).abs().max() > 1e-4
    assert video(frames).shape == (2, 1)
    with pytest.raises(ValueError, match="windows"):
        video(frames[:, :2])
    with pytest.raises(ValueError, match="frames"):
        VideoDiscriminatorConfig(frames=0)


# ------------------------------------------------------------------------------------------------------- configurations


@pytest.mark.usefixtures("untracked")
@pytest.mark.parametrize("names", [["no_orthogonality"], ["cosine"], ["lstm", "video_discriminator"]], ids="+".join)
def test_each_ablation_trains_and_is_what_it_says(place: Place, names: list[str]) -> None:
    run, configs = "+".join(names), [f"--config={CONFIGS / 'ablations' / name}.yaml" for name in names]
    once = *configs, "--trainer.max_epochs=1", "--data.batches_per_epoch=2"
    assert main(arguments(place, "talking_face", run, *once)) == 0
    settings = load_artifact(place[1] / run).card["config"]["model"]["init_args"]
    artifact = load_artifact(place[1] / run)
    assert settings["weights"]["orthogonality"] == (0.0 if "no_orthogonality" in names else 1.0)
    assert settings["orthogonality_form"] == ("cosine" if "cosine" in names else "mean")
    assert artifact.configs["latent"].temporal_fusion == ("lstm" if "lstm" in names else "convolution")
    assert ("video_discriminator" in artifact.configs) == ("video_discriminator" in names)
    model = TalkingFace.from_pretrained(place[1] / run)
    assert isinstance(model.model.latent.temporal_fusion, LSTMFusion) == ("lstm" in names)
    if "video_discriminator" in names:
        trained = build(artifact, "video_discriminator")
        start = VideoDiscriminator(trained.config)  # type: ignore[arg-type]
        start.start_as(build(load_artifact(place[1] / "generator"), "discriminator"))  # type: ignore[arg-type]
        assert any(not torch.equal(a, b) for a, b in zip(trained.parameters(), start.parameters(), strict=True))
        experts = [f"--model.init_from.{role}={place[1] / role}" for role in ("sync_expert", "identity_expert")]
        on = [a for a in arguments(place, "talking_face", f"{run}_on", *once) if "init_from" not in a]
        assert main([*on, *experts, f"--model.init_from.talking_face={place[1] / run}"]) == 0


def test_every_ablation_is_run_above() -> None:
    assert ABLATIONS == ["cosine", "lstm", "no_orthogonality", "video_discriminator"]

"""Files as other programs publish them, made of the real networks at a small size with seeded random weights."""

import argparse
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from fctfg.models.audio_encoder import AudioEncoder, AudioEncoderConfig
from fctfg.models.discriminator import Discriminator, DiscriminatorConfig
from fctfg.models.experts.arcface import ArcFace, ArcFaceConfig
from fctfg.models.experts.syncnet import SyncNet, SyncNetConfig
from fctfg.models.hypernetwork import Hypernetwork, HypernetworkConfig
from fctfg.models.irse import IRSEConfig
from fctfg.models.stylegan2 import Generator, GeneratorConfig
from fctfg.models.visual_encoder import VisualEncoder, VisualEncoderConfig

BODY = IRSEConfig(channels=(8, 12, 16, 20), blocks=(2, 1, 1, 2), se_reduction=4)
GENERATOR = GeneratorConfig(resolution=32, style_dim=16, n_mlp=3, channel_base=256, channel_max=20)


def shaken(network: nn.Module) -> Any:
    """Eval mode, with every tensor random, also those that start at zero or one."""
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point() and not name.endswith((".kernel", "template")):
                tensor.add_(0.2 * torch.randn_like(tensor))
    return network.eval()


def generator(config: GeneratorConfig = GENERATOR, seed: int = 0) -> Generator:
    torch.manual_seed(seed)
    return shaken(Generator(config))


def discriminator(config: GeneratorConfig = GENERATOR) -> Discriminator:
    torch.manual_seed(2)
    return shaken(Discriminator(DiscriminatorConfig(config.resolution, config.channel_base, config.channel_max)))


def encoder(n_styles: int = GENERATOR.n_styles) -> VisualEncoder:
    torch.manual_seed(3)
    made = shaken(VisualEncoder(VisualEncoderConfig(32, GENERATOR.style_dim, n_styles, BODY)))
    made.set_latent_avg(generator().latent_avg)
    return made


def hypernetwork() -> Hypernetwork:
    torch.manual_seed(4)
    sizes = HypernetworkConfig(32, (8, 12, 16, 20), (1, 2, 1, 1), 6, 10, 14, generator=GENERATOR)
    return shaken(Hypernetwork(sizes))


def recogniser() -> ArcFace:
    torch.manual_seed(5)
    return shaken(ArcFace(ArcFaceConfig(BODY, dim=24)))


def sync_expert() -> SyncNet:
    torch.manual_seed(6)
    return shaken(SyncNet(SyncNetConfig(width=0.125, dim=16)))


def audio_encoder() -> AudioEncoder:
    torch.manual_seed(7)
    return shaken(AudioEncoder(AudioEncoderConfig(width=0.125, dim=16)))


def state(network: nn.Module, prefix: str = "", without: str = "latent_avg") -> dict[str, Tensor]:
    return {f"{prefix}{key}": tensor for key, tensor in network.state_dict().items() if key != without}


def rosinality() -> dict[str, Any]:
    """As its train.py saves: no latent_avg, settings in an argparse.Namespace, optimisers."""
    adam = {"state": {}, "param_groups": [{"lr": 0.002, "betas": (0.0, 0.99)}]}
    return {
        "g": state(generator(seed=1)),
        "d": state(discriminator()),
        "g_ema": state(generator()),
        "g_optim": adam,
        "d_optim": adam,
        "args": argparse.Namespace(size=32, latent=16, n_mlp=3),
        "ada_aug_p": 0.0,
    }


def psp(n_styles: int = GENERATOR.n_styles, **opts: Any) -> dict[str, Any]:
    average = generator().latent_avg
    return {
        "state_dict": state(encoder(n_styles), "encoder.") | state(generator(), "decoder."),
        "opts": {"encoder_type": "GradualStyleEncoder", "start_from_latent_avg": True, "output_size": 32} | opts,
        "latent_avg": average.repeat(n_styles, 1),
    }


def hyperstyle() -> dict[str, Any]:
    return {
        "state_dict": state(hypernetwork(), "hypernet.") | state(generator(), "decoder."),
        "opts": {"encoder_type": "SharedWeightsHyperNetResNet", "output_size": 32, "n_iters_per_batch": 5},
        "latent_avg": generator().latent_avg.repeat(GENERATOR.n_styles, 1),
        "global_step": 7,
        "best_val_loss": 0.25,
    }


def wav2lip() -> dict[str, Any]:
    """From DataParallel, with the rest of the generator that goes unused."""
    tensors = {key.replace("layers.", "audio_encoder."): t for key, t in state(audio_encoder()).items()}
    tensors["face_encoder_blocks.0.0.conv_block.0.weight"] = torch.zeros(2, 6, 7, 7)
    tensors["face_decoder_blocks.0.0.conv_block.0.weight"] = torch.zeros(2, 2, 1, 1)
    tensors["output_block.1.weight"] = torch.zeros(3, 2, 1, 1)
    prefixed = {f"module.{key}": tensor for key, tensor in tensors.items()}
    return {"state_dict": prefixed, "optimizer": None, "global_step": 1000, "global_epoch": 10}


def save(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


@contextmanager
def nvlabs_modules() -> Iterator[ModuleType]:
    """`torch_utils.persistence` and `dnnlib.util` as far as a pickle names them; gone afterwards, as on a user's
    machine."""
    persistence, util = ModuleType("torch_utils.persistence"), ModuleType("dnnlib.util")

    def _reconstruct_persistent_obj(meta: dict[str, Any]) -> None:
        raise AssertionError("the pickle's own code ran")

    class EasyDict(dict):
        """A dictionary whose items are attributes."""

    for function, home in ((_reconstruct_persistent_obj, persistence), (EasyDict, util)):
        function.__module__, function.__qualname__ = home.__name__, function.__name__
        setattr(home, function.__name__, function)
    homes = {"torch_utils": ModuleType("torch_utils"), persistence.__name__: persistence}
    homes |= {"dnnlib": ModuleType("dnnlib"), util.__name__: util}
    sys.modules.update(homes)
    try:
        yield persistence
    finally:
        for name in homes:
            del sys.modules[name]


class Persistent:
    """Pickles a state dict as NVlabs' persistent modules do: a call of their function with the module's fields."""

    def __init__(self, tensors: dict[str, Tensor], source: str = "raise SystemExit") -> None:
        children: dict[str, dict[str, Tensor]] = {}
        self.fields: dict[str, Any] = {"training": False, "_parameters": {}, "_buffers": {}, "_modules": {}}
        for key, tensor in tensors.items():
            name, _, rest = key.partition(".")
            if rest:
                children.setdefault(name, {})[rest] = tensor
            elif name in ("resample_filter", "noise_const", "w_avg"):
                self.fields["_buffers"][name] = tensor
            else:
                self.fields["_parameters"][name] = nn.Parameter(tensor)
        self.fields["_buffers"]["scratch"] = torch.zeros(1)
        self.fields["_non_persistent_buffers_set"] = {"scratch"}
        self.fields["_parameters"]["unused"] = None
        self.fields |= {"conv_clamp": 256, "group_size": 8} if "weight" in tensors else {"conv_clamp": None}
        self.fields["_modules"] = {name: Persistent(part) for name, part in children.items()}
        self.source = source

    def __reduce__(self) -> tuple[Any, ...]:
        meta = {"type": "class", "version": 6, "module_src": self.source, "class_name": "M", "state": self.fields}
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (meta,), None


def nvlabs_pickle(path: Path, networks: dict[str, dict[str, Tensor]], protocol: int = 3) -> Path:
    """A `.pkl` as stylegan2-ada-pytorch writes its snapshots; 3 is the protocol of the Python 3.7 that it asks for."""
    with nvlabs_modules():
        settings = sys.modules["dnnlib.util"].EasyDict(class_name="training.dataset.ImageFolderDataset", size=7)
        content: dict[str, Any] = {name: Persistent(tensors) for name, tensors in networks.items()}
        path.write_bytes(pickle.dumps({**content, "training_set_kwargs": settings, "augment_pipe": None}, protocol))
    return path

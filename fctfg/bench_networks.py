"""The pieces of an iteration and of generation that `fctfg bench networks` times, with their nominal work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fctfg.bench_peak import PRECISIONS
from fctfg.losses.adversarial import d_logistic_fake, d_logistic_real, g_nonsaturating, path_length_penalty, r1_penalty
from fctfg.models.discriminator import Discriminator, DiscriminatorConfig
from fctfg.models.frozen_generator import FrozenGenerator
from fctfg.models.hypernetwork import Hypernetwork, HypernetworkConfig
from fctfg.models.stylegan2 import Generator, GeneratorConfig
from fctfg.models.visual_encoder import VisualEncoder, VisualEncoderConfig

R1_EVERY, PATH_LENGTH_EVERY = 16, 4
STEPS = ("generator forward", "discriminator step", "generator step", "R1 step", "path-length step")
FLOAT32_ONLY = ("R1 step", "path-length step")  # and eager only: torch.compile has no second derivatives
INFERENCE = ("one-shot generation, per frame", "pSp", "hypernetwork")


@dataclass(frozen=True)
class Sizes:
    """What is measured; channels are those of StyleGAN2 with channel multiplier 2 unless said otherwise.

    Attributes:
        size: side of the images, px.
        batch: images of a step; the path length takes half.
        channel_base, channel_max: see :class:`GeneratorConfig`; channel_max is also the length of the codes.
        device: where to compute.
        recompute: compute activations again in the backward pass instead of keeping them.
    """

    size: int = 256
    batch: int = 2
    channel_base: int = 32768
    channel_max: int = 512
    device: str = "cpu"
    recompute: bool = False


class Workload:
    """Networks with random weights and inputs, and the calls that are timed."""

    def __init__(self, sizes: Sizes) -> None:
        torch.manual_seed(0)
        self.sizes = sizes
        size, batch, dim, device = sizes.size, sizes.batch, sizes.channel_max, torch.device(sizes.device)
        config = GeneratorConfig(size, dim, channel_base=sizes.channel_base, channel_max=dim)
        self.generator = Generator(config).to(device)
        self.discriminator = Discriminator(DiscriminatorConfig(size, sizes.channel_base, dim)).to(device)
        self.generator.recompute = self.discriminator.recompute = sizes.recompute
        self.encoder = VisualEncoder(VisualEncoderConfig(size, dim, config.n_styles)).to(device).eval()
        self.hypernetwork: Hypernetwork | None = None
        self.codes = torch.randn(batch, config.n_styles, dim, device=device)
        self.real = torch.randn(batch, 3, size, size, device=device)
        self.fake = torch.randn(batch, 3, size, size, device=device)

    def call(self, what: str, precision: str, compiled: bool) -> Callable[[], object]:
        """The call to be timed; its first use compiles. Gradients are freed after each call."""
        wrap: Callable[[nn.Module], Callable[..., Tensor]] = torch.compile if compiled else lambda network: network
        kind, dtype = self.real.device.type, PRECISIONS[precision]

        # The frozen generator holds its own precision; R1 and path length switch autocast off themselves.
        enabled = precision != "float32" and what != INFERENCE[0]

        def under_autocast(forward: Callable[..., Any]) -> Callable[..., Any]:  # without the backward pass
            def wrapped(*inputs: Tensor, **options: str) -> Any:
                with torch.autocast(kind, torch.bfloat16, enabled=enabled):
                    return forward(*inputs, **options)

            return wrapped

        if what in INFERENCE:
            run = under_autocast(self._inference(what, dtype, wrap))
        else:
            networks = (under_autocast(wrap(network)) for network in (self.generator, self.discriminator))
            run = self._step(what, *networks)

        def call() -> object:
            result = run()
            if kind == "cuda":
                torch.cuda.synchronize()
            return result

        return call

    def _step(self, what: str, g: Callable[..., Tensor], d: Callable[..., Tensor]) -> Callable[[], object]:
        generator, discriminator = self.generator, self.discriminator

        def forward() -> Tensor:
            with torch.no_grad():
                return g(self.codes, noise="random")

        def discriminator_step() -> None:
            d_logistic_fake(d(self.fake)).backward()  # one graph after the other: half the memory
            d_logistic_real(d(self.real)).backward()
            discriminator.zero_grad(set_to_none=True)

        def generator_step() -> None:
            discriminator.requires_grad_(False)
            g_nonsaturating(d(g(self.codes, noise="random"))).backward()
            discriminator.requires_grad_(True)
            generator.zero_grad(set_to_none=True)

        def r1_step() -> None:
            r1_penalty(discriminator, self.real).backward()
            discriminator.zero_grad(set_to_none=True)

        def path_length_step() -> None:
            codes = self.codes[: max(1, len(self.codes) // 2)].clone().requires_grad_()
            images = generator(codes, noise="random")
            path_length_penalty(images, codes, torch.zeros((), device=codes.device), 0.01)[0].backward()
            generator.zero_grad(set_to_none=True)

        return dict(zip(STEPS, (forward, discriminator_step, generator_step, r1_step, path_length_step), strict=True))[
            what
        ]

    def _inference(
        self, what: str, dtype: torch.dtype, wrap: Callable[[nn.Module], Callable[..., Tensor]]
    ) -> Callable[[], object]:
        if what == "hypernetwork" and self.hypernetwork is None:  # 0.6 GB
            config = HypernetworkConfig(
                self.sizes.size, code_dim=self.sizes.channel_max, generator=self.generator.config
            )
            self.hypernetwork = Hypernetwork(config).to(self.real.device).eval()
        network: nn.Module | None = {
            "one-shot generation, per frame": lambda: FrozenGenerator(self.generator, precision=dtype),
            "pSp": lambda: self.encoder,
            "hypernetwork": lambda: self.hypernetwork,
        }[what]()
        assert network is not None
        forward = wrap(network)
        inputs = {
            "one-shot generation, per frame": (self.codes,),
            "pSp": (self.real,),
            "hypernetwork": (self.real, self.fake),
        }[what]

        def call() -> object:
            with torch.no_grad():
                return forward(*inputs)

        return call

    def work(self) -> dict[str, float]:
        """Nominal work of each call, GFLOP; per frame for the generation.

        A forward pass is what torch.utils.flop_counter counts in the eager network (two per multiply-add, convolutions
        and matrix products, those inside of autograd functions included), which is what the algorithm needs. The other
        passes follow from it, whatever an implementation really computes: three times a forward pass with its
        gradients, two for the gradient of the input alone, six for a regularizer (forward, gradient of the input, and
        twice as much as both for the derivative of these).
        """
        generator, discriminator = self.generator, self.discriminator
        batch, half = self.sizes.batch, max(1, self.sizes.batch // 2)
        g = _forward_work(lambda: generator(self.codes[:1]))
        d = _forward_work(lambda: discriminator(self.real[:1]))
        return {
            "generator forward": g * batch,
            "discriminator step": 3 * 2 * d * batch,
            "generator step": (3 * g + 2 * d) * batch,
            "R1 step": 6 * d * batch,
            "path-length step": 6 * g * half,
            "one-shot generation, per frame": g,
            "pSp": _forward_work(self._inference("pSp", torch.float32, lambda n: n)),
            "hypernetwork": _forward_work(self._inference("hypernetwork", torch.float32, lambda n: n)),
        }


def _forward_work(call: Callable[[], object]) -> float:
    """GFLOP of a call, by torch's counter."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 1e9

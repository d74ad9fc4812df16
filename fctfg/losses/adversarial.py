"""The adversarial losses (Eq. 8) and StyleGAN2's two regularizers."""

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fctfg.losses.least_squares import d_least_squares_fake, d_least_squares_real, g_least_squares
from fctfg.ops.convolution import no_weight_gradients
from fctfg.ops.precision import float32_island, precise
from fctfg.ops.processes import gather

AdversarialForm = Literal["nonsaturating", "least_squares"]


@float32_island
def d_logistic_real(real: Tensor) -> Tensor:
    """The first half of the discriminator's logistic loss L_D, which judges real images.

    L_D = E[softplus(-D(real))] + E[softplus(D(fake))]        (Eq. 8)

    Args:
        real: logits [B, 1] of real images.

    Returns:
        a scalar; ln 2 = 0.693 by chance.
    """
    return F.softplus(-real).mean()


@float32_island
def d_logistic_fake(fake: Tensor) -> Tensor:
    """The second half of L_D, which judges generated images; logits [B, 1] -> a scalar."""
    return F.softplus(fake).mean()


@float32_island
def g_nonsaturating(fake: Tensor) -> Tensor:
    """The generator's non-saturating loss.

    L_G = E[softplus(-D(fake))]        (Eq. 8)

    Args:
        fake: logits [B, 1] of generated images.

    Returns:
        a scalar.
    """
    return F.softplus(-fake).mean()


def d_real(real: Tensor, form: AdversarialForm = "nonsaturating") -> Tensor:
    """The discriminator's loss for real images in one of the two forms; logits [B, 1] -> a scalar."""
    return d_least_squares_real(real) if form == "least_squares" else d_logistic_real(real)


def d_fake(fake: Tensor, form: AdversarialForm = "nonsaturating") -> Tensor:
    """The discriminator's loss for generated images in one of the two forms; logits [B, 1] -> a scalar."""
    return d_least_squares_fake(fake) if form == "least_squares" else d_logistic_fake(fake)


def g_adversarial(fake: Tensor, form: AdversarialForm = "nonsaturating") -> Tensor:
    """The generator's loss in one of the two forms; logits [B, 1] of generated images -> a scalar."""
    return g_least_squares(fake) if form == "least_squares" else g_nonsaturating(fake)


def r1_penalty(discriminator: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """The squared gradient of the discriminator at real images, in float32 with autocast off, and never compiled.

    R1 = E[ || grad_x D(x) ||_2^2 ]        (Mescheder et al. 2018; weight it by gamma / 2 times its period)

    Args:
        discriminator: images -> logits [B, 1].
        images: real images [B, 3, H, W], or windows [B, T, 3, H, W].

    Returns:
        a scalar that can be differentiated by the discriminator's parameters.
    """
    with (
        torch.autocast(images.device.type, enabled=False),
        torch.enable_grad(),
        torch.compiler.set_stance("force_eager"),
    ):
        images = precise(images.detach()).requires_grad_()
        logits = discriminator(images)
        with no_weight_gradients():
            (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
        return gradient.square().flatten(1).sum(1).mean()


def path_length_penalty(
    images: Tensor, w: Tensor, mean_path_length: Tensor, decay: float, noise: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """How unevenly a step in w changes the image; the running mean is returned, not kept.

    length = || J_w^T y || with y = noise / sqrt(H W), averaged over layers under the root;
    a = mean + decay (E[length] - mean);  L = E[(length - a)^2]        (StyleGAN2, Eq. 4)

    The running mean takes in the images of all processes that train together.

    Args:
        images: [B, 3, H, W], made from ``w`` without autocast.
        w: [B, D] or [B, L, D], part of the graph of the images.
        mean_path_length: scalar, the running mean a of the step before.
        decay: 0.01 in StyleGAN2.
        noise: standard normal, the images' shape; None draws it.

    Returns:
        (penalty, new running mean without gradient), two scalars.
    """
    with torch.autocast(images.device.type, enabled=False):
        images = precise(images)
        noise = torch.randn_like(images) if noise is None else noise
        projection = (images * (noise / math.sqrt(images.shape[2] * images.shape[3]))).sum()
        with no_weight_gradients():
            (gradient,) = torch.autograd.grad(projection, w, create_graph=True)
        lengths = gradient.square().sum(-1)
        lengths = (lengths.mean(1) if w.ndim == 3 else lengths).sqrt()
        mean = mean_path_length + decay * (gather(lengths).mean() - mean_path_length)
        return (lengths - mean).square().mean(), mean.detach()

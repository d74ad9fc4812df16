"""Ranger, pSp's and HyperStyle's optimiser: Lookahead (Zhang et al. 2019) around RAdam (Liu et al. 2020)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class Ranger(torch.optim.Optimizer):
    """RAdam, and every few steps a return towards where the weights were.

    Everything is decided on the device, so that a step can be skipped as with torch's fused Adam: where `found_inf` is
    1, nothing changes; gradients are divided by `grad_scale`.

    Args:
        params: parameters, or groups of them with their own `lr`.
        lr: learning rate.
        betas: of the two moments (pSp: 0.95, 0.999).
        eps: added to the root of the second moment.
        alpha: part of the way that the slow weights go (0.5).
        k: steps between two of their moves (6).
    """

    found_inf: Tensor | None = None
    grad_scale: Tensor | None = None

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.95, 0.999),
        eps: float = 1e-8,
        alpha: float = 0.5,
        k: int = 6,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "alpha": alpha, "k": k})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step; `closure` may compute the gradients, and what it returns is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                self._step(group, parameters)
        return loss

    def _step(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        for p in parameters:
            if not self.state[p]:
                zeros = {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
                self.state[p] |= {"step": p.new_zeros(()), "slow": p.clone(), **zeros}
        first, second, slow, steps = (
            [self.state[p][name] for p in parameters] for name in ("exp_avg", "exp_avg_sq", "slow", "step")
        )
        beta_1, beta_2 = group["betas"]
        taken = torch.ones_like(steps[0]) if self.found_inf is None else 1 - self.found_inf
        torch._foreach_add_(steps, taken)
        torch._fused_adam_(  # at learning rate 0 it updates the moments only
            parameters,
            [p.grad for p in parameters if p.grad is not None],
            first,
            second,
            [],
            steps,
            lr=0.0,
            beta1=beta_1,
            beta2=beta_2,
            weight_decay=0.0,
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
            grad_scale=self.grad_scale,
            found_inf=self.found_inf,
        )
        plain, adaptive = step_sizes(steps[0], beta_1, beta_2)
        # p <- p - lr (plain + adaptive / (sqrt(v) + eps)) m
        factors = torch._foreach_sqrt(second)
        torch._foreach_add_(factors, group["eps"])
        torch._foreach_reciprocal_(factors)
        torch._foreach_mul_(factors, adaptive * taken * -group["lr"])
        torch._foreach_add_(factors, plain * taken * -group["lr"])
        torch._foreach_addcmul_(parameters, factors, first)
        # every k steps: slow <- slow + alpha (p - slow), p <- slow
        way = torch._foreach_sub(parameters, slow)
        torch._foreach_mul_(way, taken * (steps[0] % group["k"] == 0))
        torch._foreach_add_(slow, way, alpha=group["alpha"])
        torch._foreach_sub_(parameters, way, alpha=1 - group["alpha"])


def step_sizes(step: Tensor, beta_1: float, beta_2: float) -> tuple[Tensor, Tensor]:
    """What RAdam multiplies the first moment with, by the learning rate.

    rho_inf = 2 / (1 - beta_2) - 1,  rho_t = rho_inf - 2 t beta_2^t / (1 - beta_2^t);  where rho_t > 5,
    r_t = sqrt((rho_t - 4) (rho_t - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho_t))        (Liu et al. 2020, Alg. 2)

    Args:
        step: t, a scalar, counts from 1; 0 is taken for 1.
        beta_1: of the first moment.
        beta_2: of the second.

    Returns:
        (factor of m, factor of m / sqrt(v)): one of them is 0; float32 scalars on the step's device.
    """
    t = step.double().clamp_min(1)  # a first step that is skipped counts 0
    correction_1, correction_2 = 1 - beta_1**t, 1 - beta_2**t
    longest = 2 / (1 - beta_2) - 1
    length = longest - 2 * t * beta_2**t / correction_2
    rectified = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
    adaptive = rectified.clamp_min(0).sqrt() * correction_2.sqrt() / correction_1
    known = length > 5
    plain = torch.where(known, 0.0, 1 / correction_1)
    return plain.float(), torch.where(known, adaptive, 0.0).float()

"""Losses of Wasserstein GANs (the critic's estimate, the gradient penalty, weight clipping) and of GANs, relativistic or not.

Every function takes scores or rows with any leading axes and keeps them: replicas that are trained side by
side (:class:`~genclust.networks.ReplicaMLP`) get a loss each, and the gradient of their sum is the gradient of each.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .networks import MLP


def scores(critic: MLP, x: Tensor) -> Tensor:
    """f(x), (..., n, d) -> (..., n) float32.

    The last layer is computed in float32 whatever the precision of the others: an estimate is a small
    difference of large scores.
    """
    for i in range(len(critic.layers) - 1):
        x = critic.layer(i, x)
    with torch.autocast(x.device.type, enabled=False):
        return critic.layers[-1](x.float())[..., 0]


def average(values: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean over the last axis, or the sum by ``weights`` (of its shape, adding up to 1): (..., n) -> (...)."""
    return values.mean(-1) if weights is None else (values * weights).sum(-1)


def wasserstein(real: Tensor, fake: Tensor, weights: Tensor | None = None) -> Tensor:
    """``E f(x) - E f(y)`` from the scores of real and generated rows: (..., n), (..., m) -> (...).

    With ``weights`` over the generated rows it is the inner part of WAMiC's eq. 9. The critic maximises it,
    the generator minimises it.
    """
    return average(real) - average(fake, weights)


def input_gradient(critic: nn.Module, x: Tensor) -> Tensor:
    """Gradient of f at every row, (..., n, d) -> (..., n, d), itself differentiable in the critic's parameters.

    For a ReLU network it is a product of weight matrices and of 0/1 masks that have no gradient. Written out, it
    needs an ordinary backward pass where autograd would go through its own one a second time.
    """
    if not isinstance(critic, MLP):
        x = x.detach().requires_grad_()
        return torch.autograd.grad(critic(x).sum(), x, create_graph=True)[0]
    masks = []
    for i in range(len(critic.layers) - 1):
        x = critic.layer(i, x)
        masks.append((x.detach() > 0).to(x.dtype))
    gradient = critic.layers[-1].weight
    for layer, mask in zip(critic.layers[-2::-1], masks[::-1]):
        gradient = (gradient * mask) @ layer.weight
    return gradient


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor, mix: Tensor, weights: Tensor | None = None) -> Tensor:
    """``E (|grad f| - 1)^2`` between real and generated rows (Gulrajani et al., 2017; WAMiC's eq. 6).

    real, fake : (..., n, d), paired row by row; ``mix`` (..., n, 1), uniform in [0, 1], says where between them.
    weights : of the pairs, see :func:`average`.

    The norm's own derivative does not exist at a gradient of zero; there it counts as zero, so that no step is NaN.
    """
    norms = torch.linalg.vector_norm(input_gradient(critic, fake.lerp(real, mix)).float(), dim=-1)
    return average((norms - 1).square(), weights)


@torch.no_grad()
def clip_weights(parameters: Iterable[nn.Parameter], bound: float) -> None:
    """Puts every entry back into [-bound, bound], after a critic's step (Arjovsky et al., 2017).

    ValueError for a bound that is not positive.
    """
    if not bound > 0:
        raise ValueError(f"bound={bound}: weights can only be clipped to a positive bound, 0.01 for example")
    for parameter in parameters:
        parameter.clamp_(-bound, bound)


def relativistic(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Losses of discriminator and generator from paired scores (n,), (n,): equations 3 and 4 of HRWAE-GAN.

    Each is the mean of -log sigmoid of a difference: how much more real the real one looks, or the fake one
    (Jolicoeur-Martineau, 2019). Both depend on both scores.
    """
    return F.softplus(fake - real).mean(), F.softplus(real - fake).mean()


def standard(real: Tensor, fake: Tensor, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Losses of discriminator and generator where each score is judged alone: equation 2 of HRWAE-GAN.

    The generator's is the non-saturating -log D(fake), as WAE-GAN trains it. With one-sided label
    ``smoothing`` the discriminator's target for real rows is 1 - smoothing (Salimans et al., 2016).
    """
    judged = (1 - smoothing) * F.softplus(-real) + smoothing * F.softplus(real)
    return (judged + F.softplus(fake)).mean(), F.softplus(-fake).mean()

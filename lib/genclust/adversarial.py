"""Losses of adversarial players, from the scores that a discriminator gives."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def relativistic(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Losses of discriminator and generator from paired scores (n,), (n,): equations 3 and 4 of HRWAE-GAN.

    Each is the mean of -log sigmoid of a difference: how much more real the real one looks, or the fake one
    (Jolicoeur-Martineau, 2018). Both depend on both scores.
    """
    return F.softplus(fake - real).mean(), F.softplus(real - fake).mean()


def standard(real: Tensor, fake: Tensor, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Losses of discriminator and generator where each score is judged alone: equation 2 of HRWAE-GAN.

    The generator's is the non-saturating -log D(fake), as WAE-GAN trains it. With one-sided label
    ``smoothing`` the discriminator's target for real rows is 1 - smoothing (Salimans et al., 2016).
    """
    judged = (1 - smoothing) * F.softplus(-real) + smoothing * F.softplus(real)
    return (judged + F.softplus(fake)).mean(), F.softplus(-fake).mean()

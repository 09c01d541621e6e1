"""DCGAN's networks (Radford et al., 2015) for small square images: K generators or critics as one batched program.

A replica is a group of a grouped convolution: what it computes depends on no other, batch statistics included, as
these are taken channel by channel. Every parameter has the replicas side by side on its first axis, so that
``parameter.chunk(K)[k]`` is the parameter of replica k alone. What is batch-normalised has no bias of its own: it would
change nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .networks import convolution, linear

KERNEL = dict(stride=2, padding=2)  # 5 x 5: halves a side, or doubles it in a transposed convolution


def image_sides(n_features: int) -> list[int]:
    """The sides of a square image and of what three halvings leave of it: 784 -> 28, 14, 7, 4.

    ValueError where no square image has so many pixels.
    """
    sides = [math.isqrt(n_features)]
    if sides[0] ** 2 != n_features:
        raise ValueError(f"networks='dcgan' needs square images, and {n_features} features are none: use networks='mlp'")
    while len(sides) < 4:
        sides.append((sides[-1] + 1) // 2)
    return sides


def _stacked(shape: Sequence[int], generators: Sequence[torch.Generator]) -> nn.Parameter:
    """Glorot-uniform weights of each replica, side by side on the first axis."""
    return nn.Parameter(torch.cat([nn.init.xavier_uniform_(torch.empty(shape), generator=g) for g in generators]))


class _Normalise(nn.Module):
    """Batch normalisation of (batch, channels, ...) by the statistics of the batch at hand, until it has a ``mean`` and a
    ``variance`` for good."""

    def __init__(self, channels: int):
        super().__init__()
        self.scale, self.offset = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", None)
        self.register_buffer("variance", None)

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.mean, self.variance, self.scale, self.offset, training=self.mean is None)


class ReplicaGenerator(nn.Module):
    """K generators of images: a linear layer and three transposed convolutions with 4c, 2c, c and 1 channels.

    Parameters
    ----------
    noise_dim, n_features : width of the noise; pixels of the square image.
    channels : c.
    generators : one source of initial weights for each replica.
    """

    def __init__(self, noise_dim: int, n_features: int, channels: int, generators: Sequence[torch.Generator]):
        super().__init__()
        self.sides, self.replicas = image_sides(n_features)[::-1], len(generators)
        widths = [4 * channels, 2 * channels, channels, 1]
        n_units = widths[0] * self.sides[0] ** 2
        self.first = _stacked((n_units, noise_dim), generators)  # (K units, noise)
        self.weights = nn.ParameterList(_stacked((a, b, 5, 5), generators) for a, b in zip(widths, widths[1:]))
        self.norms = nn.ModuleList(_Normalise(self.replicas * n) for n in (n_units, *widths[1:-1]))
        self.last_bias = nn.Parameter(torch.zeros(self.replicas))

    def forward(self, z: Tensor) -> Tensor:
        """(K, batch, noise_dim) -> (K, batch, n_features) in (0, 1); each replica's batch has at least two rows."""
        K, batch, side = *z.shape[:2], self.sides[0]
        first = self.first.view(K, -1, self.first.shape[1])
        x = torch.einsum("kbz,kuz->bku", z, first).reshape(batch, -1)
        x = self.norms[0](x).relu().view(batch, -1, side, side)
        for i, (weight, side) in enumerate(zip(self.weights, self.sides[1:])):
            bias = self.last_bias if i == 2 else None
            x = F.conv_transpose2d(x, weight, bias, **KERNEL, output_padding=1, groups=K)[..., :side, :side]
            x = self.norms[i + 1](x).relu() if i < 2 else x.sigmoid()
        return x.flatten(2).transpose(0, 1)


class ReplicaCritic(nn.Module):
    """K critics of images: three convolutions with c, 2c and 4c channels and leaky ReLU, and a linear layer.

    ``batch_norm`` normalises the second and the third; a gradient penalty, which is for single rows, has to do without.
    """

    def __init__(self, n_features: int, channels: int, generators: Sequence[torch.Generator], batch_norm: bool):
        super().__init__()
        sides, self.replicas = image_sides(n_features), len(generators)
        self.side, widths = sides[0], [1, channels, 2 * channels, 4 * channels]
        self.weights = nn.ParameterList(_stacked((b, a, 5, 5), generators) for a, b in zip(widths, widths[1:]))
        biased = widths[1:2] if batch_norm else widths[1:]
        self.biases = nn.ParameterList(torch.zeros(self.replicas * b) for b in biased)
        self.norms = nn.ModuleList(_Normalise(self.replicas * n) for n in widths[2:]) if batch_norm else None
        self.last = _stacked((1, widths[-1] * sides[-1] ** 2), generators)
        self.last_bias = nn.Parameter(torch.zeros(self.replicas))

    def forward(self, x: Tensor) -> Tensor:
        """(K, batch, n_features) -> (K, batch, 1)."""
        K, batch = x.shape[:2]
        x = x.transpose(0, 1).reshape(batch, K, self.side, self.side)
        for i, weight in enumerate(self.weights):
            if i == 0 or self.norms is None:
                x = F.conv2d(x, weight, self.biases[i], **KERNEL, groups=K)
            else:
                x = self.norms[i - 1](F.conv2d(x, weight, **KERNEL, groups=K))
            x = F.leaky_relu(x, 0.2)
        x = x.reshape(batch, K, -1)
        return (torch.einsum("bku,ku->kb", x, self.last) + self.last_bias[:, None])[..., None]

    @torch.no_grad()
    def settle(self, pieces: Sequence[Tensor]) -> None:
        """Normalises every row, from now on, by the statistics of all ``pieces`` (batch, n_features) together: what a critic says
        of a row then depends on no other that is asked with it."""
        sizes = torch.tensor([float(len(piece)) for piece in pieces], dtype=torch.double)
        shares = (sizes / sizes.sum())[:, None].to(pieces[0].device)
        for norm in self.norms or ():  # in turn: the second is fed by the first
            found: list[tuple[Tensor, Tensor]] = []
            hook = norm.register_forward_pre_hook(
                lambda _, fed: found.append(torch.var_mean(fed[0].double().flatten(2), (0, 2), correction=0)))
            for piece in pieces:
                self(piece.expand(self.replicas, *piece.shape))
            hook.remove()
            variances, means = map(torch.stack, zip(*found))
            mean = (shares * means).sum(0)
            norm.mean, norm.variance = mean.float(), (shares * (variances + (means - mean).square())).sum(0).float()


class ImageClassifier(nn.Module):
    """Two convolutions with c and 2c channels, ReLU, and a linear layer: (n, n_features) -> logits (n, K).

    That is GANMM's published code; the paper has a second linear layer, of a width that it does not give.
    """

    def __init__(self, n_features: int, channels: int, n_classes: int, generator: torch.Generator):
        super().__init__()
        sides = image_sides(n_features)
        self.side = sides[0]
        self.layers = nn.ModuleList([convolution(1, channels, 5, generator), convolution(channels, 2 * channels, 5, generator),
                                     linear(2 * channels * sides[2] ** 2, n_classes, generator)])

    def forward(self, x: Tensor) -> Tensor:
        x = x.view(-1, 1, self.side, self.side)
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x.flatten(1))

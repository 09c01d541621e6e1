"""Networks: fully connected stacks with the initialisation that the papers' frameworks used."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def linear(n_in: int, n_out: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer with Glorot-uniform weights and zero bias.

    The five papers were written in Keras, Theano and TensorFlow, which start layers this
    way; torch's default is narrower and gives visibly worse codes.
    """
    layer = nn.utils.skip_init(nn.Linear, n_in, n_out)
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


class MLP(nn.Module):
    """Fully connected layers ``sizes[0] -> ... -> sizes[-1]`` with ReLU between them.

    Parameters
    ----------
    sizes : layer widths, input first; at least two.
    generator : source of the initial weights.
    last_relu : apply ReLU after the last layer too (a trunk with heads on top of it).
    """

    def __init__(self, sizes: Sequence[int], generator: torch.Generator, last_relu: bool = False):
        super().__init__()
        self.layers = nn.ModuleList(linear(a, b, generator) for a, b in zip(sizes, sizes[1:]))
        self.last_relu = last_relu

    def layer(self, i: int, x: Tensor) -> Tensor:
        """Layer ``i`` alone, with its nonlinearity: (batch, sizes[i]) -> (batch, sizes[i + 1])."""
        x = self.layers[i](x)
        return x.relu() if self.last_relu or i < len(self.layers) - 1 else x

    def forward(self, x: Tensor) -> Tensor:
        """(batch, sizes[0]) -> (batch, sizes[-1])."""
        for i in range(len(self.layers)):
            x = self.layer(i, x)
        return x


class ReplicaLinear(nn.Module):
    """R linear layers of the same shape, side by side: weights (R, n_out, n_in), biases (R, 1, n_out)."""

    def __init__(self, singles: Sequence[nn.Linear]):
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in singles]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach()[None] for layer in singles]))

    def forward(self, x: Tensor) -> Tensor:
        """(R, batch, n_in) -> (R, batch, n_out); an x of (batch, n_in) goes to every replica."""
        return torch.baddbmm(self.bias, x.expand(len(self.weight), *x.shape[-2:]), self.weight.mT)


class ReplicaMLP(MLP):
    """R independent MLPs of the same sizes as one batched program, with a leading axis R on every parameter.

    Many small networks leave a processor idle when they are run one after another; one batched product keeps
    it busy. Replica r starts from ``generators[r]`` exactly as ``MLP(sizes, generators[r])`` does, and what it
    computes does not depend on the others. Adam works entry by entry, so that one optimizer over these
    parameters is R independent ones.

    Parameters
    ----------
    sizes, last_relu : as for :class:`MLP`.
    generators : one source of initial weights for each replica.
    """

    def __init__(self, sizes: Sequence[int], generators: Sequence[torch.Generator], last_relu: bool = False):
        nn.Module.__init__(self)
        singles = [MLP(sizes, generator, last_relu) for generator in generators]
        self.layers = nn.ModuleList(ReplicaLinear(each) for each in zip(*(single.layers for single in singles)))
        self.last_relu = last_relu


class _BernoulliLogLikelihood(torch.autograd.Function):
    """x log p + (1 - x) log(1 - p) summed over features, with its gradient x - p kept from the forward pass."""

    @staticmethod
    def forward(ctx, logits: Tensor, x: Tensor) -> Tensor:
        wide = logits.float()
        p = wide.sigmoid()
        ctx.save_for_backward(x - p)
        ctx.dtype = logits.dtype
        # log(1 + e^l) = max(l, 0) - log sigmoid(|l|), and sigmoid(|l|) = max(p, 1 - p) is never near zero
        softplus = wide.relu() - torch.maximum(p, 1 - p).log_()
        return (x * wide).sub_(softplus).sum(1)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (residual,) = ctx.saved_tensors
        return (residual * grad[:, None]).to(ctx.dtype), None


def bernoulli_log_likelihood(logits: Tensor, x: Tensor) -> Tensor:
    """log Ber(x | sigmoid(logits)) summed over features: (n, D), (n, D) in [0, 1] -> (n,) float32.

    Stable for every logit. Several times as fast on a CPU as torch's
    ``binary_cross_entropy_with_logits`` and its backward pass; x gets no gradient.
    """
    return _BernoulliLogLikelihood.apply(logits, x)

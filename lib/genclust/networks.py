"""Networks: fully connected stacks with the initialisation that the frameworks of most of the papers used."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def glorot(layer: nn.Module, generator: torch.Generator) -> nn.Module:
    """The layer, with Glorot-uniform weights and zero bias.

    Most of the papers were written in Keras, Theano and TensorFlow, which start layers this way. WAMiC's names PyTorch, whose
    default is narrower; its layers start here as the others' do.
    """
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def linear(n_in: int, n_out: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer, started by :func:`glorot`."""
    return glorot(nn.utils.skip_init(nn.Linear, n_in, n_out), generator)


class MLP(nn.Module):
    """Fully connected layers ``sizes[0] -> ... -> sizes[-1]`` with ReLU between them.

    Parameters
    ----------
    sizes : layer widths, input first; at least two.
    generator : source of the initial weights.
    """

    def __init__(self, sizes: Sequence[int], generator: torch.Generator):
        super().__init__()
        self.layers = nn.ModuleList(linear(a, b, generator) for a, b in zip(sizes, sizes[1:]))

    def layer(self, i: int, x: Tensor) -> Tensor:
        """Layer ``i`` alone, with its nonlinearity: (batch, sizes[i]) -> (batch, sizes[i + 1])."""
        x = self.layers[i](x)
        return x.relu() if i < len(self.layers) - 1 else x

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
    sizes : as for :class:`MLP`.
    generators : one source of initial weights for each replica.
    """

    def __init__(self, sizes: Sequence[int], generators: Sequence[torch.Generator]):
        nn.Module.__init__(self)
        singles = [MLP(sizes, generator) for generator in generators]
        self.layers = nn.ModuleList(ReplicaLinear(each) for each in zip(*(single.layers for single in singles)))


def convolution(n_in: int, n_out: int, kernel: int, generator: torch.Generator, *, transposed: bool = False) -> nn.Module:
    """A convolution of stride 2 that halves an even side (or doubles it, transposed), started by :func:`glorot`."""
    kind, extra = (nn.ConvTranspose2d, {"output_padding": 1}) if transposed else (nn.Conv2d, {})
    return glorot(nn.utils.skip_init(kind, n_in, n_out, kernel, stride=2, padding=kernel // 2, **extra), generator)


def _kernels(n: int) -> list[int]:
    return [5] * (n - 1) + [3]


class ConvolutionalEncoder(nn.Module):
    """Strided convolutions with ReLU (kernels 5, ..., 5, 3), then a linear layer to the code.

    Parameters
    ----------
    image_shape : (height, width, channels) of the images that rows are; sides divisible by 2 for every layer.
    channels, latent_dim : of every convolution; width of the code.
    """

    def __init__(self, image_shape: tuple[int, int, int], channels: Sequence[int], latent_dim: int, generator: torch.Generator):
        super().__init__()
        self.image_shape = image_shape
        height, width, depth = image_shape
        shrink = 2 ** len(channels)
        self.layers = nn.ModuleList(convolution(a, b, k, generator) for a, b, k in
                                    zip([depth, *channels], channels, _kernels(len(channels))))
        self.layers.append(linear(channels[-1] * (height // shrink) * (width // shrink), latent_dim, generator))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, height * width * channels) -> (batch, latent_dim)."""
        x = x.view(len(x), *self.image_shape).permute(0, 3, 1, 2)  # which is channels-last in memory, as it should be
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x.flatten(1))


class ConvolutionalDecoder(nn.Module):
    """The mirror of :class:`ConvolutionalEncoder`: a linear layer, then transposed convolutions."""

    def __init__(self, image_shape: tuple[int, int, int], channels: Sequence[int], latent_dim: int, generator: torch.Generator):
        super().__init__()
        height, width, depth = image_shape
        shrink = 2 ** len(channels)
        self.start = (channels[-1], height // shrink, width // shrink)
        back = list(channels[::-1])
        self.layers = nn.ModuleList([linear(latent_dim, back[0] * self.start[1] * self.start[2], generator)])
        self.layers.extend(convolution(a, b, k, generator, transposed=True) for a, b, k in
                           zip(back, [*back[1:], depth], _kernels(len(channels))[::-1]))

    def forward(self, z: Tensor) -> Tensor:
        """(batch, latent_dim) -> (batch, height * width * channels)."""
        x = self.layers[0](z).relu().view(len(z), *self.start).contiguous(memory_format=torch.channels_last)
        for layer in self.layers[1:-1]:
            x = layer(x).relu()
        return self.layers[-1](x).permute(0, 2, 3, 1).flatten(1)


def coder_pair(n_features: int, hidden: Sequence[int], latent_dim: int, image_shape: Sequence[int] | None,
               generator: torch.Generator) -> tuple[nn.Module, nn.Module]:
    """Encoder and decoder: MLPs of widths ``hidden``, or with an ``image_shape`` convolutions of so many channels.

    ValueError for no convolution, or a side of the image that can't be halved by every one.
    """
    if image_shape is None:
        sizes = [n_features, *hidden, latent_dim]
        return MLP(sizes, generator), MLP(sizes[::-1], generator)
    if not len(hidden):
        raise ValueError(f"hidden={hidden!r}: with an image_shape give the channels of one convolution or more")
    height, width, depth = (*image_shape, 1)[:3]
    if height % 2 ** len(hidden) or width % 2 ** len(hidden):
        raise ValueError(f"image_shape={tuple(image_shape)}: {len(hidden)} convolutions of stride 2 need sides divisible by "
                         f"{2 ** len(hidden)}; use fewer, or pad the images")
    return (ConvolutionalEncoder((height, width, depth), hidden, latent_dim, generator),
            ConvolutionalDecoder((height, width, depth), hidden, latent_dim, generator))


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
        return (x * wide).sub_(softplus).sum(-1)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (residual,) = ctx.saved_tensors
        return (residual * grad[..., None]).to(ctx.dtype), None


def bernoulli_log_likelihood(logits: Tensor, x: Tensor) -> Tensor:
    """log Ber(x | sigmoid(logits)) summed over features: (..., n, D), (..., n, D) in [0, 1] -> (..., n) float32.

    Stable for every logit. Several times as fast on a CPU as torch's
    ``binary_cross_entropy_with_logits`` and its backward pass; x gets no gradient.
    """
    return _BernoulliLogLikelihood.apply(logits, x)

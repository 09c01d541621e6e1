"""A convolutional autoencoder with a hierarchy of latent groups (HRWAE-GAN, section 3.1; after NVAE)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .networks import glorot, linear

Draw = Callable[[Tensor], Tensor]  # standard normal noise of a tensor's shape
CLAMP = 5.0


def soft_clamp(x: Tensor) -> Tensor:
    """Smoothly into (-5, 5), as NVAE bounds means and log-deviations; near the identity within (-1, 1)."""
    return CLAMP * torch.tanh(x / CLAMP)


class Normal(NamedTuple):
    """A diagonal Gaussian: ``mean`` and ``log_std`` of the shape of its draws."""

    mean: Tensor
    log_std: Tensor

    def at(self, noise: Tensor) -> Tensor:
        """The reparameterised draw, mean + std * noise."""
        return self.mean + self.log_std.exp() * noise


def normal(parameters: Tensor) -> Normal:
    """(n, 2c, h, w) of a sampler cell -> means and log-deviations (n, c, h, w), float32 and bounded."""
    mean, log_std = soft_clamp(parameters.float()).chunk(2, dim=1)
    return Normal(mean, log_std)


def kl_divergence(q: Normal, p: Normal) -> Tensor:
    """KL(q || p), summed over each row: (n,)."""
    scaled = ((q.mean - p.mean).square() + (2 * q.log_std).exp()) * (-2 * p.log_std).exp()
    return (p.log_std - q.log_std + 0.5 * (scaled - 1)).flatten(1).sum(1)


class Pass(NamedTuple):
    """What a forward pass leaves: per group, top first, the draws ``real`` of the prior p(z_l | z_<l) and ``fake`` of
    the posterior, their distributions, and for l >= 1 the feature maps of equation 10."""

    output: Tensor  # logits or means of the image, (n, channels, side, side)
    real: list[Tensor]
    fake: list[Tensor]
    priors: list[Normal]
    posteriors: list[Normal]
    maps: list[tuple[Tensor, Tensor]]  # encoder's, decoder's


def n_cells(side: int) -> int:
    """Equation 7: the cells that halve a ``side``, a power of two, down to 2."""
    return int(math.log2(side)) - 1


def _conv(n_in: int, n_out: int, size: int, generator: torch.Generator, bias: bool = True) -> nn.Module:
    return glorot(nn.utils.skip_init(nn.Conv2d, n_in, n_out, size, padding=size // 2, bias=bias), generator)


def _halving(n_in: int, n_out: int, generator: torch.Generator) -> nn.Module:
    return glorot(nn.utils.skip_init(nn.Conv2d, n_in, n_out, 4, 2, 1, bias=False), generator)


def _doubling(n_in: int, n_out: int, generator: torch.Generator, bias: bool = False) -> nn.Module:
    return glorot(nn.utils.skip_init(nn.ConvTranspose2d, n_in, n_out, 4, 2, 1, bias=bias), generator)


class Cell(nn.Sequential):
    """A layer that halves or doubles the side, then ``extra`` that keep it, each normalised and rectified.

    The text's n and m non-reducing layers, which it set to zero, are ``extra``.
    """

    def __init__(self, resize: nn.Module, n_out: int, extra: int, activation: nn.Module, generator: torch.Generator):
        layers = [resize, nn.BatchNorm2d(n_out), activation]
        for _ in range(extra):
            layers += [_conv(n_out, n_out, 3, generator, bias=False), nn.BatchNorm2d(n_out), activation]
        super().__init__(*layers)


class Group(nn.Module):
    """A latent group below the top: prior and posterior of z_l, and the way of z_l back into the decoder.

    Named as in NVAE, whose cells these are: samplers give a distribution's parameters, combiners join two maps.
    """

    def __init__(self, channels: int, latent_channels: int, start: str, generator: torch.Generator):
        super().__init__()
        self.prior_sampler = _conv(channels, 2 * latent_channels, 1, generator)
        self.encoder_combiner = _conv(channels, channels, 1, generator)
        self.posterior_sampler = _conv(channels, 2 * latent_channels, 3, generator)
        self.decoder_combiner = _conv(channels + latent_channels, channels, 1, generator)
        if start == "prior":
            nn.init.zeros_(self.prior_sampler.weight)
            nn.init.zeros_(self.posterior_sampler.weight)

    def prior(self, decoded: Tensor) -> Normal:
        """p(z_l | z_<l) from the decoder's map, which depends on z_<l alone."""
        return normal(self.prior_sampler(decoded.relu()))

    def posterior(self, encoded: Tensor, decoded: Tensor, prior: Normal) -> Normal:
        """q(z_l | z_<l, x), relative to the prior: what the sampler gives is added to its mean and log-deviation."""
        shift, log_scale = normal(self.posterior_sampler(encoded + self.encoder_combiner(decoded)))
        return Normal(prior.mean + shift, prior.log_std + log_scale)

    def join(self, decoded: Tensor, z: Tensor) -> Tensor:
        """The decoder's map with z_l in it, of the same shape."""
        return self.decoder_combiner(torch.cat([decoded, z], dim=1))


class HierarchicalAutoencoder(nn.Module):
    """Figure 2: N cells from an image down to 2 x 2, N cells back, and L groups of latent variables between them.

    Group 0 is the 2 x 2 map at the top, group l a map of side 2^(l + 1) between the l-th cell of the decoder and
    the encoder's map of the same side. With ``n_groups=1`` there is no group below the top, and this is an ordinary
    autoencoder with one Gaussian code.

    Parameters
    ----------
    side, channels : of the images; the side is a power of two, 4 or more.
    n_groups : L, from 1 to N = log2(side) - 1.
    latent_channels : of every group, so that group l has latent_channels * 4^(l + 1) dimensions.
    width : channels of the first cell; each further one has twice as many.
    extra : layers in each cell that keep the side.
    start : ``"prior"``: below the top, p and q both start as standard normal; ``"random"``: from random samplers.
    """

    def __init__(self, side: int, channels: int, n_groups: int, latent_channels: int, width: int, extra: int,
                 generator: torch.Generator, start: str = "random"):
        super().__init__()
        n = n_cells(side)
        self.latent_channels = latent_channels
        widths = [width * 2 ** (n - 1 - level) for level in range(n)]  # of the map of side 2^(level + 1)
        down = [channels, *widths[::-1]]
        self.encoder = nn.ModuleList(
            Cell(_halving(a, b, generator), b, extra, nn.LeakyReLU(0.2, inplace=True), generator)
            for a, b in zip(down, down[1:]))
        self.top_sampler = _conv(widths[0], 2 * latent_channels, 3, generator)
        self.stem = Cell(_conv(latent_channels, widths[0], 1, generator, bias=False), widths[0], 0,
                         nn.ReLU(inplace=True), generator)
        self.decoder = nn.ModuleList(
            Cell(_doubling(a, b, generator), b, extra, nn.ReLU(inplace=True), generator)
            for a, b in zip(widths, widths[1:]))
        self.output = _doubling(widths[-1], channels, generator, bias=True)
        self.groups = nn.ModuleList(Group(widths[level], latent_channels, start, generator) for level in range(1, n_groups))

    def forward(self, images: Tensor, draw: Draw) -> Pass:
        """Encodes (n, channels, side, side), draws z_l and a rival of it from its prior group by group, and decodes."""
        encoded = []
        h = images
        for cell in self.encoder:
            h = cell(h)
            encoded.append(h)
        encoded = encoded[::-1]
        q = normal(self.top_sampler(encoded[0]))
        p = Normal(torch.zeros_like(q.mean), torch.zeros_like(q.mean))
        found = Pass(h, [p.at(draw(p.mean))], [q.at(draw(q.mean))], [p], [q], [])
        h = self.stem(found.fake[0])
        for level, cell in enumerate(self.decoder, 1):
            h = cell(h)
            if level <= len(self.groups):
                group = self.groups[level - 1]
                found.maps.append((encoded[level], h))
                p = group.prior(h)
                q = group.posterior(encoded[level], h, p)
                for there, what in zip(found[1:5], (p.at(draw(p.mean)), q.at(draw(q.mean)), p, q)):
                    there.append(what)
                h = group.join(h, found.fake[level])
        return found._replace(output=self.output(h))

    def generate(self, noises: Sequence[Tensor]) -> Tensor:
        """The output (n, channels, side, side) for standard normal noise of each group, top first, each of the shape
        (n, latent_channels, 2^(l + 1), 2^(l + 1)): z_l = mean + std * noise of p(z_l | z_<l)."""
        h = self.stem(noises[0])
        for level, cell in enumerate(self.decoder, 1):
            h = cell(h)
            if level <= len(self.groups):
                group = self.groups[level - 1]
                h = group.join(h, group.prior(h).at(noises[level]))
        return self.output(h)

    def noises(self, n: int, generator: torch.Generator) -> list[Tensor]:
        """Standard normal draws for :meth:`generate`."""
        shapes = [(n, self.latent_channels, 2 ** (level + 1), 2 ** (level + 1)) for level in range(len(self.groups) + 1)]
        return [torch.randn(shape, generator=generator, device=generator.device) for shape in shapes]


class LatentDiscriminator(nn.Module):
    """Scores draws of one group: high for those of the prior. Batch normalisation sees both kinds as one batch, or it
    would hide how they differ in location and scale. It needs no running moments: nothing is scored after training."""

    def __init__(self, n_in: int, width: int, generator: torch.Generator):
        super().__init__()
        sizes = [n_in, width, width]
        self.layers = nn.ModuleList(linear(a, b, generator) for a, b in zip(sizes, sizes[1:]))
        self.norms = nn.ModuleList(nn.BatchNorm1d(b, track_running_stats=False) for b in sizes[1:])
        self.score = linear(width, 1, generator)

    def forward(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """(n, ...) and (n, ...) -> the scores (n,) of both."""
        h = torch.cat([real, fake]).flatten(1)
        for layer, norm in zip(self.layers, self.norms):
            h = F.leaky_relu(norm(layer(h)), 0.2)
        return self.score(h).float().squeeze(1).chunk(2)

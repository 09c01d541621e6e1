"""The variational autoencoder (Kingma and Welling, 2014), and the baseline VAE+GMM."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor

from .autoencoder import CONSTRAINTS, EmbeddedClustering
from .vade import LIKELIHOODS, BoundEstimator, VaDENetwork


class VAE(BoundEstimator):
    """A variational autoencoder with a standard normal prior; a transformer.

    It is VaDE's network with a single component, held at N(0, I): the evidence lower bound is VaDE's with K = 1.
    It starts from random weights.

    Parameters
    ----------
    latent_dim, hidden : width of z; widths of the encoder, mirrored in the decoder.
    likelihood : of x given z; see :class:`VaDE`.
    epochs, batch_size, learning_rate, lr_decay, lr_decay_every, lr_floor, adam_eps : see :class:`VaDE`.
    n_restarts : whole fits from different seeds; the best bound is kept.
    random_state, device, precision, verbose : see :class:`Autoencoder`.

    Attributes
    ----------
    history_ : one dict an epoch: phase, loss, seconds, "log p(x|z)" and "-KL", the two terms of the bound.
    objective_ : the mean evidence lower bound on X, in nats a row.
    """

    _pretraining = ()
    _parameter_constraints = CONSTRAINTS | LIKELIHOODS

    def __init__(self, *, latent_dim=10, hidden=(500, 500, 2000), likelihood="auto", epochs=150, batch_size=256,
                 learning_rate=0.002, lr_decay=0.9, lr_decay_every=10, lr_floor=0.0002, adam_eps=1e-4, n_restarts=1,
                 random_state=None, device="auto", precision="auto", verbose=0):
        self.latent_dim = latent_dim
        self.hidden = hidden
        self.likelihood = likelihood
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.lr_decay = lr_decay
        self.lr_decay_every = lr_decay_every
        self.lr_floor = lr_floor
        self.adam_eps = adam_eps
        self.n_restarts = n_restarts
        self.random_state = random_state
        self.device = device
        self.precision = precision
        self.verbose = verbose

    def _build(self, n_features, generator):
        return VaDENetwork([n_features, *self.hidden, self.latent_dim], 1, self.likelihood_, generator)

    def _phases(self, trainer):
        net = self.module_

        def loss(x: Tensor, rows: Tensor):
            noise = torch.randn(len(x), self.latent_dim, generator=trainer.generator, device=x.device)
            terms = net.elbo_terms(x, noise)
            elbo, reconstruction = sum(terms.values()).mean(), terms["log p(x|z)"].mean()
            return -elbo, {"log p(x|z)": reconstruction, "-KL": elbo - reconstruction}

        # The mixture is left out: as it starts, its one component is the standard normal
        trainer.train("vae", loss, [*net.encoder.parameters(), *net.decoder.parameters()], epochs=self.epochs,
                      batch_size=self.batch_size, adam_eps=self.adam_eps, learning_rate=self._rate())

    def planned_epochs(self) -> dict[str, int]:
        """The one phase of a fit, and its epochs."""
        return {"vae": self.epochs}

    def _conclude(self, X):
        self.objective_ = self._score(X)

    def sample(self, n_samples=1, *, random_state=None) -> np.ndarray:
        """Means of p(x | z) for draws of z from the prior, (n_samples, n_features)."""
        generator = self._draws(random_state, n_samples)
        z = torch.randn(n_samples, self._n_features_out, generator=generator, device=self.device_)
        return self.inverse_transform(z.cpu().numpy())


def vae_gmm(n_clusters: int, *, covariance_type: str = "full", n_init: int = 10, random_state=None, **vae) -> EmbeddedClustering:
    """The baseline VAE+GMM: a :class:`VAE`, then EM on the means of its codes (best likelihood of ``n_init``)."""
    return EmbeddedClustering.of(
        VAE(random_state=random_state, **vae),
        GaussianMixture(n_clusters, covariance_type=covariance_type, n_init=n_init, max_iter=300, random_state=random_state))

"""Autoencoders, stacked or end to end, and the baseline "embed, then cluster"."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import Pipeline
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _num_samples, check_array, check_is_fitted
from torch import Tensor, nn

from .base import EVAL_BATCH, DeepEstimator, Trainer, as_tensor, check_index, exponential_decay, in_unit_interval, without_autocast
from .networks import MLP, bernoulli_log_likelihood
from .reduction import check_umap

# What scikit-learn's own validation checks before a fit. A name means the same in every estimator that has it; those
# that one has not are passed over.
POSITIVE = Interval(Integral, 1, None, closed="left")
COUNT = Interval(Integral, 0, None, closed="left")
RATE = Interval(Real, 0, None, closed="neither")
WEIGHT = Interval(Real, 0, None, closed="left")
DECAY = Interval(Real, 0, 1, closed="right")
CONSTRAINTS = {
    "n_clusters": [POSITIVE],
    "hidden": ["array-like"],
    "latent_dim": [POSITIVE],
    "image_shape": ["array-like", None],
    "likelihood": [StrOptions({"auto", "bernoulli", "gaussian"})],
    "pretraining": [StrOptions({"stacked", "end-to-end"})],
    "layer_epochs": [COUNT],
    "pretrain_epochs": [COUNT],
    "pretrain_learning_rate": [RATE],
    "pretrain_lr_decay": [DECAY],
    "corruption": [Interval(Real, 0, 1, closed="left")],
    "epochs": [COUNT],
    "iterations": [COUNT],
    "batch_size": [POSITIVE],
    "learning_rate": [RATE],
    "lr_decay": [DECAY],
    "lr_decay_every": [POSITIVE],
    "lr_floor": [WEIGHT],
    "adam_eps": [RATE],
    "noise_dim": [POSITIVE],
    "n_critic": [POSITIVE],
    "n_init": [POSITIVE],
    "n_restarts": [POSITIVE],
    "random_state": ["random_state"],
    "device": [str],
    "precision": [StrOptions({"auto", "float32", "bfloat16"})],
    "verbose": ["verbose"],
}


def resolve_likelihood(likelihood: str, X: np.ndarray) -> str:
    """``"auto"`` is Bernoulli for data inside [0, 1], Gaussian elsewhere. ValueError for Bernoulli outside."""
    inside = in_unit_interval(X)
    if likelihood == "bernoulli" and not inside:
        raise ValueError(f"likelihood='bernoulli' needs X inside [0, 1], but it spans [{X.min():.7g}, {X.max():.7g}]: "
                         "scale X, or use likelihood='gaussian'")
    return ("bernoulli" if inside else "gaussian") if likelihood == "auto" else likelihood


def reconstruction_error(output: Tensor, x: Tensor, likelihood: str) -> Tensor:
    """Mean over rows of the sum over features: cross-entropy of logits, or half the squared error.

    Of replicas, (R, n, d), the sum over replicas.
    """
    if likelihood == "bernoulli":
        return -bernoulli_log_likelihood(output, x).mean(-1).sum()
    return 0.5 * (output.float() - x).square().sum() / x.shape[-2]


class Dropout:
    """Sets a share of the entries to zero and scales up the rest, from the fit's own generator."""

    def __init__(self, share: float, generator: torch.Generator):
        self.share, self.generator = share, generator

    def __call__(self, x: Tensor) -> Tensor:
        if self.share == 0:
            return x
        keep = torch.empty_like(x).bernoulli_(1 - self.share, generator=self.generator)
        return x * keep / (1 - self.share)


class AutoencoderNetwork(nn.Module):
    def __init__(self, sizes: list[int], generator: torch.Generator):
        super().__init__()
        self.encoder = MLP(sizes, generator)
        self.decoder = MLP(sizes[::-1], generator)


class CodingEstimator(DeepEstimator):
    """What estimators share whose module has an ``encoder`` to codes and a ``decoder`` from them."""

    _pretraining = ("hidden", "latent_dim", "likelihood", "pretraining", "layer_epochs", "pretrain_epochs",
                    "pretrain_learning_rate", "corruption", "batch_size", "pretrain_lr_decay")
    pretrain_lr_decay = 1.0  # an estimator that has it as a parameter replaces it

    def _check_data(self, X):
        self.likelihood_ = resolve_likelihood(self.likelihood, X)

    def _pretrain_rate(self) -> Callable[[int], float]:
        """The learning rate of pretraining by epoch."""
        return exponential_decay(self.pretrain_learning_rate, self.pretrain_lr_decay, 1)

    def _pretrain(self, trainer: Trainer, net: nn.Module) -> None:
        """Trains ``net.encoder`` and ``net.decoder``, MLPs, to reconstruct.

        Stacked (Vincent et al., 2010): layer i of the encoder and its mirror in the decoder first learn to
        reconstruct the output of the layers below from a copy with a share ``corruption`` of its entries,
        and of the hidden ones, set to zero; then all layers are trained together on clean data.
        """
        encoder, decoder = net.encoder, net.decoder
        depth, drop = len(encoder.layers), Dropout(self.corruption, trainer.generator)
        options = dict(batch_size=self.batch_size, learning_rate=self._pretrain_rate())

        def layer_loss(i: int):
            def loss(x: Tensor, rows: Tensor):
                with torch.no_grad():
                    below = x
                    for j in range(i):
                        below = encoder.layer(j, below)
                    below = below.float()
                back = decoder.layer(depth - 1 - i, drop(encoder.layer(i, drop(below))))
                return reconstruction_error(back, below, self.likelihood_ if i == 0 else "gaussian"), {}
            return loss

        def joint_loss(x: Tensor, rows: Tensor):
            return reconstruction_error(decoder(encoder(x)), x, self.likelihood_), {}

        def train() -> None:
            if self.pretraining == "stacked":
                for i in range(depth):
                    weights = [*encoder.layers[i].parameters(), *decoder.layers[depth - 1 - i].parameters()]
                    trainer.train(f"layer {i + 1}", layer_loss(i), weights, epochs=self.layer_epochs, **options)
            trainer.train("autoencoder", joint_loss, [*encoder.layers.parameters(), *decoder.layers.parameters()],
                          epochs=self.pretrain_epochs, **options)

        trainer.shared_stage(nn.ModuleList([encoder.layers, decoder.layers]), train)

    def planned_epochs(self) -> dict[str, int]:
        """The phases of a fit, in order, and the epochs of each: what a progress bar counts."""
        layers = {f"layer {i + 1}": self.layer_epochs for i in range(len(self.hidden) + 1)}
        if self.pretraining is None:
            return {}
        return (layers if self.pretraining == "stacked" else {}) | {"autoencoder": self.pretrain_epochs}

    @property
    def _n_features_out(self) -> int:
        return self.fitted_with_.latent_dim

    def transform(self, X) -> np.ndarray:
        """Codes, (n, latent_dim) float32; for a variational encoder the means of q(z | x)."""
        rows = self._rows(X)
        return self._map(self.module_.encoder, rows).cpu().numpy()

    def inverse_transform(self, Z) -> np.ndarray:
        """Reconstructions of codes (n, latent_dim), the means of p(x | z): (n, n_features) float32. ValueError
        for what is no code."""
        check_is_fitted(self)
        Z = check_array(Z, dtype=np.float32)
        if Z.shape[1] != self._n_features_out:
            raise ValueError(f"Z has {Z.shape[1]} columns, but a code has {self._n_features_out}")
        codes = as_tensor(Z).to(self.device_)
        out = self._map(self.module_.decoder, codes)
        return (out.sigmoid() if self.likelihood_ == "bernoulli" else out).cpu().numpy()

    def score(self, X, y=None) -> float:
        """The objective on X, of which ``objective_`` is the value on the rows of the fit; higher is better."""
        return self._score(self._rows(X))


class MixtureEstimator(ClusterMixin, CodingEstimator):
    """What estimators share whose module also has a ``mixture`` over the codes."""

    def _check_size(self, n):
        super()._check_size(n)
        if self.init == "umap" and n < 3:
            raise ValueError(f"init='umap' needs 3 rows or more, and there are {n}: use another init")

    def _check_data(self, X):
        super()._check_data(X)
        if self.init == "umap":
            check_umap()

    def _log_posterior(self, X: Tensor) -> Tensor:
        net = self.module_
        return self._map(lambda x: net.mixture.log_responsibilities(net.encoder(x)), X)

    def _set_mixture(self, X: Tensor) -> None:
        """The fitted attributes of the mixture, and the labels of X (n, d)."""
        mixture = self.module_.mixture
        self.weights_ = mixture.log_weights.exp().detach().cpu().numpy()
        self.means_ = mixture.means.detach().cpu().numpy()
        self.covariances_ = mixture.covariances.detach().cpu().numpy()
        self.labels_ = self._log_posterior(X).argmax(1).cpu().numpy()
        if (empty := len(self.weights_) - len(np.unique(self.labels_))):
            warnings.warn(f"{empty} of {len(self.weights_)} clusters have no rows", RuntimeWarning, stacklevel=6)

    def predict_proba(self, X) -> np.ndarray:
        """p(c | z) at the code of x, (n, K) float32: VaDE's eqs. 11 and 12 at z = the encoder's mean, WAMiC's eq. 4."""
        return self._log_posterior(self._rows(X)).exp().cpu().numpy()

    def predict(self, X) -> np.ndarray:
        """The most probable cluster of every row, (n,) int64."""
        return self._log_posterior(self._rows(X)).argmax(1).cpu().numpy()

    def sample(self, n_samples=1, *, cluster=None, random_state=None) -> tuple[np.ndarray, np.ndarray]:
        """Draws c, then z, and gives the mean of p(x | z).

        Returns X (n_samples, n_features) and the clusters (n_samples,). ValueError for a cluster that
        does not exist.
        """
        generator = self._draws(random_state, n_samples)
        if cluster is not None:
            check_index("cluster", cluster, len(self.module_.mixture.logits))
        with torch.no_grad(), without_autocast():
            z, c = self.module_.mixture.sample(n_samples, generator, cluster)
        return self.inverse_transform(z.cpu().numpy()), c.cpu().numpy()


class Autoencoder(CodingEstimator):
    """A fully connected autoencoder ``D - hidden - latent_dim`` and its mirror; a transformer.

    Parameters
    ----------
    latent_dim, hidden : widths of the code and of the layers before it.
    likelihood : ``"bernoulli"`` (cross-entropy, X in [0, 1]), ``"gaussian"`` (squared error) or ``"auto"``.
    pretraining : ``"stacked"`` trains layer by layer first, ``"end-to-end"`` all layers at once.
    layer_epochs, pretrain_epochs : epochs for each layer, and for all of them together.
    pretrain_learning_rate, pretrain_lr_decay : of Adam; factor on its rate after each epoch of a phase.
    corruption, batch_size : share zeroed in the stacked phase; rows a step.
    n_restarts : whole fits from different seeds; the one with the best objective is kept.
    random_state, device, precision, verbose : seed; ``"auto"``, ``"cpu"``, ``"cuda"``; ``"auto"``,
        ``"float32"``, ``"bfloat16"``; progress bars.

    Attributes
    ----------
    history_ : one dict an epoch, with phase, loss and seconds.
    objective_ : minus the mean reconstruction error on X.
    """

    _parameter_constraints = CONSTRAINTS

    def __init__(self, *, latent_dim=10, hidden=(500, 500, 2000), likelihood="auto", pretraining="stacked",
                 layer_epochs=8, pretrain_epochs=20, pretrain_learning_rate=1e-3, pretrain_lr_decay=1.0, corruption=0.2,
                 batch_size=256, n_restarts=1, random_state=None, device="auto", precision="auto", verbose=0):
        self.latent_dim = latent_dim
        self.hidden = hidden
        self.likelihood = likelihood
        self.pretraining = pretraining
        self.layer_epochs = layer_epochs
        self.pretrain_epochs = pretrain_epochs
        self.pretrain_learning_rate = pretrain_learning_rate
        self.pretrain_lr_decay = pretrain_lr_decay
        self.corruption = corruption
        self.batch_size = batch_size
        self.n_restarts = n_restarts
        self.random_state = random_state
        self.device = device
        self.precision = precision
        self.verbose = verbose

    def _build(self, n_features, generator):
        return AutoencoderNetwork([n_features, *self.hidden, self.latent_dim], generator)

    def _phases(self, trainer):
        self._pretrain(trainer, self.module_)

    def _conclude(self, X):
        self.objective_ = self._score(X)

    @torch.no_grad()
    @without_autocast()
    def _score(self, X: Tensor) -> float:
        net = self.module_
        errors = [reconstruction_error(net.decoder(net.encoder(x)), x, self.likelihood_) * len(x)
                  for x in X.split(EVAL_BATCH)]
        return -float(sum(errors)) / len(X)


class EmbeddedClustering(Pipeline):
    """A pipeline whose first step takes long to train: what a later one will refuse, by its parameters or for want of rows,
    is refused before that."""

    @classmethod
    def of(cls, *steps: BaseEstimator) -> EmbeddedClustering:
        """These steps, named as :func:`~sklearn.pipeline.make_pipeline` names them."""
        return cls([(type(step).__name__.lower(), step) for step in steps])

    def _check(self, X) -> None:
        n = _num_samples(X)
        for _, step in self.steps:
            if hasattr(step, "_parameter_constraints"):
                step._validate_params()
            if hasattr(step, "_check_size"):
                step._check_size(n)
        if isinstance(mixture := self.steps[-1][1], GaussianMixture) and mixture.n_components > n:
            raise ValueError(f"n_clusters={mixture.n_components} is more than n_samples={n}: lower n_clusters")

    def fit(self, X, y=None, **params):
        """See :meth:`sklearn.pipeline.Pipeline.fit`."""
        self._check(X)
        return super().fit(X, y, **params)

    def fit_predict(self, X, y=None, **params):
        """See :meth:`sklearn.pipeline.Pipeline.fit_predict`."""
        self._check(X)
        return super().fit_predict(X, y, **params)

    @available_if(lambda self: hasattr(self.steps[-1][1], "transform"))
    def fit_transform(self, X, y=None, **params):
        """See :meth:`sklearn.pipeline.Pipeline.fit_transform`."""
        self._check(X)
        return super().fit_transform(X, y, **params)


def autoencoder_gmm(n_clusters: int, *, covariance_type: str = "full", n_init: int = 10, random_state=None,
                    **autoencoder) -> EmbeddedClustering:
    """The baseline AE+GMM: an :class:`Autoencoder`, then EM on its codes (best likelihood of ``n_init``)."""
    return EmbeddedClustering.of(
        Autoencoder(random_state=random_state, **autoencoder),
        GaussianMixture(n_clusters, covariance_type=covariance_type, n_init=n_init, max_iter=300,
                        random_state=random_state))

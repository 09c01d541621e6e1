"""Variational Deep Embedding (Jiang et al., 2016): a variational autoencoder with a mixture prior."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from sklearn.utils._param_validation import StrOptions
from torch import Tensor, nn
from torch.nn import functional as F

from .autoencoder import CONSTRAINTS, COUNT, RATE, WEIGHT, CodingEstimator, MixtureEstimator
from .base import exponential_decay
from .mixture import INITS, LOG_2PI, TrainableMixture, initial_responsibilities
from .networks import MLP, bernoulli_log_likelihood, linear


LIKELIHOODS = {"likelihood": [StrOptions({"auto", "bernoulli", "gaussian", "unit-gaussian"})]}


class GaussianMLP(MLP):
    """An MLP whose last layer gives a mean, with a second head that gives log-variances."""

    def __init__(self, sizes, generator, head_generator):
        super().__init__(sizes, generator)
        self.log_var = linear(sizes[-2], sizes[-1], head_generator)

    def distribution(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, sizes[0]) -> means and log-variances, each (batch, sizes[-1]) float32."""
        for i in range(len(self.layers) - 1):
            x = self.layer(i, x)
        mean, log_var = self.layers[-1], self.log_var
        both = F.linear(x, torch.cat([mean.weight, log_var.weight]), torch.cat([mean.bias, log_var.bias])).float()
        means, log_vars = both.chunk(2, dim=1)  # one product for two heads: alone they are too narrow to be fast
        # Out of these bounds exp overflows in float32; see check_columns
        return means, log_vars.clamp(-30, 30)

    @torch.no_grad()
    def start_log_var(self, values: Tensor) -> None:
        """From here on log-variances start at ``values`` (sizes[-1],), whatever the input."""
        self.log_var.weight.zero_()
        self.log_var.bias.copy_(values)


def check_columns(X: np.ndarray, likelihood: str) -> None:
    """RuntimeWarning where a Gaussian decoder will learn little: columns so large that its log-variances start out of bounds, and stay
    there; or most of them nearly always the same, as words that a row has not, where its variances fall without end."""
    if likelihood != "gaussian":
        return
    if (largest := float(np.sqrt(np.square(X, dtype=np.float64).mean(0).max()))) > 10:
        warnings.warn(f"X has a column with a root mean square of {largest:.3g}: a Gaussian likelihood learns little above about 10. "
                      "Standardise X, for example by sklearn.preprocessing.StandardScaler", RuntimeWarning, stacklevel=5)
    some = X[:: max(1, len(X) // 1000)]
    if 2 * (constant := int(((some == np.median(some, axis=0)).mean(0) > 0.9).sum())) > X.shape[1]:
        warnings.warn(f"{constant} of the {X.shape[1]} columns of X have one value in more than nine of ten rows: the variances that "
                      "likelihood='gaussian' learns fall without end there, and clusters may lose their rows. "
                      "Use likelihood='unit-gaussian'", RuntimeWarning, stacklevel=5)


class VaDENetwork(nn.Module):
    """Encoder g (eq. 9), decoder f (eq. 1 or 2) and mixture prior (eqs. 4 and 5)."""

    def __init__(self, sizes: list[int], n_clusters: int, likelihood: str, generator: torch.Generator):
        super().__init__()
        self.likelihood = likelihood
        # The heads draw from a generator of their own: all else starts as an autoencoder of the same seed does.
        heads = torch.Generator().manual_seed(generator.initial_seed() + 1)
        self.encoder = GaussianMLP(sizes, generator, heads)
        self.decoder = (GaussianMLP(sizes[::-1], generator, heads) if likelihood == "gaussian"
                        else MLP(sizes[::-1], generator))
        self.mixture = TrainableMixture(n_clusters, sizes[-1])

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z), eq. 6, summed over features: (n, D), (n, d) -> (n,)."""
        if self.likelihood == "bernoulli":
            return bernoulli_log_likelihood(self.decoder(z), x)
        if self.likelihood == "unit-gaussian":
            return -0.5 * (LOG_2PI + (x - self.decoder(z).float()).square()).sum(1)
        mean, log_var = self.decoder.distribution(z)
        return -0.5 * (LOG_2PI + log_var + (x - mean).square() * (-log_var).exp()).sum(1)

    def elbo_terms(self, x: Tensor, noise: Tensor, gamma: Tensor | None = None) -> dict[str, Tensor]:
        """The five terms of eq. 13, each (n,); their sum is the ELBO of every row.

        With ``z = mean + std * noise`` (one draw, as in the paper) and ``gamma = q(c|x) = p(c|z)``
        (eqs. 11 and 12), or the (n, K) that is given. All but the first are expectations in closed form.
        """
        mean, log_var = self.encoder.distribution(x)
        z = mean + noise * (0.5 * log_var).exp()
        with torch.autocast(x.device.type, enabled=False):  # small, and sensitive: always float32
            mixture = self.mixture
            if gamma is None:
                log_gamma = mixture.log_responsibilities(z)
                gamma = log_gamma.exp()
            else:
                log_gamma = gamma.clamp_min(torch.finfo(gamma.dtype).tiny).log()  # 0 log 0 = 0
            d = mean.shape[1]
            terms = {
                "log p(z|c)": (gamma * mixture.log_prob_components(mean, log_var)).sum(1),
                "log p(c)": gamma @ mixture.log_weights,
                "-log q(z|x)": 0.5 * (d * (1 + LOG_2PI) + log_var.sum(1)),
                "-log q(c|x)": -(gamma * log_gamma).sum(1),
            }
        return {"log p(x|z)": self.log_likelihood(x, z), **terms}


class BoundEstimator(CodingEstimator):
    """What VaDE and the VAE share, whose module is a :class:`VaDENetwork`."""

    def _check_data(self, X):
        super()._check_data(X)
        check_columns(X, self.likelihood_)

    def _rate(self) -> Callable[[int], float]:
        """The learning rate by epoch."""
        return exponential_decay(self.learning_rate, self.lr_decay, self.lr_decay_every, self.lr_floor)

    def _score(self, X: Tensor) -> float:
        """The mean evidence lower bound in nats a row, from one draw of z by the fit's own seed."""
        generator = torch.Generator(X.device).manual_seed(self.seed_)

        def rows(x: Tensor) -> Tensor:
            noise = torch.randn(len(x), self._n_features_out, generator=generator, device=x.device)
            return sum(self.module_.elbo_terms(x, noise).values())

        return float(self._map(rows, X).double().mean())


class VaDE(BoundEstimator, MixtureEstimator):
    """Clustering by a variational autoencoder whose prior is a Gaussian mixture.

    Maximises the evidence lower bound of eq. 13 by Adam, from pretrained layers and a mixture
    started on their codes (section 4.2).

    Parameters
    ----------
    n_clusters, latent_dim, hidden : K; width of z; widths of the encoder, mirrored in the decoder.
    likelihood : of x given z: ``"bernoulli"`` (X in [0, 1]), ``"gaussian"`` (columns of about unit deviation),
        ``"unit-gaussian"``, or ``"auto"``, one of the first two. The second has variances that are learned, as in eq. 2; on
        sparse columns, words say, they fall without end where a column is nearly always zero. The third has them all at 1,
        half the squared error, as the authors' code has it but for the factor.
    epochs, batch_size, learning_rate : of the ELBO's Adam.
    lr_decay, lr_decay_every, lr_floor : the rate is multiplied by ``lr_decay`` every so many epochs, down
        to ``lr_floor``. The paper names no floor; the authors' code has 0.0002.
    adam_eps : Adam's epsilon; not in the paper, 1e-4 in the authors' code.
    reconstruction_weight, kl_weight : factors on log p(x|z), 5 for the paper's HHAR, and on the other four terms, which
        are minus the KL divergence of eq. 14. A ``kl_weight`` of 0 leaves an autoencoder with noise on its codes, and the
        mixture as it started.
    pretraining : ``"stacked"``, ``"end-to-end"`` or None.
    layer_epochs, pretrain_epochs, pretrain_learning_rate, corruption : see :class:`Autoencoder`.
    init : how the mixture starts on the codes: ``"gmm"`` (the paper), ``"gmm-full"``, ``"kmeans"``,
        ``"umap"`` or ``"random"``; see :func:`~genclust.mixture.initial_responsibilities`.
    n_init : restarts of that clustering; the best likelihood (or inertia) is taken.
    held_epochs : epochs, before the others, in which q(c|x) is held at that clustering while everything else
        is trained, so that the codes come to fit it. Not in the paper.
    code_noise : the variance of q(z|x) when the mixture starts, as a share of the mean variance inside a cluster;
        None leaves it to the untrained head, about 1 whatever the codes are. Where clusters are much narrower than
        that, as on small tables, the noise carries codes from one to another, and the start is lost in an epoch or
        two (clusters without rows are warned of): 0.1 keeps it. Not in the paper.
    n_restarts : whole fits from different seeds; the best ELBO is kept.
    random_state, device, precision, verbose : see :class:`Autoencoder`.

    Attributes
    ----------
    labels_ : (n,) cluster of every training row.
    weights_, means_, covariances_ : the mixture: (K,), (K, latent_dim), (K, latent_dim) variances.
    history_ : one dict an epoch: phase, loss, seconds, and in the ``"vade"`` phase each term of eq. 13.
    objective_ : the mean ELBO on X, by which restarts are compared.
    """

    _parameter_constraints = CONSTRAINTS | LIKELIHOODS | {
        "reconstruction_weight": [RATE],
        "kl_weight": [WEIGHT],
        "pretraining": [*CONSTRAINTS["pretraining"], None],
        "init": [StrOptions(set(INITS))],
        "held_epochs": [COUNT],
        "code_noise": [RATE, None],
    }

    def __init__(self, n_clusters=10, *, latent_dim=10, hidden=(500, 500, 2000), likelihood="auto", epochs=150,
                 batch_size=256, learning_rate=0.002, lr_decay=0.9, lr_decay_every=10, lr_floor=0.0002,
                 adam_eps=1e-4, reconstruction_weight=1.0, kl_weight=1.0, pretraining="stacked", layer_epochs=8,
                 pretrain_epochs=20, pretrain_learning_rate=1e-3, corruption=0.2, init="gmm", n_init=10, held_epochs=0,
                 code_noise=None, n_restarts=1, random_state=None, device="auto", precision="auto", verbose=0):
        self.n_clusters = n_clusters
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
        self.reconstruction_weight = reconstruction_weight
        self.kl_weight = kl_weight
        self.pretraining = pretraining
        self.layer_epochs = layer_epochs
        self.pretrain_epochs = pretrain_epochs
        self.pretrain_learning_rate = pretrain_learning_rate
        self.corruption = corruption
        self.init = init
        self.n_init = n_init
        self.held_epochs = held_epochs
        self.code_noise = code_noise
        self.n_restarts = n_restarts
        self.random_state = random_state
        self.device = device
        self.precision = precision
        self.verbose = verbose

    def _build(self, n_features, generator):
        sizes = [n_features, *self.hidden, self.latent_dim]
        return VaDENetwork(sizes, self.n_clusters, self.likelihood_, generator)

    def _phases(self, trainer):
        net = self.module_
        if self.pretraining is not None:
            self._pretrain(trainer, net)
        trainer.once("mixture", lambda: self._start_mixture(trainer))

        def loss(x: Tensor, rows: Tensor):
            noise = torch.randn(len(x), self.latent_dim, generator=trainer.generator, device=x.device)
            held = trainer.kept.get("partition")
            terms = net.elbo_terms(x, noise, None if held is None else held[rows])
            terms = {name: term.mean() for name, term in terms.items()}
            elbo = sum(terms.values())
            reconstruction = terms["log p(x|z)"]
            weighted = self.reconstruction_weight * reconstruction + self.kl_weight * (elbo - reconstruction)
            return -weighted, {"elbo": elbo, **terms}

        adam = dict(batch_size=self.batch_size, adam_eps=self.adam_eps)
        trainer.train("held", loss, net.parameters(), epochs=self.held_epochs,
                      learning_rate=exponential_decay(self.learning_rate), **adam)
        trainer.kept.clear()
        trainer.train("vade", loss, net.parameters(), epochs=self.epochs, learning_rate=self._rate(), **adam)

    def planned_epochs(self) -> dict[str, int]:
        """Those of :meth:`CodingEstimator.planned_epochs`, then VaDE's own."""
        return super().planned_epochs() | {"held": self.held_epochs, "vade": self.epochs}

    def _start_mixture(self, trainer) -> None:
        X = trainer.X
        codes = self._map(self.module_.encoder, X)
        start = initial_responsibilities(codes.cpu().numpy(), self.n_clusters, self.init, n_init=self.n_init,
                                         random_state=self.seed_)
        start = torch.from_numpy(start).to(X.device)
        mixture = self.module_.mixture
        mixture.maximise(codes, start)
        if self.code_noise is not None:
            inside = mixture.log_weights.exp() @ mixture.covariances
            self.module_.encoder.start_log_var((self.code_noise * inside).log())
        if self.held_epochs:
            trainer.kept["partition"] = start.float()

    def _conclude(self, X):
        self._set_mixture(X)
        self.objective_ = self._score(X)

"""Deep embedded clustering (Xie, Girshick and Farhadi, 2016): codes that sharpen their own soft assignments."""

from __future__ import annotations

from numbers import Real

import numpy as np
import torch
from sklearn.base import ClusterMixin
from sklearn.cluster import KMeans
from sklearn.utils._param_validation import Interval
from torch import Tensor, nn

from .autoencoder import CONSTRAINTS, POSITIVE, AutoencoderNetwork, CodingEstimator
from .base import Player, Trainer
from .draws import draw


class DECNetwork(AutoencoderNetwork):
    """An autoencoder, and K centres in the space of its codes."""

    def __init__(self, sizes: list[int], n_clusters: int, generator: torch.Generator):
        super().__init__(sizes, generator)
        self.centers = nn.Parameter(torch.zeros(n_clusters, sizes[-1]))

    def log_assignments(self, z: Tensor) -> Tensor:
        """log q_ij, eq. 1: (n, d) -> (n, K) float32.

        Student's t with one degree of freedom, as in the paper: q_ij is proportional to 1 / (1 + |z_i - mu_j|^2).
        """
        distance = (z.float()[:, None] - self.centers).square().sum(2)
        return (-distance.log1p()).log_softmax(1)


def target_distribution(q: Tensor) -> Tensor:
    """p_ij, eq. 3: assignments (n, K) squared, divided by the soft size of their cluster, and normalised by row."""
    weight = q.square() / q.sum(0)
    return weight / weight.sum(1, keepdim=True)


def divergence(p: Tensor, log_q: Tensor) -> Tensor:
    """KL(P || Q), eq. 2, as a mean over rows: (n, K), (n, K) -> ()."""
    return (torch.xlogy(p, p) - p * log_q).sum(1).mean()


class DEC(ClusterMixin, CodingEstimator):
    """Clustering by an encoder and K centres that learn from their own most confident assignments.

    A stacked autoencoder is pretrained, and k-means on its codes gives the first centres. Then encoder and centres
    minimise KL(P || Q) of eq. 2 by stochastic gradient descent with momentum, on batches drawn with replacement: Q
    are the soft assignments, P their sharpened version, which is renewed from all rows every ``update_interval``
    steps. It ends when such a renewal finds less than ``tol`` of the rows in another cluster than the one before.
    With ``iterations=0`` it is the baseline AE + k-means.

    Parameters
    ----------
    n_clusters, latent_dim, hidden : K; width of the code; widths of the encoder, mirrored in the decoder.
    likelihood : of the reconstructions in the pretraining; see :class:`Autoencoder`. DEC itself has squared errors.
    iterations : steps of the clustering, at most.
    update_interval : steps between two renewals of P; None is one pass over the rows. The paper does not give it; the
        script that its authors published has 160 mini-batches on MNIST, 40 on STL and 20 on Reuters.
    tol : share of rows; 0.001 in the paper.
    batch_size, learning_rate, momentum : of the descent. The paper has 256 and a constant 0.01 and does not give the
        momentum, 0.9 in the authors' code. ``batch_size`` is the pretraining's too.
    pretraining : ``"stacked"`` or ``"end-to-end"``.
    layer_epochs, pretrain_epochs, pretrain_learning_rate, corruption : see :class:`Autoencoder`.
    n_init : starts of k-means; the best inertia is taken.
    n_restarts : whole fits from different seeds; the best objective is kept.
    random_state, device, precision, verbose : see :class:`Autoencoder`.

    Attributes
    ----------
    labels_, cluster_centers_ : (n,) most probable cluster of every training row; (n_clusters, latent_dim).
    n_iter_ : steps that were taken.
    history_ : one dict an epoch of pretraining; then one a renewal of P, "epoch" being the steps so far, with the
        loss and the share of rows that ``moved``.
    objective_ : minus KL(P || Q) on X, in nats a row; restarts are compared by it. See :meth:`score` for what it can't tell.

    ``inverse_transform`` decodes by the decoder as the pretraining left it: the clustering does not train it further.
    """

    _parameter_constraints = CONSTRAINTS | {
        "update_interval": [POSITIVE, None],
        "tol": [Interval(Real, 0, 1, closed="left")],
        "momentum": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(self, n_clusters=10, *, latent_dim=10, hidden=(500, 500, 2000), likelihood="auto", iterations=20_000,
                 update_interval=None, tol=1e-3, batch_size=256, learning_rate=0.01, momentum=0.9, pretraining="stacked",
                 layer_epochs=8, pretrain_epochs=20, pretrain_learning_rate=1e-3, corruption=0.2, n_init=20, n_restarts=1,
                 random_state=None, device="auto", precision="auto", verbose=0):
        self.n_clusters = n_clusters
        self.latent_dim = latent_dim
        self.hidden = hidden
        self.likelihood = likelihood
        self.iterations = iterations
        self.update_interval = update_interval
        self.tol = tol
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.pretraining = pretraining
        self.layer_epochs = layer_epochs
        self.pretrain_epochs = pretrain_epochs
        self.pretrain_learning_rate = pretrain_learning_rate
        self.corruption = corruption
        self.n_init = n_init
        self.n_restarts = n_restarts
        self.random_state = random_state
        self.device = device
        self.precision = precision
        self.verbose = verbose

    def _build(self, n_features, generator):
        return DECNetwork([n_features, *self.hidden, self.latent_dim], self.n_clusters, generator)

    def _phases(self, trainer):
        net, X = self.module_, trainer.X
        self._pretrain(trainer, net)
        trainer.once("centers", lambda: self._start(trainer))

        def loss():
            rows = draw(torch.randint, len(X), (self.batch_size,), source=trainer.generator)
            z = net.encoder(X[rows])
            with torch.autocast(X.device.type, enabled=False):
                return divergence(trainer.kept["target"][rows], net.log_assignments(z)), {}

        def review(logs: dict) -> bool:
            before = trainer.kept["labels"]
            self._renew(trainer)
            logs["moved"] = float((trainer.kept["labels"] != before).double().mean())
            return logs["moved"] < self.tol

        sgd = torch.optim.SGD([*net.encoder.parameters(), net.centers], lr=self.learning_rate, momentum=self.momentum)
        trainer.alternate("dec", [Player("loss", loss, sgd)], iterations=self.iterations,
                          log_every=self.update_interval or max(1, len(X) // self.batch_size), review=review)
        trainer.kept.clear()

    def _start(self, trainer: Trainer) -> None:
        codes = self._map(self.module_.encoder, trainer.X).cpu().numpy()
        found = KMeans(self.n_clusters, n_init=self.n_init, random_state=self.seed_).fit(codes).cluster_centers_
        with torch.no_grad():
            self.module_.centers.copy_(torch.from_numpy(found))
        self._renew(trainer)

    def _renew(self, trainer: Trainer) -> None:
        """P and the labels, from all rows as they are assigned now."""
        q = self._log_assignments(trainer.X).exp()
        trainer.kept.update(target=target_distribution(q), labels=q.argmax(1))
        self.labels_ = trainer.kept["labels"].cpu().numpy()  # for callbacks

    def planned_epochs(self) -> dict[str, int]:
        """Those of :meth:`CodingEstimator.planned_epochs`, then the steps of the clustering, at most."""
        return super().planned_epochs() | {"dec": self.iterations}

    def _conclude(self, X):
        self.cluster_centers_ = self.module_.centers.detach().cpu().numpy()
        self.labels_ = self._log_assignments(X).argmax(1).cpu().numpy()
        self.n_iter_ = max((h["epoch"] for h in self.history_ if h["phase"] == "dec"), default=0)
        self.objective_ = self._score(X)

    def _log_assignments(self, X: Tensor) -> Tensor:
        net = self.module_
        return self._map(lambda x: net.log_assignments(net.encoder(x)), X)

    def _score(self, X: Tensor) -> float:
        log_q = self._log_assignments(X).double()
        return -float(divergence(target_distribution(log_q.exp()), log_q))

    def score(self, X, y=None) -> float:
        """Minus KL(P || Q) on X, in nats a row: at most 0. Not for model selection.

        P is made from the rows that are given together, so sets of rows can't be compared by it: a single row scores 0. So
        does a Q that is uniform: codes and centres that shrink to a point, and tell nothing, have the highest score.
        """
        return super().score(X)

    def predict_proba(self, X) -> np.ndarray:
        """q_ij, eq. 1, (n, K) float32."""
        return self._log_assignments(self._rows(X)).exp().cpu().numpy()

    def predict(self, X) -> np.ndarray:
        """The most probable cluster of every row, which is that of the nearest centre: (n,) int64."""
        return self._log_assignments(self._rows(X)).argmax(1).cpu().numpy()

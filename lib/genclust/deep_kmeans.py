"""Deep k-means: codes and centres learnt together, by optimal transport or by soft assignments.

Genevay, Dulac-Arnold and Vert (2019), Algorithm 2. Without its constraint on the cluster sizes it is the
method of Moradi Fard, Thonet and Gaussier (2018), which the paper calls soft k-means (Proposition 2).
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from sklearn.base import ClusterMixin
from sklearn.cluster import KMeans
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_array
from torch import Tensor, nn

from .autoencoder import CONSTRAINTS, POSITIVE, RATE, WEIGHT, CodingEstimator
from .base import as_tensor, exponential_decay, in_unit_interval, without_autocast
from .networks import coder_pair
from .ot import squared_distances, transport, unrolled_sinkhorn


class Squashed(nn.Module):
    """A decoder whose outputs are put into (0, 1), in float32."""

    def __init__(self, decoder: nn.Module):
        super().__init__()
        self.decoder = decoder

    def forward(self, z: Tensor) -> Tensor:
        """(n, d) -> (n, D)."""
        return self.decoder(z).float().sigmoid()


class DeepKMeansNetwork(nn.Module):
    """An autoencoder, and K centres in the space of its codes."""

    def __init__(self, n_features: int, hidden: list[int], latent_dim: int, image_shape, squash: bool, n_clusters: int,
                 generator: torch.Generator):
        super().__init__()
        self.encoder, decoder = coder_pair(n_features, hidden, latent_dim, image_shape, generator)
        self.decoder = Squashed(decoder) if squash else decoder
        self.centers = nn.Parameter(torch.zeros(n_clusters, latent_dim))

    def cost(self, z: Tensor) -> Tensor:
        """|z_i - mu_k|^2: (n, d) -> (n, K) float32."""
        return squared_distances(z.float(), self.centers)


class DeepKMeans(ClusterMixin, CodingEstimator):
    """An autoencoder whose codes are drawn towards K centres, each of which gets its share of every batch.

    Minimises eq. 11 by Adam: the squared error of the reconstruction, a mean over rows, plus
    ``clustering_weight`` times the value of entropic optimal transport between the batch's codes and the
    centres, with cost |f(x_i) - mu_k|^2. A row belongs to the nearest centre. With ``epochs=0`` it is the
    baseline AE + k-means.

    Parameters
    ----------
    n_clusters, latent_dim, hidden : K; width of the code; widths of the encoder's layers, mirrored in the
        decoder. With ``image_shape`` they are the channels of its strided convolutions.
    image_shape : (height, width) or (height, width, channels) of the images that the rows are, to use
        convolutions (section 3, CIFAR-10); None for fully connected layers.
    output : ``"sigmoid"`` or ``"linear"`` reconstructions; ``"auto"`` is the sigmoid for data inside [0, 1].
        Not in the paper.
    epsilon : weight of the entropy, in the unit of the cost.
    clustering_weight : of the transport term; not in the paper.
    clustering_loss : ``"regularised"``, the value of the problem with its entropy, as eq. 11 has it, whose gradient is the plan;
        or ``"cost"``, the cost of its plan alone, without entropy and penalty, through which the gradient goes too. With
        ``size_penalty=0`` the second is soft k-means as Moradi Fard et al. have it. The two agree where epsilon is small beside the
        costs.
    cluster_weights : w, the share of every cluster; uniform where None. With unequal shares give ``init`` examples:
        k-means starts the centres in any order, and the wrong one takes the largest share (warned of).
    size_penalty : None holds every batch to these shares (OT); 0 asks for none (soft k-means); a number
        between is the weight of a Kullback-Leibler penalty instead (unbalanced transport).
    sinkhorn_iterations, sinkhorn_last : None solves every batch's transport to 1e-6; a number stops Algorithm 1
        after so many iterations and differentiates through them, as the paper does. The algorithm updates the
        ``"columns"`` last; ``"rows"`` is the other order, under which every row keeps its weight.
    epochs, pretrain_epochs : of Algorithm 2's two loops; the one of ``pretrain_epochs`` comes first and trains the reconstruction
        alone. The algorithm starts the centres before it, here they start after it, on the codes that it leaves.
    batch_size, learning_rate, lr_decay, lr_decay_every : of Adam; the rate is multiplied by ``lr_decay``
        every so many epochs of either loop.
    init : ``"kmeans"`` on the codes, or one example of every cluster, an array (n_clusters, n_features),
        whose codes are the first centres: it tells which cluster has which of ``cluster_weights``.
    n_init : starts of that k-means.
    n_restarts, random_state, device, precision, verbose : see :class:`Autoencoder`.

    Attributes
    ----------
    labels_, cluster_centers_ : (n,) nearest centre of every training row; (n_clusters, latent_dim).
    history_ : one dict an epoch: phase, loss, reconstruction, clustering, seconds.
    objective_ : minus the loss, eq. 11, on X, the transport between all rows and the centres; for ``epochs=0`` minus
        the reconstruction error. ``score`` of fewer rows than clusters, which have no transport, is minus that error too.
    """

    _pretraining = ("hidden", "latent_dim", "image_shape", "output", "pretrain_epochs", "batch_size", "learning_rate",
                    "lr_decay", "lr_decay_every")
    _parameter_constraints = CONSTRAINTS | {
        "output": [StrOptions({"auto", "sigmoid", "linear"})],
        "epsilon": [RATE],
        "clustering_weight": [WEIGHT],
        "clustering_loss": [StrOptions({"regularised", "cost"})],
        "cluster_weights": ["array-like", None],
        "size_penalty": [WEIGHT, None],
        "sinkhorn_iterations": [POSITIVE, None],
        "sinkhorn_last": [StrOptions({"columns", "rows"})],
        "init": [StrOptions({"kmeans"}), "array-like"],
    }

    def __init__(self, n_clusters=10, *, latent_dim=10, hidden=(500, 250), image_shape=None, output="auto",
                 epsilon=0.01, clustering_weight=0.1, clustering_loss="regularised", cluster_weights=None, size_penalty=None,
                 sinkhorn_iterations=None, sinkhorn_last="columns", epochs=200, pretrain_epochs=0, batch_size=300,
                 learning_rate=1e-3, lr_decay=0.5, lr_decay_every=50, init="kmeans", n_init=10, n_restarts=1,
                 random_state=None, device="auto", precision="auto", verbose=0):
        self.n_clusters = n_clusters
        self.latent_dim = latent_dim
        self.hidden = hidden
        self.image_shape = image_shape
        self.output = output
        self.epsilon = epsilon
        self.clustering_weight = clustering_weight
        self.clustering_loss = clustering_loss
        self.cluster_weights = cluster_weights
        self.size_penalty = size_penalty
        self.sinkhorn_iterations = sinkhorn_iterations
        self.sinkhorn_last = sinkhorn_last
        self.epochs = epochs
        self.pretrain_epochs = pretrain_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.lr_decay = lr_decay
        self.lr_decay_every = lr_decay_every
        self.init = init
        self.n_init = n_init
        self.n_restarts = n_restarts
        self.random_state = random_state
        self.device = device
        self.precision = precision
        self.verbose = verbose

    def _check_data(self, X):
        self.likelihood_ = "gaussian"
        self.output_ = ("sigmoid" if in_unit_interval(X) else "linear") if self.output == "auto" else self.output
        if self.n_clusters > self.batch_size:
            raise ValueError(f"n_clusters={self.n_clusters} is more than batch_size={self.batch_size}: raise batch_size")
        if self.image_shape is not None and (len(self.image_shape) not in (2, 3) or np.prod(self.image_shape) != X.shape[1]):
            raise ValueError(f"image_shape={tuple(self.image_shape)} does not make rows of {X.shape[1]} features: give (height, width) "
                             "or (height, width, channels) whose product is that number")
        if self.sinkhorn_iterations is not None and self.size_penalty is not None:
            raise ValueError(f"sinkhorn_iterations={self.sinkhorn_iterations} needs size_penalty=None")
        w = self.cluster_weights
        w = np.full(self.n_clusters, 1 / self.n_clusters) if w is None else check_array(
            w, ensure_2d=False, dtype=np.float64, input_name="cluster_weights")
        if w.shape != (self.n_clusters,) or (w < 0).any() or abs(w.sum() - 1) > 1e-6:
            raise ValueError(f"cluster_weights={self.cluster_weights!r}: give {self.n_clusters} shares that sum to 1")
        self.weights_ = w / w.sum()
        if isinstance(self.init, str) and self.size_penalty != 0 and np.ptp(self.weights_) > 1e-6:
            warnings.warn(f"cluster_weights={self.cluster_weights!r} with init={self.init!r}: k-means starts the centres in any order, so "
                          "that any of them may get the largest share; give init one example of every cluster", UserWarning, stacklevel=2)
        if not isinstance(self.init, str):
            examples = check_array(self.init, dtype=np.float32, input_name="init")
            if examples.shape != (self.n_clusters, X.shape[1]):
                raise ValueError(f"init has shape {examples.shape}: one example of every cluster is "
                                 f"({self.n_clusters}, {X.shape[1]})")

    def _build(self, n_features, generator):
        return DeepKMeansNetwork(n_features, list(self.hidden), self.latent_dim, self.image_shape,
                                 self.output_ == "sigmoid", self.n_clusters, generator)

    def _phases(self, trainer):
        net = self.module_
        adam = dict(batch_size=self.batch_size,
                    learning_rate=exponential_decay(self.learning_rate, self.lr_decay, self.lr_decay_every))

        def reconstruction(x: Tensor, z: Tensor) -> Tensor:
            return (net.decoder(z).float() - x).square().sum() / len(x)

        coder = nn.ModuleList([net.encoder, net.decoder])
        trainer.shared_stage(coder, lambda: trainer.train(
            "autoencoder", lambda x, rows: (reconstruction(x, net.encoder(x)), {}), coder.parameters(),
            epochs=self.pretrain_epochs, **adam))
        trainer.once("centers", lambda: self._start_centers(trainer.X))
        w = torch.from_numpy(self.weights_).to(trainer.X.device)

        def loss(x: Tensor, rows: Tensor):
            z = net.encoder(x)
            error = reconstruction(x, z)
            with torch.autocast(x.device.type, enabled=False):
                clustering = self._clustering(net.cost(z), w, trainer.kept)
            return error + self.clustering_weight * clustering, {"reconstruction": error, "clustering": clustering}

        trainer.train("clustering", loss, net.parameters(), epochs=self.epochs, **adam)
        trainer.kept.clear()

    def _clustering(self, cost: Tensor, w: Tensor, kept: dict[str, Tensor] | None = None) -> Tensor:
        """The transport term; ``kept`` holds the last batch's potentials, from which this one starts."""
        if not cost.isfinite().all():
            raise FloatingPointError("a code is no longer finite: lower learning_rate, or look for extreme values in X")
        given = self.fitted_with_
        if given.sinkhorn_iterations is not None and kept is not None:
            plan, value = unrolled_sinkhorn(cost, given.epsilon, given.sinkhorn_iterations, b=w, last=given.sinkhorn_last)
        else:
            solved = transport(cost, given.epsilon, b=w, size_penalty=given.size_penalty,
                               start=kept.get("potentials") if kept else None)
            plan, value = solved.plan, solved.value
            if kept is not None:
                kept["potentials"] = solved.potentials
        return (value if given.clustering_loss == "regularised" else (plan * cost).sum()).float()

    def _start_centers(self, X: Tensor) -> None:
        encode = self.module_.encoder
        if isinstance(self.init, str):
            codes = self._map(encode, X).cpu().numpy()
            found = KMeans(self.n_clusters, n_init=self.n_init, random_state=self.seed_).fit(codes).cluster_centers_
            start = torch.from_numpy(found)
        else:
            start = self._map(encode, as_tensor(np.asarray(self.init, dtype=np.float32)).to(X.device))
        with torch.no_grad():
            self.module_.centers.copy_(start)

    def planned_epochs(self) -> dict[str, int]:
        """The phases of a fit, in order, and the epochs of each: what a progress bar counts."""
        return {"autoencoder": self.pretrain_epochs, "clustering": self.epochs}

    def _conclude(self, X):
        self.cluster_centers_ = self.module_.centers.detach().cpu().numpy()
        self.labels_ = self._nearest(X).cpu().numpy()
        self.objective_ = self._score(X)

    def _costs(self, X: Tensor) -> Tensor:
        net = self.module_
        return self._map(lambda x: net.cost(net.encoder(x)), X)

    def _nearest(self, X: Tensor) -> Tensor:
        return self._costs(X).argmin(1)

    @torch.no_grad()
    @without_autocast()
    def _score(self, X: Tensor) -> float:
        net, given = self.module_, self.fitted_with_
        errors = self._map(lambda x: (net.decoder(net.encoder(x)) - x).square().sum(1), X)
        total = float(errors.double().mean())
        if given.epochs and len(X) >= given.n_clusters:
            w = torch.from_numpy(self.weights_).to(X.device)
            total += given.clustering_weight * float(self._clustering(self._costs(X), w))
        return -total

    def predict(self, X) -> np.ndarray:
        """The nearest centre of every row's code, (n,) int64."""
        return self._nearest(self._rows(X)).cpu().numpy()

    def predict_proba(self, X) -> np.ndarray:
        """Soft assignments (n, K) float32, eq. 7: softmax of minus the squared distances over epsilon."""
        return (-self._costs(self._rows(X)) / self.fitted_with_.epsilon).softmax(1).cpu().numpy()

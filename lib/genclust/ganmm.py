"""GANMM (Yu and Zhou, 2018): a mixture of K Wasserstein GANs, trained by epsilon-expectation-maximisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from numbers import Real

import numpy as np
import torch
from sklearn.base import ClusterMixin
from sklearn.preprocessing import RobustScaler, StandardScaler
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor, nn
from torch.nn import functional as F

from .adversarial import clip_weights, gradient_penalty, wasserstein
from .autoencoder import CONSTRAINTS, COUNT, POSITIVE, RATE, Autoencoder, EmbeddedClustering
from .base import DeepEstimator, Player, Trainer, as_tensor, check_index, in_unit_interval, without_autocast
from .dcgan import ImageClassifier, ReplicaCritic, ReplicaGenerator, image_sides
from .dec import DEC
from .mixture import initial_responsibilities
from .networks import MLP, ReplicaMLP

SIGMA = ((0, 0.5), (500, 0.2), (1000, 0.1), (2000, 0.04))  # the authors' code; the paper says that it shrinks
QUIRKS = ("double softmax", "untrained output", "single-cluster batches", "unclipped pretraining")
LOG_EVERY = 100  # iterations
PIECE = 512  # rows that the critics score at once
SCALERS = {"deviation": StandardScaler, "range": partial(RobustScaler, with_centering=False, quantile_range=(0, 100))}


class GANMMNetwork(nn.Module):
    """K generators, K critics, and the classifier of the epsilon-E-step.

    The generators map (K, batch, noise_dim) to (K, batch, D), the critics that to (K, batch, 1), the classifier
    (n, D) to logits (n, K). ``shares`` (K,) are the relative cluster sizes of the last E-step, ``iteration`` counts them.
    """

    def __init__(self, networks: str, n_features: int, n_clusters: int, noise_dim: int, hidden: int, channels: int,
                 batch_norm: bool, generator: torch.Generator):
        super().__init__()
        K, own = n_clusters, torch.randint(2**31 - 1, (2, n_clusters), generator=generator).tolist()
        of_generators, of_critics = ([torch.Generator().manual_seed(seed) for seed in seeds] for seeds in own)
        if networks == "dcgan":
            self.generators = ReplicaGenerator(noise_dim, n_features, channels, of_generators)
            self.critics = ReplicaCritic(n_features, channels, of_critics, batch_norm)
            self.classifier = ImageClassifier(n_features, channels, K, generator)
        else:
            self.generators = ReplicaMLP([noise_dim, hidden, n_features], of_generators)
            self.critics = ReplicaMLP([n_features, hidden, 1], of_critics)
            self.classifier = MLP([n_features, hidden, K], generator)
        self.noise_dim = noise_dim
        self.register_buffer("shares", torch.full((K,), 1 / K))
        self.register_buffer("iteration", torch.zeros((), dtype=torch.long))

    def scores(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Each critic on its own rows: twice (K, batch, D) -> twice (K, batch)."""
        if isinstance(self.critics, ReplicaMLP):  # no row feels another one: a single pass
            return self.critics(torch.cat([real, fake], 1)).float()[..., 0].split([real.shape[1], fake.shape[1]], 1)
        return self.critics(real).float()[..., 0], self.critics(fake).float()[..., 0]

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """n rows of every generator, (K, n, D)."""
        return self.generators(torch.randn(len(self.shares), n, self.noise_dim, generator=generator, device=generator.device))

    def cluster_logits(self, x: Tensor, e_step: str) -> Tensor:
        """(n, D) -> (n, K): the classifier's logits, or the score that each critic gives to the row."""
        if e_step == "classifier":
            return self.classifier(x).float()
        scores = [self.critics(piece.expand(len(self.shares), *piece.shape)) for piece in in_pieces(x)]
        return torch.cat(scores, 1).float()[..., 0].T


def in_pieces(x: Tensor) -> tuple[Tensor, ...]:
    """Few rows at once, K critics of images being wide; and of several never a single one, which has no statistics of a batch."""
    return x.tensor_split(-(-len(x) // PIECE)) if len(x) % PIECE == 1 else x.split(PIECE)


class _EpsilonEM:
    """The losses of a fit's three players, and the E-step between them."""

    def __init__(self, model: GANMM, trainer: Trainer):
        self.model, self.trainer, self.net, self.X = model, trainer, model.module_, trainer.X
        self.source, self.K, self.batch = trainer.generator, model.n_clusters, model.batch_size
        self.schedule = model._schedule()
        self.fakes: list[tuple[Tensor, Tensor]] = []
        self.own: Tensor | None = None

    # -- epsilon-E-step ------------------------------------------------------------------------

    def classifier_loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy on generated rows, labelled by their generator: Algorithm 1, line 7."""
        if not self.fakes:
            self.fakes = self._labelled_fakes()
        x, y = self.fakes.pop()
        logits = self.net.classifier(x).float()
        if "double softmax" in self.model.quirks:
            logits = logits.softmax(1)
        return F.cross_entropy(logits, y), {}

    @torch.no_grad()
    def _labelled_fakes(self) -> list[tuple[Tensor, Tensor]]:
        """K batches of generated rows and their generators, Algorithm 1, line 6."""
        K, batch = self.K, self.batch
        x = self.net.draw(batch, self.source)
        y = torch.arange(K, device=x.device).repeat_interleave(batch)
        if self.model.fakes == "proportional":
            y = torch.multinomial(self.net.shares, K * batch, replacement=True, generator=self.source)
            x = x[y, torch.randint(batch, y.shape, generator=self.source, device=x.device)]
        else:
            x = x.flatten(0, 1)
        if "single-cluster batches" not in self.model.quirks:
            order = torch.randperm(K * batch, generator=self.source, device=x.device)
            x, y = x[order], y[order]
        return list(zip(x.split(batch), y.split(batch)))[::-1]

    @torch.no_grad()
    def e_step(self) -> None:
        """Assigns rows to clusters, and says with what weights each critic draws from them: ``own`` and ``others``.

        All rows where the classifier is trained to the end in between, else as many as the critics will draw: an E-step
        an iteration on all of X would cost more than the training.
        """
        iteration = int(self.net.iteration)
        self.net.iteration += 1
        if iteration % self.model._round(len(self.X)):
            return
        n, K = len(self.X), self.K
        n_rows = K * self.batch * self.model.n_critic
        if n_rows < n and self.model.alternation == "iteration":
            self.rows = torch.randint(n, (n_rows,), generator=self.source, device=self.X.device)
        else:
            self.rows = torch.arange(n, device=self.X.device)
        q = self.model._posterior(self.X[self.rows])
        q = q.where(q.isfinite(), 1 / K)  # of a classifier that diverged: its loss says so, and no draw fails before
        self.sigma = next(share for start, share in reversed(self.schedule) if iteration >= start)
        mine = q.argmax(1) == torch.arange(K, device=q.device)[:, None]
        self.own = self.model._refill(mine, q).float()
        self.others = self._borrowed(mine, q.T)
        self.net.shares.copy_(mine.sum(1) / len(q))

    def _borrowed(self, mine: Tensor, q: Tensor) -> Tensor:
        """Weights (K, n) of the rows that each cluster borrows from the others, from its posterior (K, n)."""
        alone = mine.all(1, keepdim=True)  # nobody to borrow from: from itself
        if self.model.borrowing == "proportional":
            return torch.where(alone, 1.0, q.clamp_min(torch.finfo(q.dtype).tiny) * ~mine)
        asked = (self.sigma / (1 - self.sigma) * mine.sum(1, keepdim=True)).ceil().clamp_min(1)
        rank = q.masked_fill(mine, -1).argsort(1, descending=True).argsort(1)
        return torch.where(alone, 1.0, ((rank < asked) & ~mine).float())

    # -- M-step --------------------------------------------------------------------------------

    def _own_and_borrowed(self) -> Tensor:
        """A real batch of every cluster, drawn with replacement, a share sigma of it borrowed: (K, batch, D).
        Algorithm 1, line 11."""
        if self.own is None:  # pretraining: the first partition, nothing borrowed (Algorithm 1, lines 1 and 2)
            self.rows = torch.arange(len(self.X), device=self.X.device)
            mine = self.trainer.kept["labels"] == torch.arange(self.K, device=self.X.device)[:, None]
            self.own = self.model._refill(mine, mine.T.float()).float()  # k-means and EM may leave a cluster empty
            self.sigma = 0.0
        borrowed = min(round(self.sigma * self.batch), self.batch - 1)  # rounded, it may be the whole batch
        drawn = [torch.multinomial(self.own, self.batch - borrowed, replacement=True, generator=self.source)]
        if borrowed:
            drawn.append(torch.multinomial(self.others, borrowed, replacement=True, generator=self.source))
        return self.X[self.rows[torch.cat(drawn, 1)]]

    def generator_loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        """loss_G of all K, added up: gradients of replicas don't mix."""
        fake = self.net.draw(self.batch, self.source)
        return -self.net.critics(fake).float().mean((1, 2)).sum(), {}

    def critic_loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        """loss_D of all K, added up; with a gradient penalty where the weights are not clipped."""
        real = self._own_and_borrowed()
        with torch.no_grad():
            fake = self.net.draw(self.batch, self.source).to(real.dtype)  # bfloat16 under autocast
        distance = wasserstein(*self.net.scores(real, fake)).sum()
        if self.model.lipschitz == "clip":
            return -distance, {}
        mix = torch.rand(*real.shape[:2], 1, generator=self.source, device=real.device)
        penalty = gradient_penalty(self.net.critics, real, fake, mix).sum()
        return self.model.penalty_weight * penalty - distance, {"penalty": penalty}

    # -- bookkeeping ---------------------------------------------------------------------------

    def review(self, logs: dict) -> bool:
        """Adds to ``logs`` what the assignment of all rows looks like; whether it has come to rest."""
        model = self.model
        labels = model._posterior(self.X).argmax(1)
        sizes = labels.bincount(minlength=self.K).double() / len(labels)
        logs["moved"] = float((labels != self.trainer.kept["labels"]).double().mean())
        logs["balance"] = float(torch.special.entr(sizes).sum()) / math.log(max(self.K, 2))
        logs["largest"], logs["empty"], logs["sigma"] = float(sizes.max()), int((sizes == 0).sum()), self.sigma
        self.trainer.kept["labels"] = labels
        model.labels_ = labels.cpu().numpy()  # for callbacks
        return model.at_rest([*self.trainer.history, logs])


def _sigma_steps(sigma: float | Sequence[Sequence[float]]) -> list[tuple[int, float]]:
    """(first iteration, share) in order. ValueError for a share outside [0, 1), or no share for the first iteration."""
    steps = [(0, sigma)] if isinstance(sigma, Real) else list(sigma)
    for step in steps:
        if np.shape(step) != (2,) or not all(isinstance(value, Real) for value in step) or not 0 <= step[1] < 1:
            raise ValueError(f"sigma={sigma!r}: shares of a critic's batch must lie in [0, 1), "
                             "as a number or as pairs (first iteration, share)")
    steps = [tuple(step) for step in steps]
    if [start for start, _ in steps] != sorted({start for start, _ in steps}) or not steps or steps[0][0] != 0:
        raise ValueError(f"sigma={sigma!r}: the first iterations of the shares must rise from 0")
    return steps


class GANMM(ClusterMixin, DeepEstimator):
    """Clustering by a mixture of K GANs: rows belong to the generator that a classifier takes them for.

    Algorithm 1. K Wasserstein GANs are trained on a random partition. Then, in turn: a classifier learns to tell their
    draws apart (the epsilon-E-step, on purpose not to perfection) and assigns the rows; each GAN learns from the rows
    of its cluster and from some that it borrows from the others, ever fewer (the M-step).

    Parameters
    ----------
    n_clusters : K.
    networks : ``"mlp"`` with one hidden layer, or ``"dcgan"`` for square images in [0, 1].
    noise_dim, hidden, channels : width of the generators' noise; of the hidden layers ("mlp"); first convolution ("dcgan").
    iterations, pretrain_iterations : at most so many steps of every generator, after so many on the first partition, between which
        RMSprop starts anew.
    init : that partition: ``"random"``, ``"kmeans"``, ``"gmm"`` (see :func:`~genclust.mixture.initial_responsibilities`),
        labels (n,), or None for no partition and no pretraining: random parameters.
    e_step : ``"classifier"``, or ``"critics"``: a row belongs to the critic that scores it highest, nothing is borrowed
        and there is no classifier; the paper's GANMM(EM).
    alternation : ``"iteration"``: K steps of the classifier before each step of the generators (the authors' code);
        ``"epoch"``: as many as X has batches, then ``round_epochs`` passes of the GANs over X (Algorithm 1).
    round_epochs : the paper's n_epoch.
    sigma : share of a critic's batch that is borrowed, in [0, 1): a number, or pairs (first iteration, share).
    borrowing : ``"proportional"`` to the cluster's posterior (the code), or the rows where it is ``"highest"`` (the paper).
    fakes : the classifier sees ``"equal"`` numbers of draws of each generator (the text), or ``"proportional"`` to the
        sizes of the clusters (Algorithm 1, line 6). Line 6 draws them anew; here every generator draws
        ``batch_size`` rows all the same, and the classifier's are taken from these with replacement.
    lipschitz : ``"clip"`` keeps the critics' weights in [-clip, clip]; ``"penalty"`` adds a gradient penalty instead.
    clip, penalty_weight : their sizes.
    quirks : what the authors' code does beyond the paper, any of
        ``"double softmax"`` (cross-entropy of the softmax of probabilities), ``"untrained output"`` (the classifier's last
        layer stays as it started), ``"single-cluster batches"`` (each of the classifier's batches is of one generator),
        ``"unclipped pretraining"``.
    n_critic, batch_size, learning_rate : critic steps for one of the generator; rows a step; RMSprop's rate.
    tol, patience : the fit has converged when in each of the last ``patience`` hundreds of iterations less than ``tol``
        of the rows changed cluster, sigma having reached its last value. A tol of 0 runs all iterations.
    n_restarts : whole fits from different seeds; the best objective is kept.
    random_state, device, verbose : see :class:`~genclust.Autoencoder`.
    precision : ``"float32"``, ``"bfloat16"`` (worth it for "dcgan") or ``"auto"``.

    Attributes
    ----------
    labels_ : (n,) cluster of every training row; a callback finds those of the moment.
    weights_ : (K,) shares of the rows.
    history_ : one dict a hundred iterations: phase, losses, and in the ``"ganmm"`` phase the share of rows that ``moved``
        to another cluster, the ``balance`` of the cluster sizes (their entropy over log K), the ``largest`` share, the
        number of ``empty`` clusters and sigma.
    n_iter_, converged_ : iterations after pretraining; whether they ended by ``tol``.
    objective_ : mutual information of row and cluster, H(mean of q) - mean of H(q), in nats: at most log K, 0 for
        a single cluster. By it restarts are compared.

    Notes
    -----
    With ``e_step="critics"``, ``"dcgan"`` and clipping, each critic normalises what it is shown. While it is trained, that is by the
    rows at hand, as it goes with batches; once the fit has ended it is by the statistics of all of X, so that a row's cluster
    depends on no other row that is asked with it. ``labels_`` are those of ``predict(X)``, and may differ from what the last E-step
    and the last row of ``history_`` saw.

    A cluster smaller than a batch repeats its rows. One that no row belongs to takes the rows of the highest posterior
    for it, one for every ``batch_size`` rows, as its own, so that its GAN stays in the game; it may still end empty.
    """

    _parameter_constraints = CONSTRAINTS | {
        "networks": [StrOptions({"mlp", "dcgan"})],
        "hidden": [POSITIVE],
        "channels": [POSITIVE],
        "pretrain_iterations": [COUNT],
        "init": [StrOptions({"random", "kmeans", "gmm"}), "array-like", None],
        "e_step": [StrOptions({"classifier", "critics"})],
        "alternation": [StrOptions({"iteration", "epoch"})],
        "round_epochs": [POSITIVE],
        "sigma": [Real, "array-like"],
        "borrowing": [StrOptions({"proportional", "highest"})],
        "fakes": [StrOptions({"equal", "proportional"})],
        "lipschitz": [StrOptions({"clip", "penalty"})],
        "clip": [RATE],
        "penalty_weight": [RATE],
        "quirks": ["array-like"],
        "tol": [Interval(Real, 0, 1, closed="both")],
        "patience": [POSITIVE],
    }

    def __init__(self, n_clusters=10, *, networks="mlp", noise_dim=64, hidden=64, channels=64, iterations=5000,
                 pretrain_iterations=500, init="random", e_step="classifier", alternation="iteration", round_epochs=1,
                 sigma=SIGMA, borrowing="proportional", fakes="equal", lipschitz="clip", clip=0.01, penalty_weight=10.0,
                 quirks=(), n_critic=5, batch_size=50, learning_rate=5e-5, tol=0.005, patience=5, n_restarts=1,
                 random_state=None, device="auto", precision="float32", verbose=0):
        self.n_clusters = n_clusters
        self.networks = networks
        self.noise_dim = noise_dim
        self.hidden = hidden
        self.channels = channels
        self.iterations = iterations
        self.pretrain_iterations = pretrain_iterations
        self.init = init
        self.e_step = e_step
        self.alternation = alternation
        self.round_epochs = round_epochs
        self.sigma = sigma
        self.borrowing = borrowing
        self.fakes = fakes
        self.lipschitz = lipschitz
        self.clip = clip
        self.penalty_weight = penalty_weight
        self.quirks = quirks
        self.n_critic = n_critic
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.tol = tol
        self.patience = patience
        self.n_restarts = n_restarts
        self.random_state = random_state
        self.device = device
        self.precision = precision
        self.verbose = verbose

    # -- checks --------------------------------------------------------------------------------

    def _validate_params(self):
        super()._validate_params()
        _sigma_steps(self.sigma)
        for quirk in self.quirks:
            if quirk not in QUIRKS:
                raise ValueError(f"quirks={self.quirks!r}: there is no {quirk!r}; there are {', '.join(QUIRKS)}")

    def _check_data(self, X):
        if self.networks == "dcgan":
            image_sides(X.shape[1])
            if self.batch_size < 2:
                raise ValueError("batch_size=1: networks='dcgan' normalises batches, use 2 or more")
            if not in_unit_interval(X):
                raise ValueError(f"networks='dcgan' draws images in [0, 1], but X spans [{X.min():.7g}, {X.max():.7g}]: "
                                 "scale X, or use networks='mlp'")

    def _check_size(self, n):
        super()._check_size(n)
        if self.init is None or isinstance(self.init, str):
            return
        labels = np.asarray(self.init)
        if labels.shape != (n,) or labels.dtype.kind not in "iu":
            raise ValueError(f"init has shape {labels.shape} and type {labels.dtype}: a given partition is one integer for "
                             f"each of the {n} rows")
        if not np.array_equal(np.unique(labels), np.arange(self.n_clusters)):
            raise ValueError(f"init has the labels {np.unique(labels).tolist()}: a given partition uses each of 0 to "
                             f"{self.n_clusters - 1}, so that every GAN has rows to start from")

    # -- fitting -------------------------------------------------------------------------------

    def _build(self, n_features, generator):
        return GANMMNetwork(self.networks, n_features, self.n_clusters, self.noise_dim, self.hidden, self.channels,
                            self.lipschitz == "clip", generator)

    def _schedule(self) -> list[tuple[int, float]]:
        """Which share is borrowed, from which iteration on."""
        return [(0, 0.0)] if self.e_step == "critics" else _sigma_steps(self.sigma)

    def at_rest(self, history: Sequence[dict]) -> bool:
        """Whether a history ends as converged: see ``tol``."""
        last = [h for h in history if h["phase"] == "ganmm"][-self.patience:]
        return (len(last) == self.patience and last[-1]["sigma"] == self._schedule()[-1][1]
                and max(h["moved"] for h in last) < self.tol)

    def _round(self, n: int) -> int:
        """Generator steps for one E-step: 1, or what ``round_epochs`` passes of the critics over n rows come to."""
        if self.alternation == "iteration":
            return 1
        return math.ceil(self.round_epochs * n / (self.n_clusters * self.batch_size * self.n_critic))

    def _phases(self, trainer):
        net, em, K = self.module_, _EpsilonEM(self, trainer), self.n_clusters
        every, n = self._round(len(trainer.X)), len(trainer.X)
        log_every = every * max(1, LOG_EVERY // every)  # a checkpoint lies between two E-steps
        # All rows take part in a round's classifier; its steps come in turns of K, one for each generator
        visits = K if self.alternation == "iteration" else K * max(1, n // (K * self.batch_size))

        def players(clipped: bool) -> tuple[Player, Player]:
            after = (lambda: clip_weights(net.critics.parameters(), self.clip)) if clipped else None
            return (Player("generator", em.generator_loss, self._rmsprop(net.generators.parameters())),
                    Player("critic", em.critic_loss, self._rmsprop(net.critics.parameters()), steps=self.n_critic, after=after))

        def start() -> None:
            trainer.kept["labels"] = self._first_partition(trainer)

        trainer.once("partition", start)
        clipped = self.lipschitz == "clip"
        if self.init is not None:
            trainer.alternate("pretrain", players(clipped and "unclipped pretraining" not in self.quirks),
                              iterations=self.pretrain_iterations, log_every=LOG_EVERY)
        generator, critic = players(clipped)  # whose RMSprops start anew: those of the pretraining are forgotten
        generator.after = em.e_step
        order = [generator, critic]
        if self.e_step == "classifier":
            layers = net.classifier.layers[:-1] if "untrained output" in self.quirks else net.classifier.layers
            order.insert(0, Player("classifier", em.classifier_loss, self._rmsprop(layers.parameters()),
                                   steps=lambda iteration: 0 if iteration % every else visits))
        trainer.alternate("ganmm", order, iterations=self.iterations, log_every=log_every, review=em.review)

    def _rmsprop(self, parameters) -> torch.optim.Optimizer:
        # TensorFlow's decay, which the authors had; torch's own is 0.99
        return torch.optim.RMSprop(parameters, lr=self.learning_rate, alpha=0.9, foreach=True)

    def _first_partition(self, trainer: Trainer) -> Tensor:
        X = trainer.X
        if self.init is None:
            return torch.zeros(len(X), dtype=torch.long, device=X.device)
        if not isinstance(self.init, str):
            return as_tensor(np.asarray(self.init, dtype=np.int64)).to(X.device)
        start = initial_responsibilities(X.cpu().numpy(), self.n_clusters, self.init, n_init=3, random_state=self.seed_)
        return torch.from_numpy(start.argmax(1)).to(X.device)

    def planned_epochs(self) -> dict[str, int]:
        """The phases of a fit, in order, and the iterations of each, at most: what a progress bar counts."""
        return {"pretrain": 0 if self.init is None else self.pretrain_iterations, "ganmm": self.iterations}

    def _refill(self, mine: Tensor, q: Tensor) -> Tensor:
        """``mine`` (K, n), and for a cluster without rows those of the highest posterior (n, K) for it."""
        empty = ~mine.any(1)
        if not empty.any():
            return mine
        best = q.topk(max(1, len(q) // self.batch_size), dim=0).indices.T
        return mine | (torch.zeros_like(mine).scatter_(1, best, True) & empty[:, None])

    @torch.no_grad()
    @without_autocast()
    def _logits(self, X: Tensor) -> Tensor:
        """The scores of every cluster, (n, K)."""
        e_step = self.fitted_with_.e_step
        if e_step == "critics":  # which has pieces of its own
            return self.module_.cluster_logits(X, e_step)
        return self._map(lambda x: self.module_.cluster_logits(x, e_step), X)

    def _posterior(self, X: Tensor) -> Tensor:
        """q(k | x) of the classifier, or the softmax of the critics' scores: (n, K)."""
        return self._logits(X).softmax(1)

    def _conclude(self, X):
        if self.e_step == "critics" and self.networks == "dcgan":
            self.module_.critics.settle(in_pieces(X))
        q = self._posterior(X)
        self.labels_ = q.argmax(1).cpu().numpy()
        self.weights_ = np.bincount(self.labels_, minlength=self.n_clusters) / len(X)
        self.n_iter_ = int(self.module_.iteration)
        self.converged_ = self.at_rest(self.history_)
        self.objective_ = _mutual_information(q)

    # -- using ---------------------------------------------------------------------------------

    @property
    def _n_features_out(self) -> int:
        return self.fitted_with_.n_clusters

    def transform(self, X) -> np.ndarray:
        """The scores of every cluster, (n, K) float32: the classifier's logits, or the critics' scores."""
        return self._logits(self._rows(X)).cpu().numpy()

    def predict_proba(self, X) -> np.ndarray:
        """The classifier's q(k | x), or the softmax of the critics' scores: (n, K) float32."""
        return self._posterior(self._rows(X)).cpu().numpy()

    def predict(self, X) -> np.ndarray:
        """The most probable cluster of every row, (n,) int64."""
        return self._posterior(self._rows(X)).argmax(1).cpu().numpy()

    def score(self, X, y=None) -> float:
        """The objective on X, in nats; higher is better."""
        return _mutual_information(self._posterior(self._rows(X)))

    def sample(self, n_samples=1, *, cluster=None, random_state=None) -> tuple[np.ndarray, np.ndarray]:
        """Draws of the generators: of one cluster, or of all in proportion to ``weights_``.

        Returns X (n_samples, n_features) float32 and the clusters (n_samples,). ValueError for a cluster that does not
        exist.
        """
        generator = self._draws(random_state, n_samples)
        if cluster is None:
            weights = torch.as_tensor(self.weights_, device=self.device_)
            c = torch.multinomial(weights, n_samples, replacement=True, generator=generator)
        else:
            check_index("cluster", cluster, self.fitted_with_.n_clusters)
            c = torch.full((n_samples,), cluster, device=self.device_)
        # Whole batches as in training, whatever n: a DCGAN's draws depend on the statistics of their batch
        batch = self.fitted_with_.batch_size
        n_batches = -(-int(c.bincount().max()) // batch)
        with torch.no_grad(), without_autocast():
            drawn = torch.cat([self.module_.draw(batch, generator) for _ in range(n_batches)], 1)
        X = torch.empty(n_samples, drawn.shape[2], device=self.device_)
        for k in c.unique().tolist():
            X[c == k] = drawn[k, : int((c == k).sum())]
        return X.cpu().numpy(), c.cpu().numpy()


def _mutual_information(q: Tensor) -> float:
    """H(mean of q) - mean of H(q) in nats, from posteriors (n, K)."""
    q = q.double()
    return float(torch.special.entr(q.mean(0)).sum() - torch.special.entr(q).sum(1).mean())


def embedded_ganmm(n_clusters: int, *, hidden=32, scale="deviation", random_state=None, autoencoder: dict | None = None,
                   dec: dict | None = None, **ganmm) -> EmbeddedClustering:
    """GANMM on the codes of an :class:`~genclust.Autoencoder`, or of a :class:`~genclust.DEC`.

    ``autoencoder`` are the parameters of that; by default it is stacked and fine-tuned, as DEC's. ``dec`` are those of a
    DEC instead, whose encoder is tuned to the clusters that it finds before GANMM sees a code. ``scale="deviation"``
    centres each code and divides it by its standard deviation, ``"range"`` divides it by its range alone, as the authors'
    code does. That leaves codes of small deviation, and critics whose weights are clipped hardly see the differences.

    ValueError for another scale, or for both kinds of coder.
    """
    if scale not in SCALERS:
        raise ValueError(f"scale={scale!r}: divide each code by its {' or '.join(map(repr, SCALERS))}")
    if dec is not None and autoencoder is not None:
        raise ValueError(f"autoencoder={autoencoder!r} and dec={dec!r}: the codes are of one of them")
    coder = (Autoencoder(random_state=random_state, **(autoencoder or {})) if dec is None
             else DEC(n_clusters, random_state=random_state, **dec))
    return EmbeddedClustering.of(coder, SCALERS[scale](), GANMM(n_clusters, hidden=hidden, random_state=random_state, **ganmm))

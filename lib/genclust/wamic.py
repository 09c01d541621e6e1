"""Wasserstein Adversarial Mixture Clustering (Harchaoui et al., 2018): a Wasserstein GAN whose noise is a mixture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.metrics import silhouette_score
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from .adversarial import average, gradient_penalty, scores, wasserstein
from .autoencoder import CONSTRAINTS, COUNT, POSITIVE, RATE, WEIGHT, MixtureEstimator, reconstruction_error
from .base import EVAL_BATCH, Player, Trainer, nth_seed, without_autocast
from .draws import Generators, Source, draw
from .mixture import INITS, FullMixture, initial_responsibilities
from .networks import MLP, ReplicaMLP

ESTIMATE_BATCHES = 200  # over which a trained critic's estimate is averaged
SILHOUETTE_ROWS = 1000  # of which the silhouette is taken; its cost grows with their square


class WAMiCNetwork(nn.Module):
    """Encoder E, decoder D, critic f and mixture M; given R generators, of R replicas side by side."""

    def __init__(self, sizes: Sequence[int], critic_hidden: Sequence[int], n_clusters: int, likelihood: str,
                 generators: torch.Generator | Sequence[torch.Generator]):
        super().__init__()
        self.likelihood = likelihood
        self.sizes = {"encoder": [*sizes], "decoder": [*sizes[::-1]], "critic": [sizes[0], *critic_hidden, 1]}
        for part in self.sizes:
            setattr(self, part, self.fresh(part, generators))
        n_replicas = None if isinstance(generators, torch.Generator) else len(generators)
        self.mixture = FullMixture(n_clusters, sizes[-1], n_replicas)

    def fresh(self, part: str, generators: torch.Generator | Sequence[torch.Generator]) -> MLP:
        """A new ``"encoder"``, ``"decoder"`` or ``"critic"``, untrained."""
        return (MLP if isinstance(generators, torch.Generator) else ReplicaMLP)(self.sizes[part], generators)

    def replica(self, r: int) -> WAMiCNetwork:
        """Replica r by itself, with copies of its parameters."""
        alone = WAMiCNetwork(self.sizes["encoder"], self.sizes["critic"][1:-1], self.mixture.logits.shape[-1],
                             self.likelihood, torch.Generator())
        mine = self.state_dict()
        alone.load_state_dict({name: mine[name][r].reshape(value.shape) for name, value in alone.state_dict().items()})
        return alone.to(self.mixture.logits.device)

    def generate(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Rows ``y_k = D(S_k e + m_k)`` of every cluster from noise (K, m, d), eqs. 7 and 8: (K m, D), and the weight
        pi_k / m of each, (K m,). Clusters are weighted and not drawn, so that pi gets a gradient."""
        with torch.autocast(noise.device.type, enabled=False):  # small, and sensitive: always float32
            z = self.mixture.place_all(noise)
            weights = self.mixture.log_weights.exp()[..., None].expand(noise.shape[:-1]) / noise.shape[-2]
        y = self.decoder(z.flatten(-3, -2)).float()
        return y.sigmoid() if self.likelihood == "bernoulli" else y, weights.flatten(-2)

    def critic_loss(self, critic: MLP, x: Tensor, noise: Tensor, mix: Tensor,
                    penalty: float) -> tuple[Tensor, dict[str, Tensor]]:
        """What the critic minimises: minus eq. 10, for as many real rows x as generated ones. Replicas: the sum."""
        with torch.no_grad():
            y, weights = self.generate(noise)
        n = x.shape[-2]
        both = scores(critic, torch.cat([x, y], -2))
        estimate = wasserstein(both[..., :n], both[..., n:], weights)
        steepness = gradient_penalty(critic, x, y, mix, weights)
        return (penalty * steepness - estimate).sum(), {"wasserstein": estimate.mean(), "penalty": steepness.mean()}

    def generator_loss(self, noise: Tensor) -> Tensor:
        """The part of eq. 9 that D and M can lower: minus the critic's score of what they generate. Replicas: the sum."""
        y, weights = self.generate(noise)
        return -average(scores(self.critic, y), weights).sum()


@torch.no_grad()
def encode(encoder: MLP, X: Tensor) -> Tensor:
    """Codes (n, d), or (R, n, d) of replicas, in pieces that bound the memory."""
    return torch.cat([encoder(piece) for piece in X.split(EVAL_BATCH)], -2)


class AdversarialMixture(MixtureEstimator):
    """The four steps of section 3.3, for one model or for replicas of it."""

    _parameter_constraints = CONSTRAINTS | {
        "candidates": ["array-like"],
        "n_replicas": [POSITIVE],
        "held_out": [Interval(Real, 0, 1, closed="neither")],
        "critic_hidden": ["array-like"],
        "critic_batch": [POSITIVE],
        "penalty": [WEIGHT],
        "warmup": [COUNT],
        "critic_learning_rate": [RATE, None],
        "betas": ["array-like"],
        "estimate_iterations": [POSITIVE],
        "estimate_learning_rate": [RATE],
        "encoder_epochs": [COUNT],
        "encoder_start": [StrOptions({"new", "same"})],
        "track_encoder": ["boolean"],
        "init": [StrOptions(set(INITS))],
        "log_every": [POSITIVE],
    }

    def _check_data(self, X):
        super()._check_data(X)
        if np.shape(self.betas) != (2,) or not all(isinstance(beta, Real) and 0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas={self.betas!r}: Adam takes two numbers, each from 0 to below 1")

    def _steps(self, trainer: Trainer, net: WAMiCNetwork, name: str = "") -> None:
        """Steps 2 to 4, from trained autoencoder to new encoder; ``name`` is added to those of the phases."""
        trainer.once(f"mixture{name}", lambda: self._start_mixture(trainer, net), logged=True)
        players = self._players(trainer, net)
        trainer.alternate(f"warm-up{name}", players[:1], iterations=self.warmup, log_every=self.log_every)
        trainer.alternate(f"adversarial{name}", players, iterations=self.iterations, log_every=self.log_every)
        if self.encoder_start == "new":
            trainer.once(f"new encoder{name}", lambda: self._renew(net, "encoder", 1))
        trainer.train(f"encoder{name}", lambda x, rows: (self._inversion_loss(net, x), {}), net.encoder.parameters(),
                      epochs=self.encoder_epochs, batch_size=self.batch_size, learning_rate=self._pretrain_rate())

    def _start_mixture(self, trainer: Trainer, net: WAMiCNetwork) -> None:
        """Step 2: EM on the codes of the data, eq. 14, or another label-free start."""
        codes = encode(net.encoder, trainer.X)
        n_clusters = net.mixture.logits.shape[-1]
        each = codes.reshape(-1, *codes.shape[-2:]).cpu().numpy()
        start = np.stack([initial_responsibilities(z, n_clusters, self.init, n_init=self.n_init, random_state=seed)
                          for z, seed in zip(each, self._seeds())])
        net.mixture.maximise(codes, torch.from_numpy(start.reshape(*codes.shape[:-1], n_clusters)).to(codes.device))

    def _players(self, trainer: Trainer, net: WAMiCNetwork) -> list[Player]:
        """Step 3, eqs. 12 and 15: the critic, then decoder and mixture; an encoder follows the decoder if it is tracked."""
        noise = self._noise(net)
        adam = self._adam(self.learning_rate)
        players = [
            self._critic(net, net.critic, trainer.batch, trainer.generator,
                         self.critic_learning_rate or self.learning_rate, self.n_critic),
            Player("generator", lambda: (net.generator_loss(draw(torch.randn, *noise, source=trainer.generator)), {}),
                   adam([*net.decoder.parameters(), *net.mixture.parameters()]))]
        if self.track_encoder:
            adam = self._adam(self.pretrain_learning_rate, (0.9, 0.999))
            players.append(Player("inversion", lambda: (self._inversion_loss(net, trainer.batch(self.batch_size)), {}),
                                  adam(net.encoder.parameters())))
        return players

    def _critic(self, net: WAMiCNetwork, critic: MLP, rows: Callable[[int], Tensor], source: Source, rate: float,
                steps: int = 1) -> Player:
        """A critic that is trained to tell ``rows(n)`` of the data from what the model generates."""
        noise = self._noise(net)
        n = noise[0] * noise[1]

        def loss():
            x, e = rows(n), draw(torch.randn, *noise, source=source)
            return net.critic_loss(critic, x, e, draw(torch.rand, n, 1, source=source), self.penalty)
        return Player("critic", loss, self._adam(rate)(critic.parameters()), steps=steps)

    def _noise(self, net: WAMiCNetwork) -> tuple[int, int, int]:
        """(K, m, d): every cluster has the same number m of rows in a batch."""
        n_clusters, d = net.mixture.means.shape[-2:]
        return n_clusters, -(-self.critic_batch // n_clusters), d

    def _adam(self, rate: float, betas: Sequence[float] | None = None):
        return lambda parameters: torch.optim.Adam(parameters, lr=rate, betas=tuple(betas or self.betas), fused=True)

    def _inversion_loss(self, net: WAMiCNetwork, x: Tensor) -> Tensor:
        """Step 4, eq. 16: the error of the decoder, which is held fixed, on the encoder's codes."""
        return reconstruction_error(net.decoder(net.encoder(x)), x, net.likelihood)

    def _seeds(self) -> list[int]:
        return [self.seed_]

    def _sources(self, offset: int = 0) -> torch.Generator | list[torch.Generator]:
        """Where initial weights come from; ``offset`` tells later networks from the first."""
        return torch.Generator().manual_seed(self.seed_ + offset)

    def _renew(self, net: WAMiCNetwork, part: str, offset: int) -> None:
        getattr(net, part).load_state_dict(net.fresh(part, self._sources(offset)).state_dict())

    @torch.no_grad()
    def _estimate(self, net: WAMiCNetwork, critic: MLP, rows: Callable[[int], Tensor], source: Source) -> Tensor:
        """Section 3.4: the mean of a trained critic's estimates over fresh batches, () or (R,)."""
        noise, found = self._noise(net), []
        for _ in range(ESTIMATE_BATCHES):
            x = rows(noise[0] * noise[1])
            y, weights = net.generate(draw(torch.randn, *noise, source=source))
            found.append(wasserstein(scores(critic, x), scores(critic, y), weights))
        return torch.stack(found).double().mean(0)

    @torch.no_grad()
    @without_autocast()
    def _score(self, X: Tensor) -> float:
        net = self.module_
        source = torch.Generator(X.device).manual_seed(self.seed_)
        n_clusters, d = net.mixture.means.shape
        y, weights = net.generate(draw(torch.randn, n_clusters, 1000, d, source=source))
        return -float(wasserstein(self._map(lambda x: scores(net.critic, x), X), scores(net.critic, y), weights))


class WAMiC(AdversarialMixture):
    """Clustering by a Wasserstein GAN that generates from a Gaussian mixture in a code space.

    The four steps of section 3.3: an autoencoder; EM on its codes; decoder and mixture trained against a critic with
    gradient penalty (eq. 12); a new encoder that inverts the decoder, by whose codes rows are clustered (eq. 4).

    Parameters
    ----------
    n_clusters, latent_dim, hidden : K; width of the codes; widths of the encoder, mirrored in the decoder.
    likelihood : ``"gaussian"`` is the paper's squared error (eqs. 13 and 16); ``"bernoulli"`` is cross-entropy, with
        generated rows inside [0, 1]; ``"auto"`` chooses by X.
    critic_hidden : widths of the critic, which the paper does not give.
    iterations : of step 3: ``n_critic`` steps of the critic and one of decoder and mixture each.
    critic_batch : rows of the data, and as many generated ones, in a step of the critic; rounded up to the same
        number for every cluster.
    penalty : lambda, the weight of the gradient penalty.
    learning_rate, critic_learning_rate, betas : of Adam in step 3; None: the critic has the same rate as decoder and
        mixture. The paper has 1e-5 everywhere.
    warmup : iterations of the critic alone before step 3, so that the others are not led by one that knows nothing yet.
        Not in the paper.
    encoder_epochs, encoder_start : of step 4, with the rate and the batch of step 1; from a ``"new"`` encoder (the
        paper) or from the ``"same"`` one, as step 1 left it or, tracked, step 3.
    track_encoder : whether in step 3 the encoder follows the decoder by a step an iteration, so that ``predict`` can be
        followed meanwhile; step 3 itself does not depend on it but through its random draws. Not in the paper.
    init, n_init : how the mixture starts on the codes, ``"gmm-full"`` being the paper's EM: see
        :func:`~genclust.mixture.initial_responsibilities`; restarts of it.
    log_every : iterations of step 3 between two rows of the history, two calls of a callback, two possible checkpoints.
    pretraining, layer_epochs, pretrain_epochs, pretrain_learning_rate, corruption, batch_size : of step 1; see
        :class:`Autoencoder`.
    n_restarts, random_state, device, precision, verbose : see :class:`Autoencoder`.

    Attributes
    ----------
    labels_ : (n,) cluster of every training row.
    weights_, means_, covariances_ : the mixture: (K,), (K, latent_dim), (K, latent_dim, latent_dim).
    history_ : one dict an epoch; in the ``"adversarial"`` phase one each ``log_every`` iterations with the means of the
        players' losses, of the critic's estimate ``wasserstein`` and of ``penalty``, which is without its weight.
    objective_ : minus the distance of X and generated rows as step 3's critic estimates it; restarts are compared by it.
    """

    def __init__(self, n_clusters=10, *, latent_dim=10, hidden=(500, 500, 2000), likelihood="gaussian",
                 critic_hidden=(500, 500), iterations=20_000, n_critic=5, critic_batch=128, penalty=10.0,
                 warmup=0, learning_rate=1e-4, critic_learning_rate=None, betas=(0.5, 0.9), encoder_epochs=20,
                 encoder_start="new", track_encoder=True, init="gmm-full", n_init=10, log_every=100,
                 pretraining="stacked", layer_epochs=8, pretrain_epochs=20, pretrain_learning_rate=1e-3,
                 corruption=0.2, batch_size=256, n_restarts=1, random_state=None, device="auto", precision="auto",
                 verbose=0):
        self.n_clusters = n_clusters
        self.latent_dim = latent_dim
        self.hidden = hidden
        self.likelihood = likelihood
        self.critic_hidden = critic_hidden
        self.iterations = iterations
        self.n_critic = n_critic
        self.critic_batch = critic_batch
        self.penalty = penalty
        self.warmup = warmup
        self.learning_rate = learning_rate
        self.critic_learning_rate = critic_learning_rate
        self.betas = betas
        self.encoder_epochs = encoder_epochs
        self.encoder_start = encoder_start
        self.track_encoder = track_encoder
        self.init = init
        self.n_init = n_init
        self.log_every = log_every
        self.pretraining = pretraining
        self.layer_epochs = layer_epochs
        self.pretrain_epochs = pretrain_epochs
        self.pretrain_learning_rate = pretrain_learning_rate
        self.corruption = corruption
        self.batch_size = batch_size
        self.n_restarts = n_restarts
        self.random_state = random_state
        self.device = device
        self.precision = precision
        self.verbose = verbose

    def _build(self, n_features, generator):
        sizes = [n_features, *self.hidden, self.latent_dim]
        return WAMiCNetwork(sizes, self.critic_hidden, self.n_clusters, self.likelihood_, generator)

    def _phases(self, trainer):
        net = self.module_
        self._pretrain(trainer, net)
        self._steps(trainer, net)

    def planned_epochs(self) -> dict[str, int]:
        """Those of :meth:`CodingEstimator.planned_epochs`, then WAMiC's own; of step 3 its iterations."""
        return super().planned_epochs() | {"mixture": 1, "warm-up": self.warmup, "adversarial": self.iterations,
                                           "encoder": self.encoder_epochs}

    def _conclude(self, X):
        self._set_mixture(X)
        self.objective_ = self._score(X)

    def wasserstein(self, X, *, iterations=2000, learning_rate=1e-3, random_state=None) -> float:
        """The distance of rows X and generated ones, estimated by a critic trained anew for it (section 3.4).

        The smaller, the better; X is best held out. ``iterations`` and ``learning_rate`` are of the new critic, whose
        estimates are then averaged over 200 fresh batches; its batch, penalty and betas are the parameters of that name, as
        they are when it is called. ValueError for less than one iteration.
        """
        check_is_fitted(self)
        if not isinstance(iterations, Integral) or iterations < 1:
            raise ValueError(f"iterations={iterations!r}: a critic needs a whole number, 1 or more")
        with torch.inference_mode(False), torch.enable_grad(), without_autocast():
            X, net, source = self._rows(X), self.module_, self._draws(random_state)
            critic = net.fresh("critic", torch.Generator().manual_seed(source.initial_seed())).to(X.device)
            trainer = Trainer(self, critic, X, generator=source, dtype=torch.float32)
            trainer.alternate("critic", [self._critic(net, critic, trainer.batch, source, learning_rate)], iterations=iterations,
                              log_every=iterations)
            return float(self._estimate(net, critic, trainer.batch, source))


class SelectionNetwork(nn.Module):
    """R replicas of an autoencoder, for every number of clusters R models that start from it, and their measures."""

    def __init__(self, networks: Sequence[WAMiCNetwork], n_replicas: int):
        super().__init__()
        self.networks = nn.ModuleList(networks)
        for name in ("wasserstein", "bic", "silhouette"):
            unknown = math.inf if name == "wasserstein" else math.nan  # for what a fit that diverges does not come to
            self.register_buffer(name, torch.full((len(networks), n_replicas), unknown, dtype=torch.float64))


class WAMiCSelection(AdversarialMixture):
    """Choosing the number of clusters by the Wasserstein distance to held-out rows (section 3.4).

    Step 1 is done once, steps 2 to 4 for every number of clusters; then a critic trained anew estimates how far what
    each model generates is from rows that none of them saw. All of it is done by R replicas from different seeds, trained
    side by side as one program; each is, up to rounding, the :class:`WAMiC` of its seed. The number of clusters with the
    smallest median over replicas is chosen, and of its replicas the one with the smallest distance.

    Parameters
    ----------
    candidates : the numbers of clusters.
    n_replicas, held_out : R; share of the rows on which the distance is measured, the others being trained on.
    estimate_iterations, estimate_learning_rate : of the new critic, see :meth:`WAMiC.wasserstein`.
    pretrain_lr_decay : factor on the rate of steps 1 and 4 after each of their epochs.
    others : see :class:`WAMiC`, whose defaults are other ones: these are for small data. The autoencoder is trained end to
        end, its errors are squared.

    Attributes
    ----------
    wasserstein_ : (n_candidates, R) distance to the held-out rows.
    bic_, silhouette_ : (n_candidates, R) of step 2's mixtures on the codes of the rows trained on; not in the paper.
    replica_labels_ : (n_candidates, R, n) clusters of all rows.
    n_clusters_, replica_ : what was chosen; the next four are those of the model chosen.
    labels_, weights_, means_, covariances_ : see :class:`WAMiC`.
    objective_ : minus the distance of the model chosen.
    """

    likelihood, pretraining, layer_epochs, corruption = "gaussian", "end-to-end", 0, 0.0
    track_encoder, n_restarts = False, 1
    _pretraining = (*MixtureEstimator._pretraining, "n_replicas", "held_out")

    def __init__(self, candidates=(2, 3, 4, 5, 6), *, n_replicas=30, held_out=1 / 3, latent_dim=1, hidden=(64, 64),
                 critic_hidden=(64, 64), iterations=1000, n_critic=5, critic_batch=128, penalty=0.1, warmup=300,
                 learning_rate=1e-4, critic_learning_rate=1e-3, betas=(0.5, 0.9), estimate_iterations=1000,
                 estimate_learning_rate=1e-3, encoder_epochs=50, encoder_start="new", init="gmm-full", n_init=5,
                 log_every=100, pretrain_epochs=120, pretrain_learning_rate=3e-3, pretrain_lr_decay=0.97, batch_size=64,
                 random_state=None, device="auto", precision="float32", verbose=0):
        self.candidates = candidates
        self.n_replicas = n_replicas
        self.held_out = held_out
        self.latent_dim = latent_dim
        self.hidden = hidden
        self.critic_hidden = critic_hidden
        self.iterations = iterations
        self.n_critic = n_critic
        self.critic_batch = critic_batch
        self.penalty = penalty
        self.warmup = warmup
        self.learning_rate = learning_rate
        self.critic_learning_rate = critic_learning_rate
        self.betas = betas
        self.estimate_iterations = estimate_iterations
        self.estimate_learning_rate = estimate_learning_rate
        self.encoder_epochs = encoder_epochs
        self.encoder_start = encoder_start
        self.init = init
        self.n_init = n_init
        self.log_every = log_every
        self.pretrain_epochs = pretrain_epochs
        self.pretrain_learning_rate = pretrain_learning_rate
        self.pretrain_lr_decay = pretrain_lr_decay
        self.batch_size = batch_size
        self.random_state = random_state
        self.device = device
        self.precision = precision
        self.verbose = verbose

    def _check_data(self, X):
        super()._check_data(X)
        candidates, n_train = list(self.candidates), self._n_train(len(X))
        if not candidates or not all(isinstance(k, Integral) and 1 <= k <= n_train for k in candidates):
            raise ValueError(f"candidates={candidates}: numbers of clusters from 1 to the {n_train} rows that are trained on")
        if len(set(candidates)) < len(candidates):  # a checkpoint finds its phase by the number in its name
            raise ValueError(f"candidates={candidates}: give every number of clusters once")

    def _check_size(self, n):
        n_train = self._n_train(n)
        if n_train < 2:
            raise ValueError(f"held_out={self.held_out} leaves {n_train} of n_samples={n} to train on: a mixture needs 2 or more")
        super()._check_size(n_train)

    def _n_held(self, n: int) -> int:
        return max(1, round(self.held_out * n))

    def _n_train(self, n: int) -> int:
        return n - self._n_held(n)

    def _seeds(self):
        return [nth_seed(self.seed_, r) for r in range(self.n_replicas)]

    def _sources(self, offset=0):
        return [torch.Generator().manual_seed(seed + offset) for seed in self._seeds()]

    def _generator(self, seed, device):
        return Generators(self._seeds(), device)

    def _build(self, n_features, generator):
        sizes = [n_features, *self.hidden, self.latent_dim]
        return SelectionNetwork([WAMiCNetwork(sizes, self.critic_hidden, k, self.likelihood, self._sources())
                                 for k in self.candidates], self.n_replicas)

    def _phases(self, trainer):
        order = torch.from_numpy(np.random.RandomState(self.seed_).permutation(len(trainer.X))).to(trainer.X.device)
        n_held = self._n_held(len(order))
        held, trainer.X = trainer.X[order[:n_held]], trainer.X[order[n_held:]]
        networks = self.module_.networks
        first = networks[0]
        self._pretrain(trainer, first)

        def share() -> None:
            for net in networks:
                net.encoder.load_state_dict(first.encoder.state_dict())
                net.decoder.load_state_dict(first.decoder.state_dict())
            trainer.kept["generators"] = trainer.generator.get_state()
        trainer.once("share", share)

        def rows(size: int) -> Tensor:
            return held[draw(torch.randint, len(held), (size,), source=trainer.generator)]

        for i, (k, net) in enumerate(zip(self.candidates, networks)):
            name = f", K={k}"
            self._steps(trainer, net, name)
            trainer.once(f"new critic{name}", lambda: self._renew(net, "critic", 2))
            critic = self._critic(net, net.critic, rows, trainer.generator, self.estimate_learning_rate)
            trainer.alternate(f"critic{name}", [critic], iterations=self.estimate_iterations, log_every=self.log_every)
            trainer.once(f"estimate{name}", lambda: self.module_.wasserstein[i].copy_(
                self._estimate(net, net.critic, rows, trainer.generator)))

    def _start_mixture(self, trainer, net):
        # For every number of clusters the draws begin where step 1 left them: as alone, and the same for all
        trainer.generator.set_state(trainer.kept["generators"].cpu())
        super()._start_mixture(trainer, net)
        i = next(i for i, other in enumerate(self.module_.networks) if other is net)
        codes = encode(net.encoder, trainer.X)
        k, d, n = net.mixture.logits.shape[-1], self.latent_dim, codes.shape[-2]
        with torch.no_grad():
            log_joint = net.mixture.log_joint(codes)
        n_parameters = k - 1 + k * d + k * d * (d + 1) / 2
        self.module_.bic[i] = n_parameters * np.log(n) - 2 * log_joint.logsumexp(-1).double().sum(-1)
        self.module_.silhouette[i] = torch.tensor([silhouette(z, labels) for z, labels in zip(
            codes.cpu().numpy(), log_joint.argmax(-1).cpu().numpy())], dtype=torch.float64)

    def planned_epochs(self) -> dict[str, int]:
        """The phases of a fit, in order, and the epochs of each; of adversarial ones and of new critics the iterations."""
        planned = super().planned_epochs()
        for k in self.candidates:
            planned |= {f"mixture, K={k}": 1, f"warm-up, K={k}": self.warmup, f"adversarial, K={k}": self.iterations,
                        f"encoder, K={k}": self.encoder_epochs, f"critic, K={k}": self.estimate_iterations}
        return planned

    def _conclude(self, X):
        every = self.module_
        self.wasserstein_, self.bic_, self.silhouette_ = (
            values.cpu().numpy() for values in (every.wasserstein, every.bic, every.silhouette))
        with torch.no_grad():
            self.replica_labels_ = np.stack([net.mixture.log_joint(encode(net.encoder, X)).argmax(-1).cpu().numpy()
                                             for net in every.networks])
        chosen = int(np.median(self.wasserstein_, axis=1).argmin())
        self.n_clusters_, self.replica_ = list(self.candidates)[chosen], int(self.wasserstein_[chosen].argmin())
        self.module_ = every.networks[chosen].replica(self.replica_)
        self._set_mixture(X)
        self.objective_ = -float(self.wasserstein_[chosen, self.replica_])

    def score(self, X, y=None) -> float:
        """Minus the distance of X and generated rows, as the critic of the model chosen estimates it; higher is better.

        ``objective_`` is that critic's estimate too, but a mean over batches of the rows held out: it is no value of this.
        """
        return super().score(X)


def silhouette(codes: np.ndarray, labels: np.ndarray) -> float:
    """Mean silhouette of (some of) the codes (n, d); NaN where there are not at least two clusters."""
    if not 1 < len(np.unique(labels)) < len(labels):
        return float("nan")
    try:
        return float(silhouette_score(codes, labels, sample_size=min(SILHOUETTE_ROWS, len(codes)), random_state=0))
    except ValueError:  # the rows that were drawn are all of one cluster
        return float("nan")

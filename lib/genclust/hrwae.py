"""HRWAE-GAN (Morais, 2021): latent groups kept near their priors by relativistic discriminators, then clustered."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import ClusterMixin
from sklearn.mixture import GaussianMixture
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from . import density
from .adversarial import relativistic, standard
from .autoencoder import CONSTRAINTS, COUNT, DECAY, POSITIVE, RATE, WEIGHT, resolve_likelihood
from .base import DeepEstimator, check_index, without_autocast
from .hierarchical import HierarchicalAutoencoder, LatentDiscriminator, Pass, kl_divergence, n_cells
from .networks import bernoulli_log_likelihood
from .reduction import own_threads

REGULARISERS = {"relativistic": relativistic, "standard": standard,
                "smoothed": lambda real, fake: standard(real, fake, smoothing=0.1)}
COLOURS = 3
LAST_RATE = 0.01  # of the learning rate


def infer_image_shape(n_features: int) -> tuple[int, int, int]:
    """(height, width, channels) of rows that are square images: grey, or with three colours side by side.

    ValueError where ``n_features`` is neither a square nor three times one.
    """
    for channels in (1, COLOURS):
        side = math.isqrt(n_features // channels)
        if side >= 2 and side * side * channels == n_features:
            return side, side, channels
    raise ValueError(f"X has {n_features} features, which is not a square image of 1 or {COLOURS} channels: "
                     "give image_shape=(height, width, channels)")


def padded_side(height: int, width: int) -> int:
    """The side of the square, a power of two and at least 4, that an image is padded to."""
    return max(4, 1 << (max(height, width) - 1).bit_length())


class HRWAENetwork(nn.Module):
    """The autoencoder, and one discriminator for each latent group.

    Images are padded with zeros to a square whose side is a power of two; what is reconstructed, and judged
    by the loss, is the part that was there.
    """

    def __init__(self, image_shape: tuple[int, int, int], likelihood: str, n_groups: int, latent_channels: int,
                 width: int, extra: int, discriminator_width: int, generator: torch.Generator, start: str = "random"):
        super().__init__()
        height, across, channels = self.image_shape = tuple(image_shape)
        self.likelihood = likelihood
        side = padded_side(height, across)
        top, left = (side - height) // 2, (side - across) // 2
        self.padding = (left, side - across - left, top, side - height - top)
        self.autoencoder = HierarchicalAutoencoder(side, channels, n_groups, latent_channels, width, extra, generator, start)
        self.discriminators = nn.ModuleList(
            LatentDiscriminator(latent_channels * 4 ** (level + 1), discriminator_width, generator)
            for level in range(n_groups))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))  # of training so far, for the warm-up

    def images(self, x: Tensor) -> Tensor:
        """Rows (n, D) -> padded images (n, channels, side, side) in channels-last layout."""
        images = x.view(len(x), *self.image_shape).permute(0, 3, 1, 2)
        return F.pad(images, self.padding).contiguous(memory_format=torch.channels_last)

    def rows(self, images: Tensor) -> Tensor:
        """Padded images (n, channels, side, side) -> rows (n, D), without the padding."""
        height, across, _ = self.image_shape
        left, _, top, _ = self.padding
        return images[:, :, top: top + height, left: left + across].permute(0, 2, 3, 1).flatten(1)

    def reconstruction(self, output: Tensor, x: Tensor) -> Tensor:
        """L_R of each row (section 3.3.1): cross-entropy, or half the squared error, summed over pixels: (n,)."""
        found = self.rows(output)
        if self.likelihood == "bernoulli":
            return -bernoulli_log_likelihood(found, x)
        return 0.5 * (found.float() - x).square().sum(1)

    def pixels(self, output: Tensor) -> Tensor:
        """What an output stands for, as rows (n, D): probabilities of logits, or values."""
        found = self.rows(output)
        return found.sigmoid() if self.likelihood == "bernoulli" else found


def intermediate_loss(maps: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Equation 10: the cosine dissimilarity of the encoder's and decoder's maps, summed over groups, a mean over rows."""
    return sum((1 - F.cosine_similarity(a.flatten(1).float(), b.flatten(1).float())).mean() for a, b in maps)


def player_losses(found: Pass, discriminators: nn.ModuleList, losses, weights: list[float]) -> tuple[Tensor, Tensor]:
    """L_D and L_G, equations 5 and 6: each group's losses by its weight alpha_l.

    L_D reaches the discriminators alone and L_G the autoencoder alone, so that both can be minimised in one step.
    """
    l_d = l_g = 0.0
    for weight, discriminator, real, fake in zip(weights, discriminators, found.real, found.fake):
        l_d = l_d + weight * losses(*discriminator(real.detach(), fake.detach()))[0]
        frozen = {name: p.detach() for name, p in discriminator.named_parameters()}
        l_g = l_g + weight * losses(*functional_call(discriminator, frozen, (real, fake)))[1]
    return l_d, l_g


class HRWAEGAN(ClusterMixin, DeepEstimator):
    """Clustering of images by the latent groups of a hierarchical, adversarially regularised autoencoder.

    Minimises equation 9 by Adam; the discriminators of equation 5 take their step at the same time. Then UMAP
    and HDBSCAN (or a mixture) cluster one of the groups. Where the text is silent, this follows NVAE: samplers
    and combiners, a posterior relative to its prior, bounded moments, and a weight that grows over the first
    steps. Cells, their strides and batch normalisation are DCGAN's, as the text says.

    Parameters
    ----------
    n_groups : L, from 1 (a relativistic WAE-GAN) to N = log2(side) - 1, 4 for images of 32 x 32.
    latent_channels : of each group; group l has ``latent_channels * 4^(l + 1)`` dimensions.
    width, extra_layers : channels of the first cell; the text's non-reducing layers in each cell.
    start : of the groups below the top: ``"random"``, or ``"prior"``, where prior and posterior both start as standard normal
        and leave it as they learn. From three groups on a random start ends far from the priors, this one does not; four
        groups need ``group_decay=1`` as well.
    discriminator_width : of the two hidden layers of each discriminator.
    image_shape : (height, width) of a row, or (height, width, channels), the channels of a pixel side by side; None takes a row for a
        square image. Images are padded with zeros to a side that is a power of two.
    likelihood : ``"bernoulli"``, ``"gaussian"``, or ``"auto"``: the first for one channel inside [0, 1].
    regulariser : ``"relativistic"`` (eqs. 3 and 4), ``"standard"`` (eq. 2), ``"smoothed"`` (eq. 2 with labels of
        0.9), or ``"kl"``: KL(q || p) in place of the adversary, which is a beta-VAE.
    adversarial_weight, group_decay : alpha of eq. 9; group l has alpha_l = ``group_decay^l`` in eqs. 5 and 6. For
        ``"kl"`` the weight is beta.
    intermediate_weight : of L_I in eq. 9, cosine dissimilarity of feature maps; nothing for L = 1.
    noise_weight : beta of eq. 9. L_N counts points and has no gradient: the rows that are noise count (1 + beta)
        times in L_R. The text calls 1 + beta kappa.
    epochs, attention_rounds, attention_epochs : before the first look at the noise; looks, and epochs after each.
    warm_up : share of ``epochs`` over which the adversarial weight rises to its value. Where it rises slowly, the codes of
        two groups wander far from their priors, and may not come back.
    batch_size, learning_rate : of Adam, for all players; the rate falls along half a cosine to a hundredth.
    beta1, discriminator_factor : Adam's memory of past directions; factor on the discriminators' learning rate. With 0.9 and 1, the
        usual ones, the players chase each other, and the codes end farther from the prior.
    clustering : ``"hdbscan"``, or ``"gmm"``, which labels every point.
    cluster_group : the group that ``labels_`` are of; noise attention always looks at group 0.
    n_clusters : of the mixture. HDBSCAN finds a number of its own.
    n_neighbors : of UMAP; None is equation 8, but 15 at least, UMAP's own default.
    min_cluster_size : of HDBSCAN; None is 2 % of the rows. It judges densities by as many neighbours as UMAP.
    cluster_selection : of HDBSCAN: ``"leaf"`` takes the finest clusters and leaves much out as noise, as in the
        text's tables; ``"eom"``, its own default, takes the most persistent ones, and after UMAP leaves out next to nothing.
    n_restarts, random_state, device, precision, verbose : see :class:`Autoencoder`.

    Attributes
    ----------
    labels_ : (n,) cluster of every training row, -1 for noise; all -1 where HDBSCAN finds no cluster.
    embedding_ : (n, 10) UMAP, or of as many dimensions as the codes have if these are fewer, of the codes that were clustered.
    clustering_seconds_ : wall seconds of each UMAP, HDBSCAN and mixture so far. Those of groups that the fit did not
        cluster are computed when asked for, from the rows of the fit, which are kept: on a CPU not copied, on CUDA there.
    history_ : one dict an epoch: phase, loss, seconds, and each term of eq. 9.
    objective_ : minus the mean reconstruction error on X, in nats a row for ``"bernoulli"``.
    """

    _parameter_constraints = CONSTRAINTS | {
        "n_groups": [POSITIVE],
        "latent_channels": [POSITIVE],
        "width": [POSITIVE],
        "extra_layers": [COUNT],
        "start": [StrOptions({"random", "prior"})],
        "discriminator_width": [POSITIVE],
        "regulariser": [StrOptions({*REGULARISERS, "kl"})],
        "adversarial_weight": [WEIGHT],
        "group_decay": [DECAY],
        "intermediate_weight": [WEIGHT],
        "noise_weight": [WEIGHT],
        "attention_rounds": [COUNT],
        "attention_epochs": [COUNT],
        "warm_up": [Interval(Real, 0, 1, closed="both")],
        "beta1": [Interval(Real, 0, 1, closed="left")],
        "discriminator_factor": [RATE],
        "clustering": [StrOptions({"hdbscan", "gmm"})],
        "cluster_group": [COUNT],
        "n_neighbors": [Interval(Integral, 2, None, closed="left"), None],
        "min_cluster_size": [Interval(Integral, 2, None, closed="left"), None],
        "cluster_selection": [StrOptions({"leaf", "eom"})],
    }

    def __init__(self, n_groups=2, *, latent_channels=4, width=16, extra_layers=0, start="random",
                 discriminator_width=128, image_shape=None, likelihood="auto", regulariser="relativistic", adversarial_weight=20.0,
                 group_decay=0.5, intermediate_weight=10.0, noise_weight=0.5, epochs=20, attention_rounds=1,
                 attention_epochs=10, warm_up=0.1, batch_size=128, learning_rate=3e-4, beta1=0.0, discriminator_factor=3.0,
                 clustering="hdbscan", cluster_group=0, n_clusters=10, n_neighbors=None, min_cluster_size=None, cluster_selection="leaf",
                 n_restarts=1, random_state=None, device="auto", precision="auto", verbose=0):
        self.n_groups = n_groups
        self.latent_channels = latent_channels
        self.width = width
        self.extra_layers = extra_layers
        self.start = start
        self.discriminator_width = discriminator_width
        self.image_shape = image_shape
        self.likelihood = likelihood
        self.regulariser = regulariser
        self.adversarial_weight = adversarial_weight
        self.group_decay = group_decay
        self.intermediate_weight = intermediate_weight
        self.noise_weight = noise_weight
        self.epochs = epochs
        self.attention_rounds = attention_rounds
        self.attention_epochs = attention_epochs
        self.warm_up = warm_up
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.beta1 = beta1
        self.discriminator_factor = discriminator_factor
        self.clustering = clustering
        self.cluster_group = cluster_group
        self.n_clusters = n_clusters
        self.n_neighbors = n_neighbors
        self.min_cluster_size = min_cluster_size
        self.cluster_selection = cluster_selection
        self.n_restarts = n_restarts
        self.random_state = random_state
        self.device = device
        self.precision = precision
        self.verbose = verbose

    # -- fitting -------------------------------------------------------------------------------

    def _check_size(self, n):
        if self.clustering == "gmm":  # HDBSCAN has no use for n_clusters
            super()._check_size(n)

    def _check_data(self, X):
        shape = self.image_shape
        if shape is None:
            shape = infer_image_shape(X.shape[1])
        elif len(shape) == 2:
            shape = (*shape, 1)
        if len(shape) != 3 or min(shape) < 1 or math.prod(shape) != X.shape[1]:
            raise ValueError(f"image_shape={tuple(shape)} is not that of X with its {X.shape[1]} features: "
                             "give (height, width) or (height, width, channels) whose product is that number")
        self.image_shape_ = tuple(int(size) for size in shape)
        cells = n_cells(padded_side(*self.image_shape_[:2]))
        if self.n_groups > cells:
            raise ValueError(f"n_groups={self.n_groups}, but images of side {padded_side(*self.image_shape_[:2])} have "
                             f"{cells} cells (equation 7): use 1 to {cells}")
        check_index("cluster_group", self.cluster_group, self.n_groups)
        if len(X) <= self._neighbours(len(X)):
            raise ValueError(f"n_neighbors={self._neighbours(len(X))} needs more rows than n_samples={len(X)}: "
                             f"give more rows, or set n_neighbors to {len(X) - 1} or less")
        grey = self.image_shape_[2] == 1
        self.likelihood_ = resolve_likelihood("gaussian" if self.likelihood == "auto" and not grey else self.likelihood, X)

    def _neighbours(self, n: int) -> int:
        return self.fitted_with_.n_neighbors or density.n_neighbors(n)

    def _build(self, n_features, generator):
        return HRWAENetwork(self.image_shape_, self.likelihood_, self.n_groups, self.latent_channels, self.width,
                            self.extra_layers, self.discriminator_width, generator, self.start)

    def planned_epochs(self) -> dict[str, int]:
        """The phases of a fit, in order, and the epochs of each: what a progress bar counts."""
        rounds = {f"attention {i + 1}": self.attention_epochs for i in range(self.attention_rounds if self.noise_weight else 0)}
        return {"hrwae": self.epochs, **rounds}

    def _phases(self, trainer):
        if trainer.max_steps is None:  # a replay clusters nothing
            density.check_installed(self.clustering == "hdbscan" or len(self.planned_epochs()) > 1)
        vars(self).pop("_boxes_", None)  # the fit before had other codes
        net = self.module_
        alphas = [self.group_decay ** level for level in range(self.n_groups)]
        warm_steps = self.warm_up * self.epochs * max(1, len(trainer.X) // self.batch_size)

        def draw(like: Tensor) -> Tensor:
            return torch.randn(like.shape, generator=trainer.generator, device=like.device)

        def loss(x: Tensor, rows: Tensor):
            found = net.autoencoder(net.images(x), draw)
            net.steps += 1
            strength = self.adversarial_weight * (1.0 if warm_steps == 0 else min(1.0, int(net.steps) / warm_steps))
            error = net.reconstruction(found.output, x)
            terms = {"reconstruction": error.mean()}
            noise = trainer.kept.get("noise")
            terms["noise"] = x.new_zeros(()) if noise is None else (noise[rows] * error).mean()
            terms["intermediate"] = x.new_zeros(()) + intermediate_loss(found.maps)
            if self.regulariser == "kl":
                divergences = map(kl_divergence, found.posteriors, found.priors)
                terms["regulariser"] = sum(a * d.mean() for a, d in zip(alphas, divergences))
                terms["discriminators"] = x.new_zeros(())
            else:
                l_d, l_g = player_losses(found, net.discriminators, REGULARISERS[self.regulariser], alphas)
                terms |= {"regulariser": l_g, "discriminators": l_d}
            total = (terms["reconstruction"] + strength * terms["regulariser"]
                     + self.intermediate_weight * terms["intermediate"] + self.noise_weight * terms["noise"])
            return total + terms["discriminators"], terms

        faster = dict.fromkeys(net.discriminators.parameters(), self.discriminator_factor)
        begun = 0
        for i, (phase, epochs) in enumerate(self.planned_epochs().items()):
            if i > 0:
                trainer.once(f"noise {i}", lambda: self._find_noise(trainer))
            trainer.train(phase, loss, net.parameters(), epochs=epochs, batch_size=self.batch_size,
                          learning_rate=self._rate_from(begun), adam_betas=(self.beta1, 0.999), factors=faster, usable=True)
            begun += epochs
        trainer.kept.clear()

    def _rate_from(self, begun: int):
        """NVAE's schedule, half a cosine over all phases, for the one that starts after ``begun`` epochs."""
        total = sum(self.planned_epochs().values())
        return lambda epoch: self.learning_rate * max(LAST_RATE, 0.5 + 0.5 * math.cos(math.pi * (begun + epoch) / total))

    def _find_noise(self, trainer) -> None:
        """Which rows HDBSCAN leaves out on UMAP of group 0, as 0 or 1 (n,): the set of equation 11.

        For a replay every other row will do: it is about the steps that follow, and UMAP takes longer than they do.
        """
        if trainer.max_steps is not None:
            trainer.kept["noise"] = (torch.arange(len(trainer.X), device=trainer.X.device) % 2).float()
            return
        codes = self._codes(trainer.X, 0)
        points = density.umap(codes, self._neighbours(len(codes)), self.seed_).embedding_
        labels = self._hdbscan(points).labels_
        trainer.kept["noise"] = torch.from_numpy((labels == -1).astype(np.float32)).to(trainer.X.device)

    def _hdbscan(self, points: np.ndarray):
        n, given = len(points), self.fitted_with_
        return density.hdbscan(points, given.min_cluster_size or max(2, n // 50), self._neighbours(n), given.cluster_selection)

    def _conclude(self, X):
        self._rows_of_fit_ = X
        self._boxes_, self.clustering_seconds_ = {}, {}
        self.objective_ = self._score(X)
        if self.step_losses_:  # a replay ends here
            return
        self.labels_ = self.cluster()
        self.embedding_ = self.embedding(self.fitted_with_.cluster_group)

    # -- clustering ----------------------------------------------------------------------------

    def embedding(self, group: int) -> np.ndarray:
        """UMAP of a group's codes of the training rows, (n, min(10, d)) float32; computed once for each group.

        ValueError for a group that does not exist.
        """
        return self._box(group, "umap").embedding_

    def cluster(self, group: int | None = None, clustering: str | None = None) -> np.ndarray:
        """Labels (n,) of the training rows by a group, ``cluster_group`` where none is given, and by ``"hdbscan"``
        or ``"gmm"``, ``clustering`` where none is given. -1 is noise. ValueError for a group or a clustering that does not exist."""
        check_is_fitted(self, ["module_", "_boxes_"])  # the second once the training has ended
        group, kind = self.fitted_with_.cluster_group if group is None else group, clustering or self.fitted_with_.clustering
        if kind not in ("hdbscan", "gmm"):
            raise ValueError(f"clustering={kind!r}: use 'hdbscan' or 'gmm'")
        box = self._box(group, kind)
        return (box.labels_ if kind == "hdbscan" else box.predict(self.embedding(group))).astype(np.int64)

    def _box(self, group: int, kind: str):
        """The fitted UMAP, HDBSCAN or mixture of a group."""
        check_is_fitted(self, ["module_", "_boxes_"])  # the second once the training has ended
        check_index("group", group, self.fitted_with_.n_groups)
        if (group, kind) not in self._boxes_:
            points = None if kind == "umap" else self.embedding(group)
            began = time.perf_counter()
            if kind == "umap":
                codes = self._codes(self._rows_of_fit_, group)
                made = density.umap(codes, self._neighbours(len(codes)), self.seed_)
            elif kind == "hdbscan":
                made = self._hdbscan(points)
            else:
                made = GaussianMixture(self.fitted_with_.n_clusters, n_init=3, reg_covar=1e-4, random_state=self.seed_)
                made.fit(points)
            self._boxes_[group, kind] = made
            self.clustering_seconds_[f"group {group} {kind}"] = time.perf_counter() - began
        return self._boxes_[group, kind]

    def predict(self, X) -> np.ndarray:
        """The cluster of every row, (n,) int64, -1 for noise.

        The rows go through the fitted UMAP, then HDBSCAN's approximate prediction (or the mixture). UMAP places the rows
        of a call together, so that the same row may be labelled otherwise in other company, a row of the fit too. Exactly
        the rows of the fit, in their order, are where the fit put them, and the mixture then gives its labels again; so
        does HDBSCAN, but for points that it finds no nearer to one cluster than to another.
        """
        rows = self._rows(X)
        group, kind = self.fitted_with_.cluster_group, self.fitted_with_.clustering
        with own_threads():
            points = self._box(group, "umap").transform(self._codes(rows, group))
        box = self._box(group, kind)
        if kind == "gmm":
            return box.predict(points).astype(np.int64)
        if (box.labels_ == -1).all():
            return np.full(len(rows), -1, dtype=np.int64)
        from hdbscan import approximate_predict
        return approximate_predict(box, points.astype(np.float64))[0].astype(np.int64)

    # -- using ---------------------------------------------------------------------------------

    @contextmanager
    def _evaluation(self):
        """Batch normalisation by its running moments, and back to how it was: callbacks look in while it trains."""
        training = self.module_.training
        self.module_.eval()
        try:
            yield self.module_
        finally:
            self.module_.train(training)

    def _encode(self, X: Tensor, then) -> Tensor:
        """``then(pass, rows)`` with the means of every group, over X in pieces."""
        with self._evaluation() as net:
            return self._map(lambda x: then(net.autoencoder(net.images(x), torch.zeros_like), x), X)

    def _codes(self, X: Tensor, group: int) -> np.ndarray:
        return self._encode(X, lambda found, x: found.fake[group].flatten(1)).cpu().numpy()

    @property
    def _n_features_out(self) -> int:
        return self.fitted_with_.latent_channels * 4 ** (self.fitted_with_.cluster_group + 1)

    def transform(self, X, group: int | None = None) -> np.ndarray:
        """Means of q(z_l | z_<l, x) of a group, the groups above it at their means: (n, latent_channels * 4^(l + 1)).

        ``cluster_group`` where none is given, whose columns alone have names. ValueError for a group that does not exist, or for
        another than that where ``set_output`` asks for a data frame.
        """
        rows = self._rows(X)
        group = self.fitted_with_.cluster_group if group is None else group
        check_index("group", group, self.fitted_with_.n_groups)
        if group != self.fitted_with_.cluster_group and (kind := _get_output_config("transform", self)["dense"]) != "default":
            raise ValueError(f"group={group} with set_output(transform={kind!r}): only the columns of cluster_group="
                             f"{self.fitted_with_.cluster_group} have names; use set_output(transform='default')")
        return self._codes(rows, group)

    def reconstruct(self, X) -> np.ndarray:
        """Rows decoded from the means of all their groups, (n, n_features) float32."""
        return self._encode(self._rows(X), lambda found, x: self.module_.pixels(found.output)).cpu().numpy()

    def sample(self, n_samples=1, *, random_state=None) -> np.ndarray:
        """Images decoded from draws of the priors, group by group from the top: (n_samples, n_features) float32.

        ValueError for less than one.
        """
        generator = self._draws(random_state, n_samples)
        return self.decode_noises(self.module_.autoencoder.noises(n_samples, generator))

    def decode_noises(self, noises: list[Tensor]) -> np.ndarray:
        """The images, (n, n_features) float32, of standard normal noise for each group (see
        :meth:`~genclust.hierarchical.HierarchicalAutoencoder.generate`)."""
        check_is_fitted(self)
        with self._evaluation() as net, torch.no_grad(), without_autocast():
            pieces = zip(*(noise.split(1024) for noise in noises))
            return torch.cat([net.pixels(net.autoencoder.generate(piece)) for piece in pieces]).cpu().numpy()

    def score(self, X, y=None) -> float:
        """Minus the mean reconstruction error on X; higher is better."""
        return self._score(self._rows(X))

    def _score(self, X: Tensor) -> float:
        error = self._encode(X, lambda found, x: self.module_.reconstruction(found.output, x))
        return -float(error.double().mean())

    @torch.no_grad()
    @without_autocast()
    def drift(self, X) -> list[float]:
        """How far the draws of q for X are from those of the prior, a figure for each group, top first.

        The root of the mean, over dimensions, of the squared difference of their means, in standard deviations of the
        prior's draws, and of the squared log-ratio of their standard deviations. It is 0 where all these moments
        agree, and needs no labels.
        """
        rows = self._rows(X)
        generator = self._draws(0)
        found: list[list[tuple[Tensor, Tensor]]] = []
        with self._evaluation() as net:
            for x in rows.split(4096):
                p = net.autoencoder(net.images(x), lambda t: torch.randn(t.shape, generator=generator, device=t.device))
                found.append([(real.flatten(1), fake.flatten(1)) for real, fake in zip(p.real, p.fake)])
        figures = []
        for level in range(self.fitted_with_.n_groups):
            real, fake = (torch.cat([piece[level][side] for piece in found]).double() for side in (0, 1))
            scale = real.std(0) + 1e-12
            apart = ((fake.mean(0) - real.mean(0)) / scale).square() + ((fake.std(0) + 1e-12) / scale).log().square()
            figures.append(float(apart.mean().sqrt()))
        return figures

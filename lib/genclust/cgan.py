"""The conditional GAN (Mirza and Osindero, 2014): supervised, and no clustering; what VaDE's Figure 3 compares with."""

from __future__ import annotations

import hashlib
from numbers import Real

import numpy as np
import torch
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import Interval
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length
from torch import Tensor, nn
from torch.nn import functional as F

from .adversarial import input_gradient, scores
from .autoencoder import CONSTRAINTS, WEIGHT
from .base import EVAL_BATCH, DeepEstimator, Player, in_unit_interval, without_autocast
from .draws import draw
from .networks import MLP


class CGANNetwork(nn.Module):
    """Generator and discriminator, which both are told the class: its one-hot vector stands beside their input."""

    def __init__(self, n_features: int, n_classes: int, hidden: list[int], noise_dim: int, generator: torch.Generator):
        super().__init__()
        self.generator = MLP([noise_dim + n_classes, *hidden[::-1], n_features], generator)
        self.discriminator = MLP([n_features + n_classes, *hidden, 1], generator)

    def generate(self, noise: Tensor, classes: Tensor) -> Tensor:
        """Rows in (0, 1) for noise (n, noise_dim) and one-hot classes (n, C): (n, D) float32."""
        return self.generator(torch.cat([noise, classes], 1)).float().sigmoid()

    def logits(self, x: Tensor, classes: Tensor) -> Tensor:
        """log-odds that rows (n, D) of these classes are real: (n,) float32."""
        return scores(self.discriminator, torch.cat([x, classes], 1))

    def penalty(self, real: Tensor, fake: Tensor, classes: Tensor, mix: Tensor) -> Tensor:
        """``E (|grad| - 1)^2`` of the log-odds in x, between real and generated rows of a class, at ``mix`` (n, 1)."""
        gradient = input_gradient(self.discriminator, torch.cat([fake.lerp(real, mix), classes], 1))
        return (torch.linalg.vector_norm(gradient[:, : real.shape[1]].float(), dim=1) - 1).square().mean()


class ConditionalGAN(DeepEstimator):
    """A generator of rows of a class that is asked for, trained against a discriminator that knows the class too.

    **Supervised**: ``fit(X, y)`` needs the labels. It clusters nothing; it is here for the draws of VaDE's Figure 3.

    The players of eq. 2 take turns, with Adam; the generator maximises log D(G(z | y) | y) instead of minimising
    log(1 - D), as is usual (Goodfellow et al., 2014). With VaDE's widths the generator is VaDE's decoder but for the
    class at its input, the discriminator VaDE's encoder with a single output.

    Parameters
    ----------
    hidden : widths of the discriminator, mirrored in the generator.
    noise_dim : width of z.
    penalty_weight : of the gradient penalty (Gulrajani et al., 2017) on the discriminator. It is younger than the method:
        without it a discriminator of these widths won in trials, and the generator learnt nothing.
    iterations : steps of each player.
    batch_size, learning_rate, beta1 : of both Adams; 0.5 for the first moment lets the two settle.
    random_state, device, precision, verbose : see :class:`Autoencoder`.

    Attributes
    ----------
    classes_ : (C,) the classes found in y.
    history_ : one dict every 100 iterations: phase, seconds, each player's loss, eq. 2's "value" and the "penalty".
    objective_ : minus eq. 2's value on X, in nats: 2 log 2 where the discriminator can't tell. It belongs to this pair of
        players, and says nothing about which of two fits draws better.
    """

    n_restarts = 1  # there is no objective to choose among fits by
    _parameter_constraints = CONSTRAINTS | {
        "penalty_weight": [WEIGHT],
        "beta1": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(self, *, hidden=(500, 500, 2000), noise_dim=10, penalty_weight=10.0, iterations=20_000, batch_size=100, learning_rate=5e-4,
                 beta1=0.5, random_state=None, device="auto", precision="auto", verbose=0):
        self.hidden = hidden
        self.noise_dim = noise_dim
        self.penalty_weight = penalty_weight
        self.iterations = iterations
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.beta1 = beta1
        self.random_state = random_state
        self.device = device
        self.precision = precision
        self.verbose = verbose

    def fit(self, X, y, **options):
        """Fit to ``X``, (n_samples, n_features) in [0, 1], of classes ``y``, (n_samples,).

        ``options`` are those of the other estimators: callback, checkpoint, cache, max_steps. Raises ValueError for
        data or labels that can't work, Diverged (a FloatingPointError) and CheckpointError as they do.
        """
        self._forget()
        if y is None:
            raise ValueError("y=None, but a conditional GAN needs the class of every row: use fit(X, y)")
        self._y = column_or_1d(y)
        check_classification_targets(self._y)
        check_consistent_length(X, self._y)
        return super().fit(X, **options)

    def _check_data(self, X):
        if not in_unit_interval(X):
            raise ValueError(f"X has to lie in [0, 1], as what is generated does, but it spans [{X.min():.7g}, {X.max():.7g}]: "
                             "scale X")
        self.classes_, self._of_ = np.unique(vars(self).pop("_y"), return_inverse=True)  # kept no longer: _of_ says it

    def _fingerprint(self, X, seed, names=None, **given):
        return hashlib.sha256(super()._fingerprint(X, seed, names, **given).encode() + self._of_.tobytes()).hexdigest()

    def _build(self, n_features, generator):
        return CGANNetwork(n_features, len(self.classes_), list(self.hidden), self.noise_dim, generator)

    def _phases(self, trainer):
        net, X = self.module_, trainer.X
        classes = self._one_hot(self._of_)

        def noise() -> Tensor:
            return draw(torch.randn, self.batch_size, self.noise_dim, source=trainer.generator)

        def discriminator():
            rows = draw(torch.randint, len(X), (self.batch_size,), source=trainer.generator)
            with torch.no_grad():
                fake = net.generate(noise(), classes[rows])
            mix = draw(torch.rand, self.batch_size, 1, source=trainer.generator)
            penalty = net.penalty(X[rows], fake, classes[rows], mix)
            real, fake = net.logits(X[rows], classes[rows]), net.logits(fake, classes[rows])
            value = -F.softplus(-real).mean() - F.softplus(fake).mean()
            return self.penalty_weight * penalty - value, {"value": value, "penalty": penalty}

        def generator():
            rows = draw(torch.randint, len(X), (self.batch_size,), source=trainer.generator)
            return F.softplus(-net.logits(net.generate(noise(), classes[rows]), classes[rows])).mean(), {}

        def adam(part: nn.Module) -> torch.optim.Optimizer:
            return torch.optim.Adam(part.parameters(), lr=self.learning_rate, betas=(self.beta1, 0.999), fused=True)

        trainer.alternate("cgan", [Player("discriminator", discriminator, adam(net.discriminator)),
                                   Player("generator", generator, adam(net.generator))], iterations=self.iterations)

    def _one_hot(self, of: np.ndarray) -> Tensor:
        return F.one_hot(torch.from_numpy(of).to(self.device_), len(self.classes_)).float()

    def planned_epochs(self) -> dict[str, int]:
        """The one phase of a fit, and its iterations."""
        return {"cgan": self.iterations}

    @torch.no_grad()
    def _conclude(self, X):
        net, classes, source = self.module_, self._one_hot(self._of_), self._draws(None)
        value = 0.0
        for x, c in zip(X.split(EVAL_BATCH), classes.split(EVAL_BATCH)):
            fake = net.generate(draw(torch.randn, len(x), self.noise_dim, source=source), c)
            value -= float(F.softplus(-net.logits(x, c)).sum() + F.softplus(net.logits(fake, c)).sum())
        self.objective_ = -value / len(X)

    def sample(self, n_samples=1, *, label=None, random_state=None) -> tuple[np.ndarray, np.ndarray]:
        """Draws of a class, or of classes drawn as often as each other.

        Returns X (n_samples, n_features) and the classes (n_samples,). ValueError for a class that y did not have.
        """
        source = self._draws(random_state, n_samples)
        if np.ndim(label):
            raise ValueError(f"label={label!r}: give one class, one of {', '.join(map(str, self.classes_))}")
        if label is None:
            of = draw(torch.randint, len(self.classes_), (n_samples,), source=source).cpu().numpy()
        else:
            found = np.flatnonzero(self.classes_ == label)
            if len(found) == 0:
                raise ValueError(f"label={label!r} is none of the classes: {', '.join(map(str, self.classes_))}")
            of = np.full(n_samples, found[0])
        with torch.no_grad(), without_autocast():
            noise = draw(torch.randn, n_samples, self.fitted_with_.noise_dim, source=source)
            X = self.module_.generate(noise, self._one_hot(of))
        return X.cpu().numpy(), self.classes_[of]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

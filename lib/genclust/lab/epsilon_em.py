"""EM and epsilon-EM on mixtures so small that likelihood, bound and divergence are computed exactly (GANMM, section 3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp, xlogy


@dataclass(frozen=True)
class Step:
    """One epsilon-E-step: ``likelihood`` ln p(D | theta), ``bound`` L(q, theta), ``epsilon`` KL(q || p(Z | D, theta))."""

    likelihood: float
    bound: float
    epsilon: float


def log_joint(x: np.ndarray, weights: np.ndarray, means: np.ndarray) -> np.ndarray:
    """ln p(x, z) of a mixture of N(mean, 1): (n,), (K,), (K,) -> (n, K)."""
    return np.log(weights) - 0.5 * ((x[:, None] - means) ** 2 + np.log(2 * np.pi))


def epsilon_em(x: np.ndarray, means: np.ndarray, e_step: Callable[[int, np.ndarray], np.ndarray], n_steps: int) -> list[Step]:
    """Epsilon-EM on rows x (n,) from given means (K,) and equal weights, with exact M-steps for unit variances.

    ``e_step(t, posterior)`` gives q, both (n, K); plain EM returns the posterior.
    """
    weights, steps = np.full(len(means), 1 / len(means)), []
    for t in range(n_steps):
        joint = log_joint(x, weights, means)
        likelihood = logsumexp(joint, axis=1)
        log_posterior = joint - likelihood[:, None]
        q = e_step(t, np.exp(log_posterior))
        steps.append(Step(float(likelihood.sum()), float((q * joint - xlogy(q, q)).sum()),
                          float((xlogy(q, q) - q * log_posterior).sum())))
        weights, means = q.mean(0), (q * x[:, None]).sum(0) / q.sum(0)
    return steps


def mixed(shares: Callable[[int], float], n: int, n_clusters: int, seed: int = 0) -> Callable[[int, np.ndarray], np.ndarray]:
    """An epsilon-E-step that mixes a share, which depends on the step, of fixed random responsibilities into the posterior."""
    noise = np.random.default_rng(seed).dirichlet(np.ones(n_clusters), n)
    return lambda t, posterior: (1 - shares(t)) * posterior + shares(t) * noise


def memorising_em(X: np.ndarray, labels: np.ndarray, bandwidth: float, n_steps: int) -> list[float]:
    """EM with hard assignments whose components are kernel densities of their own rows: the share of rows (n, d) that
    changes cluster in each step. The smaller the bandwidth, the better a component remembers what it was given."""
    K, moved = labels.max() + 1, []
    log_kernel = -0.5 * ((X[:, None] - X) ** 2).sum(2) / bandwidth**2
    for _ in range(n_steps):
        # Normalised over its n_k rows and weighed by n_k / n, a component's density is a plain sum over its rows
        joint = np.stack([logsumexp(log_kernel[:, labels == k], axis=1) if (labels == k).any() else np.full(len(X), -np.inf)
                          for k in range(K)], 1)
        found = joint.argmax(1)
        moved.append(float((found != labels).mean()))
        labels = found
    return moved

"""A Gaussian mixture whose parameters are trained by gradient, and label-free ways to start it."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from .reduction import own_threads, umap_reducer

LOG_2PI = math.log(2 * math.pi)
INITS = ("gmm", "gmm-full", "kmeans", "umap", "random")


class TrainableMixture(nn.Module):
    """``p(z) = sum_c pi_c N(z | mu_c, diag(sigma_c^2))`` with unconstrained parameters.

    ``logits`` (K,) holds log pi up to a constant, ``means`` (K, d) and ``log_vars`` (K, d) the
    components. A softmax and an exponential keep every gradient step inside the model.
    """

    def __init__(self, n_clusters: int, dim: int):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(n_clusters))
        self.means = nn.Parameter(torch.zeros(n_clusters, dim))
        self.log_vars = nn.Parameter(torch.zeros(n_clusters, dim))

    @property
    def log_weights(self) -> Tensor:
        """log pi, (K,)."""
        return self.logits.log_softmax(-1)

    @property
    def covariances(self) -> Tensor:
        """sigma_c^2, the diagonals: (K, d)."""
        return self.log_vars.exp()

    def log_prob_components(self, z: Tensor, log_var: Tensor | None = None) -> Tensor:
        """log N(z | mu_c, diag sigma_c^2): (n, d) -> (n, K).

        With ``log_var`` (n, d) its expectation over N(z, diag exp(log_var)) instead, in closed form.
        The squares are of differences: expanding them into matrix products would be no faster for the
        few clusters and dimensions of a code, and loses digits where components are narrow.
        """
        square = (z[:, None] - self.means).square()
        if log_var is not None:
            square = square + log_var.exp()[:, None]
        return -0.5 * ((square * (-self.log_vars).exp() + self.log_vars).sum(2) + z.shape[1] * LOG_2PI)

    def log_joint(self, z: Tensor) -> Tensor:
        """log pi_c + log N(z | c): (n, d) -> (n, K)."""
        return self.log_weights[..., None, :] + self.log_prob_components(z)

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z): (n, d) -> (n,)."""
        return self.log_joint(z).logsumexp(-1)

    def log_responsibilities(self, z: Tensor) -> Tensor:
        """log p(c | z), eq. 12 of VaDE: (n, d) -> (n, K)."""
        return self.log_joint(z).log_softmax(-1)

    def sample(self, n: int, generator: torch.Generator, cluster: int | None = None) -> tuple[Tensor, Tensor]:
        """n draws of z, (n, d), and of their component, (n,); all from ``cluster`` where it is given."""
        device = self.means.device
        if cluster is None:
            c = torch.multinomial(self.log_weights.exp(), n, replacement=True, generator=generator)
        else:
            c = torch.full((n,), cluster, device=device)
        noise = torch.randn(n, self.means.shape[1], generator=generator, device=device)
        return self.place(noise, c), c

    def place(self, noise: Tensor, c: Tensor) -> Tensor:
        """Standard normal noise (n, d) as draws from the components c (n,): (n, d)."""
        return self.means[c] + noise * (0.5 * self.log_vars[c]).exp()

    @torch.no_grad()
    def maximise(self, z: Tensor, responsibilities: Tensor, floor: float = 1e-6) -> None:
        """The M-step: weights, means and variances from (n, d) codes and (n, K) responsibilities.

        ``floor`` is added to every variance, so that a component on identical points stays proper.
        """
        z, r = z.double(), responsibilities.double()
        mass = r.sum(0) + 1e-10
        means = r.T @ z / mass[:, None]
        variances = (r.T @ z.square() / mass[:, None] - means.square()).clamp_min(0) + floor
        self.logits.copy_((mass / mass.sum()).log())
        self.means.copy_(means)
        self.log_vars.copy_(variances.log())


class FullMixture(TrainableMixture):
    """``p(z) = sum_k pi_k N(z | m_k, S_k S_k^T)`` with full covariances (WAMiC, eq. 7).

    ``factors`` (K, d, d) holds the lower triangle of S_k, with the logarithm of its diagonal on the diagonal; what
    is above it is not used. With ``n_replicas`` every parameter, argument and result has a leading axis R; ``place`` and ``sample``
    are of one mixture alone, and raise ValueError.
    """

    def __init__(self, n_clusters: int, dim: int, n_replicas: int | None = None):
        nn.Module.__init__(self)
        lead = () if n_replicas is None else (n_replicas,)
        self.logits = nn.Parameter(torch.zeros(*lead, n_clusters))
        self.means = nn.Parameter(torch.zeros(*lead, n_clusters, dim))
        self.factors = nn.Parameter(torch.zeros(*lead, n_clusters, dim, dim))

    @property
    def log_scales(self) -> Tensor:
        """log of the diagonal of every S_k, (K, d)."""
        return self.factors.diagonal(dim1=-2, dim2=-1)

    @property
    def scales(self) -> Tensor:
        """The Cholesky factors S_k, (K, d, d)."""
        return self.factors.tril(-1) + torch.diag_embed(self.log_scales.exp())

    @property
    def covariances(self) -> Tensor:
        """S_k S_k^T, (K, d, d)."""
        return self.scales @ self.scales.mT

    def log_prob_components(self, z: Tensor) -> Tensor:
        """log N(z | m_k, S_k S_k^T): (n, d) -> (n, K)."""
        apart = z[..., None, :, :] - self.means[..., :, None, :]
        white = torch.linalg.solve_triangular(self.scales, apart.mT, upper=False)
        norms = white.square().sum(-2).mT  # (n, K)
        return -0.5 * (norms + z.shape[-1] * LOG_2PI) - self.log_scales.sum(-1)[..., None, :]

    def place(self, noise: Tensor, c: Tensor) -> Tensor:
        """Standard normal noise (n, d) as draws from the components c (n,): (n, d)."""
        self._check_alone()
        return self.means[c] + (self.scales[c] @ noise[..., None])[..., 0]

    def sample(self, n: int, generator: torch.Generator, cluster: int | None = None) -> tuple[Tensor, Tensor]:
        """See :meth:`TrainableMixture.sample`."""
        self._check_alone()
        return super().sample(n, generator, cluster)

    def _check_alone(self) -> None:
        if self.logits.dim() > 1:
            raise ValueError(f"n_replicas={len(self.logits)}: only one mixture alone draws like this; use place_all")

    def place_all(self, noise: Tensor) -> Tensor:
        """Noise (K, m, d) as m draws from every component, eq. 7: ``z_k = S_k e + m_k``, (K, m, d)."""
        return noise @ self.scales.mT + self.means[..., :, None, :]

    @torch.no_grad()
    def maximise(self, z: Tensor, responsibilities: Tensor, floor: float = 1e-6) -> None:
        """The M-step: weights, means and covariances from (n, d) codes and (n, K) responsibilities.

        ``floor`` is added to every variance, so that a component on few points stays proper. Beside large variances it is lost in
        rounding; a covariance that can't be factorised for that gets 1e-9 of its mean variance as well. FloatingPointError where even
        that does not help.
        """
        z, r = z.double(), responsibilities.double()
        mass = r.sum(-2) + 1e-10
        means = r.mT @ z / mass[..., None]
        covariances = []
        for k in range(r.shape[-1]):  # one at a time: all at once would take K copies of the codes
            apart = z - means[..., k, None, :]
            covariances.append((r[..., k, None] * apart).mT @ apart / mass[..., k, None, None])
        tall = torch.stack(covariances, -3) + floor * torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
        scales, failed = torch.linalg.cholesky_ex(tall)
        if failed.any():
            more = 1e-9 * torch.diag_embed(tall.diagonal(dim1=-2, dim2=-1).mean(-1, keepdim=True).expand(tall.shape[:-1]))
            mended, still = torch.linalg.cholesky_ex(tall + more)
            if still.any():
                raise FloatingPointError("the covariance of a component can't be factorised: look for extreme values in X, or standardise it")
            scales = torch.where(failed[..., None, None] > 0, mended, scales)
        self.logits.copy_((mass / mass.sum(-1, keepdim=True)).log())
        self.means.copy_(means)
        self.factors.copy_(scales.tril(-1) + torch.diag_embed(scales.diagonal(dim1=-2, dim2=-1).log()))


def initial_responsibilities(
    codes: np.ndarray, n_clusters: int, init: str, *, n_init: int = 1, random_state: int = 0
) -> np.ndarray:
    """A label-free first partition of codes (n, d), as responsibilities (n, K).

    - ``gmm``: EM with diagonal covariances, best likelihood of ``n_init`` starts (VaDE, section 4.2).
    - ``gmm-full``: the same with full covariances; only its responsibilities are used.
    - ``kmeans``: best inertia of ``n_init`` starts (the authors' choice for Reuters).
    - ``umap``: UMAP of the codes, then full-covariance EM there, best likelihood of ``n_init``
      (no paper of the five starts VaDE so; it needs the extra ``umap``).
    - ``random``: hard assignments drawn uniformly.
    """
    from sklearn.cluster import KMeans
    from sklearn.mixture import GaussianMixture

    n = len(codes)
    if init == "random":
        hard = np.random.default_rng(random_state).permutation(np.arange(n) % n_clusters)
        return np.eye(n_clusters, dtype=np.float32)[hard]
    if init == "kmeans":
        km = KMeans(n_clusters, n_init=n_init, random_state=random_state).fit(codes)
        return np.eye(n_clusters, dtype=np.float32)[km.labels_]
    codes = np.asarray(codes, dtype=np.float64)
    if init == "umap":
        codes = umap_embedding(codes, random_state)
    covariance = "diag" if init == "gmm" else "full"
    reg = 1e-6 + 1e-6 * float(codes.var())  # relative above a variance of 1, where the scale matters little; absolute below it
    em = GaussianMixture(n_clusters, covariance_type=covariance, n_init=n_init, reg_covar=reg, max_iter=300,
                         random_state=random_state)
    return em.fit(codes).predict_proba(codes).astype(np.float32)


def umap_embedding(codes: np.ndarray, random_state: int) -> np.ndarray:
    """UMAP of codes (n, d) into min(10, d) dimensions with 20 neighbours and no minimum distance."""
    reducer = umap_reducer(*codes.shape, random_state)
    with own_threads():
        return np.asarray(reducer.fit_transform(codes), dtype=np.float64)

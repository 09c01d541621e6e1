"""The mixture against SciPy and scikit-learn, and the ways to start it on codes."""

import sys

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import Pipeline
from sklearn.utils.estimator_checks import check_estimator

from genclust import UMAPEmbedding, VaDE, WAMiC, WAMiCSelection, autoencoder_gmm, embedded_ganmm, n2d, vae_gmm
from genclust.metrics import accuracy
from genclust.mixture import FullMixture, TrainableMixture, initial_responsibilities


def random_mixture(n_clusters=4, dim=3, offset=0.0, seed=0):
    """A mixture, and its parameters as float64 arrays."""
    rng = np.random.default_rng(seed)
    mixture = TrainableMixture(n_clusters, dim)
    with torch.no_grad():
        mixture.logits.copy_(torch.from_numpy(rng.normal(size=n_clusters) + 3))
        mixture.means.copy_(torch.from_numpy(offset + 2 * rng.normal(size=(n_clusters, dim))))
        mixture.log_vars.copy_(torch.from_numpy(rng.normal(size=(n_clusters, dim))))
    logits, means, log_vars = (p.detach().double().numpy() for p in mixture.parameters())
    return mixture, np.exp(logits - logsumexp(logits)), means, np.exp(log_vars)


@pytest.mark.parametrize("offset", [0.0, 50.0, -1000.0])
def test_densities_are_scipys(offset):
    mixture, weights, means, variances = random_mixture(offset=offset)
    z = torch.from_numpy(offset + 3 * np.random.default_rng(1).normal(size=(60, 3))).float()
    components = np.stack([multivariate_normal(m, np.diag(v)).logpdf(z.double().numpy())
                           for m, v in zip(means, variances)], 1)
    joint = components + np.log(weights)
    # float32 quadratic forms of up to some 100 nats: relative 1e-6, after the centre is taken off
    close = dict(rtol=2e-6, atol=2e-5)
    if abs(offset) > 100:
        close = dict(rtol=2e-5, atol=1e-3)  # z itself is only known to 6e-5 here
    with torch.no_grad():
        np.testing.assert_allclose(mixture.log_weights.exp(), weights, rtol=1e-5)
        np.testing.assert_allclose(mixture.log_prob_components(z), components, **close)
        np.testing.assert_allclose(mixture.log_joint(z), joint, **close)
        np.testing.assert_allclose(mixture.log_prob(z), logsumexp(joint, axis=1), **close)
        responsibilities = mixture.log_responsibilities(z).exp()
    np.testing.assert_allclose(responsibilities, np.exp(joint - logsumexp(joint, axis=1, keepdims=True)), atol=1e-3
                               if abs(offset) > 100 else 2e-5)
    np.testing.assert_allclose(responsibilities.sum(1), 1, atol=1e-6)


def test_density_gradients_are_those_of_torchs_mixture():
    mixture, *_ = random_mixture()
    z = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    inputs = [z, *mixture.parameters()]
    ours = torch.autograd.grad(mixture.log_prob(z).sum(), inputs)
    reference = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(logits=mixture.logits),
        torch.distributions.Independent(
            torch.distributions.Normal(mixture.means, (0.5 * mixture.log_vars).exp()), 1))
    theirs = torch.autograd.grad(reference.log_prob(z).sum(), inputs)
    for one, other in zip(ours, theirs):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)  # float32 sums over 20 rows


def test_maximise_is_scikit_learns_m_step():
    rng = np.random.default_rng(0)
    z = torch.from_numpy(rng.normal(size=(200, 3)) * [1, 5, 0.1] + [0, 40, -3]).float()
    r = torch.from_numpy(rng.dirichlet([0.5] * 4, 200)).float()
    reference = GaussianMixture(4, covariance_type="diag", reg_covar=1e-6)
    reference._initialize(z.double().numpy(), r.double().numpy())
    mixture = TrainableMixture(4, 3)
    mixture.maximise(z, r)
    with torch.no_grad():  # float32 holds the results to 6e-8 of their size
        np.testing.assert_allclose(mixture.log_weights.exp(), reference.weights_ / reference.weights_.sum(), rtol=1e-5)
        np.testing.assert_allclose(mixture.means, reference.means_, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(mixture.log_vars.exp(), reference.covariances_, rtol=1e-5)


def test_maximise_by_hand():
    mixture = TrainableMixture(2, 1)
    mixture.maximise(torch.tensor([[0.0], [4.0], [10.0]]), torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]))
    # masses 1.5, 1.5; means (0 + 2) / 1.5 and (2 + 10) / 1.5; variances 8 / 1.5 - (4/3)^2 and 108 / 1.5 - 64
    np.testing.assert_allclose(mixture.log_weights.exp().detach(), [0.5, 0.5], rtol=1e-6)
    np.testing.assert_allclose(mixture.means.detach()[:, 0], [4 / 3, 8], rtol=1e-6)
    np.testing.assert_allclose(mixture.log_vars.exp().detach()[:, 0], [32 / 9, 8], rtol=1e-5)


def test_maximise_keeps_degenerate_components_proper():
    mixture = TrainableMixture(3, 2)
    r = torch.tensor([[1.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]])  # identical points; one point; none at all
    mixture.maximise(torch.tensor([[5.0, 5.0], [5.0, 5.0], [1.0, 2.0]]), r, floor=1e-4)
    np.testing.assert_allclose(mixture.log_vars.exp().detach(), 1e-4, rtol=1e-4)
    assert torch.isfinite(mixture.log_prob(torch.zeros(1, 2))).all()
    assert mixture.log_weights.exp()[2] < 1e-9


def test_samples_have_the_mixtures_moments():
    mixture, weights, means, variances = random_mixture()
    n = 40_000
    z, c = mixture.sample(n, torch.Generator().manual_seed(0))
    z, c = z.detach().double().numpy(), c.numpy()
    counts = np.bincount(c, minlength=4)
    assert (abs(counts - n * weights) < 5 * np.sqrt(n * weights * (1 - weights))).all()  # five standard errors
    for k in range(4):
        mine = z[c == k]
        assert (abs(mine.mean(0) - means[k]) < 5 * np.sqrt(variances[k] / counts[k])).all()
        assert (abs(mine.var(0) / variances[k] - 1) < 5 * np.sqrt(2 / counts[k])).all()


def test_samples_of_one_cluster():
    mixture, _, means, variances = random_mixture()
    z, c = mixture.sample(20_000, torch.Generator().manual_seed(0), cluster=2)
    assert z.shape == (20_000, 3) and (c == 2).all()
    z = z.detach().double().numpy()
    assert (abs(z.mean(0) - means[2]) < 5 * np.sqrt(variances[2] / 20_000)).all()
    assert (abs(z.var(0) / variances[2] - 1) < 5 * np.sqrt(2 / 20_000)).all()


# -- initial_responsibilities ------------------------------------------------------------------

BLOBS, BLOB_OF = make_blobs(120, centers=[[0, 0, 0], [12, 0, 0], [0, 12, 0]], random_state=0)
BLOBS = BLOBS.astype(np.float32)


@pytest.mark.parametrize("init", ["gmm", "gmm-full", "kmeans"])
def test_init_finds_separated_blobs(init):
    r = initial_responsibilities(BLOBS, 3, init, n_init=2, random_state=1)
    assert r.shape == (120, 3) and r.dtype == np.float32
    np.testing.assert_allclose(r.sum(1), 1, atol=1e-5)
    assert accuracy(BLOB_OF, r.argmax(1)) == 1
    assert np.array_equal(r, initial_responsibilities(BLOBS, 3, init, n_init=2, random_state=1))


def test_init_umap_finds_separated_blobs_and_repeats_itself():
    pytest.importorskip("umap")
    one, two = (initial_responsibilities(BLOBS[:48], 3, "umap", n_init=2, random_state=1) for _ in range(2))
    assert one.shape == (48, 3) and accuracy(BLOB_OF[:48], one.argmax(1)) == 1
    assert np.array_equal(one, two)
    assert torch.get_num_threads() == 1  # Numba's threads are not torch's: sums keep their order after it


def test_n2d_clusters_and_places_new_rows():
    """Here and not in a file of its own: UMAP takes long to compile, once a process."""
    pytest.importorskip("umap")
    raw, blob_of = make_blobs(60, centers=10 * np.eye(3, 5), random_state=0)
    X = ((raw - raw.mean(0)) / raw.std(0)).astype(np.float32)
    options = dict(n_neighbors=10, n_init=2, hidden=(32,), latent_dim=3, layer_epochs=30, pretrain_epochs=100, batch_size=16,
                   random_state=0, device="cpu", precision="float32")
    pipeline = n2d(3, **options)
    labels = pipeline.fit_predict(X)
    assert accuracy(blob_of, labels) > 0.95
    assert torch.get_num_threads() == 1
    assert np.array_equal(labels, pipeline.predict(X))  # fitted rows stay where they were placed
    near = X + np.float32(0.01) * np.random.default_rng(0).normal(size=X.shape).astype(np.float32)
    assert (labels == pipeline.predict(near)).mean() > 0.95
    assert pipeline[1].umap_.n_neighbors == 10 and pipeline[1].umap_.min_dist == 0
    codes = pipeline[0].transform(X)
    placed = pipeline[1].transform(codes)
    assert placed.shape == (60, 3) and not np.allclose(placed[:30], pipeline[1].transform(codes[:30]))  # but not without the others
    assert np.array_equal(labels, n2d(3, **options).fit_predict(X))
    assert pipeline[:-1].get_feature_names_out().tolist() == ["umapembedding0", "umapembedding1", "umapembedding2"]
    assert list(pipeline[:-1].set_output(transform="pandas").transform(X).columns) == ["umapembedding0", "umapembedding1", "umapembedding2"]


def test_digits_n2d_beats_kmeans():
    pytest.importorskip("umap")
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    found = n2d(10, n_init=3, hidden=(128, 128, 256), pretraining="end-to-end", pretrain_epochs=30, batch_size=64, random_state=0,
                device="cpu", precision="float32").fit_predict(X)
    kmeans = accuracy(y, KMeans(10, n_init=10, random_state=0).fit_predict(X))
    assert accuracy(y, found) > kmeans + 0.03  # 0.861 against 0.792; 0.876 and 0.878 for seeds 1 and 2


@pytest.mark.filterwarnings("ignore")
def test_umap_embedding_passes_scikit_learns_checks_but_for_two():
    """UMAP knows its own rows by the whole of X alone: asked for without the others, or in another order, they are placed anew."""
    pytest.importorskip("umap")
    expected = dict.fromkeys(("check_methods_subset_invariance", "check_methods_sample_order_invariance"), "placed anew")
    results = check_estimator(UMAPEmbedding(2, n_neighbors=5, random_state=0), expected_failed_checks=expected, on_fail=None, on_skip=None)
    others = {r["check_name"]: r["status"] for r in results if r["status"] != "passed" and r["check_name"] != "check_array_api_input"}
    assert len(results) > 40 and others == dict.fromkeys(expected, "xfail")


def test_umap_embedding_of_few_rows_has_fewer_dimensions():
    pytest.importorskip("umap")
    assert UMAPEmbedding(n_components=10).fit_transform(np.random.default_rng(0).random((5, 20), np.float32)).shape == (5, 4)


def test_umap_embedding_refuses(monkeypatch):
    with pytest.raises(NotFittedError):
        UMAPEmbedding().transform(BLOBS)
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ImportError, match=r"UMAP needs umap-learn: pip install 'genclust\[umap\]'"):
        UMAPEmbedding().fit(BLOBS)


def test_init_random_is_hard_balanced_and_seeded():
    r = initial_responsibilities(BLOBS, 7, "random", random_state=1)
    assert set(np.unique(r)) == {0, 1} and (r.sum(1) == 1).all()
    assert set(r.sum(0)) == {17, 18}  # 120 rows over 7 clusters
    assert np.array_equal(r, initial_responsibilities(BLOBS, 7, "random", random_state=1))
    assert not np.array_equal(r, initial_responsibilities(BLOBS, 7, "random", random_state=2))
    assert accuracy(BLOB_OF, initial_responsibilities(BLOBS, 3, "random").argmax(1)) < 0.6  # knows nothing of X


@pytest.mark.parametrize("init", ["gmm", "gmm-full"])
@pytest.mark.parametrize("scale", [1e-2, 1e4])
def test_init_does_not_depend_on_the_scale_of_the_codes(init, scale):
    r = initial_responsibilities(BLOBS * np.float32(scale), 3, init, n_init=2, random_state=1)
    assert accuracy(BLOB_OF, r.argmax(1)) == 1


def test_gmm_init_uses_covariances_as_named():
    """A cross of two long clusters: full covariances separate its bars, diagonal ones can't."""
    rng = np.random.default_rng(0)
    which = np.arange(400) % 2
    along, across = 10 * rng.normal(size=400), 0.3 * rng.normal(size=400)
    codes = np.stack([along + across, np.where(which, 1, -1) * (along - across)], 1)
    right = {init: accuracy(which, initial_responsibilities(codes, 2, init, n_init=10).argmax(1))
             for init in ("gmm", "gmm-full")}
    assert right["gmm-full"] > 0.9 and right["gmm"] < 0.7  # the crossing itself is shared


@pytest.mark.parametrize("method", [
    lambda **given: initial_responsibilities(BLOBS, 3, "umap"),
    lambda **given: VaDE(3, init="umap").fit(BLOBS, **given),
    lambda **given: WAMiC(3, init="umap").fit(BLOBS, **given),
    lambda callback: n2d(3).fit(BLOBS, autoencoder__callback=callback),
    lambda callback: n2d(3).fit_predict(BLOBS, autoencoder__callback=callback),
], ids=["init", "VaDE", "WAMiC", "N2D", "N2D, labels"])
def test_a_missing_umap_is_said_before_any_work(monkeypatch, method):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ImportError, match=r"UMAP needs umap-learn: pip install 'genclust\[umap\]'"):
        method(callback=lambda *a: pytest.fail("it was trained"))


# -- full covariances ----------------------------------------------------------------------------------


def random_full(n_clusters=4, dim=3, n_replicas=None, seed=0):
    """A mixture with full covariances whose every parameter is random."""
    mixture, generator = FullMixture(n_clusters, dim, n_replicas), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter, scale in zip(mixture.parameters(), (1.0, 2.0, 0.7)):
            parameter.normal_(0, scale, generator=generator)
    return mixture


def test_full_densities_are_scipys():
    mixture = random_full()
    z = 3 * torch.randn(60, 3, generator=torch.Generator().manual_seed(1))
    factors = mixture.factors.detach().double().numpy()
    scales = np.tril(factors, -1) + np.stack([np.diag(np.exp(np.diag(f))) for f in factors])
    covariances = scales @ scales.transpose(0, 2, 1)
    expected = np.stack([multivariate_normal(m, c).logpdf(z.double().numpy())
                         for m, c in zip(mixture.means.detach().double().numpy(), covariances)], 1)
    weights = np.exp(mixture.logits.detach().double().numpy())
    with torch.no_grad():
        np.testing.assert_allclose(mixture.covariances, covariances, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(mixture.log_prob_components(z), expected, rtol=1e-4, atol=1e-3)  # some 1e3 nats
        np.testing.assert_allclose(mixture.log_prob(z), logsumexp(expected + np.log(weights / weights.sum()), axis=1),
                                   rtol=1e-4, atol=1e-3)
    assert [p.requires_grad for p in mixture.parameters()] == [True] * 3


def test_full_maximise_is_scikit_learns_m_step():
    z, _ = make_blobs(300, n_features=3, centers=4, random_state=0)
    z = z @ np.array([[1.0, 0.5, 0], [0, 1, -0.7], [0, 0, 1]])
    em = GaussianMixture(4, reg_covar=1e-6, random_state=0).fit(z)
    mixture = FullMixture(4, 3)
    mixture.maximise(torch.from_numpy(z), torch.from_numpy(em.predict_proba(z)))
    with torch.no_grad():  # EM has converged to 1e-3 in the likelihood: its last M-step is near this one
        np.testing.assert_allclose(mixture.log_weights.exp(), em.weights_, atol=1e-3)
        np.testing.assert_allclose(mixture.means, em.means_, atol=0.02)
        np.testing.assert_allclose(mixture.covariances, em.covariances_, atol=0.05)
        np.testing.assert_allclose(mixture.log_prob(torch.from_numpy(z).float()), em.score_samples(z), atol=0.05)


def test_full_maximise_stays_proper_on_identical_points():
    mixture = FullMixture(2, 2)
    mixture.maximise(torch.zeros(5, 2), torch.eye(2)[torch.tensor([0, 0, 0, 0, 1])])
    with torch.no_grad():
        np.testing.assert_allclose(mixture.covariances, np.stack([1e-6 * np.eye(2)] * 2), rtol=1e-4)
        assert mixture.log_prob(torch.zeros(1, 2)).isfinite().all()


@pytest.mark.parametrize("lead", [(), (2,)])
def test_full_maximise_stays_proper_where_its_floor_is_lost_in_rounding(lead):
    line = torch.randn(*lead, 50, 1, generator=torch.Generator().manual_seed(0)).double() @ torch.tensor([[1e6, 2e6, 3e6]]).double()
    z = torch.cat([line, torch.randn(*lead, 50, 3, generator=torch.Generator().manual_seed(1)).double()], -2)
    r = torch.eye(2)[torch.arange(100) // 50].expand(*lead, 100, 2)
    mixture, plain = FullMixture(2, 3, *lead), FullMixture(1, 3, *lead)
    mixture.maximise(z, r)
    plain.maximise(z[..., 50:, :], r[..., 50:, 1:])
    with torch.no_grad():
        assert mixture.log_prob(z.float()).isfinite().all()
        np.testing.assert_allclose(mixture.covariances[..., 0, :, :].diagonal(dim1=-2, dim2=-1), line.var(-2, correction=0), rtol=1e-4)
        assert torch.equal(mixture.factors[..., 1, :, :], plain.factors[..., 0, :, :]), "what can be factorised stays as it was"
    with pytest.raises(FloatingPointError, match="extreme values in X, or standardise it"):
        mixture.maximise(z.index_fill(-2, torch.tensor(3), torch.nan), r)


def test_full_draws_have_the_components_moments():
    mixture, generator = random_full(n_clusters=2), torch.Generator().manual_seed(2)
    z, c = mixture.sample(40_000, generator)
    every = mixture.place_all(torch.randn(2, 20_000, 3, generator=generator))
    with torch.no_grad():
        shares = np.bincount(c, minlength=2) / len(c)
        np.testing.assert_allclose(shares, mixture.log_weights.exp(), atol=0.015)  # six standard errors
        for k in range(2):
            for draws in (z[c == k], every[k]):
                spread = mixture.covariances[k].diagonal().sqrt()
                np.testing.assert_allclose((draws.mean(0) - mixture.means[k]) / spread, 0, atol=0.08)
                np.testing.assert_allclose(np.cov(draws.T), mixture.covariances[k], atol=0.08 * float(spread.max()) ** 2)
    only, k = mixture.sample(5, generator, cluster=1)
    assert only.shape == (5, 3) and (k == 1).all()


def test_full_mixtures_side_by_side_are_each_themselves():
    many, z = random_full(n_replicas=3), torch.randn(3, 7, 3, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(3, 4, 5, 3, generator=torch.Generator().manual_seed(2))
    r = torch.softmax(torch.randn(3, 7, 4, generator=torch.Generator().manual_seed(3)), 2)
    fitted = FullMixture(4, 3, 3)
    fitted.maximise(z, r)
    for call in (lambda: many.sample(5, torch.Generator()), lambda: many.place(noise[0, 0], torch.arange(4))):
        with pytest.raises(ValueError, match="n_replicas=3.*use place_all"):
            call()
    with torch.no_grad():
        for i in range(3):
            solo = FullMixture(4, 3)
            solo.load_state_dict({name: value[i] for name, value in many.state_dict().items()})
            np.testing.assert_allclose(many.log_responsibilities(z)[i], solo.log_responsibilities(z[i]), rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(many.place_all(noise)[i], solo.place_all(noise[i]), rtol=1e-5, atol=1e-5)
            solo.maximise(z[i], r[i])
            for name, value in fitted.state_dict().items():
                np.testing.assert_allclose(value[i], solo.state_dict()[name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("model, rows, words", [
    (autoencoder_gmm(121), 120, "n_clusters=121 is more than n_samples=120: lower n_clusters"), (vae_gmm(121), 120, "n_clusters=121"),
    (autoencoder_gmm(3, covariance_type="x"), 120, "'covariance_type' parameter of GaussianMixture"), (n2d(121), 120, "n_clusters=121"),
    (n2d(3, n_neighbors=1), 120, "'n_neighbors' parameter of UMAPEmbedding"), (n2d(2), 2, "UMAP needs 3 rows or more, and there are 2"),
    (embedded_ganmm(121), 120, "n_clusters=121"), (embedded_ganmm(3, sigma=2.0), 120, "sigma=2.0"), (embedded_ganmm(3, quirks=("x",)), 120, "no 'x'"),
    (embedded_ganmm(3, init=np.zeros(4, int)), 120, "init has shape"), (embedded_ganmm(3, device="meta"), 120, "device='meta'"),
    (VaDE(2, init="umap"), 2, "init='umap' needs 3 rows or more, and there are 2: use another init"),
    (WAMiCSelection((1,)), 2, "held_out=0.333.* leaves 1 of n_samples=2 to train on"),
    (WAMiCSelection((1,), init="umap"), 3, "init='umap' needs 3 rows or more, and there are 2"),
])
def test_what_a_later_step_refuses_is_said_before_any_work(model, rows, words):
    pytest.importorskip("umap")  # some would miss it first
    prefix = f"{model.steps[0][0]}__" if isinstance(model, Pipeline) else ""
    for way in ("fit", "fit_predict", "fit_transform"):
        if hasattr(model, way):
            with pytest.raises(ValueError, match=words):
                getattr(model, way)(BLOBS[:rows], **{prefix + "callback": lambda *a: pytest.fail("it was trained")})

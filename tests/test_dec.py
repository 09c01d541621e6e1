"""DEC: eqs. 1 to 3 against independent computations, then training, its end, and what it shares with others."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy, t
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, make_blobs
from sklearn.utils._param_validation import InvalidParameterError

from genclust import DEC, VaDE, autoencoder_gmm
from genclust.dec import DECNetwork, divergence, target_distribution
from genclust.metrics import accuracy

RAW, BLOB_OF = make_blobs(150, centers=10 * np.repeat(np.eye(3), 2, axis=1), random_state=3)
X = ((RAW - RAW.min(0)) / np.ptp(RAW, axis=0)).astype(np.float32).clip(0, 1)
SMALL = dict(n_clusters=3, latent_dim=2, hidden=(16, 16), batch_size=32, layer_epochs=2, pretrain_epochs=5, iterations=40,
             update_interval=10, tol=0, n_init=2, random_state=0, device="cpu", precision="float32")


def small(**changes):
    return DEC(**SMALL | changes)


def assignments(z, centers):
    """Eq. 1 by scipy's density of Student's t: a ratio of densities at |z - mu| * sqrt(1) with one degree of freedom."""
    density = t(df=1).pdf(np.linalg.norm(z[:, None].astype(float) - centers, axis=2))
    return density / density.sum(1, keepdims=True)


# -- the formulas --------------------------------------------------------------------------------------


def test_assignments_are_students():
    net = DECNetwork([5, 4, 3], 4, torch.Generator().manual_seed(0))
    torch.nn.init.normal_(net.centers, generator=torch.Generator().manual_seed(1))
    z = 3 * torch.randn(20, 3, generator=torch.Generator().manual_seed(2))
    expected = assignments(z.numpy(), net.centers.detach().numpy())
    np.testing.assert_allclose(net.log_assignments(z).exp().detach(), expected, rtol=1e-5)


def test_target_by_hand():
    q = torch.tensor([[0.8, 0.2], [0.5, 0.5], [0.6, 0.4]])
    f = [1.9, 1.1]
    rows = [[a * a / f[0], b * b / f[1]] for a, b in q.tolist()]
    expected = [[a / (a + b), b / (a + b)] for a, b in rows]
    np.testing.assert_allclose(target_distribution(q), expected, rtol=1e-6)
    even = target_distribution(torch.full((4, 5), 0.2))
    np.testing.assert_allclose(even, 0.2, rtol=1e-6)  # what does not lean anywhere is not sharpened


def test_target_sharpens_and_favours_small_clusters():
    q = torch.tensor([[0.7, 0.3]]).repeat(9, 1)
    assert target_distribution(q)[0, 0] == pytest.approx(0.7, abs=1e-6)  # every cluster as it is large: no change
    mixed = torch.cat([q, torch.tensor([[0.3, 0.7]])])
    p = target_distribution(mixed)
    assert p[-1, 1] > mixed[-1, 1] + 0.1
    assert p[-1, 1] > p[0, 0]  # the member of the small cluster gains more


def test_divergence_is_scipys():
    p, q = torch.softmax(torch.randn(2, 30, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64), 2)
    assert divergence(p, q.log()).item() == pytest.approx(entropy(p.numpy(), q.numpy(), axis=1).mean(), rel=1e-12)
    assert divergence(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]]).log()).item() == pytest.approx(np.log(2))


def test_gradients_are_the_papers():
    """Eqs. 4 and 5: of KL(P || Q), summed over rows, in codes and centres, for a P that is held."""
    net = DECNetwork([5, 3], 4, torch.Generator().manual_seed(0))
    torch.nn.init.normal_(net.centers, generator=torch.Generator().manual_seed(1))
    z = torch.randn(10, 3, generator=torch.Generator().manual_seed(2), requires_grad=True)
    log_q = net.log_assignments(z)
    p = target_distribution(log_q.exp()).detach()
    (10 * divergence(p, log_q)).backward()
    q, apart = log_q.exp().detach(), z.detach()[:, None] - net.centers.detach()
    pulls = (2 * (p - q) / (1 + apart.square().sum(2)))[..., None] * apart  # (alpha + 1) / alpha = 2
    torch.testing.assert_close(z.grad, pulls.sum(1), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(net.centers.grad, -pulls.sum(0), rtol=1e-4, atol=1e-6)


# -- training ------------------------------------------------------------------------------------------


def test_it_starts_from_kmeans_on_the_codes():
    model = small(iterations=0).fit(X)
    codes = model.transform(X)
    found = KMeans(3, n_init=2, random_state=model.seed_).fit(codes)
    np.testing.assert_allclose(model.cluster_centers_, found.cluster_centers_, rtol=1e-5)
    assert np.array_equal(model.labels_, found.labels_) and model.n_iter_ == 0


def test_fitted_attributes_agree():
    model = small().fit(X)
    proba = model.predict_proba(X)
    np.testing.assert_allclose(proba, assignments(model.transform(X), model.cluster_centers_), rtol=1e-4)
    assert np.array_equal(model.labels_, model.predict(X)) and np.array_equal(model.labels_, proba.argmax(1))
    q = proba.astype(float)
    p = q**2 / q.sum(0)
    p /= p.sum(1, keepdims=True)
    assert model.objective_ == pytest.approx(-entropy(p, q, axis=1).mean(), rel=1e-4) == model.score(X)
    assert model.inverse_transform(model.transform(X)).shape == X.shape


def test_the_score_is_highest_where_there_is_nothing_to_tell():
    """What its documentation warns of: it belongs to the rows that are given together, and a uniform Q has none better."""
    model = small().fit(X)
    assert model.score(X[:1]) == pytest.approx(0, abs=1e-6) and model.score(X) < -1e-4
    assert np.mean([model.score(part) for part in np.array_split(X, 5)]) != pytest.approx(model.score(X), rel=0.01)
    with torch.no_grad():
        for values in (model.module_.encoder.layers[-1].weight, model.module_.encoder.layers[-1].bias, model.module_.centers):
            values /= 1000
    assert model.score(X) == pytest.approx(0, abs=1e-6)


def test_training_sharpens_and_finds_blobs():
    start, model = small(iterations=0).fit(X), small(iterations=300, learning_rate=0.1).fit(X)
    assert accuracy(BLOB_OF, model.labels_) > 0.98
    assert model.predict_proba(X).max(1).mean() > start.predict_proba(X).max(1).mean() + 0.02
    assert not np.array_equal(start.module_.encoder.layers[0].weight.detach(), model.module_.encoder.layers[0].weight.detach())
    for was, now in zip(start.module_.decoder.parameters(), model.module_.decoder.parameters()):
        assert torch.equal(was, now)  # as the pretraining left it


def test_renewals_come_at_their_interval_and_moving_rows_are_counted():
    seen = []

    def note(model, phase, step, logs):
        if phase == "dec":
            seen.append((step, model.labels_.copy(), logs["moved"]))

    model = small(learning_rate=0.2).fit(X, callback=note)
    assert [step for step, *_ in seen] == [10, 20, 30, 40] and model.n_iter_ == 40
    labels = [small(iterations=0).fit(X).labels_] + [found for _, found, _ in seen]
    for before, after, (*_, moved) in zip(labels, labels[1:], seen):
        assert moved == pytest.approx((before != after).mean())
    assert np.array_equal(labels[-1], model.labels_)
    whole_pass = small(update_interval=None, iterations=8).fit(X)  # 150 rows, 32 at a time: 4 steps
    assert [h["epoch"] for h in whole_pass.history_ if h["phase"] == "dec"] == [4, 8]


def test_it_stops_when_few_rows_move():
    model = small(tol=0.9, iterations=1000).fit(X)
    assert model.n_iter_ == 10 and model.history_[-1]["moved"] < 0.9


def test_the_target_is_held_between_renewals():
    """One renewal: the first step's loss is KL(P || Q) of the batch for P from all rows, and so P does not follow Q."""
    model = small(update_interval=3, batch_size=4000).fit(X, max_steps=3)
    start = small(iterations=0).fit(X, max_steps=3)
    assert model.step_losses_["dec"][0] == pytest.approx(-start.objective_, rel=0.1)  # 4000 draws of 150 rows
    assert len(model.step_losses_["dec"]) == 3 and model.step_losses_["dec"][2] < model.step_losses_["dec"][0]


class Killed(Exception):
    pass


@pytest.mark.parametrize("at", [10, 30])
def test_a_killed_fit_resumes_bit_for_bit(at, tmp_path, save_always):

    def kill(model, phase, step, logs):
        if (phase, step) == ("dec", at):  # before this renewal is saved
            raise Killed

    whole, model = small(learning_rate=0.2).fit(X), small(learning_rate=0.2)
    with pytest.raises(Killed):
        model.fit(X, callback=kill, checkpoint=tmp_path / "fit.safetensors")
    model.fit(X, checkpoint=tmp_path / "fit.safetensors")
    assert [(h["phase"], h["epoch"], h["loss"], h.get("moved")) for h in model.history_] == \
        [(h["phase"], h["epoch"], h["loss"], h.get("moved")) for h in whole.history_]
    assert np.array_equal(model.cluster_centers_, whole.cluster_centers_) and model.objective_ == whole.objective_
    steps = []
    again = small(learning_rate=0.2).fit(X, callback=lambda *a: steps.append(a), checkpoint=tmp_path / "fit.safetensors")
    assert not steps and again.n_iter_ == 40 and np.array_equal(again.labels_, whole.labels_)


def test_pretrained_layers_are_shared_with_the_others(tmp_path):
    layers = dict(latent_dim=2, hidden=(16, 16), batch_size=32, layer_epochs=2, pretrain_epochs=5, random_state=0, device="cpu",
                  precision="float32")
    before = autoencoder_gmm(3, n_init=1, **layers).fit(X, autoencoder__cache=tmp_path)[0]
    vade = VaDE(3, epochs=1, n_init=1, **layers).fit(X, cache=tmp_path)
    model, alone = small(iterations=0).fit(X, cache=tmp_path), small(iterations=0).fit(X)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1 and vade.seed_ == model.seed_
    assert np.array_equal(model.transform(X), before.transform(X))
    assert np.array_equal(model.cluster_centers_, alone.cluster_centers_)


def test_restarts_keep_the_best_objective():
    seen = []

    class Recording(DEC):
        def _conclude(self, X):
            super()._conclude(X)
            seen.append(self.objective_)

    model = Recording(**SMALL | dict(n_restarts=3)).fit(X)
    assert len(set(seen)) == 3 and model.objective_ == max(seen) == model.score(X)


# -- refusals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, value", [
    ("n_clusters", 0), ("iterations", -1), ("update_interval", 0), ("tol", 1), ("tol", -0.1), ("learning_rate", 0),
    ("momentum", 1), ("momentum", -0.1), ("pretraining", None), ("pretraining", "greedy"), ("n_init", 0), ("batch_size", 0)])
def test_bad_parameter_is_named(name, value):
    with pytest.raises(InvalidParameterError, match=f"'{name}' parameter of DEC"):
        small(**{name: value}).fit(X)


def test_more_clusters_than_samples_is_refused():
    with pytest.raises(ValueError, match="n_clusters=3 is more than n_samples=2"):
        small().fit(X[:2])


def test_divergence_is_said():
    with pytest.raises(FloatingPointError, match="phase 'dec' diverged"):
        small(learning_rate=1e38).fit(X)


# -- real data -----------------------------------------------------------------------------------------


def test_digits_dec_beats_kmeans_and_its_own_start(tmp_path):
    data, y = load_digits(return_X_y=True)
    data = (data / 16).astype(np.float32)
    layers = dict(hidden=(128, 128, 256), batch_size=64, layer_epochs=20, pretrain_epochs=40, random_state=0, device="cpu",
                  precision="float32")
    start, model = (DEC(10, iterations=n, **layers).fit(data, cache=tmp_path) for n in (0, 1500))
    kmeans = accuracy(y, KMeans(10, n_init=10, random_state=0).fit_predict(data))
    assert accuracy(y, model.labels_) > kmeans + 0.01  # 0.838 against 0.792 where this was written
    assert accuracy(y, model.labels_) > accuracy(y, start.labels_) + 0.01  # 0.806

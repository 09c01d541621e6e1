"""The autoencoder: its losses, the stacked pretraining, and the pipeline with a mixture."""

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.utils._param_validation import InvalidParameterError

from genclust import Autoencoder, autoencoder_gmm
from genclust.autoencoder import Dropout, reconstruction_error, resolve_likelihood
from genclust.metrics import accuracy

RAW, BLOB_OF = make_blobs(160, centers=10 * np.eye(3, 8), random_state=0)
GAUSSIAN = ((RAW - RAW.mean(0)) / RAW.std(0)).astype(np.float32)
UNIT = ((RAW - RAW.min(0)) / np.ptp(RAW, axis=0)).astype(np.float32).clip(0, 1)
SETTINGS = dict(latent_dim=2, hidden=(16,), layer_epochs=5, pretrain_epochs=10, batch_size=32, random_state=0,
                device="cpu", precision="float32")


def small(**changes):
    return Autoencoder(**SETTINGS | changes)


def test_reconstruction_errors_by_hand():
    x, out = torch.tensor([[1.0, 0.0], [0.5, 1.0]]), torch.tensor([[0.0, 0.0], [0.0, 3.0]])
    squares = 0.5 * ((1 + 0) + (0.25 + 4)) / 2
    assert float(reconstruction_error(out, x, "gaussian")) == pytest.approx(squares)
    entropy = (2 * np.log(2) + np.log(2) + np.log1p(np.exp(-3))) / 2
    assert float(reconstruction_error(out, x, "bernoulli")) == pytest.approx(entropy, rel=1e-6)
    side_by_side = torch.stack([out, x]).requires_grad_()
    for likelihood in ("gaussian", "bernoulli"):  # of replicas the sum, of which each has the gradient that it has alone
        total = reconstruction_error(side_by_side, torch.stack([x, x]), likelihood)
        alone = [o.clone().requires_grad_() for o in (out, x)]
        errors = [reconstruction_error(o, x, likelihood) for o in alone]
        assert float(total.detach()) == pytest.approx(sum(float(e.detach()) for e in errors), rel=1e-6)
        for found, o, error in zip(torch.autograd.grad(total, side_by_side)[0], alone, errors):
            np.testing.assert_allclose(found, torch.autograd.grad(error, o)[0], rtol=1e-6)


@pytest.mark.parametrize("low, high, expected", [(0, 1, "bernoulli"), (0.2, 0.8, "bernoulli"), (-0.001, 1, "gaussian"),
                                                 (0, 1.001, "gaussian")])
def test_auto_likelihood(low, high, expected):
    X = np.array([[low, high]], dtype=np.float32)
    assert resolve_likelihood("auto", X) == expected
    assert resolve_likelihood("gaussian", X) == "gaussian"
    if expected == "gaussian":
        with pytest.raises(ValueError, match="needs X inside"):
            resolve_likelihood("bernoulli", X)


def test_dropout_keeps_the_mean():
    drop = Dropout(0.2, torch.Generator().manual_seed(0))
    out = drop(torch.ones(300, 300))
    zeros = float((out == 0).float().mean())
    assert abs(zeros - 0.2) < 5 * np.sqrt(0.2 * 0.8 / 90_000)  # five standard errors
    assert torch.equal(out[out != 0], torch.full_like(out[out != 0], 1.25))
    x = torch.randn(4, 4)
    assert Dropout(0, torch.Generator())(x) is x


@pytest.mark.parametrize("X", [UNIT, GAUSSIAN], ids=["bernoulli", "gaussian"])
@pytest.mark.parametrize("pretraining", ["stacked", "end-to-end"])
def test_training_lowers_the_error(X, pretraining):
    start = small(pretraining=pretraining, layer_epochs=0, pretrain_epochs=0).fit(X)
    model = small(pretraining=pretraining).fit(X)
    assert model.objective_ > start.objective_
    phases = ["layer 1", "layer 2", "autoencoder"] if pretraining == "stacked" else ["autoencoder"]
    assert list(dict.fromkeys(row["phase"] for row in model.history_)) == phases
    losses = [row["loss"] for row in model.history_ if row["phase"] == "autoencoder"]
    assert losses[-1] < losses[0]


def test_objective_is_the_error_of_the_reconstructions():
    model = small().fit(GAUSSIAN)
    back = model.inverse_transform(model.transform(GAUSSIAN))
    assert model.objective_ == pytest.approx(-0.5 * ((back - GAUSSIAN) ** 2).sum(1).mean(), rel=1e-5)
    assert model.score(GAUSSIAN) == model.objective_
    model = small().fit(UNIT)
    p = model.inverse_transform(model.transform(UNIT)).astype(float)
    assert p.min() > 0 and p.max() < 1
    expected = (UNIT * np.log(p) + (1 - UNIT) * np.log1p(-p)).sum(1).mean()
    assert model.objective_ == pytest.approx(expected, rel=1e-5)


def test_linear_autoencoder_reaches_principal_components():
    """Without hidden layers the best squared error is PCA's, and training gets near it."""
    model = small(hidden=(), likelihood="gaussian", pretrain_epochs=400, pretrain_learning_rate=0.01,
                  batch_size=160).fit(GAUSSIAN)
    pca = PCA(2).fit(GAUSSIAN)
    best = 0.5 * ((pca.inverse_transform(pca.transform(GAUSSIAN)) - GAUSSIAN) ** 2).sum(1).mean()
    assert best - 1e-4 < -model.objective_ < 1.01 * best  # never below the optimum; 1 % short of it


def test_stacked_layers_reconstruct_the_layers_below():
    """The loss of a layer's phase is that of its own pair, on the output of the layers before it."""
    options = dict(hidden=(12,), corruption=0, batch_size=160, layer_epochs=1, pretrain_epochs=0)
    model = small(**options).fit(GAUSSIAN, max_steps=1)
    first = small(**options | dict(layer_epochs=0)).fit(GAUSSIAN)  # the network as it started
    x = torch.from_numpy(GAUSSIAN)
    encoder, decoder = first.module_.encoder, first.module_.decoder
    with torch.no_grad():
        back = decoder.layer(1, encoder.layer(0, x))
        expected = 0.5 * (back - x).square().sum(1).mean()
        assert model.step_losses_["layer 1"][0] == pytest.approx(float(expected), rel=1e-5)
        below = model.module_.encoder.layer(0, x)  # trained by one step; what is above it is still as it started
        back = decoder.layer(0, encoder.layer(1, below))
        expected = 0.5 * (back - below).square().sum(1).mean()
    assert model.step_losses_["layer 2"][0] == pytest.approx(float(expected), rel=1e-5)


def test_shapes_and_types():
    model = small().fit(UNIT.astype(np.float64))
    codes = model.transform(UNIT)
    assert codes.shape == (160, 2) and codes.dtype == np.float32
    assert model.inverse_transform(codes[:3].tolist()).shape == (3, 8)
    assert np.array_equal(model.fit_transform(UNIT), codes)
    assert list(model.get_feature_names_out()) == ["autoencoder0", "autoencoder1"]


def test_restarts_keep_the_best():
    seeds = {}
    model = small(n_restarts=3).fit(UNIT, callback=lambda est, phase, epoch, logs: seeds.setdefault(est.seed_, 0))
    assert len(seeds) == 3 and model.objective_ >= small().fit(UNIT).objective_
    assert model.score(UNIT) == model.objective_


def test_refusals():
    with pytest.raises(InvalidParameterError, match="'pretraining' parameter of Autoencoder"):
        small(pretraining=None).fit(UNIT)
    with pytest.raises(InvalidParameterError, match="'latent_dim' parameter of Autoencoder"):
        small(latent_dim=0).fit(UNIT)
    with pytest.raises(ValueError, match="likelihood='bernoulli' needs X inside"):
        small(likelihood="bernoulli").fit(GAUSSIAN)


def test_autoencoder_is_not_a_clusterer():
    assert not hasattr(Autoencoder, "fit_predict")


# -- autoencoder_gmm ---------------------------------------------------------------------------


def test_pipeline_clusters_the_codes_and_passes_fit_options_on():
    seen = []
    pipeline = autoencoder_gmm(3, n_init=3, **SETTINGS | dict(hidden=(32,), layer_epochs=20, pretrain_epochs=60))
    labels = pipeline.fit_predict(GAUSSIAN, autoencoder__callback=lambda est, phase, *_: seen.append(phase))
    assert accuracy(BLOB_OF, labels) > 0.98
    assert set(seen) == {"layer 1", "layer 2", "autoencoder"}
    codes = pipeline[0].transform(GAUSSIAN)
    reference = GaussianMixture(3, covariance_type="full", n_init=3, max_iter=300, random_state=0).fit(codes)
    assert np.array_equal(labels, reference.predict(codes))
    assert np.array_equal(labels, pipeline.predict(GAUSSIAN))


def test_pipeline_parameters_arrive():
    pipeline = autoencoder_gmm(4, covariance_type="diag", n_init=7, random_state=5, latent_dim=3)
    params = pipeline.get_params()
    assert params["gaussianmixture__n_components"] == 4 and params["gaussianmixture__covariance_type"] == "diag"
    assert params["gaussianmixture__n_init"] == 7 and params["autoencoder__latent_dim"] == 3
    assert params["gaussianmixture__random_state"] == params["autoencoder__random_state"] == 5

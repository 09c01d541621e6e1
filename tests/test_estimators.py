"""The scikit-learn side: its own checks of an estimator, cloning, pipelines."""

import numpy as np
import pytest
from sklearn.base import clone, is_clusterer
from sklearn.datasets import make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from genclust import DEC, VAE, Autoencoder, DeepKMeans, VaDE, WAMiC
from genclust.metrics import accuracy

TINY = dict(hidden=(16,), latent_dim=2, layer_epochs=1, pretrain_epochs=1, batch_size=64, random_state=0,
            device="cpu", precision="float32")
ESTIMATORS = {"VaDE": VaDE(2, epochs=2, n_init=1, **TINY), "Autoencoder": Autoencoder(**TINY),
              "DEC": DEC(2, iterations=8, update_interval=4, n_init=1, **TINY),
              "VAE": VAE(epochs=2, **{k: v for k, v in TINY.items() if k not in ("layer_epochs", "pretrain_epochs")}),
              "DeepKMeans": DeepKMeans(2, epochs=2, n_init=1, **{k: v for k, v in TINY.items() if k != "layer_epochs"}),
              "WAMiC": WAMiC(2, iterations=2, critic_hidden=(8,), encoder_epochs=1, encoder_start="same", n_init=5,
                              **TINY | dict(pretrain_epochs=5))}
RAW, BLOB_OF = make_blobs(150, centers=10 * np.eye(3, 5), random_state=0)


@pytest.fixture(params=ESTIMATORS)
def estimator(request):
    return clone(ESTIMATORS[request.param])


@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_checks(estimator):
    """All of them, without an expected failure; only array-API input needs an opt-in from outside."""
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    failed = {r["check_name"]: repr(r["exception"]) for r in results if r["status"] != "passed"
              and (r["check_name"], r["status"]) != ("check_array_api_input", "skipped")}  # unless SCIPY_ARRAY_API is set
    assert len(results) > 40 and failed == {}


def test_clone_and_parameters(estimator):
    copy = clone(estimator)
    assert copy is not estimator and copy.get_params() == estimator.get_params()
    copy.set_params(latent_dim=3, hidden=(8, 8))
    assert copy.get_params()["latent_dim"] == 3 and estimator.latent_dim == 2
    codes = copy.fit(RAW).transform(RAW)
    assert codes.shape == (150, 3)
    unfitted = clone(copy)
    assert unfitted.get_params() == copy.get_params() and not hasattr(unfitted, "module_")
    with pytest.raises(ValueError, match="Invalid parameter"):
        copy.set_params(widths=(8,))


def answers(model):
    """All that a fitted model can be asked for."""
    codes = model.transform(RAW)
    found = [codes, model.inverse_transform(codes), model.score(RAW), model.get_feature_names_out()]
    found += [getattr(model, name)(RAW) for name in ("predict", "predict_proba") if hasattr(model, name)]
    return found + ([*model.sample(5)] if hasattr(model, "sample") else [])


def test_a_parameter_that_is_set_is_for_the_next_fit(estimator):
    other = dict(n_clusters=7, latent_dim=5, hidden=(3,), epochs=0, iterations=0, batch_size=7, likelihood="bernoulli", output="sigmoid",
                 image_shape=(5, 1), epsilon=9.0, clustering_weight=5.0, size_penalty=0, sinkhorn_iterations=1, kl_weight=0.0, critic_hidden=(3,))
    before = answers(estimator.fit(RAW))
    estimator.set_params(**{name: value for name, value in other.items() if name in estimator.get_params()})
    for was, now in zip(before, answers(estimator), strict=True):
        assert np.array_equal(was, now)


@pytest.mark.parametrize("method", ["transform", "inverse_transform", "score"])
def test_unfitted_is_said(estimator, method):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(estimator, method)(np.zeros((3, 2)))


@pytest.mark.parametrize("name, call", [
    ("VaDE", lambda m: m.predict(RAW)), ("VaDE", lambda m: m.predict_proba(RAW)), ("VaDE", lambda m: m.sample(3)),
    ("DEC", lambda m: m.predict(RAW)), ("DEC", lambda m: m.predict_proba(RAW)), ("VAE", lambda m: m.sample(3))])
def test_unfitted_is_said_of_what_only_some_have(name, call):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        call(clone(ESTIMATORS[name]))


def test_wrong_number_of_features_is_refused(estimator):
    estimator.fit(RAW)
    with pytest.raises(ValueError, match="5 features"):
        estimator.transform(RAW[:, :4])


def test_kinds():
    assert {name for name, estimator in ESTIMATORS.items() if not is_clusterer(estimator)} == {"Autoencoder", "VAE"}


def test_pipeline_of_scaler_and_vade():
    scale = [1, 10, 100, 1000, 0.01]
    model = VaDE(3, init="gmm-full", epochs=5, n_init=5, **TINY | dict(layer_epochs=20, pretrain_epochs=40,
                                                                      batch_size=32))
    pipeline = make_pipeline(StandardScaler(), model)
    labels = pipeline.fit_predict(RAW * scale)
    assert accuracy(BLOB_OF, labels) > 0.95
    assert np.array_equal(labels, pipeline.predict(RAW * scale))
    alone = clone(model).fit(StandardScaler().fit_transform(RAW * scale))
    assert np.array_equal(labels, alone.labels_)
    assert pipeline.score(RAW * scale) == pytest.approx(alone.objective_, rel=1e-6)


def test_pandas_output_has_named_columns(estimator):
    pytest.importorskip("pandas")
    frame = estimator.set_output(transform="pandas").fit(RAW).transform(RAW)
    assert list(frame.columns) == [f"{type(estimator).__name__.lower()}{i}" for i in range(2)]


def test_model_selection_uses_the_bound():
    search = GridSearchCV(ESTIMATORS["VaDE"], {"epochs": [0, 30]}, cv=2).fit(StandardScaler().fit_transform(RAW))
    assert search.best_params_ == {"epochs": 30}


def test_data_frames_and_lists_are_taken(estimator):
    array = RAW.astype(np.float32)
    expected = clone(estimator).fit(array).transform(array)
    assert np.array_equal(clone(estimator).fit(array.tolist()).transform(array.tolist()), expected)
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(array, columns=list("abcde"))
    fitted = clone(estimator).fit(frame)
    assert np.array_equal(fitted.transform(frame), expected)
    with pytest.raises(ValueError, match="feature names"):
        fitted.transform(frame[list("edcba")])

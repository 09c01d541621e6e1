"""The VAE: its bound against closed forms, training, and the pipeline with a mixture."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.datasets import load_digits
from sklearn.mixture import GaussianMixture
from sklearn.utils._param_validation import InvalidParameterError

from genclust import VAE, vae_gmm

X = (load_digits().data[:300] / 16).astype(np.float32)
SMALL = dict(latent_dim=2, hidden=(16,), epochs=3, batch_size=64, random_state=0, device="cpu", precision="float32")


def small(**changes):
    return VAE(**SMALL | changes)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_the_bound_is_reconstruction_minus_the_kl_to_a_standard_normal(likelihood):
    """Appendix B of the paper: -KL = (1 + log var - mean^2 - var) / 2, summed; the first step's loss has both terms."""
    model = small(likelihood=likelihood, batch_size=300).fit(X, max_steps=1)
    net = small(likelihood=likelihood, epochs=0).fit(X).module_  # as it starts
    generator = torch.Generator().manual_seed(model.seed_)
    x = torch.from_numpy(X)[torch.randperm(300, generator=generator)]
    noise = torch.randn(300, 2, generator=generator)
    with torch.no_grad():
        mean, log_var = net.encoder.distribution(x)
        kl = -0.5 * (1 + log_var - mean.square() - log_var.exp()).sum(1)
        terms = net.elbo_terms(x, noise)
        z = mean + noise * (0.5 * log_var).exp()
        if likelihood == "bernoulli":
            log_p = torch.distributions.Bernoulli(logits=net.decoder(z), validate_args=False).log_prob(x).sum(1)
        else:
            at, at_log_var = net.decoder.distribution(z)
            log_p = torch.distributions.Normal(at, (0.5 * at_log_var).exp()).log_prob(x).sum(1)
    np.testing.assert_allclose(terms["log p(x|z)"], log_p, rtol=1e-4)
    np.testing.assert_allclose(sum(terms.values()) - terms["log p(x|z)"], -kl, rtol=1e-4, atol=1e-4)
    assert model.step_losses_["vae"][0] == pytest.approx(float(kl.mean() - log_p.mean()), rel=1e-4)


def test_the_prior_stays_standard():
    mixture = small(epochs=5).fit(X).module_.mixture
    z = torch.randn(10, 2, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(mixture.log_prob(z).detach(), multivariate_normal(np.zeros(2)).logpdf(z.numpy()), rtol=1e-5)
    for parameter in mixture.parameters():
        assert (parameter == 0).all()


def test_training_improves_the_bound_and_history_has_its_terms():
    start, model = small(epochs=0).fit(X), small(epochs=30).fit(X)
    assert model.objective_ > start.objective_ + 5  # nats a row
    assert model.score(X) == model.objective_
    for row in model.history_:
        assert row["phase"] == "vae" and row["loss"] == pytest.approx(-(row["log p(x|z)"] + row["-KL"]), rel=1e-5) and row["-KL"] < 0
    rates = [row["learning_rate"] for row in model.history_]
    assert rates == pytest.approx([0.002] * 10 + [0.0018] * 10 + [0.00162] * 10)


def test_codes_are_the_means_of_the_posterior_and_draws_come_from_the_prior():
    model = small(epochs=10).fit(X)
    with torch.no_grad():
        np.testing.assert_array_equal(model.transform(X), model.module_.encoder.distribution(torch.from_numpy(X))[0])
    draws = model.sample(3000, random_state=0)
    assert draws.shape == (3000, 64) and draws.min() >= 0 and draws.max() <= 1
    z = np.random.default_rng(0).normal(size=(3000, 2))
    np.testing.assert_allclose(draws.mean(0), model.inverse_transform(z).mean(0), atol=0.03)
    assert np.array_equal(draws, model.sample(3000, random_state=0))
    with pytest.raises(ValueError, match="n_samples=0"):
        model.sample(0)


def test_a_killed_fit_resumes_bit_for_bit(tmp_path, save_always):

    class Killed(Exception):
        pass

    def kill(model, phase, epoch, logs):
        if epoch == 2:
            raise Killed

    whole, model = small().fit(X), small()
    with pytest.raises(Killed):
        model.fit(X, callback=kill, checkpoint=tmp_path / "fit.safetensors")
    model.fit(X, checkpoint=tmp_path / "fit.safetensors")
    assert [h["loss"] for h in model.history_] == [h["loss"] for h in whole.history_] and model.objective_ == whole.objective_


def test_the_pipeline_clusters_the_codes():
    pipeline = vae_gmm(4, n_init=2, **SMALL)
    labels = pipeline.fit_predict(X)
    codes = pipeline[0].transform(X)
    reference = GaussianMixture(4, covariance_type="full", n_init=2, max_iter=300, random_state=0).fit(codes)
    assert np.array_equal(labels, reference.predict(codes)) and np.array_equal(labels, pipeline.predict(X))
    assert vae_gmm(4, covariance_type="diag", latent_dim=7).get_params()["vae__latent_dim"] == 7


def test_digits_beyond_chance_and_better_than_untrained():
    """VAE+GMM does not claim to beat k-means (in the paper it is the weakest of the deep rows); training must help it."""
    from genclust.metrics import accuracy
    digits, y = load_digits(return_X_y=True)
    digits = (digits / 16).astype(np.float32)
    options = dict(n_init=2, hidden=(64,), latent_dim=5, batch_size=64, random_state=0, device="cpu", precision="float32")
    before, after = (accuracy(y, vae_gmm(10, epochs=n, **options).fit_predict(digits)) for n in (0, 40))
    assert after > before + 0.05 and after > 0.6


@pytest.mark.parametrize("name, value", [("latent_dim", 0), ("epochs", -1), ("learning_rate", 0), ("lr_decay", 1.5),
                                         ("lr_decay_every", 0), ("lr_floor", -1), ("adam_eps", 0), ("likelihood", "poisson")])
def test_bad_parameter_is_named(name, value):
    with pytest.raises(InvalidParameterError, match=f"'{name}' parameter of VAE"):
        small(**{name: value}).fit(X)


def test_data_outside_the_unit_interval_need_another_likelihood():
    with pytest.raises(ValueError, match="likelihood='bernoulli' needs X inside"):
        small(likelihood="bernoulli").fit(X + 1)
    assert small(epochs=1).fit(X + 1).likelihood_ == "gaussian"

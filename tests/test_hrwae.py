"""HRWAE-GAN: equations 3 to 11 against independent computations, then training, clustering and refusals."""

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.ndimage import gaussian_filter
from sklearn.base import clone, is_clusterer
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import InvalidParameterError
from torch.distributions import Bernoulli, Normal, kl_divergence
from torch.nn.functional import cosine_similarity

from genclust import HRWAEGAN, density, hierarchical
from genclust.adversarial import relativistic, standard
from genclust.hierarchical import HierarchicalAutoencoder, LatentDiscriminator, n_cells, soft_clamp
from genclust.hrwae import HRWAENetwork, infer_image_shape, intermediate_loss, padded_side, player_losses
from genclust.base import Diverged
from genclust.lab import fid, runner
from genclust.lab.experiments import make_specs
from genclust.lab.papers import CHECKS, hrwae_gan
from genclust.lab.records import RecordStore
from genclust.metrics import accuracy

DIGITS = (load_digits().data / 16).astype(np.float32)
SMALL = dict(n_groups=2, latent_channels=2, width=4, discriminator_width=16, epochs=2, attention_rounds=1,
             attention_epochs=2, batch_size=32, n_neighbors=5, random_state=0, device="cpu", precision="float32")


def small(**changes):
    return HRWAEGAN(**SMALL | changes)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(like):
    return torch.randn(like.shape, generator=generator(like.numel()))


def autoencoder(side=16, channels=1, n_groups=3, latent_channels=2, width=4, extra=0):
    return HierarchicalAutoencoder(side, channels, n_groups, latent_channels, width, extra, generator())


class Plain:
    """Stands in for UMAP: the first columns as they are."""

    def __init__(self, codes):
        self.embedding_ = self.transform(codes)

    def transform(self, codes):
        return codes[:, :4].astype(np.float32)


@pytest.fixture
def no_umap(monkeypatch):
    """Tests of everything but UMAP need not wait until numba has compiled it."""
    monkeypatch.setattr(density, "umap", lambda codes, neighbours, seed: Plain(codes))


def all_noise(points, *settings):
    return SimpleNamespace(labels_=np.full(len(points), -1))


# -- losses ------------------------------------------------------------------------------------------


def test_relativistic_losses_are_equations_3_and_4():
    real, fake = noise(torch.zeros(50)), noise(torch.zeros(50, 1))[:, 0] + 1
    l_d, l_g = relativistic(real, fake)
    sigmoid = lambda x: 1 / (1 + np.exp(-x.double().numpy()))
    assert l_d.item() == pytest.approx(-np.log(sigmoid(real - fake)).mean(), rel=1e-5)
    assert l_g.item() == pytest.approx(-np.log(sigmoid(fake - real)).mean(), rel=1e-5)
    assert all(loss.isfinite() for loss in relativistic(torch.tensor([1e4]), torch.tensor([-1e4])))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_standard_losses_are_cross_entropies(smoothing):
    real, fake = noise(torch.zeros(50)), noise(torch.zeros(51))[:50]
    l_d, l_g = standard(real, fake, smoothing)
    judged = Bernoulli(logits=real)
    expected = -((1 - smoothing) * judged.log_prob(torch.ones(50)) + smoothing * judged.log_prob(torch.zeros(50))).mean()
    assert l_d.item() == pytest.approx((expected - Bernoulli(logits=fake).log_prob(torch.zeros(50)).mean()).item(), rel=1e-5)
    assert l_g.item() == pytest.approx(-Bernoulli(logits=fake).log_prob(torch.ones(50)).mean().item(), rel=1e-5)


def test_kl_divergence_is_torchs():
    q, p = (hierarchical.Normal(torch.randn(3, 2, 2, 2, generator=generator(i)), torch.randn(3, 2, 2, 2, generator=generator(i + 9)))
            for i in (0, 1))
    expected = kl_divergence(Normal(q.mean, q.log_std.exp()), Normal(p.mean, p.log_std.exp())).flatten(1).sum(1)
    torch.testing.assert_close(hierarchical.kl_divergence(q, p), expected)


def test_soft_clamp_bounds_and_keeps_what_is_small():
    x = torch.tensor([-1e3, -0.1, 0.0, 0.1, 1e3])
    torch.testing.assert_close(soft_clamp(x), torch.tensor([-5.0, -0.1, 0.0, 0.1, 5.0]), atol=2e-5, rtol=0)


def test_intermediate_loss_is_a_cosine_dissimilarity():
    a, b, c = (torch.randn(4, 3, 2, 2, generator=generator(i)) for i in range(3))
    expected = sum((1 - cosine_similarity(x.reshape(4, -1), y.reshape(4, -1))).mean() for x, y in ((a, b), (b, c)))
    torch.testing.assert_close(intermediate_loss([(a, b), (b, c)]), expected)
    assert intermediate_loss([(a, 3 * a)]).abs() < 1e-6 and intermediate_loss([(a, -a)]).item() == pytest.approx(2)
    assert intermediate_loss([]) == 0  # L = 1


def test_each_players_loss_reaches_that_player_alone():
    net = HRWAENetwork((8, 8, 1), "bernoulli", 2, 2, 4, 0, 16, generator())
    found = net.autoencoder(net.images(torch.rand(8, 64, generator=generator())), noise)
    mine, theirs = list(net.autoencoder.parameters()), list(net.discriminators.parameters())
    l_d, l_g = player_losses(found, net.discriminators, relativistic, [1.0, 0.5])
    for loss, reached, untouched in ((l_d, theirs, mine), (l_g, mine, theirs)):
        assert all(g is None for g in torch.autograd.grad(loss, untouched, allow_unused=True, retain_graph=True))
        assert any(g is not None and g.abs().max() > 0
                   for g in torch.autograd.grad(loss, reached, allow_unused=True, retain_graph=True))
    parts = [relativistic(*d(real, fake)) for d, real, fake in zip(net.discriminators, found.real, found.fake)]
    torch.testing.assert_close(l_d, parts[0][0] + 0.5 * parts[1][0])  # equation 5
    torch.testing.assert_close(l_g, parts[0][1] + 0.5 * parts[1][1])  # equation 6


def test_statements_that_need_no_records_hold():
    for check in hrwae_gan.CHECKS:
        assert CHECKS[check.__name__] is check and check()[0], check.__name__


# -- networks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("side, cells", [(4, 1), (8, 2), (32, 4), (64, 5)])
def test_number_of_cells_is_equation_7(side, cells):
    net = autoencoder(side, n_groups=cells)
    assert n_cells(side) == cells == len(net.encoder)
    found = net(torch.zeros(2, 1, side, side), torch.zeros_like)
    assert found.output.shape == (2, 1, side, side)
    assert [z.shape[-1] for z in found.fake] == [z.shape[-1] for z in found.real] == [2 ** (l + 1) for l in range(cells)]
    assert all(encoded.shape == decoded.shape for encoded, decoded in found.maps) and len(found.maps) == cells - 1


def test_extra_layers_keep_the_shapes():
    found = autoencoder(extra=1)(torch.zeros(2, 1, 16, 16), torch.zeros_like)
    assert found.output.shape == (2, 1, 16, 16)
    assert len(autoencoder(extra=1).encoder[0]) == 2 * len(autoencoder().encoder[0])


def test_generation_is_the_decoder_fed_with_its_priors():
    """Where q(z_l | z_<l, x) is p(z_l | z_<l), a reconstruction is what is generated from the same z_0 and noise."""
    net = autoencoder().eval()
    for group in net.groups:
        torch.nn.init.zeros_(group.posterior_sampler.weight)
    with torch.no_grad():
        found = net(torch.rand(5, 1, 16, 16, generator=generator()), noise)
        assert all(torch.equal(q.mean, p.mean) for q, p in zip(found.posteriors[1:], found.priors[1:]))
        torch.testing.assert_close(net.generate([found.fake[0], *map(noise, found.fake[1:])]), found.output)
    assert [n.shape for n in net.noises(5, generator())] == [z.shape for z in found.fake]


def test_posterior_is_relative_to_the_prior():
    net = autoencoder(n_groups=2)
    for sampler, value in ((net.groups[0].prior_sampler, 1.0), (net.groups[0].posterior_sampler, 0.25)):
        torch.nn.init.zeros_(sampler.weight)
        torch.nn.init.constant_(sampler.bias, value)
    found = net(torch.rand(3, 1, 16, 16, generator=generator()), noise)
    bounded = 5 * math.tanh(1 / 5), 5 * math.tanh(0.25 / 5)
    for moment in (0, 1):
        assert torch.allclose(found.priors[1][moment], torch.tensor(bounded[0]))
        assert torch.allclose(found.posteriors[1][moment], torch.tensor(sum(bounded)))


def test_groups_started_at_the_priors_are_standard_normal_whatever_the_image():
    images = torch.rand(5, 1, 16, 16, generator=generator(1))
    for start in ("prior", "random"):
        net = HierarchicalAutoencoder(16, 1, 3, 2, 4, 0, generator(), start)
        found = net(images, noise)
        for p, q in zip(found.priors[1:], found.posteriors[1:]):
            at_the_prior = all(not x.any() for x in (*p, *q))
            assert at_the_prior == (start == "prior")
    net = HierarchicalAutoencoder(16, 1, 3, 2, 4, 0, generator(), "prior")
    found = net(images, noise)
    (found.posteriors[2].mean.sum() + found.priors[1].log_std.sum()).backward()
    assert net.groups[1].posterior_sampler.weight.grad.any() and net.groups[0].prior_sampler.weight.grad.any(), "nothing learns"


def test_lower_groups_see_the_image_and_priors_only_what_is_above():
    net = autoencoder(n_groups=2).eval()
    x = torch.rand(2, 1, 16, 16, generator=generator())
    found, other = net(x, noise), net(1 - x, noise)
    pinned = net.groups[0].prior(net.decoder[0](net.stem(found.fake[0])))
    torch.testing.assert_close(pinned.mean, found.priors[1].mean)
    assert not torch.allclose(found.posteriors[1].mean - found.priors[1].mean,
                              other.posteriors[1].mean - other.priors[1].mean, atol=1e-3)


def test_discriminator_sees_where_one_kind_lies():
    """Normalised apart, two batches that differ in location alone would look the same."""
    d = LatentDiscriminator(8, 16, generator())
    z = noise(torch.zeros(64, 8))
    real, fake = d(z, z + 3)
    assert real.shape == fake.shape == (64,) and (real - fake).abs().mean() > 0.1
    same = d(z, z)
    torch.testing.assert_close(same[0], same[1])


@pytest.mark.parametrize("shape", [(28, 28, 1), (8, 8, 1), (5, 7, 1), (32, 32, 3), (9, 6, 2)])
def test_rows_go_to_images_and_back(shape):
    net = HRWAENetwork(shape, "gaussian", 1, 2, 4, 0, 16, generator())
    x = torch.rand(3, math.prod(shape), generator=generator())
    images = net.images(x)
    side = padded_side(*shape[:2])
    assert images.shape == (3, shape[2], side, side) and side & (side - 1) == 0
    assert torch.equal(net.rows(images), x)
    assert images.sum().item() == pytest.approx(x.sum().item(), rel=1e-5)  # what is added is zero
    pixel = images[0, :, net.padding[2], net.padding[0]]
    assert torch.equal(pixel, x[0, : shape[2]])  # the channels of a pixel lie side by side


def test_reconstruction_error_is_that_of_the_pixels_that_were_there():
    x = torch.rand(4, 35, generator=generator())
    for likelihood in ("bernoulli", "gaussian"):
        net = HRWAENetwork((5, 7, 1), likelihood, 1, 2, 4, 0, 16, generator())
        output = torch.randn(4, 1, 8, 8, generator=generator())
        inside = net.rows(output)
        expected = (-(x * inside.sigmoid().log() + (1 - x) * (1 - inside.sigmoid()).log()) if likelihood == "bernoulli"
                    else (inside - x).square() / 2).sum(1)
        torch.testing.assert_close(net.reconstruction(output, x), expected)


@pytest.mark.parametrize("n, shape", [(784, (28, 28, 1)), (3072, (32, 32, 3)), (64, (8, 8, 1)), (12, (2, 2, 3))])
def test_shape_of_square_images_is_inferred(n, shape):
    assert infer_image_shape(n) == shape


# -- training ----------------------------------------------------------------------------------------


def test_loss_is_equation_9(no_umap):
    model = small(warm_up=0, adversarial_weight=7.0, intermediate_weight=3.0, noise_weight=0.25).fit(DIGITS[:300])
    assert [(h["phase"], h["epoch"]) for h in model.history_] == [("hrwae", 1), ("hrwae", 2), ("attention 1", 1), ("attention 1", 2)]
    assert list(model.planned_epochs().items()) == [("hrwae", 2), ("attention 1", 2)]
    for h in model.history_:
        total = (h["reconstruction"] + 7 * h["regulariser"] + 3 * h["intermediate"] + 0.25 * h["noise"] + h["discriminators"])
        assert h["loss"] == pytest.approx(total, rel=1e-5)
        assert (h["noise"] > 0) == h["phase"].startswith("attention")


def test_adversary_warms_up_and_rate_falls_over_all_phases(no_umap):
    h = small(warm_up=1.0, epochs=2, noise_weight=0).fit(DIGITS[:320]).history_
    weights = [(x["loss"] - x["reconstruction"] - 10 * x["intermediate"] - x["discriminators"]) / x["regulariser"] for x in h]
    assert 0 < weights[0] < weights[1] < 20
    rates = [x["learning_rate"] for x in small(epochs=2).fit(DIGITS[:100]).history_]
    assert rates == pytest.approx([3e-4 * (0.5 + 0.5 * math.cos(math.pi * i / 4)) for i in range(4)])


def test_training_improves_reconstruction_and_finds_the_prior(no_umap):
    options = dict(attention_rounds=0, learning_rate=2e-3, adversarial_weight=5.0)
    start = small(epochs=0, attention_rounds=0).fit(DIGITS[:600])
    trained = small(epochs=12, **options).fit(DIGITS[:600])
    assert trained.objective_ > start.objective_ + 5  # nats an image, of about 40
    loose = small(epochs=12, **options | dict(adversarial_weight=0.0)).fit(DIGITS[:600])
    assert max(trained.drift(DIGITS[:600])) < 0.7 * max(loose.drift(DIGITS[:600]))


def test_the_players_steps(no_umap):
    """Adam's first step is the rate in every weight with a gradient; its memory, beta1, tells from the second on."""
    def weights(epochs, **changes):
        model = small(epochs=epochs, batch_size=100, attention_rounds=0, warm_up=0, **changes).fit(DIGITS[:100])
        return {name: p.detach().clone() for name, p in model.module_.named_parameters()}

    start, one = weights(0), weights(1, discriminator_factor=2.0)
    for part, rate in (("discriminators", 6e-4), ("autoencoder", 3e-4)):
        steps = torch.cat([(one[name] - start[name]).abs().flatten() for name in start if name.startswith(part)])
        assert float(steps.median()) == pytest.approx(rate, rel=1e-3)
    assert all(torch.allclose(p, one[name], atol=1e-7) for name, p in weights(1, discriminator_factor=2.0, beta1=0.9).items())
    with_memory, without = weights(2, beta1=0.9), weights(2)
    assert not any(torch.equal(with_memory[name], p) for name, p in without.items() if name.startswith("discriminators") and p.ndim == 2)


@pytest.mark.parametrize("regulariser", ["standard", "smoothed", "kl"])
def test_other_regularisers_train(no_umap, regulariser):
    model = small(regulariser=regulariser, n_groups=2).fit(DIGITS[:200])
    assert np.isfinite([h["loss"] for h in model.history_]).all()
    assert (model.history_[-1]["discriminators"] == 0) == (regulariser == "kl")


def test_restarts_keep_the_best_with_its_clustering(no_umap):
    seen = []

    class Recording(HRWAEGAN):
        def _conclude(self, X):
            super()._conclude(X)
            seen.append((self.objective_, self._boxes_))

    model = Recording(**SMALL | dict(n_restarts=3, epochs=1)).fit(DIGITS[:200])
    best = max(seen, key=lambda run: run[0])
    assert len(seen) == 3 and (model.objective_, model._boxes_) == best
    assert np.array_equal(model.cluster(), model.labels_) and model.score(DIGITS[:200]) == model.objective_


def test_divergence_is_said(no_umap):
    """From the first epoch on: the state before it is finite, and of no use for such rows."""
    with pytest.raises(FloatingPointError, match="phase 'hrwae' diverged by epoch 1: .*after epoch 0; lower the learning rates"):
        small(likelihood="gaussian").fit(DIGITS[:100] * 1e25)


def test_of_a_last_state_that_can_not_be_clustered_nothing_is_left(monkeypatch):
    def refuse(codes, neighbours, seed):
        raise ValueError("Input contains infinity")

    monkeypatch.setattr(density, "umap", refuse)
    model = small(likelihood="gaussian")
    with pytest.raises(FloatingPointError, match="diverged by epoch 1.*; and nothing can be made of that state: Input contains infinity") as error:
        model.fit(DIGITS[:100] * 1e25)
    assert not isinstance(error.value, Diverged)  # which would promise a fitted estimator
    with pytest.raises(NotFittedError):
        model.transform(DIGITS[:3])


def poison(at, seen):
    """A callback that spoils a weight after an epoch, so that the next one diverges, and keeps the state before."""
    def callback(model, phase, epoch, logs):
        if (phase, epoch) == at:
            seen.update({key: value.clone() for key, value in model.module_.state_dict().items()})
            with torch.no_grad():
                next(model.module_.autoencoder.parameters()).fill_(float("nan"))
    return callback


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("at", [("hrwae", 2), ("attention 1", 1)])
def test_divergence_leaves_the_last_finite_epoch(no_umap, tmp_path, at, precision):
    options = dict(epochs=3, precision=precision)
    model, seen, path = small(**options), {}, tmp_path / "fit.safetensors"
    with pytest.raises(Diverged, match=f"phase '{at[0]}' diverged by epoch {at[1] + 1}: .* after epoch {at[1]}; lower") as error:
        model.fit(DIGITS[:200], callback=poison(at, seen), checkpoint=path)
    assert error.value.iteration == at[1] + 1 and (model.history_[-1]["phase"], model.history_[-1]["epoch"]) == at
    assert all(torch.equal(value, seen[key]) for key, value in model.module_.state_dict().items())
    assert np.isfinite(model.objective_) and model.predict(DIGITS[:20]).shape == (20,) and model.labels_.shape == (200,)
    model.fit(DIGITS[:200], checkpoint=path)  # nothing spoils it now: it goes on from there
    whole = small(**options).fit(DIGITS[:200])
    assert [h["loss"] for h in model.history_] == [h["loss"] for h in whole.history_] and model.objective_ == whole.objective_


def test_a_run_that_breaks_off_leaves_a_record_that_says_so(no_umap, tmp_path, monkeypatch):
    spoil = poison(("hrwae", 1), {})
    spec = make_specs("hrwae-gan/digits", profile="smoke", methods=["hrwae-l1"], epochs=2)[0]
    call = runner.Follower.__call__
    monkeypatch.setattr(runner.Follower, "__call__", lambda self, *given: (call(self, *given), spoil(*given)))
    record = runner.execute(spec, RecordStore(tmp_path / "records"), tmp_path / "work")
    assert record.metrics["diverged"] == 2 and record.metrics["drift"] is not None and len(record.history) == 1


def test_a_callback_that_looks_does_not_change_the_fit(no_umap):
    alone = small().fit(DIGITS[:200])
    watched = small().fit(DIGITS[:200], callback=lambda model, phase, epoch, logs: logs.update(seen=model.score(DIGITS[:200])))
    assert alone.objective_ == watched.objective_ and all("seen" in h for h in watched.history_)


def test_a_fit_killed_during_attention_resumes_bit_for_bit(tmp_path, save_always, no_umap):
    whole = small(attention_epochs=3).fit(DIGITS[:200])

    def kill(model, phase, epoch, logs):
        if (phase, epoch) == ("attention 1", 2):
            raise KeyboardInterrupt

    model = small(attention_epochs=3)
    with pytest.raises(KeyboardInterrupt):
        model.fit(DIGITS[:200], callback=kill, checkpoint=tmp_path / "fit.safetensors")
    model.fit(DIGITS[:200], checkpoint=tmp_path / "fit.safetensors")
    assert [h["loss"] for h in model.history_] == [h["loss"] for h in whole.history_]
    assert model.objective_ == whole.objective_ and np.array_equal(model.labels_, whole.labels_)
    for a, b in zip(model.module_.state_dict().values(), whole.module_.state_dict().values()):
        assert torch.equal(a, b)


def test_a_replay_repeats_itself_and_clusters_nothing(monkeypatch):
    def fail(*args):
        raise AssertionError("UMAP in a replay")

    monkeypatch.setattr(density, "umap", fail)
    first, second = (small().fit(DIGITS[:100], max_steps=3) for _ in range(2))
    assert first.step_losses_ == second.step_losses_ and not hasattr(first, "labels_")
    assert {phase: len(losses) for phase, losses in first.step_losses_.items()} == {"hrwae": 3, "attention 1": 3}


# -- clustering --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n, neighbours", [(70_000, 100), (30_000, 100), (29_999, 99), (6000, 20), (4799, 15), (10, 15)])
def test_number_of_neighbours_is_equation_8_but_not_under_umaps_own(n, neighbours):
    assert density.n_neighbors(n) == neighbours


def test_nearest_cluster_takes_noise_in():
    points = np.array([[0.0], [1.0], [10.0], [2.0], [9.0]])
    assert density.nearest_cluster(points, np.array([0, 0, 1, -1, -1])).tolist() == [0, 0, 1, 0, 1]
    for same in ([-1] * 5, [0, 0, 1, 1, 1]):
        assert density.nearest_cluster(points, np.array(same)).tolist() == same


@pytest.fixture(scope="module")
def fitted():
    """A fit with UMAP and HDBSCAN as they are."""
    model = small(latent_channels=4, width=8, epochs=15, attention_epochs=1, learning_rate=2e-3, adversarial_weight=2.0, n_neighbors=15)
    return model.fit(DIGITS[:600])


def test_clusters_are_far_from_chance_and_noise_is_marked(fitted):
    y = load_digits().target[:600]
    assert fitted.labels_.shape == (600,) and fitted.labels_.min() >= -1 and fitted.embedding_.shape == (600, 10)
    assert np.array_equal(fitted.labels_, fitted.cluster(0, "hdbscan"))
    assert accuracy(y, fitted.cluster(0, "gmm")) > 0.5
    assert accuracy(y, density.nearest_cluster(fitted.embedding_, fitted.labels_)) > 0.3
    assert {"group 0 umap", "group 0 hdbscan", "group 0 gmm"} <= fitted.clustering_seconds_.keys()


def test_the_rows_of_the_fit_are_predicted_where_the_fit_put_them(fitted):
    assert (fitted.predict(DIGITS[:600]) == fitted.labels_).mean() > 0.99
    assert 0.5 < (fitted.predict(DIGITS[:200]) == fitted.labels_[:200]).mean() < 1  # a part of them is placed anew
    assert set(fitted.predict(DIGITS[600:650])) <= set(fitted.labels_) | {-1}


def test_a_prediction_leaves_torchs_threads_alone(fitted, monkeypatch):
    reducer = fitted._box(0, "umap")
    transform = reducer.transform
    monkeypatch.setattr(reducer, "transform", lambda codes: torch.set_num_threads(2) or transform(codes))  # as numba does
    fitted.predict(DIGITS[:20])
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("missing, changes, words", [
    ("umap", dict(clustering="gmm", attention_rounds=0), "UMAP needs umap-learn: pip install"),
    ("hdbscan", dict(attention_rounds=0), "this clustering needs hdbscan: pip install"),
    ("hdbscan", dict(clustering="gmm"), "this clustering needs hdbscan: pip install")])  # for the attention
def test_what_is_not_installed_is_said_before_any_work(no_umap, monkeypatch, missing, changes, words):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=words):
        small(**changes).fit(DIGITS[:100], callback=lambda *a: pytest.fail("it was trained"))
    assert small(**changes).fit(DIGITS[:100], max_steps=2).step_losses_  # a replay needs neither


@pytest.mark.parametrize("changes", [dict(attention_rounds=0), dict(noise_weight=0.0)])
def test_a_mixture_without_attention_needs_no_hdbscan(no_umap, monkeypatch, changes):
    monkeypatch.setitem(sys.modules, "hdbscan", None)
    assert small(clustering="gmm", n_clusters=3, **changes).fit(DIGITS[:100]).labels_.shape == (100,)


def test_codes_reconstructions_and_samples(fitted):
    X = DIGITS[:50]
    assert fitted.transform(X).shape == (50, 16) and fitted.transform(X, group=1).shape == (50, 64)
    assert len(fitted.get_feature_names_out()) == 16
    pandas = pytest.importorskip("pandas")
    named = clone(small()).set_output(transform="pandas")
    vars(named).update({name: value for name, value in vars(fitted).items() if name.endswith("_")})
    assert isinstance(named.transform(X), pandas.DataFrame)
    with pytest.raises(ValueError, match=r"group=1 with set_output\(transform='pandas'\): only the columns of cluster_group=0 have names"):
        named.transform(X, group=1)
    error = np.square(fitted.reconstruct(X) - X).sum(1).mean()
    assert error < np.square(X - X.mean(0)).sum(1).mean()
    draws = fitted.sample(30, random_state=1)
    assert draws.shape == (30, 64) and draws.min() >= 0 and draws.max() <= 1
    assert np.array_equal(draws, fitted.sample(30, random_state=1)) and not np.array_equal(draws, fitted.sample(30, random_state=2))
    assert fitted.score(DIGITS[:600]) == pytest.approx(fitted.objective_, rel=1e-6)


def test_a_parameter_that_is_set_is_for_the_next_fit(no_umap):
    """Of the group and the clusterings that are only made once they are asked for, too."""
    X = DIGITS[:100]
    options = dict(cluster_group=1, epochs=1, attention_epochs=1)

    def answers(model):
        return [model.transform(X), model.transform(X, 0), model.score(X), model.drift(X), model.sample(3), model.get_feature_names_out(),
                model.cluster(), model.cluster(0), model.cluster(0, "gmm"), model.embedding(0)]
    other = dict(n_groups=1, latent_channels=5, width=8, cluster_group=0, clustering="gmm", n_clusters=2, n_neighbors=9,
                 min_cluster_size=30, cluster_selection="eom", image_shape=(4, 16), likelihood="gaussian")
    for was, now in zip(answers(small(**options).fit(X)), answers(small(**options).fit(X).set_params(**other)), strict=True):
        assert np.array_equal(was, now)


def test_digits_hrwae_beats_kmeans():
    """One group and a mixture on UMAP, which labels every row; alpha for images of 64 pixels."""
    y = load_digits().target
    model = HRWAEGAN(1, clustering="gmm", latent_channels=8, width=8, adversarial_weight=4.0, epochs=20, attention_rounds=0,
                     batch_size=64, learning_rate=1e-3, random_state=0, device="cpu", precision="float32").fit(DIGITS)
    kmeans = accuracy(y, KMeans(10, n_init=10, random_state=0).fit_predict(DIGITS))
    assert accuracy(y, model.labels_) > kmeans + 0.03  # 0.909 against 0.792; 0.839 and 0.848 for seeds 1 and 2


def test_measurements_of_a_run(fitted):
    data = SimpleNamespace(X=DIGITS[:600], y=load_digits().target[:600], name="digits")
    found = hrwae_gan.measure(fitted, data)
    assert found["g0_accuracy_total"] <= found["g0_accuracy_as_cluster"] and "fid_classifier" not in found
    assert found["drift"] == max(found["g0_drift"], found["g1_drift"]) and found["redraw_g0"] > 0
    assert found["reconstruction"] == pytest.approx(-fitted.objective_, rel=1e-6)
    assert found["reconstruction_held_out"] > 0 and 0 < found["g1_share_labelled"] <= 1
    arrays = hrwae_gan.keep(fitted, fitted, data, fitted.labels_, SimpleNamespace(seed=0))
    assert arrays["umap_g1"].shape == (600, 10) and arrays["draws"].shape == (40, 64) and arrays["draws"].dtype == np.uint8


def test_the_divisor_decides_umaps_neighbours_alone(fitted, monkeypatch):
    data = SimpleNamespace(X=DIGITS[:600], y=load_digits().target[:600], name="digits")
    assert hrwae_gan.by_divisor(fitted, data) == {}  # 600 rows over 600 are fewer neighbours than UMAP's own
    monkeypatch.setattr(hrwae_gan, "DIVISORS", (6, 40))
    found = hrwae_gan.by_divisor(fitted, data)
    assert found.keys() == {"accuracy_divisor_6", "accuracy_divisor_40"} and found["accuracy_divisor_6"] != found["accuracy_divisor_40"]
    assert found["accuracy_divisor_40"] == accuracy(data.y, fitted.cluster(0, "hdbscan"))  # 15, as the fit has


def test_the_readings_of_total_accuracy():
    y = np.array([0, 0, 0, 1, 1, 1, 1, 1])
    labels = np.array([0, 0, -1, 1, 1, -1, -1, -1])
    points = np.array([0, 0, 0, 1, 1, 1, 0, 0], float)[:, None]
    found = hrwae_gan.group_scores(y, labels, points)
    assert (found["share_labelled"], found["accuracy_labelled"]) == (0.5, 1.0)
    assert found["accuracy_total"] == 4 / 8  # 2 + 2 right
    assert found["accuracy_as_cluster"] == 5 / 8  # noise is matched with class 1, cluster 1 with none
    assert found["accuracy_nearest"] == 6 / 8
    assert hrwae_gan.group_scores(y, np.full(8, -1), points)["accuracy_labelled"] == 0


def test_all_points_noise(no_umap, monkeypatch):
    monkeypatch.setattr(density, "hdbscan", all_noise)
    model = small().fit(DIGITS[:100])
    assert (model.labels_ == -1).all() and (model.predict(DIGITS[100:110]) == -1).all()
    last = model.history_[-1]
    assert last["noise"] == pytest.approx(last["reconstruction"], rel=1e-6)  # all rows get the same attention


def test_hdbscan_itself_may_call_all_points_noise():
    model = small(min_cluster_size=55).fit(DIGITS[:60])  # no two clusters of 55 in 60 rows
    assert (model.labels_ == -1).all() and (model.predict(DIGITS[:60]) == -1).all() and (model.predict(DIGITS[60:70]) == -1).all()


def test_sharpness_falls_with_blur():
    images = DIGITS[:20].reshape(20, 8, 8)
    blurred = gaussian_filter(images, sigma=(0, 1, 1)).reshape(20, 64)
    assert hrwae_gan.sharpness(blurred, (8, 8, 1)) < 0.5 * hrwae_gan.sharpness(DIGITS[:20], (8, 8, 1))


def test_frechet_distance_is_its_closed_form():
    class Rows(torch.nn.Module):
        num_features = 3

        def forward(self, x):
            return x

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(400, 3)).astype(np.float32), (rng.normal(size=(300, 3)) * [1, 2, 3] + 1).astype(np.float32)
    (m, n), (s, t) = (a.mean(0), b.mean(0)), (np.cov(a.T), np.cov(b.T))
    expected = np.square(m - n).sum() + np.trace(s + t - 2 * sqrtm(s @ t).real)
    assert fid.frechet_distance(Rows(), a, b) == pytest.approx(expected, rel=1e-3)
    assert abs(fid.frechet_distance(Rows(), a, a)) < 1e-4


def test_inception_gets_black_as_minus_one_and_white_as_one(monkeypatch):
    """The scale that its weights were trained on. They are of 100 MB and not at hand: any others do."""
    from torchvision.models import Inception_V3_Weights, inception_v3
    monkeypatch.setattr(Inception_V3_Weights, "get_state_dict", lambda *a, **k: inception_v3(init_weights=False).state_dict())
    net, seen = fid.Inception((8, 8, 1)), []
    net.net.Conv2d_1a_3x3.register_forward_hook(lambda module, given, out: seen.append(given[0]))
    with torch.no_grad():
        features = net(torch.tensor([[0.0], [1.0]]).expand(2, 64))
    (images,) = seen
    assert images.shape == (2, 3, 299, 299) and features.shape == (2, net.num_features)
    for image, level in zip(images, (-1.0, 1.0)):
        assert image.aminmax() == (pytest.approx(level), pytest.approx(level))


def test_whoever_asks_for_probabilities_first_has_the_classifier_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(fid, "project_root", lambda: tmp_path)
    monkeypatch.setattr(fid, "EPOCHS", 2)
    fid.classifier.cache_clear()
    p = fid.class_probabilities("digits", DIGITS)
    fid.classifier.cache_clear()
    assert p.shape == (len(DIGITS), 10) and not np.allclose(p, p[:1], atol=0.1)  # it tells digits apart
    assert list((tmp_path / "build" / "fid").glob("digits-*.safetensors"))


def test_the_measuring_classifier_is_trained_once_and_tells_digits_from_noise(tmp_path, monkeypatch):
    monkeypatch.setattr(fid, "inception_at_hand", lambda: False)
    net = fid.classifier("digits", tmp_path)
    monkeypatch.setattr(fid, "_train", lambda *a: pytest.fail("trained again"))
    again = fid.classifier.__wrapped__("digits", tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values()))
    monkeypatch.setattr(fid, "classifier", lambda dataset: net)
    noise = np.random.default_rng(0).random((800, 64)).astype(np.float32)
    same, other = (fid.distances("digits", DIGITS[::2], fake) for fake in (DIGITS[1::2], noise))
    assert same.keys() == {"fid_classifier"} and 10 * same["fid_classifier"] < other["fid_classifier"]
    p = fid.class_probabilities("digits", DIGITS)
    assert p.shape == (len(DIGITS), 10) and p.sum(1) == pytest.approx(1, abs=1e-5)
    assert (p.argmax(1) == load_digits().target).mean() > 0.7  # after 21 steps; by chance 0.1


# -- the face ----------------------------------------------------------------------------------------


def test_scikit_learns_side(no_umap):
    model = small()
    assert is_clusterer(model) and clone(model).get_params() == model.get_params()
    for call in (lambda: model.predict(DIGITS[:3]), lambda: model.decode_noises([])):
        with pytest.raises(NotFittedError):
            call()
    assert np.array_equal(model.fit_predict(DIGITS[:100]), model.labels_)
    with pytest.raises(ValueError, match="64 features"):
        model.transform(DIGITS[:3, :36])


def test_colour_is_modelled_as_gaussian(no_umap):
    X = np.random.default_rng(0).random((40, 48), dtype=np.float32)
    model = small(n_groups=1).fit(X)
    assert small(epochs=0, attention_rounds=0, image_shape=(8, 8)).fit(DIGITS[:60]).image_shape_ == (8, 8, 1)
    assert model.image_shape_ == (4, 4, 3) and model.likelihood_ == "gaussian" and model.sample(2).shape == (2, 48)


@pytest.mark.parametrize("changes, n_features, words", [
    (dict(), 63, "63 features, which is not a square image"),
    (dict(image_shape=(8, 7, 1)), 64, "image_shape=.8, 7, 1. is not that of X with its 64 features"),
    (dict(image_shape=(64,)), 64, "image_shape=.64,. is not that of X with its 64 features: give .height, width. or"),
    (dict(n_groups=3), 64, "n_groups=3, but images of side 8 have 2 cells .equation 7.: use 1 to 2"),
    (dict(cluster_group=2), 64, "cluster_group=2 does not exist: use 0 to 1"),
    (dict(n_neighbors=40), 64, "n_neighbors=40 needs more rows than n_samples=40: give more rows, or set n_neighbors to 39 or less"),
    (dict(n_clusters=41, clustering="gmm"), 64, "n_clusters=41 is more than n_samples=40"),
    (dict(likelihood="bernoulli"), 64, "likelihood='bernoulli' needs X inside"),
])
def test_bad_input_is_refused_before_any_work(changes, n_features, words):
    X = np.random.default_rng(0).normal(size=(40, n_features)).astype(np.float32)
    with pytest.raises(ValueError, match=words):
        small(**changes).fit(X, callback=lambda *a: pytest.fail("it was trained"))


def test_hdbscan_has_no_use_for_a_number_of_clusters(no_umap):
    assert small(n_clusters=41, clustering="hdbscan").fit(DIGITS[:40]).labels_.shape == (40,)


@pytest.mark.parametrize("name, value", [
    ("n_groups", 0), ("latent_channels", 0), ("width", 0), ("extra_layers", -1), ("regulariser", "wgan"),
    ("adversarial_weight", -1), ("group_decay", 0), ("noise_weight", -0.1), ("epochs", -1), ("warm_up", 2), ("beta1", 1), ("discriminator_factor", 0),
    ("clustering", "kmeans"), ("cluster_selection", "root"), ("cluster_group", -1), ("n_neighbors", 1), ("min_cluster_size", 1), ("image_shape", 28),
])
def test_bad_parameter_is_named(name, value):
    with pytest.raises(InvalidParameterError, match=f"'{name}' parameter of HRWAEGAN"):
        small(**{name: value}).fit(DIGITS[:100])


@pytest.mark.parametrize("call", [lambda m: m.transform(DIGITS[:2], group=2), lambda m: m.cluster(group=-1)])
def test_a_group_that_does_not_exist_is_refused(fitted, call):
    with pytest.raises(ValueError, match="does not exist: use 0 to 1"):
        call(fitted)


def test_sampling_nothing_is_refused(fitted):
    with pytest.raises(ValueError, match="n_samples=0"):
        fitted.sample(0)


@pytest.mark.parametrize("clustering", ["kmeans", "HDBSCAN", "umap"])
def test_a_clustering_that_does_not_exist_is_refused(fitted, clustering):
    with pytest.raises(ValueError, match=f"clustering={clustering!r}: use 'hdbscan' or 'gmm'"):
        fitted.cluster(0, clustering)


def test_while_it_is_trained_there_is_no_clustering_yet(no_umap):
    def look(model, *_):
        with pytest.raises(NotFittedError):
            model.cluster()
    model = small(epochs=1).fit(DIGITS[:100], callback=look)
    assert model.fit(DIGITS[:100], callback=look).cluster().shape == (100,)


def test_the_noise_that_gets_attention_is_that_of_group_0(monkeypatch):
    seen = []
    monkeypatch.setattr(density, "umap", lambda codes, neighbours, seed: seen.append(codes.shape[1]) or Plain(codes))
    small(cluster_group=1, epochs=1, attention_epochs=1).fit(DIGITS[:100])
    assert seen == [2 * 4, 2 * 16]  # the labels are group 1's

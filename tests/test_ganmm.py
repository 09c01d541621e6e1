"""GANMM: K GANs as one program, the epsilon-E-step and its bookkeeping, training, and what is refused."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, make_blobs
from sklearn.utils._param_validation import InvalidParameterError
from torch.nn import functional as F

from genclust import GANMM, embedded_ganmm
from genclust.base import Diverged, Trainer
from genclust.dcgan import ReplicaCritic, ReplicaGenerator
from genclust.ganmm import _EpsilonEM, _mutual_information, _sigma_steps
from genclust.metrics import accuracy, purity
from genclust.networks import ReplicaMLP

BLOBS, BLOB_OF = make_blobs([130, 120, 50], centers=[[0, 0, 0, 0], [3, 3, 0, 0], [0, -3, 3, 0]], cluster_std=0.3, random_state=0)
BLOBS = (BLOBS / 4).astype(np.float32)
DIGITS = (load_digits().data[:200] / 16).astype(np.float32)


def small(n_clusters=3, **changes):
    options = dict(noise_dim=4, hidden=16, iterations=20, pretrain_iterations=5, batch_size=10, n_critic=2, learning_rate=1e-3,
                   tol=0, random_state=0, device="cpu")
    return GANMM(n_clusters, **options | changes)


def em_of(model, X, **kept):
    """The players of a fit that has not begun."""
    X = torch.as_tensor(X)
    model.seed_, model.device_, model.fitted_with_ = 0, X.device, model
    model.module_ = model._build(X.shape[1], torch.Generator().manual_seed(0))
    trainer = Trainer(model, model.module_, X, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    trainer.kept |= kept
    return _EpsilonEM(model, trainer)


# -- K GANs as one program ---------------------------------------------------------------------


def one_of(module, k, K):
    """The state of replica k alone: every parameter has the replicas on its first axis."""
    return {key: value.chunk(K)[k] for key, value in module.state_dict().items()}


@pytest.mark.parametrize("networks, D, lipschitz", [("mlp", 5, "clip"), ("mlp", 5, "penalty"), ("dcgan", 64, "clip"), ("dcgan", 64, "penalty")])
def test_batched_gans_train_as_k_separate_ones_do(networks, D, lipschitz):
    """Ten steps of each player on the same rows and noise, the whole batched and each GAN by itself."""
    torch.manual_seed(0)
    K, batch, noise_dim = 3, 8, 4
    model = small(K, networks=networks, channels=4, lipschitz=lipschitz, batch_size=batch)
    em = em_of(model, torch.rand(60, D))
    net = em.net.double()  # RMSprop makes much of a gradient that is zero but for rounding
    own = lambda k: [torch.Generator().manual_seed(k)]  # the weights are replaced
    alone = []
    for k in range(K):
        if networks == "mlp":
            G, C = ReplicaMLP([noise_dim, 16, D], own(k)), ReplicaMLP([D, 16, 1], own(k))
        else:
            G, C = ReplicaGenerator(noise_dim, D, 4, own(k)), ReplicaCritic(D, 4, own(k), lipschitz == "clip")
        G.double().load_state_dict(one_of(net.generators, k, K))
        C.double().load_state_dict(one_of(net.critics, k, K))
        alone.append((G, C, model._rmsprop(G.parameters()), model._rmsprop(C.parameters())))
    optimizers = model._rmsprop(net.generators.parameters()), model._rmsprop(net.critics.parameters())
    for _ in range(10):
        real, noise, mix = (draw(K, batch, n).double() for draw, n in ((torch.rand, D), (torch.randn, noise_dim), (torch.rand, 1)))
        em._own_and_borrowed, net.draw = lambda: real, lambda n, source: net.generators(noise)
        torch.rand, rand = lambda *size, **kw: mix, torch.rand  # where between real and fake the penalty is taken
        try:
            for loss, optimizer in ((em.critic_loss, optimizers[1]), (em.generator_loss, optimizers[0])):
                loss()[0].backward(inputs=optimizer.param_groups[0]["params"])
                optimizer.step()
                optimizer.zero_grad()
        finally:
            torch.rand = rand
        for k, (G, C, of_G, of_C) in enumerate(alone):
            with torch.no_grad():
                fake = G(noise[k:k + 1])
            loss = C(fake).mean() - C(real[k:k + 1]).mean()
            if lipschitz == "penalty":
                x = fake.lerp(real[k:k + 1], mix[k:k + 1]).requires_grad_()
                slope = torch.autograd.grad(C(x).sum(), x, create_graph=True)[0].norm(dim=-1)
                loss = loss + 10 * (slope - 1).square().mean()
            of_C.zero_grad()
            loss.backward()
            of_C.step()
            of_G.zero_grad()
            (-C(G(noise[k:k + 1])).mean()).backward()
            of_G.step()
    for k, (G, C, *_) in enumerate(alone):
        for whole, single in ((net.generators, G), (net.critics, C)):
            for key, value in one_of(whole, k, K).items():
                # scores and norms pass through float32
                torch.testing.assert_close(single.state_dict()[key], value, rtol=1e-5, atol=1e-6, msg=key)


def test_one_dcgan_critic_is_plain_convolutions():
    critic = ReplicaCritic(784, 3, [torch.Generator().manual_seed(0)], batch_norm=True)
    x, h = torch.rand(6, 784), None
    for i, w in enumerate(critic.weights):
        h = F.conv2d(x.view(6, 1, 28, 28) if h is None else h, w, stride=2, padding=2)
        if i:
            h = (h - h.mean((0, 2, 3), keepdim=True)) / (h.var((0, 2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
        h = F.leaky_relu(h, 0.2)
    assert h.shape == (6, 12, 4, 4)
    torch.testing.assert_close(critic(x[None])[0, :, 0], h.flatten(1) @ critic.last[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side", [8, 28])
def test_dcgan_draws_images_of_the_side_asked_for(side):
    generator = ReplicaGenerator(4, side**2, 2, [torch.Generator().manual_seed(i) for i in range(3)])
    images = generator(torch.randn(3, 5, 4))
    assert images.shape == (3, 5, side**2) and 0 < images.min() and images.max() < 1
    assert not torch.allclose(images[0], images[1])


# -- the epsilon-E-step ------------------------------------------------------------------------


def test_the_classifier_sees_as_many_draws_of_each_generator():
    em = em_of(small(), BLOBS)
    batches = em._labelled_fakes()
    assert [len(y) for _, y in batches] == [10, 10, 10]
    labels = torch.cat([y for _, y in batches])
    assert labels.bincount().tolist() == [10, 10, 10]
    assert any(len(y.unique()) > 1 for _, y in batches)
    em.model.quirks = ("single-cluster batches",)
    assert [y.unique().tolist() for _, y in em._labelled_fakes()[::-1]] == [[0], [1], [2]]


def test_or_numbers_in_proportion_to_the_clusters():
    em = em_of(small(fakes="proportional", batch_size=2000), BLOBS)
    em.net.shares.copy_(torch.tensor([0.7, 0.3, 0.0]))
    labels = torch.cat([y for _, y in em._labelled_fakes()])
    assert (labels.bincount(minlength=3) / 6000 - em.net.shares).abs().max() < 0.03  # 4 standard deviations of a share


def test_labels_of_draws_are_their_generators():
    em = em_of(small(), BLOBS)
    with torch.no_grad():  # generator k draws the constant k
        for p in em.net.generators.parameters():
            p.zero_()
        em.net.generators.layers[-1].bias.copy_(torch.arange(3.0)[:, None, None].expand(3, 1, 4))
    for fakes in ("equal", "proportional"):
        em.model.fakes = fakes
        for x, y in em._labelled_fakes():
            assert (x == y[:, None]).all()


def test_double_softmax_is_the_cross_entropy_of_probabilities():
    logits, y = torch.tensor([[2.0, -1.0, 0.5]]), torch.tensor([0])
    em = em_of(small(quirks=("double softmax",)), BLOBS)
    em.net.classifier.forward = lambda x: logits
    em.fakes = [(torch.zeros(1, 4), y)]
    p = np.exp(logits[0].numpy()) / np.exp(logits[0].numpy()).sum()
    assert float(em.classifier_loss()[0]) == pytest.approx(-np.log(np.exp(p[0]) / np.exp(p).sum()), rel=1e-5)


def test_own_and_borrowed_rows():
    """A share sigma of each critic's batch comes from other clusters, in proportion to the posterior for it."""
    em = em_of(small(2, sigma=0.4, batch_size=100, n_critic=10), np.arange(8, dtype=np.float32)[:, None])
    q = torch.tensor([[0.9, 0.1]] * 4 + [[0.3, 0.7]] * 2 + [[0.1, 0.9]] * 2)
    em.model._posterior = lambda X: q
    em.e_step()
    assert em.net.shares.tolist() == [0.5, 0.5] and int(em.net.iteration) == 1
    x = torch.cat([em._own_and_borrowed() for _ in range(40)], 1)[..., 0].long()
    assert ((x < 4)[0].float().mean(), (x >= 4)[1].float().mean()) == (pytest.approx(0.6), pytest.approx(0.6))
    counts = torch.stack([each.bincount(minlength=8) for each in x]) / 4000
    # 0.4 of the batch, by 0.3 0.3 0.1 0.1 for cluster 0 and by four equal 0.1 for cluster 1
    expected = torch.tensor([[0.15] * 4 + [0.15, 0.15, 0.05, 0.05], [0.1] * 4 + [0.15] * 4])
    assert (counts - expected).abs().max() < 0.025  # 4 standard deviations


def test_borrowing_the_rows_of_the_highest_posterior():
    """Algorithm 1, line 11: sigma / (1 - sigma) rows for each of its own, so that sigma of the union are borrowed."""
    em = em_of(small(2, sigma=1 / 3, borrowing="highest"), np.zeros((10, 1), np.float32))
    p = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.45, 0.4, 0.3, 0.2, 0.1, 0.05])
    em.model._posterior = lambda X: torch.stack([p, 1 - p], 1)
    em.e_step()
    assert em.others[0].nonzero()[:, 0].tolist() == [4, 5]  # two for its four
    assert em.others[1].nonzero()[:, 0].tolist() == [1, 2, 3]  # three for its six


def test_sigma_shrinks_at_the_iterations_it_says():
    em = em_of(small(sigma=((0, 0.5), (3, 0.25), (5, 0.0))), BLOBS)
    seen = []
    for _ in range(7):
        em.e_step()
        seen.append(em.sigma)
    assert seen == [0.5] * 3 + [0.25] * 2 + [0.0] * 2


def test_the_critics_e_step_borrows_nothing():
    em = em_of(small(e_step="critics"), BLOBS)
    em.e_step()
    scores = em.net.critics(em.X[em.rows].expand(3, -1, -1))[..., 0]
    assert em.sigma == 0 and torch.equal(em.own.bool()[:, torch.arange(len(em.rows))].float().argmax(0), scores.argmax(0))


def test_an_empty_cluster_takes_the_rows_of_highest_posterior_for_it():
    em = em_of(small(batch_size=50), BLOBS)
    q = torch.full((300, 3), 0.1)
    q[:, 0] = torch.where(torch.arange(300) < 150, 0.8, 0.2)
    q[:, 1] = torch.where(torch.arange(300) < 150, 0.1, 0.7)
    q[[7, 70, 200, 201, 202, 203], 2] = 0.15  # never the highest of a row, the highest for cluster 2
    em.model._posterior = lambda X: q
    em.e_step()
    assert em.own[2].nonzero()[:, 0].tolist() == [7, 70, 200, 201, 202, 203]  # 300 rows, one for every 50
    assert em.own[0].nonzero()[:, 0].tolist() == list(range(150)) and em.net.shares.tolist() == [0.5, 0.5, 0.0]
    assert em._own_and_borrowed().shape == (3, 50, 4)


def test_a_cluster_with_all_rows_borrows_from_itself():
    em = em_of(small(), BLOBS)
    em.model._posterior = lambda X: torch.tensor([1.0, 0.0, 0.0]).expand(len(X), 3)
    em.e_step()
    assert em._own_and_borrowed().shape == (3, 10, 4)


def test_an_epochs_alternation_assigns_all_rows_once_a_round():
    """Algorithm 1: the classifier takes about as many steps as X has batches, then the critics pass over X once."""
    model = small(alternation="epoch", batch_size=5, iterations=20)
    assert model._round(300) == 10  # 300 rows, 3 x 5 x 2 an iteration
    model.fit(BLOBS, max_steps=1000)
    steps = model.step_losses_["ganmm"]
    assert len(steps) == 2 * 60 + 20 + 40  # classifier, generator, critic in two rounds


# -- fits --------------------------------------------------------------------------------------


def test_well_separated_blobs_are_found():
    model = small(iterations=300, pretrain_iterations=50, sigma=((0, 0.5), (100, 0.2), (200, 0.0)), learning_rate=2e-3, batch_size=20).fit(BLOBS)
    assert accuracy(BLOB_OF, model.labels_) > 0.95
    assert model.weights_ == pytest.approx(np.bincount(model.labels_) / 300)
    assert np.array_equal(model.predict(BLOBS), model.labels_)
    q = model.predict_proba(BLOBS)
    assert q.sum(1) == pytest.approx(np.ones(300), abs=1e-5) and np.array_equal(q.argmax(1), model.labels_)
    assert model.objective_ == pytest.approx(model.score(BLOBS)) and 0 < model.objective_ <= math.log(3)
    for k in range(3):  # each generator draws its own cluster
        X, c = model.sample(100, cluster=k)
        assert X.shape == (100, 4) and (c == k).all()
        assert (model.predict(X) == k).mean() > 0.9


def test_history_says_what_the_assignment_did(monkeypatch):
    monkeypatch.setattr("genclust.ganmm.LOG_EVERY", 10)
    model = small().fit(BLOBS)
    pretrain, *rest = model.history_
    assert pretrain["phase"] == "pretrain" and {"generator", "critic", "seconds"} <= pretrain.keys()
    assert [h["epoch"] for h in rest] == [10, 20]
    sizes = np.bincount(model.labels_, minlength=3) / 300
    last = rest[-1]
    assert last["largest"] == pytest.approx(sizes.max()) and last["empty"] == (sizes == 0).sum()
    assert last["balance"] == pytest.approx(-(sizes[sizes > 0] * np.log(sizes[sizes > 0])).sum() / np.log(3))
    assert 0 <= last["moved"] <= 1 and last["sigma"] == 0.5


def test_an_emptied_cluster_is_in_the_history(monkeypatch):
    monkeypatch.setattr(GANMM, "_posterior", lambda self, X: torch.tensor([1.0, 0.0, 0.0]).expand(len(X), 3))
    model = small().fit(BLOBS)
    assert model.history_[-1]["empty"] == 2 and model.history_[-1]["largest"] == 1 and model.history_[-1]["balance"] == 0
    assert model.weights_.tolist() == [1, 0, 0]


def test_convergence_ends_a_fit_once_sigma_is_at_its_last_share(monkeypatch):
    monkeypatch.setattr("genclust.ganmm.LOG_EVERY", 10)
    monkeypatch.setattr(GANMM, "_posterior", lambda self, X: F.one_hot(torch.arange(len(X)) % 3, 3).float())
    model = small(iterations=200, n_critic=1, sigma=((0, 0.5), (50, 0.1)), tol=0.01, patience=3)
    model.fit(BLOBS)
    assert model.converged_ and model.n_iter_ == 60  # sigma falls after 50: the calm before that counts
    rest = small(tol=0).fit(BLOBS)
    assert not rest.converged_ and rest.n_iter_ == 20


@pytest.mark.parametrize("lipschitz", ["clip", "penalty"])
def test_divergence_is_said_and_is_no_convergence(lipschitz):
    """The classifier's losses are not finite long before they are looked at, and rows are drawn by what it says."""
    model = small(init="kmeans", pretrain_iterations=0, learning_rate=1e38, lipschitz=lipschitz, iterations=120)
    with pytest.raises(Diverged, match="'ganmm' diverged"):
        model.fit(BLOBS)
    assert not model.converged_ and np.isfinite(model.predict_proba(BLOBS)).all()


@pytest.mark.parametrize("changes", [
    dict(alternation="epoch"), dict(e_step="critics"), dict(borrowing="highest"), dict(fakes="proportional"),
    dict(lipschitz="penalty"), dict(init="kmeans"), dict(init=None), dict(init=np.arange(200) % 3),
    dict(quirks=("double softmax", "untrained output", "single-cluster batches", "unclipped pretraining")),
    dict(networks="dcgan", channels=2), dict(networks="dcgan", channels=2, precision="bfloat16"),
    dict(networks="dcgan", channels=2, lipschitz="penalty"), dict(lipschitz="penalty", precision="bfloat16"), dict(sigma=0.0), dict(n_clusters=1), dict(n_restarts=2),
])
def test_every_variant_fits_and_is_used(changes):
    model = small(**dict(iterations=4, pretrain_iterations=2) | changes).fit(DIGITS)
    K = model.n_clusters
    assert model.labels_.shape == (200,) and 0 <= model.labels_.min() and model.labels_.max() < K
    assert model.transform(DIGITS).shape == model.predict_proba(DIGITS).shape == (200, K)
    assert np.array_equal(model.transform(DIGITS).argmax(1), model.labels_)
    X, c = model.sample(7, random_state=1)
    assert X.shape == (7, 64) and c.shape == (7,) and np.isfinite(X).all()
    assert list(model.get_feature_names_out()) == [f"ganmm{k}" for k in range(K)]
    if K > 1 and model.lipschitz == "clip":
        assert max(float(p.detach().abs().max()) for p in model.module_.critics.parameters()) <= 0.01 + 1e-7


IMAGES = (load_digits().data[:513] / 16).astype(np.float32)  # a piece of the critics' and one row more


def test_a_critics_image_belongs_where_it_does_alone_or_in_company():
    """In training a batch's own statistics normalise it; what is asked after the fit must not depend on what else is asked."""
    model = small(networks="dcgan", channels=4, e_step="critics", clip=0.1).fit(IMAGES)
    assert np.array_equal(model.predict(IMAGES), model.labels_)
    together, order = model.transform(IMAGES), np.random.default_rng(0).permutation(513)
    assert model.transform(IMAGES[order]) == pytest.approx(together[order], abs=1e-5)
    assert np.concatenate([model.transform(IMAGES[i:i + 1]) for i in range(20)]) == pytest.approx(together[:20], abs=1e-5)
    alike = model.labels_ == model.labels_[0]
    assert not alike.all() and model.transform(IMAGES[alike]) == pytest.approx(together[alike], abs=1e-5)
    assert np.ptp(together, axis=0).min() > 1e-3  # nor are they all the same


def test_the_statistics_of_a_critic_are_those_of_all_rows():
    """Settled by pieces it scores as if all of them were one batch."""
    critic = ReplicaCritic(64, 3, [torch.Generator().manual_seed(i) for i in range(2)], batch_norm=True)
    rows = torch.as_tensor(IMAGES[:40])
    as_one_batch = critic(rows.expand(2, 40, 64))
    critic.settle(rows.split([30, 10]))
    torch.testing.assert_close(critic(rows.expand(2, 40, 64)), as_one_batch, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(critic(rows[:1].expand(2, 1, 64)), as_one_batch[:, :1], rtol=1e-3, atol=1e-4)


def test_the_untrained_output_stays_as_it_started():
    model = small(quirks=("untrained output",)).fit(BLOBS)
    start = model._build(4, torch.Generator().manual_seed(model.seed_)).classifier
    assert torch.equal(model.module_.classifier.layers[-1].weight, start.layers[-1].weight)
    assert not torch.equal(model.module_.classifier.layers[0].weight, start.layers[0].weight)


def test_pretraining_clips_unless_the_quirk_is_wanted():
    largest = [max(float(p.detach().abs().max()) for p in small(quirks=quirks, iterations=0).fit(BLOBS).module_.critics.parameters())
               for quirks in ((), ("unclipped pretraining",))]
    assert largest[0] <= 0.01 + 1e-7 < 0.1 < largest[1]


def test_a_given_partition_is_pretrained_on():
    """With a generator each, the first draws of cluster k lie near the rows that were given to it."""
    model = small(init=BLOB_OF, pretrain_iterations=200, iterations=0, learning_rate=3e-3).fit(BLOBS)
    draws = np.stack([model.sample(200, cluster=k)[0].mean(0) for k in range(3)])
    centres = np.stack([BLOBS[BLOB_OF == k].mean(0) for k in range(3)])
    assert np.linalg.norm(draws[:, None] - centres, axis=2).argmin(1).tolist() == [0, 1, 2]


def test_seed_and_resumption(tmp_path, save_always, monkeypatch):
    monkeypatch.setattr("genclust.ganmm.LOG_EVERY", 10)

    class Killed(Exception):
        pass

    def kill_at(moment):
        def callback(model, phase, epoch, logs):
            if (phase, epoch) == moment:
                raise Killed
        return callback

    for changes, log in ((dict(), 10), (dict(alternation="epoch", batch_size=20), 9)):  # rounds of three iterations
        model = small(iterations=40, pretrain_iterations=20, **changes)
        whole = small(**model.get_params() | dict(n_clusters=3)).fit(BLOBS)
        for moment in (("pretrain", 20), ("ganmm", 3 * log)):
            file = tmp_path / f"{moment[0]}{log}.safetensors"
            with pytest.raises(Killed):
                model.fit(BLOBS, callback=kill_at(moment), checkpoint=file)
            model.fit(BLOBS, checkpoint=file)
            assert np.array_equal(model.predict_proba(BLOBS), whole.predict_proba(BLOBS))
            ours, theirs = ([{k: v for k, v in h.items() if k != "seconds"} for h in m.history_] for m in (model, whole))
            assert ours == theirs and model.n_iter_ == whole.n_iter_ == 40


def test_sampling():
    model = small().fit(BLOBS)
    X, c = model.sample(25, cluster=1)
    again, _ = model.sample(25, cluster=1)
    assert X.shape == (25, 4) and np.array_equal(X, again)  # more than a batch; the fit's own seed
    assert len(np.unique(X, axis=0)) == 25
    _, c = model.sample(3000, random_state=0)
    assert np.abs(np.bincount(c, minlength=3) / 3000 - model.weights_).max() < 0.04


def test_mutual_information():
    hard = torch.eye(4)[torch.arange(8) % 4]
    assert _mutual_information(hard) == pytest.approx(math.log(4))
    assert _mutual_information(torch.full((5, 4), 0.25)) == pytest.approx(0, abs=1e-7)
    assert _mutual_information(hard[:1].expand(6, 4)) == pytest.approx(0, abs=1e-7)


LAYERS = dict(hidden=(16,), latent_dim=5, layer_epochs=1, pretrain_epochs=1, precision="float32")


@pytest.mark.parametrize("scale", ["deviation", "range"])
def test_codes_are_scaled(scale):
    pipeline = embedded_ganmm(3, scale=scale, iterations=2, pretrain_iterations=1, random_state=0, autoencoder=LAYERS).fit(DIGITS)
    raw, codes = pipeline[0].transform(DIGITS), pipeline[:-1].transform(DIGITS)
    expected = (raw - raw.mean(0)) / raw.std(0) if scale == "deviation" else raw / np.ptp(raw, axis=0)
    assert codes.shape == (200, 5) and codes == pytest.approx(expected, abs=1e-4)
    assert pipeline.predict(DIGITS).shape == (200,)


def test_codes_may_be_those_of_dec():
    pipeline = embedded_ganmm(3, iterations=2, pretrain_iterations=1, random_state=0, dec=LAYERS | dict(iterations=5, n_init=1)).fit(DIGITS)
    assert [name for name, _ in pipeline.steps] == ["dec", "standardscaler", "ganmm"]
    assert pipeline[0].n_clusters == 3 and pipeline.predict(DIGITS).shape == (200,)
    with pytest.raises(ValueError, match="the codes are of one of them"):
        embedded_ganmm(3, autoencoder={}, dec={})


def test_another_scale_is_refused():
    with pytest.raises(ValueError, match="scale='sd': divide each code by its 'deviation' or 'range'"):
        embedded_ganmm(3, scale="sd")


@pytest.mark.parametrize("e_step", ["classifier", "critics"])
def test_a_parameter_that_is_set_is_for_the_next_fit(e_step):
    model = small(e_step=e_step).fit(BLOBS)

    def answers():
        return [model.transform(BLOBS), model.predict(BLOBS), model.score(BLOBS), model.get_feature_names_out(),
                *model.sample(15), *model.sample(3, cluster=2)]
    before = answers()
    model.set_params(n_clusters=2, e_step="critics" if e_step == "classifier" else "classifier", batch_size=7, noise_dim=9, hidden=5)
    for was, now in zip(before, answers(), strict=True):
        assert np.array_equal(was, now)


def test_three_digits_are_told_apart():
    """GANMM is not claimed to beat k-means on all ten: the paper has no such small images, and in the recorded runs of every
    method on every set it is below it here, on the rows as on their codes. Three digits it must find."""
    X, y = load_digits(n_class=3, return_X_y=True)
    model = GANMM(3, iterations=200, pretrain_iterations=30, learning_rate=3e-4, n_critic=3, random_state=0,
                  sigma=((0, 0.5), (66, 0.2), (133, 0.0)), tol=0).fit(X / 16 - 0.5)
    assert purity(y, model.labels_) > 0.8  # 0.91 to 0.93 for three seeds, by chance about 0.35


# -- bad input ---------------------------------------------------------------------------------


def test_a_cluster_smaller_than_a_batch_repeats_its_rows():
    model = small(2, init=np.array([0] * 3 + [1] * 37), batch_size=50, sigma=0.0).fit(BLOBS[:40])
    assert model.labels_.shape == (40,) and np.isfinite(model.objective_)


@pytest.mark.parametrize("init", ["kmeans", "gmm"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_first_partition_may_leave_a_cluster_empty(init):
    model = small(4, init=init, iterations=1, pretrain_iterations=1).fit(np.repeat(np.eye(3, 5, dtype=np.float32), 20, 0))
    assert np.isfinite(model.objective_)


def test_something_of_a_batch_is_never_borrowed():
    model = small(batch_size=10, sigma=0.95, iterations=2, pretrain_iterations=1).fit(BLOBS)
    assert np.isfinite(model.objective_)


@pytest.mark.parametrize("X", [np.ones((30, 4), np.float32), np.hstack([BLOBS, np.full((300, 2), 0.5, np.float32)])])
def test_constant_features_are_no_trouble(X):
    model = small().fit(X)
    assert np.isfinite(model.objective_) and np.isfinite(model.sample(5)[0]).all()


def test_more_clusters_than_rows_is_refused():
    with pytest.raises(ValueError, match="n_clusters=11 is more than n_samples=10"):
        small(11).fit(BLOBS[:10])
    small(10).fit(BLOBS[:10])


@pytest.mark.parametrize("sigma, words", [
    (1.0, r"sigma=1.0.*\[0, 1\)"), (-0.1, "sigma=-0.1"), (((0, 0.5), (100, 1.5)), "sigma="), ((0.5, 0.2), "pairs"),
    (((10, 0.5),), "rise from 0"), (((0, 0.5, 1),), "pairs"), ([(0, "a")], "pairs"), (((0, 0.5), (0, 0.2)), "rise from 0"), ((), "rise from 0"),
])
def test_a_share_outside_its_range_is_refused(sigma, words):
    with pytest.raises(ValueError, match=words):
        small(sigma=sigma).fit(BLOBS)


def test_a_number_is_a_share_that_never_changes():
    assert _sigma_steps(0.3) == [(0, 0.3)] and _sigma_steps([[0, 0.5], [9, 0]]) == [(0, 0.5), (9, 0)]


@pytest.mark.parametrize("init, words", [
    (np.zeros(300, int), r"labels \[0\].*each of 0 to 2"), (np.arange(300), "each of 0 to 2"),
    (np.zeros(10, int), r"shape \(10,\).*300 rows"), (np.full(300, 0.5), "float64.*one integer"),
])
def test_a_partition_that_is_none_is_refused(init, words):
    with pytest.raises(ValueError, match=words):
        small(init=init).fit(BLOBS)


def test_images_that_are_none_are_refused():
    with pytest.raises(ValueError, match="square images, and 63 features"):
        small(networks="dcgan").fit(DIGITS[:, :63])
    with pytest.raises(ValueError, match=r"images in \[0, 1\], but X spans \[0, 16\]"):
        small(networks="dcgan").fit(16 * DIGITS)
    with pytest.raises(ValueError, match="batch_size=1"):
        small(networks="dcgan", batch_size=1).fit(DIGITS)


def test_a_quirk_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="there is no 'triple softmax'; there are double softmax"):
        small(quirks=("triple softmax",)).fit(BLOBS)


@pytest.mark.parametrize("cluster", [-1, 3, 1.5, "a"])
def test_sampling_a_cluster_that_does_not_exist_is_refused(cluster):
    model = small(iterations=1, pretrain_iterations=0).fit(BLOBS)
    with pytest.raises(ValueError, match=f"cluster={cluster!r} does not exist: use 0 to 2"):
        model.sample(2, cluster=cluster)
    for n in (0, 2.5, "many"):
        with pytest.raises(ValueError, match=f"n_samples={n!r}: use a whole number, 1 or more"):
            model.sample(n)


@pytest.mark.parametrize("name, value", [
    ("n_clusters", 0), ("networks", "cnn"), ("noise_dim", 0), ("hidden", 0), ("channels", 0), ("iterations", -1),
    ("pretrain_iterations", -1), ("init", "labels"), ("e_step", "gan"), ("alternation", "step"), ("round_epochs", 0),
    ("sigma", "half"), ("borrowing", "lowest"), ("fakes", "none"), ("lipschitz", "none"), ("clip", 0), ("penalty_weight", 0),
    ("quirks", "double softmax"), ("n_critic", 0), ("batch_size", 0), ("learning_rate", 0), ("tol", -1), ("patience", 0),
    ("n_restarts", 0), ("precision", "float16"),
])
def test_bad_parameter_is_named(name, value):
    with pytest.raises(InvalidParameterError, match=f"'{name}' parameter of GANMM"):
        small(**{name: value}).fit(BLOBS)


def test_the_weight_of_the_penalty_is_the_one_given():
    found = {}
    for weight in (0.0, 2.0):
        em = em_of(small(lipschitz="penalty", penalty_weight=weight), BLOBS, labels=torch.arange(len(BLOBS)) % 3)
        loss, terms = em.critic_loss()
        found[weight] = float(loss.detach()), float(terms["penalty"].detach())
    assert found[2.0][0] - found[0.0][0] == pytest.approx(2 * found[2.0][1], rel=1e-4)


def test_rmsprop_decays_as_tensorflows():
    em = em_of(small(), BLOBS)
    assert em.model._rmsprop(em.net.critics.parameters()).param_groups[0]["alpha"] == 0.9

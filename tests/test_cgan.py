"""The conditional GAN: its two losses, what the labels do, and refusals."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils._param_validation import InvalidParameterError
from torch.nn import functional as F

from genclust import ConditionalGAN
from genclust.base import Diverged
from genclust.cgan import CGANNetwork

DIGITS, OF = load_digits(return_X_y=True)
DIGITS = (DIGITS / 16).astype(np.float32)
X, Y = DIGITS[:200], np.array(list("abcdefghij"))[OF[:200]]
SMALL = dict(hidden=(16, 16), noise_dim=3, iterations=200, batch_size=32, random_state=0, device="cpu", precision="float32")


def small(**changes):
    return ConditionalGAN(**SMALL | changes)


def test_both_players_know_the_class():
    net = CGANNetwork(6, 3, [8, 4], 2, torch.Generator().manual_seed(0))
    assert [layer.in_features for layer in net.generator.layers] == [5, 4, 8]  # the widths of the discriminator, mirrored
    assert [layer.in_features for layer in net.discriminator.layers] == [9, 8, 4]
    noise, x, one, two = torch.randn(5, 2), torch.rand(5, 6), *torch.eye(3)[:2, None].expand(2, 5, 3)
    made = net.generate(noise, one)
    assert made.shape == (5, 6) and made.min() > 0 and made.max() < 1 and not torch.equal(made, net.generate(noise, two))
    assert net.logits(x, one).shape == (5,) and not torch.equal(net.logits(x, one), net.logits(x, two))
    torch.testing.assert_close(net.logits(x, one), net.discriminator(torch.cat([x, one], 1))[:, 0])


def test_the_penalty_is_of_the_gradient_in_x_alone():
    net = CGANNetwork(6, 3, [8, 4], 2, torch.Generator().manual_seed(0))
    real, fake, mix = torch.rand(5, 6), torch.rand(5, 6), torch.rand(5, 1)
    classes = torch.eye(3)[[0, 1, 2, 0, 1]]
    at = (mix * real + (1 - mix) * fake).requires_grad_()
    (gradient,) = torch.autograd.grad(net.logits(at, classes).sum(), at)
    torch.testing.assert_close(net.penalty(real, fake, classes, mix), (gradient.norm(dim=1) - 1).square().mean())


def test_the_first_losses_are_those_of_equation_2():
    """By binary cross-entropy, with the very rows and noise of the first iteration."""
    model = small(penalty_weight=0, learning_rate=0.01).fit(X, Y, max_steps=1)
    net = small(iterations=0).fit(X, Y).module_  # as it starts
    source = torch.Generator().manual_seed(model.seed_)
    x, classes = torch.from_numpy(X), F.one_hot(torch.from_numpy(OF[:200])).float()

    def turn():
        """A player's rows, their classes, and what the generator makes of these."""
        rows = torch.randint(200, (32,), generator=source)
        return x[rows], classes[rows], net.generate(torch.randn(32, 3, generator=source), classes[rows]).detach()

    real, c, fake = turn()
    torch.rand(32, 1, generator=source)  # where the penalty would be taken
    first = (F.binary_cross_entropy(net.logits(real, c).sigmoid(), torch.ones(32))
             + F.binary_cross_entropy(net.logits(fake, c).sigmoid(), torch.zeros(32)))
    first.backward()
    start = net.logits(fake, c).detach()
    torch.optim.Adam(net.discriminator.parameters(), lr=0.01, betas=(0.5, 0.999)).step()
    assert (net.logits(fake, c) - start).abs().mean() > 0.05  # the generator faces another discriminator
    _, c, fake = turn()
    second = F.binary_cross_entropy(net.logits(fake, c).sigmoid(), torch.ones(32))  # log D, not log(1 - D)
    losses = [float(first.detach()), float(second.detach())]
    assert model.step_losses_["cgan"] == pytest.approx(losses, rel=1e-5)  # and an iteration is not cut in half


def test_the_objective_is_minus_the_value_of_equation_2():
    """In float64, from the probabilities, with the noise that the fit's seed gives."""
    model = small(penalty_weight=0.1).fit(X, Y)
    net, c = model.module_, torch.eye(10)[torch.from_numpy(OF[:200])]
    with torch.no_grad():
        fake = net.generate(torch.randn(200, 3, generator=torch.Generator().manual_seed(model.seed_)), c)
        p, q = (1 / (1 + np.exp(-net.logits(rows, c).double().numpy())) for rows in (torch.from_numpy(X), fake))
    assert p.mean() > q.mean() + 0.05  # it is no coin, for which the objective would be 2 log 2 whatever the signs
    assert model.objective_ == pytest.approx(-np.mean(np.log(p)) - np.mean(np.log(1 - q)), rel=1e-5)


def test_each_player_learns_only_its_own_game():
    start, model = small(iterations=0).fit(X, Y), small().fit(X, Y)
    assert [h["epoch"] for h in model.history_] == [100, 200] and {"discriminator", "generator", "value", "penalty"} <= set(model.history_[0])
    for row in model.history_:
        assert row["discriminator"] == pytest.approx(10 * row["penalty"] - row["value"], rel=1e-4)
    for part in ("generator", "discriminator"):
        was, now = (getattr(m.module_, part).layers[0].weight for m in (start, model))
        assert not torch.equal(was, now)
    assert not hasattr(model, "predict") and not hasattr(model, "transform")


def test_labels_are_its_input():
    """Other labels make another fit, and a checkpoint of the first is not taken for it."""
    model, other = small().fit(X, Y), small().fit(X, np.roll(Y, 1))
    assert not np.array_equal(model.sample(5, label="b", random_state=0)[0], other.sample(5, label="b", random_state=0)[0])
    assert list(model.classes_) == list("abcdefghij")
    draws, of = model.sample(300, random_state=1)
    assert draws.shape == (300, 64) and set(of) == set(model.classes_)
    assert (model.sample(4, label="c")[1] == "c").all()


def test_a_parameter_that_is_set_is_for_the_next_fit():
    model = small(iterations=2).fit(X, Y)
    before = model.sample(5)
    for was, now in zip(before, model.set_params(noise_dim=9, hidden=(4,), batch_size=5).sample(5)):
        assert np.array_equal(was, now)


def test_digits_look_like_the_class_that_was_asked_for():
    rows, of = DIGITS[OF < 4], OF[OF < 4]
    model = ConditionalGAN(hidden=(64, 64, 128), iterations=800, batch_size=64, learning_rate=1e-3, random_state=0,
                           device="cpu", precision="float32").fit(rows, of)
    draws, asked = model.sample(500, random_state=0)
    nearest = KNeighborsClassifier(1).fit(rows, of).predict(draws)
    assert (nearest == asked).mean() > 0.8  # 0.98 where this was written; chance is 0.25
    for c in range(4):
        assert draws[asked == c].std(0).mean() > 0.02  # not one image for a class


class Killed(Exception):
    pass


def test_a_killed_fit_resumes_bit_for_bit(tmp_path, save_always):

    def kill(model, phase, step, logs):
        if step == 200:  # before it is saved
            raise Killed

    whole, model = small(iterations=300).fit(X, Y), small(iterations=300)
    with pytest.raises(Killed):
        model.fit(X, Y, callback=kill, checkpoint=tmp_path / "fit.safetensors")
    with pytest.raises(RuntimeError, match="other parameters, data or random_state"):
        small(iterations=300).fit(X, np.roll(Y, 1), checkpoint=tmp_path / "fit.safetensors")
    model.fit(X, Y, checkpoint=tmp_path / "fit.safetensors")
    assert [h["generator"] for h in model.history_] == [h["generator"] for h in whole.history_]
    assert np.array_equal(model.sample(9, random_state=0)[0], whole.sample(9, random_state=0)[0])


def test_refusals():
    with pytest.raises(ValueError, match="needs the class of every row"):
        small().fit(X, None)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        small().fit(X, Y[:-1])
    with pytest.raises(ValueError, match="Unknown label type"):
        small().fit(X, np.linspace(0, 1, 200))
    with pytest.raises(ValueError, match=r"X has to lie in \[0, 1\].*\[0, 16\]"):
        small().fit(16 * X, Y)
    with pytest.raises(NotFittedError):
        small().sample()
    model = small(iterations=0).fit(X, Y)
    with pytest.raises(ValueError, match="label='z' is none of the classes: a, b"):
        model.sample(label="z")
    with pytest.raises(ValueError, match=r"label=\['a', 'b'\]: give one class, one of a, b"):
        model.sample(2, label=["a", "b"])
    with pytest.raises(ValueError, match="n_samples=0"):
        model.sample(0)
    with pytest.raises(Diverged, match="phase 'cgan' diverged"):
        small(learning_rate=1e30).fit(X, Y)


@pytest.mark.parametrize("name, value", [("noise_dim", 0), ("penalty_weight", -1), ("iterations", -1),
                                         ("learning_rate", 0), ("beta1", 1), ("batch_size", 0)])
def test_bad_parameter_is_named(name, value):
    with pytest.raises(InvalidParameterError, match=f"'{name}' parameter of ConditionalGAN"):
        small(**{name: value}).fit(X, Y)

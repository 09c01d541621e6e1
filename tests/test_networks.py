"""Layers and the Bernoulli likelihood, against the formulas and torch's own versions."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from genclust.networks import MLP, bernoulli_log_likelihood, linear, ReplicaMLP


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("n_in, n_out", [(784, 500), (30, 200), (2, 3)])
def test_linear_has_glorot_bounds_and_no_bias(n_in, n_out):
    layer = linear(n_in, n_out, generator())
    bound = math.sqrt(6 / (n_in + n_out))
    assert layer.weight.shape == (n_out, n_in)
    assert layer.weight.abs().max() <= bound
    assert torch.equal(layer.bias, torch.zeros(n_out))
    if n_in * n_out > 1000:
        assert layer.weight.abs().max() > 0.99 * bound  # 6000 uniform draws all below it: p = 0.99^6000
        # standard error of the variance of N uniforms is under 1/sqrt(N) of it; five of those
        assert float(layer.weight.detach().var()) == pytest.approx(bound**2 / 3, rel=5 / math.sqrt(n_in * n_out))


def test_linear_draws_from_its_generator_alone():
    before = torch.get_rng_state()
    one, same, other = linear(5, 4, generator(1)), linear(5, 4, generator(1)), linear(5, 4, generator(2))
    assert torch.equal(one.weight, same.weight)
    assert not torch.equal(one.weight, other.weight)
    assert torch.equal(before, torch.get_rng_state())


def test_mlp_is_its_matrix_products_with_relu_between():
    sizes = (7, 5, 4, 3)
    net = MLP(sizes, generator())
    x = torch.randn(50, 7, generator=generator(1))
    expected = x.double().numpy()
    for i, layer in enumerate(net.layers):
        assert layer.weight.shape == (sizes[i + 1], sizes[i])
        layer.bias.data.normal_(generator=generator(2 + i))
        expected = expected @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy()
        if i < 2:
            expected = np.maximum(expected, 0)
    out = net(x).detach().numpy()
    np.testing.assert_allclose(out, expected, atol=1e-5)  # float32 sums of at most 7 terms of order one
    assert out.min() < 0


def test_mlp_layer_by_layer_is_forward():
    net = MLP((6, 5, 4), generator())
    x = torch.randn(8, 6, generator=generator(1))
    assert net.layer(0, x).shape == (8, 5)
    assert torch.equal(net.layer(1, net.layer(0, x)), net(x))


@pytest.fixture
def logits_and_x():
    logits = 3 * torch.randn(40, 9, generator=generator())
    logits[:8, 0] = torch.tensor([80.0, -80, 80, -80, 1000, -1000, 30, -30])
    x = torch.rand(40, 9, generator=generator(1))
    x[:8, 0] = torch.tensor([1.0, 0, 0, 1, 0, 1, 0.5, 1])
    x[10:] = x[10:].round()
    return logits, x


def test_bernoulli_value_is_torchs(logits_and_x):
    logits, x = logits_and_x
    value = bernoulli_log_likelihood(logits, x)
    expected = -binary_cross_entropy_with_logits(logits.double(), x.double(), reduction="none").sum(1)
    assert value.dtype == torch.float32 and value.shape == (40,)
    np.testing.assert_allclose(value, expected, rtol=1e-6, atol=2e-6)  # a few float32 roundings
    binary = torch.distributions.Bernoulli(logits=logits[10:].double()).log_prob(x[10:].double()).sum(1)
    np.testing.assert_allclose(value[10:], binary, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("logit, x, expected", [
    (80.0, 0.0, -80.0), (-80.0, 1.0, -80.0), (80.0, 1.0, 0.0), (-80.0, 0.0, 0.0), (0.0, 0.3, -math.log(2)),
    (80.0, 0.25, -60.0), (1e4, 0.0, -1e4),
])
def test_bernoulli_value_at_extreme_logits(logit, x, expected):
    value = bernoulli_log_likelihood(torch.tensor([[logit]]), torch.tensor([[x]]))
    assert float(value) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_bernoulli_gradient_is_autograds(logits_and_x):
    logits, x = logits_and_x
    weight = torch.randn(40, generator=generator(3))
    ours, theirs = logits.clone().requires_grad_(), logits.double().requires_grad_()
    (bernoulli_log_likelihood(ours, x) * weight).sum().backward()
    reference = -binary_cross_entropy_with_logits(theirs, x.double(), reduction="none").sum(1)
    (reference * weight.double()).sum().backward()
    np.testing.assert_allclose(ours.grad, theirs.grad, atol=1e-6)  # x - p is of order one


def test_bernoulli_gradient_is_the_slope_of_the_value():
    logits = torch.tensor([[-2.0, 0.5, 3.0]], requires_grad=True)
    x = torch.tensor([[0.0, 0.4, 1.0]])
    bernoulli_log_likelihood(logits, x).sum().backward()
    step = 2.0**-6
    for j in range(3):
        shift = torch.zeros(1, 3)
        shift[0, j] = step
        with torch.no_grad():
            up, down = bernoulli_log_likelihood(logits + shift, x), bernoulli_log_likelihood(logits - shift, x)
        # central difference: error step^2 / 6 * |f'''| < 1e-5, and rounding 1e-7 / step = 1e-5
        assert float(logits.grad[0, j]) == pytest.approx(float(up - down) / (2 * step), abs=5e-5)


def test_bernoulli_of_bfloat16_logits_is_computed_in_float32():
    logits = torch.randn(6, 5, generator=generator()).bfloat16().requires_grad_()
    x = torch.rand(6, 5, generator=generator(1))
    value = bernoulli_log_likelihood(logits, x)
    value.sum().backward()
    expected = bernoulli_log_likelihood(logits.detach().float(), x)
    assert value.dtype == torch.float32 and torch.equal(value.detach(), expected)
    assert logits.grad.dtype == torch.bfloat16


def test_replicas_equal_their_solo_networks():
    sizes, seeds = [5, 16, 3], (3, 1, 4)
    solo = [MLP(sizes, torch.Generator().manual_seed(seed)) for seed in seeds]
    many = ReplicaMLP(sizes, [torch.Generator().manual_seed(seed) for seed in seeds])
    x = torch.randn(3, 7, 5)
    out = many(x)
    out.square().sum().backward()
    for r, net in enumerate(solo):
        assert torch.allclose(out[r], net(x[r]), atol=1e-6)
        net(x[r]).square().sum().backward()
        assert torch.allclose(many.layers[0].weight.grad[r], net.layers[0].weight.grad, rtol=1e-4, atol=1e-5)
        assert torch.allclose(many.layers[1].bias.grad[r, 0], net.layers[1].bias.grad, rtol=1e-4, atol=1e-5)
    assert torch.allclose(many(x[0])[0], solo[0](x[0]), atol=1e-6)
